//! Reads an answer within its bounds, and turns what HTTP and TLS say into a [`CallError`].
//!
//! IO: reads from the connection.

use std::io::{self, Read};

use ureq::http::{self, header};
use ureq::{Body, BodyReader, Error};

use crate::kube::connection::TALLY;
use crate::kube::request::{Request, Verb};
use crate::kube::status::{CallError, Reply, TransportKind};
use crate::kube::tls_error;

/// The longest answer that is read. The largest object that etcd holds is 1.5 MiB, the largest Service or Pod
/// in use has a hundredth of that; and the memory limit that `manifests/` set is 8 MiB.
pub(super) const ANSWER_LIMIT: u64 = 1 << 20;

/// Reads the body to its end, but that of a watch, which is handed back unread.
pub(super) fn read_answer(
    request: &Request,
    answer: http::Response<Body>,
) -> Result<(Reply, BodyReader<'static>), CallError> {
    let (head, body) = answer.into_parts();
    let (status, success) = (head.status.as_u16(), head.status.is_success());
    if success && request.verb == Verb::Watch {
        return Ok((Reply { status, body: Vec::new() }, body.into_reader()));
    }
    let limit = if success { ANSWER_LIMIT } else { ANSWER_LIMIT / 16 };
    let announced = body.content_length().unwrap_or(0).min(limit);
    // One byte more than announced, or the read that finds the end would double the memory.
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0) + 1);
    let mut reader = body.into_with_config().limit(limit).reader();
    let read = reader.read_to_end(&mut bytes);
    if success {
        read.map_err(|error| CallError { status: Some(status), ..transport_failure(request, error) })?;
        return Ok((Reply { status, body: bytes }, reader));
    }
    // However the body ends, the status stands; what came of the body is what can be told.
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let error = CallError::from_answer(request, status, header(header::RETRY_AFTER), &bytes);
    // A server that shuts down. The next call connects anew, and another server may answer at the same address.
    let shuts_down = status == 429 && header(header::CONNECTION).is_some_and(|it| it.eq_ignore_ascii_case("close"));
    Err(CallError { retry_after: error.retry_after.filter(|_| !shuts_down), ..error })
}

/// What ureq says, in our terms. Whether anything was sent is known from the wire itself.
pub(crate) fn transport_failure(request: &Request, error: impl Into<Error>) -> CallError {
    let (error, sent) = (error.into(), TALLY.get().sent > 0);
    let tls = match &error {
        Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref()),
        Error::Rustls(error) => Some(error),
        _ => None,
    };
    let kind = match &error {
        _ if tls.is_some() => TransportKind::Tls,
        Error::Tls(_) | Error::Pem(_) | Error::TlsRequired => TransportKind::Tls,
        Error::Timeout(_) => TransportKind::Timeout,
        Error::Io(io) if io.kind() == io::ErrorKind::NotConnected => TransportKind::Stopped,
        Error::Io(_) if sent => TransportKind::Cut,
        Error::Io(_) | Error::HostNotFound | Error::ConnectionFailed => TransportKind::Connect,
        _ => TransportKind::Protocol,
    };
    let text = tls.and_then(tls_error::explain).unwrap_or_else(|| error.to_string());
    CallError::transport(request, kind, sent, &text)
}
