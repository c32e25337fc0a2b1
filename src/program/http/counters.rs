//! What the front counts, and its form in the metrics. PURE.

use crate::program::metrics::Text;

/// Why a connection or a request got no answer from tiny_http.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The head was malformed or too large.
    Refused,
    /// The head took longer than its limit.
    Slow,
    /// The connection was closed to make room for another.
    Crowded,
    /// The client did not take its answer within the limit.
    Stalled,
    /// tiny_http did not answer.
    Unavailable,
    /// A connection could not be accepted.
    Accept,
}

const LABELS: [&str; 6] = ["refused", "slow", "crowded", "stalled", "unavailable", "accept"];

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: usize,
    pub(super) requests: u64,
    rejections: [u64; LABELS.len()],
}

impl Counters {
    pub(super) fn reject(&mut self, reason: Rejection) {
        self.rejections[reason as usize] += 1;
    }

    pub(super) fn write(&self, text: &mut Text) {
        text.single("leasehold_http_connections", "Client connections open.", Some(self.connections));
        text.single("leasehold_http_requests_total", "Requests with a well-formed head.", Some(self.requests));
        let help = "Connections and requests that were turned away, by reason.";
        text.labelled("leasehold_http_rejected_total", help, "reason", LABELS.into_iter().zip(self.rejections));
    }
}
