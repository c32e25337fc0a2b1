//! Who is next in line, and how a candidate gets there (P13, P19).
//!
//! PURE, as the whole election. Succession decides only when a candidate tries, never earlier than vacancy or expiry
//! allow: safety does not depend on it.

use std::time::Duration;

use super::{
    Annotations, CallFailure, CallKind, Content, Election, Event, LeaseRequest, ObservedRecord, Snapshot, State, mutant,
};
use crate::time::{BootTime, Now};

/// Where a successor is named, every other candidate waits this much longer.
///
/// Long enough for the successor's write and the watch event that it causes, on a slow network; short enough that a
/// successor that is gone costs little.
pub const SUCCESSION_GRACE: Duration = Duration::from_millis(100);

/// A call that only withdraws a name delays a shutdown by at most this much.
const WITHDRAW_LIMIT: Duration = Duration::from_millis(500);

/// A change to the succession that this candidate wants to write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Announcement {
    /// Name itself where nobody is named.
    Name,
    /// Name itself in the place of a candidate that ranks below (P19).
    Outrank,
    /// Remove its own name.
    Withdraw,
}

impl Election {
    /// The candidate that is next in line; `None` where none is named, or the one named holds the Lease.
    pub fn successor(&self) -> Option<&str> {
        self.lease().and_then(Snapshot::successor)
    }

    /// How long to hold back once the Lease is free.
    pub(super) fn hold_back(&self, observed: &ObservedRecord) -> Duration {
        match observed.lease.as_ref().and_then(Snapshot::successor) {
            Some(name) if name == self.identity.name => Duration::ZERO,
            Some(_) if !mutant!(self, NoSuccessionGrace) => SUCCESSION_GRACE + observed.jitter,
            _ => observed.jitter,
        }
    }

    pub(super) fn plan_announcement(&mut self, now: BootTime) {
        let Some(wanted) = self.wanted_announcement() else {
            self.announcement = None;
            return;
        };
        if self.announcement.is_none_or(|(planned, _)| planned != wanted) {
            let retry_period = self.timing.retry_period();
            let most = match wanted {
                Announcement::Name => retry_period,
                // Soon after a new Pod starts, before the rollout stops the next old one. Few Pods start at once.
                Announcement::Outrank => retry_period / 8,
                Announcement::Withdraw => Duration::ZERO,
            };
            let at = (now + self.jitter.up_to(most)).max(self.no_announcement_before);
            self.announcement = Some((wanted, at));
        }
    }

    pub(super) fn announcement_due_at(&self) -> Option<BootTime> {
        self.announcement.filter(|_| !self.look_first).map(|(_, at)| at)
    }

    fn wanted_announcement(&self) -> Option<Announcement> {
        let lease = self.lease().filter(|lease| !lease.coordinated)?;
        let me = self.identity.name.as_str();
        if lease.record.holder.as_deref().is_none_or(|holder| holder == me) {
            return None;
        }
        let willing = self.fit && !self.shutdown;
        let named = &lease.annotations.successor_revision;
        match lease.successor() {
            Some(name) if name == me && !willing => Some(Announcement::Withdraw),
            Some(name) if name == me => (*named != self.identity.revision).then_some(Announcement::Name),
            _ if !willing => None,
            None => Some(Announcement::Name),
            Some(_) => {
                let outranks = stays(lease, &self.identity.revision) && !stays(lease, named);
                outranks.then_some(Announcement::Outrank)
            }
        }
    }

    /// Writes what was planned. The record stays as it is, so rivals see no sign of life in it (P5).
    pub(super) fn announce(&mut self, now: Now) {
        let (Some((announcement, _)), Some(lease)) = (self.announcement.take(), self.lease()) else { return };
        let name = Some(self.identity.name.clone()).filter(|_| announcement != Announcement::Withdraw);
        let content = Content {
            record: lease.record.clone(),
            annotations: Annotations {
                successor_revision: self.identity.revision.clone().filter(|_| name.is_some()),
                successor: name,
                ..lease.annotations.clone()
            },
        };
        let version = lease.version;
        self.start_call(now.boot, CallKind::Announce, LeaseRequest::Replace { version, content });
    }

    /// An announcement delays a shutdown only a little.
    pub(super) fn announcement_limit(&self) -> Duration {
        let limit = self.timing.call_limit();
        if self.shutdown { limit.min(WITHDRAW_LIMIT) } else { limit }
    }

    /// The name was written. Where something removes it at once, it is not written again for long (P20).
    pub(super) fn announced(&mut self, now: BootTime, undone: bool) {
        if undone {
            self.no_announcement_before = now + self.timing.lease_duration();
        }
    }

    pub(super) fn announcement_failed(&mut self, now: BootTime, failure: CallFailure) {
        let (asked, changed) = match failure {
            CallFailure::Conflict => (None, true),
            CallFailure::Refused { retry_after } => (retry_after, false),
            CallFailure::Unknown { retry_after } => (retry_after, true),
        };
        let asked = asked.unwrap_or_default().min(self.timing.renewal_deadline());
        let later = now + self.jitter.around(self.timing.retry_period()).max(asked);
        self.no_announcement_before = later;
        if changed && matches!(self.state, State::Candidate) {
            // The Lease is not as it was. The watch says how, or else the next look.
            self.look_at = Some(self.look_at.map_or(later, |at| at.min(later)));
        }
    }

    pub(super) fn report_successor(&mut self) {
        let successor = self.successor().map(str::to_owned);
        if self.reported_successor != successor {
            self.reported_successor.clone_from(&successor);
            self.report(Event::SuccessorChanged(successor));
        }
    }
}

/// In a rollout, a Pod of another revision than the leader's is the one that stays (P19).
fn stays(lease: &Snapshot, revision: &Option<String>) -> bool {
    let leaders = &lease.annotations.holder_revision;
    revision.is_some() && leaders.is_some() && revision != leaders
}
