//! What goes into an election and what comes out of it, as values.
//!
//! PURE: data only.

use std::time::Duration;

use super::{Annotations, Record, Snapshot, Term, Version};
use crate::time::BootTime;

/// Who a candidate is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// `holderIdentity`, exactly as shown in the Lease's HOLDER column.
    pub name: String,
    /// This life of this process. Two candidates that share a name by mistake are told apart by it (P11).
    pub incarnation: String,
    /// The revision of the workload that this Pod belongs to (POD_REVISION), where known: its rank in the succession (P19).
    pub revision: Option<String>,
}

/// What an election wants done to its Lease. One at a time: the next is asked for only after the last was answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LeaseRequest {
    /// Look at the Lease.
    Get,
    /// Make the Lease; it was absent.
    Create(Content),
    /// Replace the version last seen, and only that: the write carries its `resourceVersion` and uid (P2).
    Replace {
        /// The version to be replaced.
        version: Version,
        /// What it is replaced with; all else in the object stays as read (P3).
        content: Content,
    },
}

impl LeaseRequest {
    /// What it writes.
    pub fn content(&self) -> Option<&Content> {
        match self {
            LeaseRequest::Get => None,
            LeaseRequest::Create(content) | LeaseRequest::Replace { content, .. } => Some(content),
        }
    }
}

/// What a write puts into the Lease.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Content {
    /// The election fields.
    pub record: Record,
    /// leasehold's annotations, in full: what is `None` here is removed.
    pub annotations: Annotations,
}

/// Why a call is made: for the audit log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallKind {
    /// To learn what the Lease says.
    Observe,
    /// To win a term.
    Acquire,
    /// To prolong one.
    Renew,
    /// To end one for all to see.
    Release,
    /// To name this candidate the successor, or to withdraw its name (P13).
    Announce,
}

/// What the API server answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// To a [`LeaseRequest::Get`]: the Lease.
    Found(Snapshot),
    /// To a [`LeaseRequest::Get`]: there is none.
    Absent,
    /// To a write: the Lease as written.
    Written {
        /// The new version.
        lease: Snapshot,
        /// 201 instead of 200. To a [`LeaseRequest::Replace`] it means that the Lease was gone and has been made anew:
        /// that is no renewal (P2).
        created: bool,
    },
}

/// Why a call brought no usable answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallFailure {
    /// The Lease is no longer what the write supposed (409; to a replacement also 404). It says nothing about who leads.
    Conflict,
    /// It was not applied, by what was answered. Should it be all the same, it is found as any other record is.
    Refused {
        /// The server asked to wait this long.
        retry_after: Option<Duration>,
    },
    /// It may have been applied, now or later (P8).
    Unknown {
        /// The server asked to wait this long.
        retry_after: Option<Duration>,
    },
}

impl CallFailure {
    /// How long the server asked to wait.
    pub(super) fn retry_after(self) -> Duration {
        let (CallFailure::Refused { retry_after } | CallFailure::Unknown { retry_after }) = self else {
            return Duration::ZERO;
        };
        retry_after.unwrap_or_default()
    }
}

/// What an election is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// The instant of [`Output::WaitUntil`] has come, or any other. Always harmless.
    Timer,
    /// What became of a call. Answers to calls that are no longer waited for are ignored.
    Reply {
        /// The number from [`Output::Call`].
        call: u64,
        /// What came back.
        result: Result<Answer, CallFailure>,
    },
    /// The watch delivered a version of the Lease.
    Seen(Snapshot),
    /// The watch saw the Lease deleted, by the event of this version.
    Deleted(Version),
    /// Whether a watch stands. Without one a candidate polls; safety never depends on it (P12).
    Watching(bool),
    /// Whether this process's workload is fit to lead (P18). Assumed so until told otherwise.
    Fit(bool),
    /// All that the term of this fencing token started has ended: by itself, or after [`Output::StopWork`]. Exactly once
    /// a term.
    WorkStopped(Version),
    /// Stop the work, release the Lease, be done.
    Shutdown,
}

/// What an election asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "an output is handled at once, and few are queued")]
pub enum Output {
    /// Send this now; answer with [`Input::Reply`], at the latest when `limit` has passed.
    Call {
        /// To be repeated in the reply.
        call: u64,
        /// What to send.
        request: LeaseRequest,
        /// Why.
        purpose: CallKind,
        /// The call's time limit.
        limit: Duration,
    },
    /// A term has begun: start the work.
    StartWork(Term),
    /// The term of this fencing token has ended: stop the work at once. [`Election::validity`](super::Election::validity) says by when it must be dead.
    StopWork(Version),
    /// Something that people want to know.
    Report(Event),
    /// Nothing more to do before this instant or the next input. Always the last output.
    WaitUntil(Option<BootTime>),
    /// Shut down; nothing more will come.
    Done,
}

/// Something that people want to know: a log line, a metric, a Kubernetes Event.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Another holder than before, or none.
    LeaderChanged(Option<String>),
    /// Another candidate than before is next in line, or none (P13).
    SuccessorChanged(Option<String>),
    /// This process leads, with this fencing token.
    StartedLeading(Version),
    /// This process no longer leads.
    StoppedLeading {
        /// The term's fencing token.
        token: Version,
        /// Why.
        why: Ending,
    },
    /// A renewal was acknowledged.
    Renewed,
    /// The Lease was released for others to take.
    Released,
    /// The Lease could not be released: others must wait for it to expire.
    ReleaseFailed,
    /// An acquisition was acknowledged only after its own deadline: it is released.
    AcquiredTooLate,
    /// An acquisition was acknowledged when this process was shutting down or unfit to lead: it is released.
    AcquiredUnwanted,
    /// The Lease names an earlier process of this name, which has shown no sign of life since this one began (P11).
    HeldByPredecessor,
    /// Another process uses this one's identity, and lives (P11).
    DuplicateIdentity,
    /// The API server answered a write with 200, but its answer lacks this field: something undoes the write (P20).
    WriteUndone(&'static str),
    /// This many writes in a row met a conflict: from now on at the pace of retries (P20).
    RepeatedConflicts(u32),
    /// `spec.strategy` is set: a controller names the holders, this process will not campaign (P16).
    Coordinated,
}

/// Why a term ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ending {
    /// By will: the process shuts down.
    Shutdown,
    /// By will: an operator asked for it; to this candidate, or empty: to anyone else.
    Yielded(String),
    /// By will: the workload fails its health check.
    Unfit,
    /// By will: the work came to its own end.
    WorkEnded,
    /// By force: no renewal was acknowledged before the deadline.
    DeadlinePassed,
    /// By force: this holder was seen.
    Superseded(String),
    /// By force: the holder was cleared by hand.
    Vacated,
    /// By force: the Lease was deleted, or deleted and made anew.
    Deleted,
    /// By force: the Lease was handed to a coordinating controller.
    Coordinated,
}
