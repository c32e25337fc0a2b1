//! What a candidate does: look, wait, and try.
//!
//! PURE, as the whole election.

use std::time::Duration;

use super::{
    Annotations, Call, CallFailure, CallKind, Content, Election, LeaseRequest, ObservedRecord, Output, Record,
    Snapshot, State, mutant,
};
use crate::time::{BootTime, Now, WallTime};

impl Election {
    pub(super) fn advance_candidate(&mut self, now: Now) {
        let due = |at: Option<BootTime>| at.is_some_and(|at| at <= now.boot);
        self.plan_announcement(now.boot);
        let announces = due(self.announcement_due_at());
        if self.shutdown && announces {
            self.announce(now.boot);
        } else if self.shutdown && !self.may_have_acquired(now.boot) {
            self.state = State::Done;
            self.outputs.push_back(Output::Done);
        } else if due(self.look_at) {
            self.look_at = None;
            self.start_call(now.boot, CallKind::Observe, LeaseRequest::Get);
        } else if due(self.attempt_at()) || self.mutant_expired_by_wall_clock(now.wall) {
            let content = self.acquisition(now.wall);
            let request = match self.lease() {
                None => LeaseRequest::Create(content),
                Some(lease) => LeaseRequest::Replace { version: lease.version, content },
            };
            self.start_call(now.boot, CallKind::Acquire, request);
        } else if announces {
            self.announce(now.boot);
        }
    }

    /// Shutting down with an unresolved acquisition: if it was applied it must be released, or the others wait in vain.
    fn may_have_acquired(&self, now: BootTime) -> bool {
        let matters = |call: &Call| call.purpose == CallKind::Acquire && now < call.sent + self.timing.lease_duration();
        self.look_first && self.unresolved.as_ref().is_some_and(matters)
    }

    /// When to try next, should nothing be learnt until then. An observed winner moves it away by itself (P13).
    pub(super) fn attempt_at(&self) -> Option<BootTime> {
        let known = self.observed.as_ref()?;
        if !self.fit || self.look_first || self.shutdown {
            return None;
        }
        let wait = match &known.lease {
            Some(lease) if lease.coordinated => return None,
            // An earlier term of this very process, or of the container that this one replaces: its work has ended.
            Some(lease) if self.is_mine(lease) => Duration::ZERO,
            Some(lease) => self.wait_for(known, lease),
            None => known.jitter,
        };
        let wait = if mutant!(self, RetryAfterConflict) && self.conflicts > 0 { Duration::ZERO } else { wait };
        // Even if it yielded a moment ago.
        let asked_to_lead = known.lease.as_ref().and_then(yielded_to) == Some(&self.identity.name);
        let stand_back = if asked_to_lead { BootTime(0) } else { self.stand_back_until };
        Some((known.since + wait).max(stand_back).max(self.not_before))
    }

    /// How long another's record must have stood.
    fn wait_for(&self, known: &ObservedRecord, lease: &Snapshot) -> Duration {
        let wait = match yielded_to(lease) {
            _ if lease.record.holder.is_some() => self.mutant_successor_waits(self.stated_duration(&lease.record)),
            Some(name) if *name == self.identity.name => return Duration::ZERO,
            Some(name) if !name.is_empty() => self.timing.retry_period(),
            _ => Duration::ZERO,
        };
        wait + self.hold_back(known)
    }

    fn acquisition(&self, wall: WallTime) -> Content {
        let lease = self.lease();
        let before = lease.map(|lease| lease.record.clone()).unwrap_or_default();
        let holder = Some(self.identity.name.clone());
        let ours = before.holder == holder; // Else the change of holder alone makes the record another one.
        let at = self.time_to_write(wall, before.renew_time.max(before.acquire_time).filter(|_| ours));
        let transitions = match lease {
            None => 0,
            Some(_) if ours => before.transitions,
            Some(_) => before.transitions.saturating_add(1).min(i32::MAX as u32),
        };
        let lease_duration_seconds = Some(self.timing.lease_duration_seconds());
        let incarnation = Some(format!("{} {at}", self.identity.incarnation));
        let (at, holder_revision) = (Some(at), self.identity.revision.clone());
        Content {
            record: Record { holder, lease_duration_seconds, acquire_time: at, renew_time: at, transitions },
            annotations: Annotations { incarnation, holder_revision, ..Annotations::default() },
        }
    }

    /// The wall time to write: now, unless the record states that or a later time already, or this process has written
    /// it. A write that changes nothing is no write to the API server, and rivals would never see the sign of life (P6).
    pub(super) fn time_to_write(&self, wall: WallTime, stated: Option<WallTime>) -> WallTime {
        let wall = wall.min(WallTime::LAST);
        let written = self.own.last.filter(|written| *written < WallTime::LAST);
        match stated.max(written) {
            Some(stated) if stated >= wall && stated < WallTime::LAST => WallTime(stated.0 + 1),
            Some(stated) if stated == wall => WallTime(wall.0 - 1),
            _ => wall,
        }
    }

    pub(super) fn attempt_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        // After an outage others may have written: a write of the version last seen would only collide with theirs.
        self.look_first = true;
        let later = self.retry_later(now, failure);
        let writes = call.request != LeaseRequest::Get;
        let look_now = match failure {
            CallFailure::Conflict => self.look_at_once(),
            CallFailure::Unknown { retry_after: None } => writes,
            CallFailure::Unknown { .. } | CallFailure::Refused { .. } => false,
        };
        if writes && failure != CallFailure::Conflict {
            self.not_before = self.not_before.max(later);
        }
        self.look_at = Some(if look_now { now } else { later });
    }

    /// When a candidate tries again what has failed.
    pub(super) fn retry_later(&mut self, now: BootTime, failure: CallFailure) -> BootTime {
        let asked = failure.retry_after().min(self.timing.renewal_deadline());
        now + self.jitter.around(self.timing.retry_period()).max(asked)
    }

    pub(super) fn on_watching(&mut self, now: BootTime, watching: bool) {
        if watching && !self.look_first && !self.watch_gap {
            self.look_at = None;
        } else if self.watching && !watching {
            self.watch_gap = true;
            let soon = now + self.jitter.up_to(self.timing.retry_period());
            self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
        }
        self.watching = watching;
    }

    pub(super) fn become_candidate(&mut self, now: BootTime) {
        if matches!(&self.state, State::Holder(held) if held.yielded_to.is_some()) {
            self.stand_back_until = now + self.timing.lease_duration();
        }
        (self.state, self.conflicts, self.announce_at) = (State::Candidate, 0, None);
        self.reported_trouble = None;
        if self.look_first || !self.watching {
            self.look_at = Some(now);
        }
    }

    fn mutant_expired_by_wall_clock(&self, wall: WallTime) -> bool {
        let Some(record) = self.lease().map(|lease| &lease.record).filter(|_| mutant!(self, ExpiryByWallClock)) else {
            return false;
        };
        let ends = record.renew_time.map(|at| at.0 + 1_000_000 * i64::from(record.lease_duration_seconds.unwrap_or(0)));
        !self.look_first && !self.shutdown && self.fit && ends.is_some_and(|ends| ends < wall.0)
    }

    fn mutant_successor_waits(&self, wait: Duration) -> Duration {
        let named = self.lease().and_then(Snapshot::successor) == Some(self.identity.name.as_str());
        match wait {
            _ if named && mutant!(self, SuccessorWithoutVacancy) => Duration::ZERO,
            _ if named && mutant!(self, SuccessorBeforeExpiry) => wait / 2,
            _ => wait,
        }
    }
}

/// For whom the last leader of a vacant Lease made room (P17).
fn yielded_to(lease: &Snapshot) -> Option<&String> {
    lease.annotations.yielded_to.as_ref().filter(|_| lease.record.holder.is_none())
}
