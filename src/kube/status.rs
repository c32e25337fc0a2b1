//! From an HTTP answer, or the lack of one, to what went wrong in the caller's terms.
//!
//! PURE: bytes and numbers in, a [`CallError`] out. Whatever the server says is shortened and escaped before it can reach a
//! log; bodies are never shown whole.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::kube::request::{Request, Verb};
use crate::kube::url::digits;

/// What a server says is cut here: enough for every message that Kubernetes itself makes.
const MESSAGE_LIMIT: usize = 300;

/// A successful answer (2xx), its body as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 and 201 differ: a PUT answered 201 made a new Lease and renewed nothing (P2).
    pub status: u16,
    /// The body. Empty for a watch, whose events are read one by one.
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads the body with the resource's own `parse`; what it refuses becomes an error that names the call.
    pub fn parse<T>(&self, request: &Request, parse: fn(&[u8]) -> Result<T, String>) -> Result<T, CallError> {
        parse(&self.body).map_err(|problem| CallError::malformed(request, self.status, &problem))
    }
}

impl fmt::Debug for Reply {
    /// A body never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.status, self.body.len())
    }
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

/// A call that failed: which, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallError {
    /// What was asked.
    pub verb: Verb,
    /// Of which path.
    pub path: Box<str>,
    /// The HTTP status, when one came. Of a 2xx the body did not come whole, or cannot be understood. An error that a
    /// watch brings states a status too.
    pub status: Option<u16>,
    /// How the connection failed, when no whole answer came.
    pub transport: Option<TransportKind>,
    /// Whether any byte of the request may have left: if none has, nothing can have been applied.
    pub sent: bool,
    /// The `reason` of the Status object, or one word for `transport`; empty when there is none.
    pub reason: Box<str>,
    /// The server's or the system's words, shortened; empty when there are none.
    pub message: Box<str>,
    /// The pause that a server asks for which is busy (429, 5xx).
    pub retry_after: Option<Duration>,
}

impl CallError {
    /// No whole answer to `request` came. `sent`: whether any byte of the request may have left.
    pub fn transport(request: &Request, kind: TransportKind, sent: bool, text: &str) -> CallError {
        let reason = format!("{kind:?}").to_lowercase().into(); // As docs/reference.md lists them.
        let message = printable(text.as_bytes()).into();
        CallError { transport: Some(kind), sent, reason, message, ..CallError::of(request, None) }
    }

    /// `request` was answered with a 2xx whose body is not what it should be.
    pub fn malformed(request: &Request, status: u16, problem: &str) -> CallError {
        let reason = "with a malformed body".into();
        CallError { reason, message: printable(problem.as_bytes()).into(), ..CallError::of(request, Some(status)) }
    }

    /// `request` was answered with a status that is not 2xx. `retry_after` is the header of that name, in the form with a
    /// number. (The other, a date, would need a wall clock that agrees with the server's.)
    pub fn from_answer(request: &Request, status: u16, retry_after: Option<&str>, body: &[u8]) -> CallError {
        let object = serde_json::from_slice(body).unwrap_or(Value::Null);
        let retry_after = retry_after.and_then(|header| digits(header.trim()));
        let error = CallError::from_status(request, status, retry_after, &object);
        // Proxies and load balancers answer in HTML or not at all.
        let message = if object.is_object() { error.message } else { printable(body).into() };
        CallError { message, ..error }
    }

    /// The watch that `request` opened has brought an `ERROR` event, whose object is a Status.
    pub(crate) fn in_watch(request: &Request, object: &Value) -> CallError {
        let code = object.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        CallError::from_status(request, code.unwrap_or(0), None, object)
    }

    fn from_status(request: &Request, status: u16, retry_after: Option<u64>, object: &Value) -> CallError {
        let text = |key: &str| printable(object.get(key).and_then(Value::as_str).unwrap_or_default().as_bytes());
        let stated = || object.pointer("/details/retryAfterSeconds")?.as_u64().filter(|seconds| *seconds > 0);
        let busy = status == 429 || status >= 500;
        CallError {
            reason: text("reason").into(),
            message: text("message").into(),
            retry_after: retry_after.or_else(stated).filter(|_| busy).map(Duration::from_secs),
            ..CallError::of(request, Some(status))
        }
    }

    fn of(request: &Request, status: Option<u16>) -> CallError {
        CallError {
            verb: request.verb,
            path: request.path.as_str().into(),
            status,
            transport: None,
            sent: true,
            reason: Box::default(),
            message: Box::default(),
            retry_after: None,
        }
    }

    /// Whether a write that ended so may have changed the object all the same (P8). When in doubt: yes.
    pub fn may_have_been_applied(&self) -> bool {
        let refused = self.status.is_some_and(|status| (400..500).contains(&status));
        self.verb.writes() && self.sent && !refused
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:", self.verb.method(), self.path)?;
        if let Some(status) = self.status.filter(|_| self.transport.is_none()) {
            write!(f, " {status}")?;
        }
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for CallError {}

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
    use crate::kube::request::{Purpose, get_lease, replace_lease};
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
    fn each_status_is_told_with_the_servers_words() {
        let table = [
            (404, "NotFound", false),
            (409, "Conflict", false),
            (409, "AlreadyExists", false),
            (401, "Unauthorized", false),
            (403, "Forbidden", false),
            (422, "Invalid", false),
            (400, "BadRequest", false),
            (410, "Expired", false),
            (415, "UnsupportedMediaType", false),
            (429, "TooManyRequests", false),
            (500, "InternalError", true),
            (503, "ServiceUnavailable", true),
            (504, "Timeout", true),
            (302, "Found", true),
        ];
        for (status, reason, applied) in table {
            let error = CallError::from_answer(&put(), status, None, &status_body(status, reason, "words"));
            assert_eq!((error.status, error.transport, error.retry_after), (Some(status), None, None));
            assert_eq!((&*error.reason, &*error.message), (reason, "words"));
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
    fn retry_after_comes_from_the_header_else_from_the_status() {
        let of = |header, body: &[u8]| CallError::from_answer(&put(), 429, header, body).retry_after;
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
            assert_eq!((error.status, error.retry_after), (Some(502), None));
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
            assert_eq!(error.status, Some(409), "{cut}");
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
            let request = if verb_writes { put() } else { get_lease("ns", "web", Purpose::Observe) };
            let error = CallError::transport(&request, TransportKind::Cut, sent, "connection reset");
            assert_eq!(error.may_have_been_applied(), sent && verb_writes);
            assert!(error.to_string().ends_with(": cut: connection reset"), "{error}");
        }
        let malformed = CallError::malformed(&put(), 200, "expected value at line 1 column 1");
        assert!(malformed.may_have_been_applied());
        assert!(malformed.to_string().ends_with(": 200 with a malformed body: expected value at line 1 column 1"));
    }
}
