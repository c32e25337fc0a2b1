//! A small HTTPS client for tests: one connection, any credentials, bytes as they come. It speaks to this server and to a
//! real kube-apiserver alike.
//!
//! IO. Its only time limit is one that ends a hang.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// Long enough for a slow machine; only a hang takes so long.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The media type of objects.
pub const JSON: &str = "application/json";
/// The media type of JSON merge patches.
pub const MERGE_PATCH: &str = "application/merge-patch+json";

/// What a client knows of a server, and who it is.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// `https://127.0.0.1:PORT`
    pub url: String,
    /// Whose certificates are trusted; unused over plain HTTP.
    pub ca_pem: String,
    /// A client certificate with its key, both PEM.
    pub client_certificate: Option<(String, String)>,
    /// Headers of every request: credentials, impersonation.
    pub headers: Vec<(String, String)>,
}

impl Target {
    /// The same with one more header.
    pub fn with_header(mut self, name: &str, value: &str) -> Target {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a bearer token.
    pub fn with_token(self, token: &str) -> Target {
        self.with_header("Authorization", &format!("Bearer {token}"))
    }
}

/// What a connection is read from and written to.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// As they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header by name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The reason of a failure's Status; empty for anything else.
    pub fn reason(&self) -> String {
        self.json()["reason"].as_str().filter(|_| self.status >= 400).unwrap_or("").to_owned()
    }

    /// The Status' message; empty for anything else.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or("").to_owned()
    }

    /// `metadata.resourceVersion`; empty if there is none.
    pub fn version(&self) -> String {
        self.json()["metadata"]["resourceVersion"].as_str().unwrap_or("").to_owned()
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
    target: Target,
}

impl Client {
    /// Connects, and completes the TLS handshake.
    ///
    /// # Errors
    ///
    /// What the network or TLS says.
    pub fn connect(target: &Target) -> io::Result<Client> {
        let (scheme, address) = target.url.split_once("://").ok_or(io::ErrorKind::InvalidInput)?;
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> =
            if scheme == "https" { Box::new(tls(target, address, socket)?) } else { Box::new(socket) };
        Ok(Client { stream: BufReader::new(stream), target: target.clone() })
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    ///
    /// What the network or TLS says, and whatever is no HTTP.
    pub fn request(&mut self, method: &str, path: &str, content_type: &str, body: &[u8]) -> io::Result<Answer> {
        self.send(method, path, content_type, body)?;
        self.receive(method == "HEAD")
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// What the network or TLS says.
    pub fn send(&mut self, method: &str, path: &str, content_type: &str, body: &[u8]) -> io::Result<()> {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: apiserver.test\r\nContent-Length: {}\r\n", body.len());
        if !content_type.is_empty() {
            head.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        for (name, value) in &self.target.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.send_raw(&bytes)
    }

    /// Sends these bytes, whatever they are.
    ///
    /// # Errors
    ///
    /// What the network or TLS says.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    ///
    /// What the network or TLS says, and whatever is no HTTP.
    pub fn receive(&mut self, head_only: bool) -> io::Result<Answer> {
        let (status, headers) = self.receive_head()?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if head_only {
            return Ok(answer);
        }
        if let Some(length) = answer.header("content-length").and_then(|v| v.parse::<usize>().ok()) {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body)?;
        } else if answer.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        }
        Ok(answer)
    }

    /// Reads status and headers.
    ///
    /// # Errors
    ///
    /// What the network or TLS says, and whatever is no HTTP.
    pub fn receive_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { return Ok((status, headers)) };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next chunk; `None` at the end of the body.
    ///
    /// # Errors
    ///
    /// What the network or TLS says, and whatever is no HTTP.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = usize::from_str_radix(self.line()?.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Opens a watch; read it with [`Watching::next`].
    ///
    /// # Errors
    ///
    /// What the network or TLS says, and whatever is no HTTP.
    pub fn watch(mut self, path: &str) -> io::Result<Watching> {
        self.send("GET", path, "", b"")?;
        let (status, headers) = self.receive_head()?;
        Ok(Watching { client: self, status, headers, buffer: Vec::new(), over: false })
    }
}

/// An open watch.
pub struct Watching {
    /// Its connection.
    pub client: Client,
    /// The HTTP status.
    pub status: u16,
    /// As they came.
    pub headers: Vec<(String, String)>,
    buffer: Vec<u8>,
    over: bool,
}

impl Watching {
    /// The next event; `None` at the stream's proper end.
    ///
    /// # Errors
    ///
    /// What the network or TLS says, and a line that is no JSON.
    #[expect(clippy::should_implement_trait, reason = "it is no iterator: its errors end it")]
    pub fn next(&mut self) -> io::Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(io::Error::other);
            }
            if self.over {
                return Ok(None);
            }
            match self.client.chunk()? {
                Some(chunk) => self.buffer.extend(chunk),
                None => self.over = true,
            }
        }
    }
}

fn tls(target: &Target, address: &str, socket: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(target.ca_pem.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let config = match &target.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
            builder.with_client_auth_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)?
        }
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut socket = socket;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}
