//! Reads an answer within its bounds, and turns what HTTP and TLS say into a [`CallError`].
//!
//! IO: reads from the connection.

use std::io::Read;

use serde::Deserialize;
use ureq::http::{self, header};
use ureq::{Body, BodyReader, Error};

use crate::kube::connection::Tally;
use crate::kube::request::Request;
use crate::kube::status::{CallError, Failure, Reply, Transport, TransportKind, printable};
use crate::kube::tls_error;

/// With it the API server names its own audit log's entry for the call.
const AUDIT_ID: &str = "audit-id";
/// The longest answer that is read. The largest object that etcd holds is 1.5 MiB, the largest Service or Pod
/// in use has a hundredth of that; and the memory limit that `manifests/` set is 8 MiB.
pub const ANSWER_LIMIT: usize = 1 << 20;

/// What is kept of an answer's head.
#[derive(Default)]
pub(super) struct AnswerHead {
    pub(super) status: Option<u16>,
    pub(super) audit_id: Option<String>,
}

impl AnswerHead {
    pub(super) fn of(answer: &http::Response<Body>, audited: bool) -> AnswerHead {
        let audit_id = answer.headers().get(AUDIT_ID).filter(|_| audited);
        AnswerHead { status: Some(answer.status().as_u16()), audit_id: audit_id.map(|id| printable(id.as_bytes())) }
    }
}

/// What a call comes to, as far as the audit log wants to know it.
pub(super) trait Answered {
    fn version(&self) -> Option<String> {
        None
    }
}

impl Answered for BodyReader<'static> {}

impl Answered for Reply {
    fn version(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Versioned {
            metadata: VersionOnly,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct VersionOnly {
            resource_version: String,
        }
        serde_json::from_slice::<Versioned>(&self.body).ok().map(|object| object.metadata.resource_version)
    }
}

pub(super) fn judge<T>(
    request: &Request,
    answer: http::Response<Body>,
    read: impl FnOnce(&Request, u16, Body) -> Result<T, CallError>,
) -> Result<T, CallError> {
    let status = answer.status();
    let retry_after =
        answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let closes =
        answer.headers().get(header::CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let body = answer.into_body();
    if status.is_success() {
        return read(request, status.as_u16(), body);
    }
    // However the body ends, the status stands; what came of the body is what can be told.
    let (body, _) = read_up_to(body, ANSWER_LIMIT / 16);
    let mut error = CallError::from_answer(request, status.as_u16(), retry_after.as_deref(), &body);
    if let (Failure::TooManyRequests { retry_after }, true) = (&mut error.failure, closes) {
        // A server that shuts down. The next call connects anew, and another server may answer at the same address.
        *retry_after = None;
    }
    Err(error)
}

pub(super) fn read_answer(request: &Request, status: u16, body: Body) -> Result<Reply, CallError> {
    let failed = |failure| CallError { status: Some(status), ..CallError::new(request, failure) };
    match read_up_to(body, ANSWER_LIMIT) {
        (body, None) => Ok(Reply { status, body }),
        (_, Some(Unread::Error(error))) => Err(failed(transport_failure(Error::from(error)))),
        (_, Some(Unread::TooLong)) => Err(failed(Failure::Transport(Transport {
            kind: TransportKind::Protocol,
            sent: true,
            text: format!("an answer of more than {ANSWER_LIMIT} bytes"),
        }))),
    }
}

/// Why a body was not read to its end.
enum Unread {
    Error(std::io::Error),
    TooLong,
}

fn read_up_to(body: Body, limit: usize) -> (Vec<u8>, Option<Unread>) {
    let announced = body.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if announced > limit {
        return (Vec::new(), Some(Unread::TooLong));
    }
    // One byte more than announced, or the read that finds the end would double the memory.
    let mut bytes = Vec::with_capacity(announced + 1);
    let mut reader = body.into_reader().take(limit as u64 + 1);
    match reader.read_to_end(&mut bytes) {
        Err(error) => (bytes, Some(Unread::Error(error))),
        Ok(length) if length > limit => (Vec::new(), Some(Unread::TooLong)),
        Ok(_) => (bytes, None),
    }
}

/// What ureq says, in our terms. Whether anything was sent is known from the wire itself.
pub(crate) fn transport_failure(error: Error) -> Failure {
    let sent = Tally::get().sent > 0;
    let kind = match &error {
        Error::Timeout(_) => TransportKind::Timeout,
        Error::Io(io) if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => TransportKind::Tls,
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => TransportKind::Tls,
        Error::Io(io) if io.kind() == std::io::ErrorKind::NotConnected => TransportKind::Stopped,
        Error::Io(_) if sent => TransportKind::Cut,
        Error::Io(_) | Error::HostNotFound | Error::ConnectionFailed => TransportKind::Connect,
        _ => TransportKind::Protocol,
    };
    let tls = match &error {
        Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref()),
        Error::Rustls(error) => Some(error),
        _ => None,
    };
    let text = tls.and_then(tls_error::explain).unwrap_or_else(|| error.to_string());
    Failure::Transport(Transport { kind, sent, text: printable(text.as_bytes()) })
}
