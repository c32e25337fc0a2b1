//! What the server remembers of each request.
//!
//! PURE.

use serde_json::Value;

use crate::faults::FaultId;

/// One request, from its arrival on. Credentials are not kept, only that there were some.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Its number: 0, 1, 2, … in the order of arrival.
    pub number: usize,
    /// What an API server's audit log would call it: sent back in the header `Audit-Id` with every answer of the API.
    pub audit_id: String,
    /// The connection it came by; 1 is the first.
    pub connection: u64,
    /// The user's name; empty if the credentials were not known.
    pub user: String,
    /// The HTTP method.
    pub method: String,
    /// The Kubernetes verb.
    pub verb: String,
    /// The path, without the query.
    pub path: String,
    /// The query, as sent, without the question mark.
    pub query: String,
    /// All headers but `Authorization`.
    pub headers: Vec<(String, String)>,
    /// Whether an `Authorization` header came.
    pub has_credentials: bool,
    /// The body.
    pub body: Vec<u8>,
    /// `metadata.resourceVersion` in the body, if it is JSON and has one.
    pub request_version: Option<String>,
    /// The status answered; `None` while there is no answer, or when none was sent.
    pub status: Option<u16>,
    /// Whether the request was handled, whatever was answered.
    pub applied: bool,
    /// `metadata.resourceVersion` of the API's answer (also of one that was not sent).
    pub response_version: Option<u64>,
    /// The fault that met it.
    pub fault: Option<FaultId>,
    /// When it had arrived, in nanoseconds since the server's start.
    pub received_ns: u64,
    /// When the answer was about to be sent.
    pub answered_ns: Option<u64>,
}

impl Recorded {
    /// A header by name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}
