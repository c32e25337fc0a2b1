//! What the door counts, and its form in the metrics.
//!
//! PURE: atomics and text.

use crate::program::metrics::{Kind, Text};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Purpose a connection or a request got no answer of the server behind the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The head was malformed, too large, or announced a body.
    Refused,
    /// The head took longer than its limit.
    Slow,
    /// The connection was closed to make room for another.
    Crowded,
    /// The client did not take its answer within the limit, or too many bytes were owed to such clients.
    Stalled,
    /// The server behind the door did not answer.
    Unavailable,
    /// A connection could not be accepted.
    Accept,
}

impl Rejection {
    const ALL: [(Rejection, &'static str); 6] = [
        (Rejection::Refused, "refused"),
        (Rejection::Slow, "slow"),
        (Rejection::Crowded, "crowded"),
        (Rejection::Stalled, "stalled"),
        (Rejection::Unavailable, "unavailable"),
        (Rejection::Accept, "accept"),
    ];
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    rejections: [AtomicU64; Rejection::ALL.len()],
}

impl Counters {
    pub(super) fn reject(&self, reason: Rejection) {
        self.rejections[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn set_connections(&self, count: usize) {
        self.connections.store(count as u64, Relaxed);
    }

    pub(super) fn write(&self, text: &mut Text) {
        text.family("leasehold_http_connections", Kind::Gauge, "Client connections open.");
        text.sample("leasehold_http_connections", &[], self.connections.load(Relaxed));
        text.family("leasehold_http_requests_total", Kind::Counter, "Requests with a sane head.");
        text.sample("leasehold_http_requests_total", &[], self.requests.load(Relaxed));
        let help = "Connections and requests that were turned away, by reason.";
        text.family("leasehold_http_rejected_total", Kind::Counter, help);
        for (reason, label) in Rejection::ALL {
            let count = self.rejections[reason as usize].load(Relaxed);
            text.sample("leasehold_http_rejected_total", &[("reason", label)], count);
        }
    }
}
