//! Known mistakes of electors, which the simulator builds in one at a time and must catch.
//!
//! PURE. The switch exists only with the feature `mutants`, which only the tests enable: without it [`mutant!`] is
//! the literal `false`, and what ships holds neither the switch nor the mistakes.

/// A mistake that some elector makes, or made.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Mutant {
    /// The term's deadline is counted from the reply instead of from before the send.
    DeadlineFromReply,
    /// Expiry by comparing `renewTime` with the own wall clock.
    ExpiryByWallClock,
    /// Expiry by the own lease duration instead of the one the record states.
    ExpiryByOwnDuration,
    /// A Lease write without `resourceVersion`.
    WriteWithoutVersion,
    /// After a conflict the same write is sent again on the fresh version.
    RetryAfterConflict,
    /// The Lease is released while the work still runs.
    ReleaseBeforeWorkStopped,
    /// After a conflict the release goes ahead without looking whose record it is.
    ReleaseWithoutOwnership,
    /// A leader that sees a rival leads on until its deadline.
    LeadOnBesideRival,
    /// A term that was lost is resumed with its old token when the record is still there.
    ResumeTerm,
    /// A write whose outcome is unknown counts as done.
    AmbiguousIsSuccess,
    /// "holder = me" counts as mine whatever the incarnation.
    IdentityWithoutIncarnation,
    /// A deleted Lease counts as released.
    DeletionIsRelease,
    /// An acquisition whose reply comes after its own deadline starts a term all the same.
    LateAcquisitionLeads,
    /// The successor tries half-way through the record's duration.
    SuccessorBeforeExpiry,
    /// The successor tries as soon as it is named, although the Lease is held.
    SuccessorWithoutVacancy,
    /// The other candidates leave the successor no time.
    NoSuccessionGrace,
    /// A record of this incarnation is believed to be this process's own, even if a twin wrote it.
    TwinBelieved,
    /// A write that was undone is tried again without a pause.
    NoPace,
    /// The Service is patched without comparing fences.
    UnfencedRoute,
    /// Of two Leases' fences that of the younger Lease is the greater, whatever the tokens.
    FenceByLeaseAge,
    /// A fence from another history is obeyed as any other.
    VoidFenceObeyed,
    /// A Service or Pod patch that did not reach its goal is sent again at once.
    UnpacedRoute,
    /// A leader whose watch on the Service is open never reads the Service.
    RouteByWatchAlone,
}

/// Whether this instance makes the named [`Mutant`].
macro_rules! mutant {
    ($from:expr, $which:ident) => {{
        #[cfg(feature = "mutants")]
        {
            $from.mistake == Some($crate::election::Mutant::$which)
        }
        #[cfg(not(feature = "mutants"))]
        {
            false
        }
    }};
}

pub(crate) use mutant;
