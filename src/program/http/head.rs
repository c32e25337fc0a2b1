//! A request's head: is it whole, is it sane, and what of it the server behind the door needs to know.
//!
//! PURE: bytes in, a verdict out. Nothing of what a client sent is passed on as it came: a request is written anew from
//! its method, its path and one bit of its `Accept`, so what two parsers could read differently never reaches a second one.

use crate::program::http::answer::{self, Question};
use httparse::{Error, Header, Status};

/// Bound on the fields of a head; a browser sends about twenty.
const FIELDS_MAX: usize = 64;

/// Bound on a target; the longest path served has eight bytes.
const TARGET_MAX: usize = 2048;

/// What the bytes received so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The beginning of a head.
    Partial,
    /// A whole head of a request without a body.
    Whole(Request),
    /// Nothing to be passed on. The connection closes after the answer: where the next request would start is unknown.
    Refused(Refusal),
}

/// A request, reduced to what decides its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// How many of the bytes received were its head.
    pub(super) length: usize,
    /// The head as it goes to the server behind the door.
    pub(super) rewritten: Vec<u8>,
    /// A HEAD request: its answer ends with its head.
    pub(super) head_only: bool,
    /// Whether the answer to it may be kept.
    pub(super) constant: bool,
    /// What becomes of the connection after the answer.
    pub(super) persistence: Persistence,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It stays, as HTTP/1.1 has it unless one side says otherwise.
    Keep,
    /// It stays because an HTTP/1.0 client asked for it, which must be confirmed.
    KeepConfirmed,
    /// It closes.
    Close,
}

/// Purpose a head is answered by the door itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The reason phrase.
    pub(super) phrase: &'static str,
    /// One line for whoever debugs the client.
    pub(super) why: &'static str,
}

const fn refusal(status: u16, phrase: &'static str, why: &'static str) -> Refusal {
    Refusal { status, phrase, why }
}

const MALFORMED: Refusal = refusal(400, "Bad Request", "this is no HTTP/1.1 request");
const NO_HOST: Refusal = refusal(400, "Bad Request", "an HTTP/1.1 request has exactly one Host");
const BAD_LENGTH: Refusal = refusal(400, "Bad Request", "Content-Length is not one number");
const NO_BODY_PLEASE: Refusal = refusal(413, "Content Too Large", "no request here has a body");
const TARGET_TOO_LONG: Refusal = refusal(414, "URI Too Long", "the target is longer than 2048 bytes");
const METHOD_WITH_BODY: Refusal = refusal(405, "Method Not Allowed", "only GET and HEAD are served");
const VERSION: Refusal = refusal(505, "HTTP Version Not Supported", "HTTP/1.1 and HTTP/1.0 are served");
/// The head did not end within its bound.
pub(super) const TOO_LARGE: Refusal = refusal(431, "Request Header Fields Too Large", "the head is too large");
/// The head did not end within its time.
pub(super) const TOO_SLOW: Refusal = refusal(408, "Request Timeout", "the head took too long");
/// The server behind the door does not answer.
pub(super) const UNAVAILABLE: Refusal = refusal(503, "Service Unavailable", "no answer in time; try again");

/// Judges what a client has sent so far.
pub(super) fn read(received: &[u8]) -> Head {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(received) {
        Ok(Status::Partial) => Head::Partial,
        Ok(Status::Complete(length)) => judge(length, &parsed).map_or_else(Head::Refused, Head::Whole),
        Err(Error::TooManyHeaders) => Head::Refused(TOO_LARGE),
        Err(Error::Version) => Head::Refused(VERSION),
        Err(_) => Head::Refused(MALFORMED),
    }
}

/// Whether `fresh`, with the few bytes before it, may complete a head: only then is parsing it again worth the while.
pub(super) fn may_end_in(fresh: &[u8]) -> bool {
    fresh.windows(2).any(|pair| pair == b"\n\n") || fresh.windows(3).any(|triple| triple == b"\n\r\n")
}

fn judge(length: usize, parsed: &httparse::Request<'_, '_>) -> Result<Request, Refusal> {
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(MALFORMED);
    };
    let fields = &parsed.headers[..];
    if version == 1 && values(fields, "host").count() != 1 {
        return Err(NO_HOST);
    }
    if has_body(fields)? {
        return Err(if matches!(method, "GET" | "HEAD") { NO_BODY_PLEASE } else { METHOD_WITH_BODY });
    }
    if target.len() > TARGET_MAX {
        return Err(TARGET_TOO_LONG);
    }
    let path = path_of(target);
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(MALFORMED);
    }
    let html = prefers_html(fields);
    let accept = if html { "text/html" } else { "*/*" };
    Ok(Request {
        length,
        rewritten: format!("{method} {path} HTTP/1.1\r\nHost: leasehold\r\nAccept: {accept}\r\n\r\n").into_bytes(),
        head_only: method == "HEAD",
        constant: answer::is_constant(&Question { method, path, html }),
        persistence: persistence(version, fields),
    })
}

/// The values of every field of that name. What is not UTF-8 is no value that is understood here.
fn values<'a>(fields: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| std::str::from_utf8(field.value).unwrap_or("\u{fffd}").trim())
}

/// The elements of a field that is a comma-separated list, however many times it occurs.
fn elements<'a>(fields: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    values(fields, name).flat_map(|value| value.split(',')).map(str::trim)
}

fn has_body(fields: &[Header<'_>]) -> Result<bool, Refusal> {
    let mut announced = values(fields, "content-length");
    let length = announced.next();
    if announced.any(|another| Some(another) != length) {
        return Err(BAD_LENGTH);
    }
    if length.is_some_and(|length| length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(BAD_LENGTH);
    }
    let empty = length.is_none_or(|length| length.bytes().all(|byte| byte == b'0'));
    Ok(!empty || values(fields, "transfer-encoding").next().is_some())
}

/// The path of a target in origin form (`/leader?x`) or in absolute form (`http://host/leader?x`), without its query.
fn path_of(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    path.split(['?', '#']).next().unwrap_or(path)
}

fn persistence(version: u8, fields: &[Header<'_>]) -> Persistence {
    let says = |wish: &str| elements(fields, "connection").any(|option| option.eq_ignore_ascii_case(wish));
    match version {
        _ if says("close") => Persistence::Close,
        0 if says("keep-alive") => Persistence::KeepConfirmed,
        0 => Persistence::Close,
        _ => Persistence::Keep,
    }
}

/// Whether the client would rather have HTML than JSON. A tie, such as `*/*`, is for JSON: programs ask that way.
fn prefers_html(fields: &[Header<'_>]) -> bool {
    let weight_of = |kind: &str, subtype: &str| {
        let mut best = (0, 0);
        for range in elements(fields, "accept") {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let (wanted, wanted_subtype) = name.trim().split_once('/').unwrap_or(("", ""));
            let specificity = match (wanted, wanted_subtype) {
                ("*", "*") => 1,
                (wanted, "*") if wanted.eq_ignore_ascii_case(kind) => 2,
                (wanted, exact) if wanted.eq_ignore_ascii_case(kind) && exact.eq_ignore_ascii_case(subtype) => 3,
                _ => continue,
            };
            best = best.max((specificity, quality(parameters)));
        }
        best.1
    };
    weight_of("text", "html") > weight_of("application", "json")
}

/// A `q` in thousandths; 1 unless it is given, 0 when it cannot be read.
fn quality(parameters: &str) -> u16 {
    let given = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let Some(value) = given else { return 1000 };
    match value.parse::<f32>() {
        Ok(q) if (0.0..=1.0).contains(&q) => (q * 1000.0) as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request {
        match read(text.as_bytes()) {
            Head::Whole(request) => request,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn status(text: &[u8]) -> u16 {
        match read(text) {
            Head::Refused(refusal) => refusal.status,
            other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
        }
    }

    #[test]
    fn every_prefix_of_a_head_is_partial_and_the_whole_is_whole() {
        let text = "\r\nGET /leader?x=1 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(read(&text.as_bytes()[..end]), Head::Partial, "{end}");
            assert!(!may_end_in(&text.as_bytes()[2..end.max(2)]), "{end}");
        }
        assert!(may_end_in(text.as_bytes()));
        let request = whole(&format!("{text}GET / HTTP"));
        assert_eq!(request.length, text.len());
        assert_eq!(request.rewritten, b"GET /leader HTTP/1.1\r\nHost: leasehold\r\nAccept: */*\r\n\r\n");
    }

    #[test]
    fn nothing_a_client_sent_reaches_the_server_but_method_path_and_taste() {
        let request = whole(
            "HEAD http://evil:80/healthz#x HTTP/1.1\r\nHost: a\r\nTE: chunked\r\nExpect: 100-continue\r\n\
             Connection: upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 0\r\nAccept: text/html;q=0.5\r\n\r\n",
        );
        assert_eq!(request.rewritten, b"HEAD /healthz HTTP/1.1\r\nHost: leasehold\r\nAccept: text/html\r\n\r\n");
        assert!(request.head_only);
        assert_eq!(request.persistence, Persistence::Close);
        assert_eq!(whole("GET http://host HTTP/1.0\r\n\r\n").rewritten.split(|b| *b == b' ').nth(1), Some(&b"/"[..]));
    }

    #[test]
    fn what_has_a_body_or_is_no_request_is_refused() {
        let large = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(TARGET_MAX));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        for (expected, text) in [
            (413, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
            (413, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (405, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 5\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            (400, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /\r\n\r\n"),
            (400, "hello"),
            (505, "PRI * HTTP/2.0\r\n\r\n"),
            (414, &large),
            (431, &many),
        ] {
            let text = text.replace("hello", "\u{16}\u{3}\u{1}");
            assert_eq!(status(text.as_bytes()), expected, "{text:?}");
        }
        assert!(!whole("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n").head_only);
    }

    #[test]
    fn persistence_is_as_each_version_has_it() {
        for (expected, text) in [
            (Persistence::Keep, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (Persistence::Keep, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n"),
            (Persistence::Close, "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nconnection: CLOSE\r\n\r\n"),
            (Persistence::Close, "GET / HTTP/1.0\r\n\r\n"),
            (Persistence::KeepConfirmed, "GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n"),
        ] {
            assert_eq!(whole(text).persistence, expected, "{text:?}");
        }
    }

    #[test]
    fn a_browser_gets_the_page_and_a_program_gets_json() {
        for (html, accept) in [
            (true, "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"),
            (true, "text/html"),
            (true, "TEXT/*"),
            (true, "application/json; q=0.5, text/html;level=1;q=0.6"),
            (true, "*/*, application/json;q=0"),
            (false, "*/*"),
            (false, ""),
            (false, "application/json, text/html"),
            (false, "text/html;q=0"),
            (false, "text/html;q=nonsense"),
            (false, "text/html;q=1.001, application/json;q=0.1"),
            (false, "text/html;q=2, application/json;q=0.1"),
            (false, "text/html;q=-0, application/json;q=0.1"),
            (false, "text/html;q=0.5x, application/json;q=0.1"),
            (true, "text/html;q=0.3333, application/json;q=0.25"),
            (true, "text/html;q=1., application/json;q=0.999"),
            (false, "text/html;q=0.2, */*"),
            (false, "text/plain, , ;;, /"),
        ] {
            let request = whole(&format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"));
            let forwarded = String::from_utf8(request.rewritten).unwrap();
            assert_eq!(forwarded.contains("Accept: text/html"), html, "{accept}");
        }
        assert!(!String::from_utf8(whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").rewritten).unwrap().contains("html"));
    }

    #[test]
    fn damaged_heads_never_panic_and_never_pass_on_anything_but_one_clean_line() {
        let sound =
            b"GET http://a/leader?x HTTP/1.1\r\nHost: a\r\nAccept: text/html;q=0.5\r\nConnection: close\r\n\r\n";
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as usize
        };
        let mut passed = 0;
        for _ in 0..20_000 {
            let mut damaged = sound.to_vec();
            for _ in 0..next() % 4 {
                let at = next() % damaged.len();
                match next() % 3 {
                    0 => damaged[at] = next() as u8,
                    1 => drop(damaged.remove(at)),
                    _ => damaged.insert(at, *b"\r\n \t:;,=\0\xff"[..].get(next() % 10).unwrap_or(&b'/')),
                }
            }
            if let Head::Whole(request) = read(&damaged) {
                passed += 1;
                assert!(request.length <= damaged.len());
                let text = String::from_utf8(request.rewritten).unwrap();
                let lines: Vec<&str> = text.split("\r\n").collect();
                assert_eq!(lines.len(), 5, "{text:?}");
                assert_eq!(lines[0].split(' ').count(), 3, "{text:?}");
                assert_eq!((lines[1], lines[3], lines[4]), ("Host: leasehold", "", ""));
                assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || b" \r\n".contains(&byte)));
            }
        }
        assert!(passed > 1_000, "{passed}: most damage must leave something to judge, or this shows nothing");
    }
}
