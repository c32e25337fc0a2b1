//! What a candidate does: look, wait, and try.
//!
//! PURE, as the whole election.

use std::time::Duration;

use super::{
    Annotations, Call, CallFailure, CallKind, Content, Election, Ending, LeaseRequest, ObservedRecord, Output, Record,
    State, UnresolvedWrite, mark, mutant,
};
use crate::time::{BootTime, Now, WallTime};

/// So many of its own acquisitions a process remembers, to tell them from a twin's. Only the last few can still be
/// applied; an older one shows again only from a restored backup, and is then taken for a twin's, which is harmless.
const ACQUISITIONS_KEPT: usize = 16;

impl Election {
    pub(super) fn advance_candidate(&mut self, now: Now) {
        let due = |at: Option<BootTime>| at.is_some_and(|at| at <= now.boot);
        self.plan_announcement(now.boot);
        let announces = due(self.announcement_due_at());
        if self.shutdown && announces {
            self.announce(now);
        } else if self.shutdown && !self.may_have_acquired(now.boot) {
            self.state = State::Done;
            self.outputs.push_back(Output::Done);
        } else if due(self.look_at) {
            self.look_at = None;
            self.start_call(now.boot, CallKind::Observe, LeaseRequest::Get);
        } else if self.attempt_is_due(now) {
            let content = self.acquisition(now.wall);
            let request = match self.lease() {
                None => LeaseRequest::Create(content),
                Some(lease) => LeaseRequest::Replace { version: lease.version, content },
            };
            let acquired = request.content().and_then(|content| content.record.acquire_time);
            self.acquisitions.extend(acquired);
            self.acquisitions.drain(..self.acquisitions.len().saturating_sub(ACQUISITIONS_KEPT));
            self.start_call(now.boot, CallKind::Acquire, request);
        } else if announces {
            self.announce(now);
        }
    }

    pub(super) fn candidate_wake(&self) -> Option<BootTime> {
        [self.look_at, self.attempt_at(), self.announcement_due_at()].into_iter().flatten().min()
    }

    /// Shutting down with an acquisition in unresolved: if it was applied it must be released, or the others wait in vain.
    fn may_have_acquired(&self, now: BootTime) -> bool {
        let matters = |unresolved: &UnresolvedWrite| {
            unresolved.purpose == CallKind::Acquire && now < unresolved.sent + self.timing.lease_duration()
        };
        self.look_first && self.unresolved.as_ref().is_some_and(matters)
    }

    fn attempt_is_due(&self, now: Now) -> bool {
        if mutant!(self, ExpiryByWallClock) && self.mutant_expired_by_wall_clock(now.wall) {
            return true;
        }
        self.attempt_at().is_some_and(|at| at <= now.boot)
    }

    /// When to try next, should nothing be learnt until then. An observed winner moves it away by itself (P13).
    fn attempt_at(&self) -> Option<BootTime> {
        let known = self.observed.as_ref()?;
        if !self.fit || self.look_first || self.shutdown {
            return None;
        }
        let free_at = match &known.lease {
            Some(lease) if lease.coordinated => return None,
            Some(lease) => self.free_at(known, &lease.record, &lease.annotations, self.is_mine(lease)),
            None => (known.since + known.jitter).max(self.stand_back_until),
        };
        Some(free_at.max(self.wait_out_until + known.jitter).max(self.pause_until))
    }

    fn free_at(&self, known: &ObservedRecord, record: &Record, annotations: &Annotations, mine: bool) -> BootTime {
        if mine {
            // An earlier term of this very process, or of the container that this one replaces: its work has ended.
            return known.since.max(self.stand_back_until);
        }
        let wait = match annotations.yielded_to.as_deref() {
            _ if record.holder.is_some() => self.mutant_successor_waits(self.stated_duration(record)),
            Some(name) if name == self.identity.name => return known.since, // even if it yielded a moment ago
            Some(name) if !name.is_empty() => self.timing.retry_period(),
            _ => Duration::ZERO,
        };
        (known.since + wait + self.hold_back(known)).max(self.stand_back_until)
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
        Content {
            record: Record {
                holder,
                lease_duration_seconds: Some(self.timing.lease_duration_seconds()),
                acquire_time: Some(at),
                renew_time: Some(at),
                transitions,
            },
            annotations: Annotations {
                incarnation: Some(mark(&self.identity.incarnation, at)),
                holder_revision: self.identity.revision.clone(),
                ..Annotations::default()
            },
        }
    }

    /// Later than what the record states, and than all that this process has written.
    pub(super) fn time_to_write(&self, wall: WallTime, stated: Option<WallTime>) -> WallTime {
        let written = self.last_written.filter(|written| *written < WallTime::LAST);
        later_than(wall, stated.max(written))
    }

    pub(super) fn attempt_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        // After an outage others may have written: a write of the version last seen would only collide with theirs.
        self.look_first = true;
        let (retry_after, applied_perhaps) = match failure {
            CallFailure::Conflict => {
                let pause = self.jitter.around(self.timing.retry_period());
                self.look_at = Some(if self.look_at_once() { now } else { now + pause });
                return self.mutant_note_conflict();
            }
            CallFailure::Refused { retry_after } => (retry_after, false),
            CallFailure::Unknown { retry_after } => (retry_after, true),
        };
        let asked = retry_after.unwrap_or_default().min(self.timing.renewal_deadline());
        let later = now + self.jitter.around(self.timing.retry_period()).max(asked);
        let writes = call.written.is_some();
        if writes {
            self.pause_until = later;
        }
        self.look_at = Some(if writes && applied_perhaps && retry_after.is_none() { now } else { later });
    }

    pub(super) fn schedule_look(&mut self, now: BootTime) {
        let period = self.timing.retry_period();
        self.look_at = if self.watching { None } else { Some(now + self.jitter.around(period)) };
    }

    pub(super) fn on_watching(&mut self, now: BootTime, watching: bool) {
        if self.watching == watching {
            return;
        }
        self.watching = watching;
        if watching && !self.look_first && !self.watch_gap {
            self.look_at = None;
        } else if !watching {
            self.watch_gap = true;
            let soon = now + self.jitter.up_to(self.timing.retry_period());
            self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
        }
    }

    pub(super) fn on_fit(&mut self, now: BootTime, fit: bool) {
        self.fit = fit;
        if !fit {
            self.step_down(now, Ending::Unfit);
        }
    }

    pub(super) fn become_candidate(&mut self, now: BootTime, stand_back: bool) {
        self.state = State::Candidate;
        self.conflicts = 0;
        self.announcement = None;
        if stand_back {
            self.stand_back_until = now + self.timing.lease_duration();
        }
        if self.look_first || !self.watching {
            self.look_at = Some(now);
        }
        self.reported_trouble = None;
    }

    #[cfg(feature = "mutants")]
    fn mutant_expired_by_wall_clock(&self, wall: WallTime) -> bool {
        let Some(record) = self.lease().map(|lease| &lease.record) else { return false };
        let ends = record.renew_time.map(|at| at.0 + 1_000_000 * i64::from(record.lease_duration_seconds.unwrap_or(0)));
        !self.look_first && !self.shutdown && self.fit && ends.is_some_and(|ends| ends < wall.0)
    }

    #[cfg(not(feature = "mutants"))]
    fn mutant_expired_by_wall_clock(&self, _: WallTime) -> bool {
        false
    }

    #[cfg(feature = "mutants")]
    fn mutant_note_conflict(&mut self) {
        self.tampering.conflicted = true;
    }

    #[cfg(not(feature = "mutants"))]
    fn mutant_note_conflict(&mut self) {}

    fn mutant_successor_waits(&self, wait: Duration) -> Duration {
        let named = self.successor() == Some(self.identity.name.as_str());
        match wait {
            _ if named && mutant!(self, SuccessorWithoutVacancy) => Duration::ZERO,
            _ if named && mutant!(self, SuccessorBeforeExpiry) => wait / 2,
            _ => wait,
        }
    }
}

/// The wall time to write: now, unless the record states that or a later time already. A write that changes nothing
/// is no write to the API server, and rivals would never see the sign of life (P6).
fn later_than(wall: WallTime, stated: Option<WallTime>) -> WallTime {
    let wall = wall.min(WallTime::LAST);
    match stated {
        Some(stated) if stated >= wall && stated < WallTime::LAST => WallTime(stated.0 + 1),
        Some(stated) if stated == wall => WallTime(wall.0 - 1),
        _ => wall,
    }
}
