//! What a candidate does: look, wait, and try.
//!
//! PURE, as the whole election.

use std::time::Duration;

use super::{
    Annotations, Call, CallFailure, CallKind, Content, Election, Ending, ObservedRecord, Output, Record, Request,
    State, UnresolvedWrite, mark, mutant,
};
use crate::time::{BootTime, Now, WallTime};

impl Election {
    pub(super) fn advance_candidate(&mut self, now: Now) {
        let due = |at: Option<BootTime>| at.is_some_and(|at| at <= now.boot);
        if self.shutdown && !self.may_have_acquired(now.boot) {
            self.state = State::Done;
            self.outputs.push_back(Output::Done);
        } else if due(self.look_at) {
            self.look_at = None;
            self.start_call(now.boot, CallKind::Observe, Request::Get);
        } else if self.attempt_is_due(now) {
            let content = self.acquisition(now.wall);
            let request = match self.lease() {
                None => Request::Create(content),
                Some(lease) => Request::Replace { version: lease.version, content },
            };
            self.start_call(now.boot, CallKind::Acquire, request);
        }
    }

    pub(super) fn candidate_wake(&self) -> Option<BootTime> {
        let attempt = self.attempt_at();
        match (self.look_at, attempt) {
            (Some(look), Some(attempt)) => Some(look.min(attempt)),
            (look, attempt) => look.or(attempt),
        }
    }

    /// Shutting down with an acquisition in doubt: if it was applied it must be released, or the others wait in vain.
    fn may_have_acquired(&self, now: BootTime) -> bool {
        let matters = |doubt: &UnresolvedWrite| {
            doubt.purpose == CallKind::Acquire && now < doubt.sent + self.timing.lease_duration()
        };
        self.look_first && self.doubt.as_ref().is_some_and(matters)
    }

    fn attempt_is_due(&self, now: Now) -> bool {
        if mutant!(self, ExpiryByWallClock) && self.mutant_expired_by_wall_clock(now.wall) {
            return true;
        }
        self.attempt_at().is_some_and(|at| at <= now.boot)
    }

    /// When to try next, should nothing be learnt until then. An observed winner moves it away by itself (P13).
    fn attempt_at(&self) -> Option<BootTime> {
        let known = self.known.as_ref()?;
        if !self.fit || self.look_first || self.shutdown {
            return None;
        }
        let free_at = match &known.lease {
            Some(lease) if lease.coordinated => return None,
            Some(lease) => self.free_at(known, &lease.record, &lease.annotations, self.is_mine(lease)),
            None => (known.since + known.spread).max(self.stand_back_until),
        };
        Some(free_at.max(self.wait_out_until + known.spread).max(self.pause_until))
    }

    fn free_at(&self, known: &ObservedRecord, record: &Record, annotations: &Annotations, mine: bool) -> BootTime {
        if mine {
            // An earlier term of this very process, or of the container that this one replaces: its work has ended.
            return known.since.max(self.stand_back_until);
        }
        let wait = match annotations.yielded_to.as_deref() {
            // Who has waited for seconds can wait for the crowd to spread some more.
            _ if record.holder.is_some() => self.stated_duration(record) + known.spread,
            Some(name) if name == self.identity.name => return known.since, // even if it yielded a moment ago
            Some(name) if !name.is_empty() => self.timing.retry_period(),
            _ => Duration::ZERO,
        };
        (known.since + wait + known.spread).max(self.stand_back_until)
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
                ..Annotations::default()
            },
        }
    }

    /// Later than what the record states, and than a write in doubt or refused: no two writes of one process are alike, so
    /// the Lease tells which of them was applied.
    pub(super) fn time_to_write(&self, wall: WallTime, stated: Option<WallTime>) -> WallTime {
        let in_doubt = self.doubt.as_ref().and_then(|doubt| doubt.content.record.renew_time);
        later_than(wall, stated.max(in_doubt).max(self.refused))
    }

    pub(super) fn attempt_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        let (retry_after, applied_perhaps) = match failure {
            CallFailure::Overtaken if !self.look_first => return self.schedule_look(now),
            CallFailure::Conflict | CallFailure::Overtaken => {
                let pause = self.jitter.around(self.timing.retry_period());
                self.look_at = Some(if self.look_at_once() { now } else { now + pause });
                return self.mutant_note_conflict();
            }
            CallFailure::Refused { retry_after } => (retry_after, false),
            CallFailure::Unknown { retry_after } => (retry_after, true),
        };
        let asked = retry_after.unwrap_or_default().min(self.timing.renewal_deadline());
        let later = now + self.jitter.around(self.timing.retry_period()).max(asked);
        if call.purpose == CallKind::Observe {
            self.look_at = Some(later);
        } else {
            self.pause_until = later;
            if applied_perhaps {
                self.look_at = Some(if retry_after.is_some() { later } else { now });
            }
        }
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
