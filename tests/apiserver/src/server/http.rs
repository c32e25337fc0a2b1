//! HTTP/1.1 on one connection: requests in, replies and chunks out, with limits on everything.
//!
//! IO: reads and writes whatever stream it is given.

use std::io::{self, Read, Write};

use crate::faults::Reply;

const HEAD_LIMIT: usize = 64 * 1024;
/// The header that names the audit log's entry for the request.
pub(super) const AUDIT_ID: &str = "Audit-Id";
/// kube-apiserver's own limit.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
const HEADERS_MAX: usize = 100;

/// A request as it came over the wire.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub method: String,
    /// The path with its query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Incoming {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What came of reading a request.
pub(super) enum Reading {
    Request(Incoming),
    /// The client has closed.
    End,
    /// No request of ours: this is the answer, and the connection ends.
    Refused(u16, &'static str),
}

/// Reads the next request; `buffer` keeps what came after it.
pub(super) fn read_request(stream: &mut (impl Read + Write), buffer: &mut Vec<u8>) -> io::Result<Reading> {
    let (mut incoming, head_length) = loop {
        match parse_head(buffer) {
            Ok(Some(parsed)) => break parsed,
            Ok(None) if buffer.len() > HEAD_LIMIT => return Ok(Reading::Refused(431, "header fields too large")),
            Ok(None) => {}
            Err(()) => return Ok(Reading::Refused(400, "malformed HTTP request")),
        }
        if fill(stream, buffer)? == 0 {
            return Ok(Reading::End);
        }
    };
    if incoming.header("transfer-encoding").is_some() {
        return Ok(Reading::Refused(411, "a Content-Length is required"));
    }
    let length = match incoming.header("content-length").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(length)) if length <= BODY_LIMIT => length,
        Some(Ok(_)) => return Ok(Reading::Refused(413, "Request entity too large: limit is 3145728")),
        Some(Err(_)) => return Ok(Reading::Refused(400, "Content-Length is no number")),
    };
    let expects_continue = incoming.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
    if expects_continue && buffer.len() < head_length + length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.flush()?;
    }
    while buffer.len() < head_length + length {
        if fill(stream, buffer)? == 0 {
            return Ok(Reading::End);
        }
    }
    incoming.body = buffer[head_length..head_length + length].to_vec();
    buffer.drain(..head_length + length);
    Ok(Reading::Request(incoming))
}

fn fill(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 16 * 1024];
    let count = stream.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..count]);
    Ok(count)
}

/// The head and its length, once it is whole. The error: it will never be one.
fn parse_head(buffer: &[u8]) -> Result<Option<(Incoming, usize)>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let headers = request
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).trim().to_owned()));
    let incoming = Incoming {
        headers: headers.collect(),
        method: request.method.unwrap_or("").to_owned(),
        target: request.path.unwrap_or("").to_owned(),
        body: Vec::new(),
    };
    Ok(Some((incoming, length)))
}

/// How much of a reply is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// For a HEAD.
    HeadOnly,
    /// The head promises the whole body, of which only so many bytes come.
    Cut(usize),
}

pub(super) fn write_reply(stream: &mut impl Write, reply: &Reply, extent: Extent, close: bool) -> io::Result<()> {
    let mut bytes = head(reply.status, &reply.content_type);
    for (name, value) in &reply.headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    bytes.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
    let sent = match extent {
        Extent::Whole => reply.body.len(),
        Extent::HeadOnly => 0,
        Extent::Cut(length) => length.min(reply.body.len()),
    };
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(&reply.body[..sent]);
    stream.write_all(&bytes)?;
    stream.flush()
}

/// The head of a stream of chunks.
pub(super) fn write_stream_head(stream: &mut impl Write, audit_id: &str) -> io::Result<()> {
    let head = head(200, "application/json");
    let head = format!("{head}{AUDIT_ID}: {audit_id}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.flush()
}

/// One chunk; an empty one would end the stream, so it is not sent.
pub(super) fn write_chunk(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    stream.write_all(&chunk)?;
    stream.flush()
}

pub(super) fn write_stream_end(stream: &mut impl Write) -> io::Result<()> {
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}

fn head(status: u16, content_type: &str) -> String {
    format!(
        "HTTP/1.1 {status} {}\r\nCache-Control: no-cache, private\r\nContent-Type: {content_type}\r\n",
        phrase(status)
    )
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
