//! Who is next in line, and how a candidate gets there (P13, P19).
//!
//! PURE, as the whole election. Succession decides only when a candidate tries, never earlier than vacancy or expiry
//! allow: safety does not depend on it.

use std::time::Duration;

use super::{Annotations, CallFailure, CallKind, Content, Election, LeaseRequest, ObservedRecord, Snapshot, mutant};
use crate::time::BootTime;

/// Where a successor is named, every other candidate waits this much longer.
///
/// Long enough for the successor's write and the watch event that it causes, on a slow network; short enough that a
/// successor that is gone costs little.
pub const SUCCESSION_GRACE: Duration = Duration::from_millis(100);

impl Election {
    /// How long to hold back once the Lease is free.
    pub(super) fn hold_back(&self, observed: &ObservedRecord) -> Duration {
        match observed.lease.as_ref().and_then(Snapshot::successor) {
            Some(name) if name == self.identity.name => Duration::ZERO,
            Some(_) if !mutant!(self, NoSuccessionGrace) => SUCCESSION_GRACE + observed.jitter,
            _ => observed.jitter,
        }
    }

    pub(super) fn plan_announcement(&mut self, now: BootTime) {
        let earliest = if self.is_willing() { self.announce_not_before } else { now };
        self.announce_at = match (self.announcement_pause(), self.announce_at) {
            (Some(longest), None) => Some((now + self.jitter.up_to(longest)).max(earliest)),
            (pause, planned) => planned.filter(|_| pause.is_some()),
        };
    }

    pub(super) fn announcement_due_at(&self) -> Option<BootTime> {
        self.announce_at.filter(|_| !self.look_first)
    }

    /// Whether the Lease names this candidate and should not, or should and does not; then the longest pause before
    /// that is put right.
    fn announcement_pause(&self) -> Option<Duration> {
        let lease = self.lease().filter(|lease| !lease.coordinated)?;
        let me = self.identity.name.as_str();
        if lease.record.holder.as_deref().is_none_or(|holder| holder == me) {
            return None;
        }
        let (named, retry_period) = (&lease.annotations.successor_revision, self.timing.retry_period());
        let stays_on = stays(lease, &self.identity.revision);
        let wanted = match lease.successor() {
            Some(name) if name == me && !self.is_willing() => return Some(Duration::ZERO),
            Some(name) if name == me => *named != self.identity.revision,
            Some(_) => stays_on && !stays(lease, named),
            None => true,
        };
        // In a rollout soon after a new Pod starts, before the next old one is stopped. Few Pods start at once.
        let longest = if stays_on { retry_period / 8 } else { retry_period };
        (wanted && self.is_willing()).then_some(longest)
    }

    fn is_willing(&self) -> bool {
        self.fit && !self.shutdown
    }

    /// Writes the own name, or removes it. The record stays as it is, so rivals see no sign of life in it (P5).
    pub(super) fn announce(&mut self, now: BootTime) {
        (self.announce_at, self.announce_not_before) = (None, now + self.timing.retry_period());
        let Some(lease) = self.lease() else { return };
        let successor = Some(self.identity.name.clone()).filter(|_| self.is_willing());
        let successor_revision = self.identity.revision.clone().filter(|_| successor.is_some());
        let annotations = Annotations { successor, successor_revision, ..lease.annotations.clone() };
        let content = Content { record: lease.record.clone(), annotations };
        self.start_call(now, CallKind::Announce, LeaseRequest::Replace { version: lease.version, content });
    }

    pub(super) fn announcement_failed(&mut self, now: BootTime, failure: CallFailure) {
        let later = self.retry_later(now, failure);
        self.announce_at = Some(later);
        if !matches!(failure, CallFailure::Refused { .. }) {
            // The Lease is not as it was. The watch says how, or else the next look.
            self.look_at.get_or_insert(later);
        }
    }
}

/// In a rollout, a Pod of another revision than the leader's is the one that stays (P19).
fn stays(lease: &Snapshot, revision: &Option<String>) -> bool {
    let leaders = &lease.annotations.holder_revision;
    revision.is_some() && leaders.is_some() && revision != leaders
}
