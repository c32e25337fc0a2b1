//! What a Lease says about an election: its record, one version of it, and a term that was won on it.
//!
//! PURE: data only.

use crate::time::{BootTime, WallTime};

/// A Lease's `resourceVersion`, as the unsigned integer it is.
///
/// Versions of one resource are comparable ([KEP-5504]), so an older observation that arrives late is known as such.
///
/// [KEP-5504]: https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/5504-comparable-resource-version
pub type Version = u128;

/// Reads a [`Version`]: decimal digits only, no sign, no leading zero, at most 128 bits, as KEP-5504 promises.
pub fn parse_version(text: &str) -> Option<Version> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

/// The election fields of a Lease's `spec`. A change in any of them is a sign of life; a change elsewhere is not (P5).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Record {
    /// `holderIdentity`; `None` when absent, null or empty: the Lease is vacant (P4).
    pub holder: Option<String>,
    /// `leaseDurationSeconds`; `None` when absent or not positive: a rival takes its own (P4).
    pub lease_duration_seconds: Option<u32>,
    /// `acquireTime`: for people, and to tell one term from the next.
    pub acquire_time: Option<WallTime>,
    /// `renewTime`: for people, and a sign of life when it changes.
    pub renew_time: Option<WallTime>,
    /// `leaseTransitions`; absent counts as 0.
    pub transitions: u32,
}

/// The annotations that leasehold keeps on a Lease. `None`: absent.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Annotations {
    /// Which life of which process holds the Lease, and since when (P11).
    pub incarnation: Option<String>,
    /// The term's fencing token, for those who did not see it being won: the leader adds it when it first renews, as
    /// no write can state the version that it will get.
    pub token: Option<String>,
    /// An operator asks the leader to hand over to this candidate; empty: to anyone else (P17).
    pub yield_to: Option<String>,
    /// A leader that handed over on request leaves the name here, for the candidates to let that one go first (P17).
    pub yielded_to: Option<String>,
    /// The candidate that is next in line (P13).
    pub successor: Option<String>,
    /// The successor's revision, where known (P19).
    pub successor_revision: Option<String>,
    /// The holder's revision, where known (P19).
    pub holder_revision: Option<String>,
}

/// One version of a Lease, as the API server stated it.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Snapshot {
    /// `metadata.uid`: another one is another Lease, whatever its name.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// The election fields.
    pub record: Record,
    /// leasehold's annotations.
    pub annotations: Annotations,
    /// Whether `spec.strategy` is set: a controller names the holders of such a Lease (P16).
    pub coordinated: bool,
}

impl Snapshot {
    /// The incarnation that holds the Lease (P11), if its annotation names this very acquisition: a program that does not
    /// know the annotation keeps the one of the term before.
    pub fn incarnation(&self) -> Option<&str> {
        let acquired = self.record.acquire_time?;
        self.annotations.incarnation.as_deref()?.strip_suffix(&format!(" {acquired}"))
    }

    /// The candidate that is next in line (P13). `None` where none is named, or the one named holds the Lease.
    pub fn successor(&self) -> Option<&str> {
        let named = self.annotations.successor.as_deref()?;
        Some(named).filter(|name| !name.is_empty() && self.record.holder.as_deref() != Some(name))
    }
}

/// One unbroken leadership, from the write that won it to its end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Term {
    /// The fencing token: the version that the winning write produced. Constant for the term and greater than
    /// every earlier term's (P10).
    pub token: Version,
    /// The uid of the Lease it was won on.
    pub lease_uid: String,
    /// The `acquireTime` that the winning write carried.
    pub acquire_time: WallTime,
}

/// Until when a term's holder may act, on its own boot clock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Validity {
    /// Leading ends here: the send time of the last acknowledged write plus the renewal deadline.
    pub valid_until: BootTime,
    /// Everything the term started must be dead here.
    pub kill_at: BootTime,
}
