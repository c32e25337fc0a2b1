//! From an HTTP answer, or the lack of one, to what went wrong in the caller's terms.
//!
//! PURE: bytes and numbers in, an enum out. Whatever the server says is shortened and escaped before it can reach a
//! log; bodies are never shown whole.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::kube::request::{Request, Verb};

/// What a server says is cut here: enough for every message that Kubernetes itself makes.
const MESSAGE_LIMIT: usize = 300;

/// A successful answer (2xx), its body as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 and 201 differ: a PUT answered 201 made a new Lease and renewed nothing (P2).
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads the body with the resource's own `parse`; what it refuses becomes an error that names the call.
    pub fn parse<T>(&self, request: &Request, parse: fn(&[u8]) -> Result<T, Malformed>) -> Result<T, CallError> {
        parse(&self.body).map_err(|malformed| CallError {
            status: Some(self.status),
            ..CallError::new(request, Failure::Malformed(malformed.0))
        })
    }
}

impl fmt::Debug for Reply {
    /// A body never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.status, self.body.len())
    }
}

/// A successful answer that cannot be understood, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// What went wrong with a call.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// 404.
    NotFound,
    /// 409 to a create: the object is there.
    AlreadyExists,
    /// 409 to a write that carried a version or uid: the object has changed. It says nothing about who leads.
    Conflict,
    /// 401, even with the token file read again.
    Unauthorized,
    /// 403, with the server's words.
    Forbidden(String),
    /// 400 or 422: the server does not accept what was written, with its words.
    Invalid(String),
    /// 429.
    TooManyRequests {
        /// When the server asks to be left alone until.
        retry_after: Option<Duration>,
    },
    /// 5xx.
    Unavailable {
        /// Which.
        status: u16,
        /// When the server asks to be left alone until.
        retry_after: Option<Duration>,
    },
    /// 410: the version that a watch wants to start from is forgotten.
    Gone,
    /// A 2xx whose body is not what it should be.
    Malformed(String),
    /// No whole answer came.
    Transport(Transport),
    /// Any other status.
    Unexpected {
        /// Which.
        status: u16,
        /// The `reason` of the Status object, when the body was one.
        reason: String,
        /// Its message, or the beginning of the body.
        message: String,
    },
}

impl Failure {
    /// Whether a write that ended so may have changed the object all the same (P8). When in doubt: yes.
    pub fn may_have_been_applied(&self) -> bool {
        match self {
            Failure::NotFound
            | Failure::AlreadyExists
            | Failure::Conflict
            | Failure::Unauthorized
            | Failure::Forbidden(_)
            | Failure::Invalid(_)
            | Failure::TooManyRequests { .. }
            | Failure::Gone => false,
            Failure::Unavailable { .. } | Failure::Malformed(_) => true,
            Failure::Transport(transport) => transport.sent,
            Failure::Unexpected { status, .. } => !(400..500).contains(status),
        }
    }

    /// The pause that the server asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::TooManyRequests { retry_after } | Failure::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A call that ended without a whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transport {
    /// In which way.
    pub kind: TransportKind,
    /// Whether any byte of the request may have left: if none has, nothing can have been applied.
    pub sent: bool,
    /// The error's own words.
    pub text: String,
}

/// The ways in which a call ends without a whole answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum TransportKind {
    /// No connection: refused, unreachable, no route.
    Connect,
    /// The time limit passed.
    Timeout,
    /// No trust: wrong CA, wrong name, expired certificate.
    Tls,
    /// The connection broke.
    Cut,
    /// Not HTTP, or an answer larger than any that is expected.
    Protocol,
    /// Another thread ended it.
    Stopped,
}

impl TransportKind {
    /// One word, for metrics and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            TransportKind::Connect => "connect",
            TransportKind::Timeout => "timeout",
            TransportKind::Tls => "tls",
            TransportKind::Cut => "cut",
            TransportKind::Protocol => "protocol",
            TransportKind::Stopped => "stopped",
        }
    }
}

/// A call that failed: which, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallError {
    /// What was asked.
    pub verb: Verb,
    /// Of which path.
    pub path: Box<str>,
    /// The HTTP status, when one came.
    pub status: Option<u16>,
    /// The `reason` of the Status object; empty when there was none.
    pub reason: Box<str>,
    /// The server's words, shortened; empty when there were none.
    pub message: Box<str>,
    /// What it comes to.
    pub failure: Failure,
}

impl CallError {
    /// `request` failed without an HTTP status.
    pub fn new(request: &Request, failure: Failure) -> CallError {
        let (verb, path) = (request.verb, request.path.as_str().into());
        CallError { verb, path, status: None, reason: Box::default(), message: Box::default(), failure }
    }

    /// The watch that `request` opened has ended so. What an event in it states counts as the status.
    pub(crate) fn in_watch(request: &Request, failure: Failure) -> CallError {
        let status = match failure {
            Failure::Unavailable { status, .. } | Failure::Unexpected { status, .. } => Some(status),
            _ => None,
        };
        CallError { status, ..CallError::new(request, failure) }
    }

    /// `request` was answered with a status that is not 2xx. `retry_after` is the header of that name.
    pub fn from_answer(request: &Request, status: u16, retry_after: Option<&str>, body: &[u8]) -> CallError {
        let said = Said::read(body);
        let failure = said.failure(request.verb, status, retry_after);
        CallError {
            status: Some(status),
            reason: said.reason.into(),
            message: said.message.into(),
            ..CallError::new(request, failure)
        }
    }

    /// See [`Failure::may_have_been_applied`]; never so for a call that only reads.
    pub fn may_have_been_applied(&self) -> bool {
        self.verb.writes() && self.failure.may_have_been_applied()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.verb.method(), self.path)?;
        match &self.failure {
            Failure::Transport(transport) => write!(f, "{}: {}", transport.kind.as_str(), transport.text),
            Failure::Malformed(why) => {
                write!(f, "{} with a body that makes no sense: {why}", self.status.unwrap_or(200))
            }
            _ => {
                write!(f, "{}", self.status.unwrap_or_default())?;
                if !self.reason.is_empty() {
                    write!(f, " {}", self.reason)?;
                }
                if !self.message.is_empty() {
                    write!(f, ": {}", self.message)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for CallError {}

/// The failure that an `ERROR` event in a watch states: its object is a Status.
pub(crate) fn failure_in_watch(status: &Value) -> Failure {
    let said = Said::from_object(status);
    said.failure(Verb::Watch, said.code.unwrap_or(0), None)
}

/// What an error's body says.
struct Said {
    reason: String,
    message: String,
    code: Option<u16>,
    retry_after: Option<Duration>,
}

impl Said {
    /// Reads a Status object, or takes any other body as a message: proxies and load balancers answer in HTML or not
    /// at all.
    fn read(body: &[u8]) -> Said {
        match serde_json::from_slice::<Value>(body) {
            Ok(object) if object.is_object() => Said::from_object(&object),
            _ => Said { reason: String::new(), message: printable(body), code: None, retry_after: None },
        }
    }

    fn from_object(object: &Value) -> Said {
        let text = |key: &str| printable(object.get(key).and_then(Value::as_str).unwrap_or_default().as_bytes());
        Said {
            reason: text("reason"),
            message: text("message"),
            code: object.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()),
            retry_after: object
                .pointer("/details/retryAfterSeconds")
                .and_then(Value::as_u64)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        }
    }

    fn failure(&self, verb: Verb, status: u16, retry_after: Option<&str>) -> Failure {
        let retry_after = retry_after.and_then(seconds).or(self.retry_after);
        match status {
            // A create carries no version, so it cannot conflict; a body that does not tell leaves only the verb.
            409 if self.reason == "AlreadyExists" || (self.reason.is_empty() && verb == Verb::Create) => {
                Failure::AlreadyExists
            }
            409 => Failure::Conflict,
            404 => Failure::NotFound,
            401 => Failure::Unauthorized,
            403 => Failure::Forbidden(self.message.clone()),
            400 | 422 => Failure::Invalid(self.message.clone()),
            410 => Failure::Gone,
            429 => Failure::TooManyRequests { retry_after },
            500..=599 => Failure::Unavailable { status, retry_after },
            _ => Failure::Unexpected { status, reason: self.reason.clone(), message: self.message.clone() },
        }
    }
}

/// The header's form with a number. (The other, a date, would need a wall clock that agrees with the server's.)
fn seconds(header: &str) -> Option<Duration> {
    let header = header.trim();
    let digits = !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| header.parse().ok().map(Duration::from_secs))?
}

/// Control characters, and Unicode's invisible direction marks, which reorder the text around them just the same.
pub(crate) fn is_misleading(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of what a server says, on one line and without control characters.
pub(crate) fn printable(bytes: &[u8]) -> String {
    // A character of the cut part could be halved; lossy decoding takes care of that, and of everything else.
    let start = &bytes[..bytes.len().min(4 * MESSAGE_LIMIT)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim();
    let mut shown = one_line(text.chars().take(MESSAGE_LIMIT));
    if text.chars().nth(MESSAGE_LIMIT).is_some() {
        shown.push('…');
    }
    shown
}

/// Text from outside, without what could begin a line of its own or move a terminal's cursor.
pub(crate) fn one_line(text: impl Iterator<Item = char>) -> String {
    let mut shown = String::new();
    for c in text {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_misleading(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::request::{Purpose, create_lease, get_lease, replace_lease};
    use serde_json::json;

    fn put() -> Request {
        replace_lease("ns", "web", &json!({}), Purpose::Renew)
    }

    fn status_body(code: u16, reason: &str, message: &str) -> Vec<u8> {
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn each_status_is_told_in_the_callers_terms() {
        let words = || "words".to_owned();
        let table = [
            (404, "NotFound", Failure::NotFound, false),
            (409, "Conflict", Failure::Conflict, false),
            (409, "AlreadyExists", Failure::AlreadyExists, false),
            (401, "Unauthorized", Failure::Unauthorized, false),
            (403, "Forbidden", Failure::Forbidden(words()), false),
            (422, "Invalid", Failure::Invalid(words()), false),
            (400, "BadRequest", Failure::Invalid(words()), false),
            (410, "Expired", Failure::Gone, false),
            (429, "TooManyRequests", Failure::TooManyRequests { retry_after: None }, false),
            (500, "InternalError", Failure::Unavailable { status: 500, retry_after: None }, true),
            (503, "ServiceUnavailable", Failure::Unavailable { status: 503, retry_after: None }, true),
            (504, "Timeout", Failure::Unavailable { status: 504, retry_after: None }, true),
            (
                415,
                "UnsupportedMediaType",
                Failure::Unexpected { status: 415, reason: "UnsupportedMediaType".into(), message: words() },
                false,
            ),
            (302, "Found", Failure::Unexpected { status: 302, reason: "Found".into(), message: words() }, true),
        ];
        for (status, reason, failure, applied) in table {
            let error = CallError::from_answer(&put(), status, None, &status_body(status, reason, "words"));
            assert_eq!(error.failure, failure);
            assert_eq!(error.may_have_been_applied(), applied, "{status}");
            assert_eq!(
                error.to_string(),
                format!(
                    "PUT /apis/coordination.k8s.io/v1/namespaces/ns/leases/web?fieldManager=leasehold: {status} {reason}: words"
                )
            );
        }
    }

    #[test]
    fn a_409_without_a_status_is_read_by_the_verb() {
        let create = create_lease("ns", "web", &json!({}), Purpose::Acquire);
        assert_eq!(CallError::from_answer(&create, 409, None, b"").failure, Failure::AlreadyExists);
        assert_eq!(CallError::from_answer(&put(), 409, None, b"<html>").failure, Failure::Conflict);
        // A create can fail on a quota's conflict too.
        let body = status_body(409, "Conflict", "quota");
        assert_eq!(CallError::from_answer(&create, 409, None, &body).failure, Failure::Conflict);
    }

    #[test]
    fn retry_after_comes_from_the_header_else_from_the_status() {
        let of = |header, body: &[u8]| CallError::from_answer(&put(), 429, header, body).failure.retry_after();
        let detail = br#"{"details":{"retryAfterSeconds":7}}"#;
        assert_eq!(of(Some("3"), detail), Some(Duration::from_secs(3)));
        assert_eq!(of(Some(" 3 "), b""), Some(Duration::from_secs(3)));
        assert_eq!(of(None, detail), Some(Duration::from_secs(7)));
        for nonsense in ["", "+3", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "99999999999999999999999"] {
            assert_eq!(of(Some(nonsense), b""), None, "{nonsense}");
        }
        assert_eq!(of(None, br#"{"details":{"retryAfterSeconds":0}}"#), None);
    }

    #[test]
    fn bodies_that_are_no_status_are_tolerated() {
        for body in [
            &b"<html>\n<b>502 Bad Gateway</b>"[..],
            b"",
            b"null",
            b"[1]",
            b"\xff\xfe",
            b"{\"reason\":7,\"code\":\"x\"}",
        ] {
            let error = CallError::from_answer(&put(), 502, None, body);
            assert_eq!(error.failure, Failure::Unavailable { status: 502, retry_after: None });
            assert!(error.to_string().contains(": 502"), "{error}");
        }
        let error = CallError::from_answer(&put(), 502, None, b"<html>\n<b>502 Bad Gateway</b>");
        assert!(error.to_string().ends_with("502: <html> <b>502 Bad Gateway</b>"), "{error}");
    }

    #[test]
    fn every_prefix_of_a_status_is_tolerated() {
        let body = status_body(409, "Conflict", "the object has been modified");
        for cut in 0..body.len() {
            let error = CallError::from_answer(&put(), 409, None, &body[..cut]);
            assert_eq!(error.failure, Failure::Conflict, "{cut}");
        }
    }

    #[test]
    fn what_the_server_says_is_short_and_harmless_in_a_terminal() {
        let hostile = format!("\u{1b}[31mred\u{7}\u{202e}{}", "é".repeat(5000));
        let error = CallError::from_answer(&put(), 403, None, &status_body(403, "Forbidden", &hostile));
        assert!(error.message.starts_with("\\u{1b}[31mred\\u{7}\\u{202e}é"), "{error}");
        assert!(error.message.chars().count() < MESSAGE_LIMIT + 30 && error.message.ends_with('…'));
        assert!(!error.to_string().chars().any(char::is_control));
    }

    #[test]
    fn a_lost_reply_may_have_been_applied_unless_nothing_was_sent() {
        for (sent, verb_writes) in [(true, true), (false, true), (true, false)] {
            let transport = Transport { kind: TransportKind::Cut, sent, text: "connection reset".into() };
            let request = if verb_writes { put() } else { get_lease("ns", "web", Purpose::Observe) };
            let error = CallError::new(&request, Failure::Transport(transport));
            assert_eq!(error.may_have_been_applied(), sent && verb_writes);
            assert!(error.to_string().ends_with(": cut: connection reset"), "{error}");
        }
        let malformed = CallError::new(&put(), Failure::Malformed("expected value at line 1 column 1".into()));
        assert!(malformed.may_have_been_applied());
    }
}
