//! What a leader does: hold, and let go in the right order.
//!
//! PURE, as the whole election.

use super::{
    ActiveTerm, Annotations, Call, CallFailure, CallKind, Content, Election, Ending, Event, LeaseRequest, Output,
    Record, Snapshot, State, Term, TermPhase, Version, mutant,
};
use crate::time::{BootTime, Now, WallTime};

impl Election {
    /// The acquisition sent at `sent` was applied, as `lease`.
    pub(super) fn begin_term(&mut self, now: BootTime, sent: BootTime, lease: Snapshot) {
        let acquire_time = lease.record.acquire_time.unwrap_or_default();
        let term = Term { token: lease.version, lease_uid: lease.uid, acquire_time };
        if !self.lease().is_some_and(|known| self.is_of_term(known, &term)) {
            return; // Won, and lost again before the news of it came.
        }
        let late = now >= sent + self.timing.renewal_deadline();
        let acked = if late && mutant!(self, LateAcquisitionLeads) { now } else { sent };
        let write_at = acked + self.timing.renew_interval();
        let until = BootTime(u64::MAX);
        let held = ActiveTerm { term, phase: TermPhase::Leading, acked, write_at, until, yielded_to: None };
        self.conflicts = 0;
        let late = now >= self.deadline(&held);
        self.state = State::Holder(held.clone());
        if late || self.shutdown || !self.fit {
            self.report(if late { Event::AcquiredTooLate } else { Event::AcquiredUnwanted });
            return self.start_release(now);
        }
        self.report(Event::StartedLeading(held.term.token));
        self.outputs.push_back(Output::StartWork(held.term));
    }

    /// The write sent at `sent` was applied: it prolongs the term from then, not from now.
    pub(super) fn acknowledge(&mut self, sent: BootTime) {
        let State::Holder(held) = &mut self.state else { return };
        if held.phase.renews() && sent > held.acked {
            (held.acked, held.write_at) = (sent, sent + self.timing.renew_interval());
            self.conflicts = 0;
            self.report(Event::Renewed);
        }
    }

    /// Whether the deadline has passed is a question to the clock; this makes the end of the term known.
    pub(super) fn enforce_deadline(&mut self, now: BootTime) {
        if let State::Holder(held) = &self.state
            && held.phase.renews()
            && now >= self.deadline(held)
        {
            self.lose(now, Ending::DeadlinePassed);
        }
    }

    /// What is known of the Lease has changed: is the term still ours?
    pub(super) fn check_hold(&mut self, now: BootTime) {
        let State::Holder(held) = &self.state else { return };
        let loss = match self.lease().filter(|lease| lease.uid == held.term.lease_uid) {
            None => Ending::Deleted,
            Some(lease) if lease.coordinated => Ending::Coordinated,
            Some(lease) if self.is_of_term(lease, &held.term) => return self.hold_on(now),
            Some(lease) => lease.record.holder.clone().map_or(Ending::Vacated, Ending::Superseded),
        };
        match held.phase {
            TermPhase::Releasing => self.release_settled(now, &loss),
            TermPhase::Leading | TermPhase::Stopping if !mutant!(self, LeadOnBesideRival) => self.lose(now, loss),
            _ => {}
        }
    }

    fn hold_on(&mut self, now: BootTime) {
        let Some(lease) = self.lease() else { return };
        let edited = lease.record.lease_duration_seconds != Some(self.timing.lease_duration_seconds());
        match lease.annotations.yield_to.clone() {
            Some(name) if name != self.identity.name => self.step_down(now, Ending::Yielded(name)),
            None if !edited => {}
            // A renewal puts it right: soon, but not in a loop with what edits it.
            _ => {
                let soon = now + self.timing.renewal_retry();
                if let State::Holder(held) = &mut self.state {
                    held.write_at = held.write_at.min(soon);
                }
            }
        }
    }

    /// Ends the term by will: the Lease is kept, and renewed, until the work has stopped.
    pub(super) fn step_down(&mut self, now: BootTime, why: Ending) {
        let State::Holder(held @ ActiveTerm { phase: TermPhase::Leading, .. }) = &mut self.state else { return };
        (held.phase, held.until) = (TermPhase::Stopping, now + self.timing.kill_after());
        held.yielded_to = if let Ending::Yielded(name) = &why { Some(name.clone()) } else { None };
        let token = held.term.token;
        self.end_term(token, why);
        if mutant!(self, ReleaseBeforeWorkStopped) {
            self.start_release(now);
        }
    }

    /// Ends the term by force: nothing is written any more.
    fn lose(&mut self, now: BootTime, why: Ending) {
        let State::Holder(held) = &mut self.state else { return };
        let (led, token) = (held.phase == TermPhase::Leading, held.term.token);
        let soon = now + (self.timing.kill_after() - self.timing.renewal_deadline());
        (held.phase, held.until) = (TermPhase::Lost, held.until.min(soon));
        if led {
            self.end_term(token, why);
        }
    }

    fn end_term(&mut self, token: Version, why: Ending) {
        self.report(Event::StoppedLeading { token, why });
        self.outputs.push_back(Output::StopWork(token));
    }

    pub(super) fn on_work_stopped(&mut self, now: BootTime, token: Version) {
        let State::Holder(held) = &self.state else { return };
        match held.phase {
            _ if held.term.token != token => {}
            TermPhase::Leading => {
                self.report(Event::StoppedLeading { token, why: Ending::WorkEnded });
                self.start_release(now);
            }
            TermPhase::Lost if !self.shutdown && mutant!(self, ResumeTerm) => {
                let held = ActiveTerm { phase: TermPhase::Leading, acked: now, ..held.clone() };
                self.outputs.push_back(Output::StartWork(held.term.clone()));
                self.state = State::Holder(held);
            }
            TermPhase::Lost if !self.shutdown => self.become_candidate(now),
            TermPhase::Stopping | TermPhase::Lost => self.start_release(now),
            TermPhase::Releasing => {}
        }
    }

    fn start_release(&mut self, now: BootTime) {
        let State::Holder(held) = &mut self.state else { return };
        let run_out = held.acked + self.timing.lease_duration();
        // One try at least: also a record that has run out makes those wait who have just seen it.
        held.until = run_out.min(now + self.timing.renewal_deadline()).max(now + self.timing.call_limit());
        (held.phase, held.write_at) = (TermPhase::Releasing, now);
        self.conflicts = 0;
        self.check_hold(now);
    }

    /// The Lease is no longer this term's: released, or held by another candidate.
    fn release_settled(&mut self, now: BootTime, how: &Ending) {
        if mutant!(self, ReleaseWithoutOwnership) && matches!(how, Ending::Superseded(_)) {
            return;
        }
        if matches!(how, Ending::Vacated) {
            self.report(Event::Released);
        }
        self.become_candidate(now);
    }

    /// Renews or releases the Lease, once that is due.
    pub(super) fn advance_holder(&mut self, now: Now) {
        let State::Holder(held) = &self.state else { return };
        let releases = held.phase == TermPhase::Releasing;
        if releases && now.boot >= held.until {
            self.report(Event::ReleaseFailed);
            self.become_candidate(now.boot);
            return self.advance_candidate(now);
        }
        if held.phase == TermPhase::Lost || now.boot < held.write_at {
            return;
        }
        let Some(lease) = self.lease().filter(|_| !self.look_first) else {
            return self.start_call(now.boot, CallKind::Observe, LeaseRequest::Get);
        };
        let at = self.time_to_write(now.wall, lease.record.renew_time);
        let (purpose, content) = match releases {
            true => (CallKind::Release, release(lease, held.yielded_to.clone(), at)),
            false => (CallKind::Renew, self.renewal(lease, &held.term, at)),
        };
        self.start_call(now.boot, purpose, LeaseRequest::Replace { version: lease.version, content });
    }

    fn renewal(&self, lease: &Snapshot, term: &Term, at: WallTime) -> Content {
        let lease_duration_seconds = Some(self.timing.lease_duration_seconds());
        let yield_to = lease.annotations.yield_to.clone().filter(|name| *name != self.identity.name);
        Content {
            record: Record { lease_duration_seconds, renew_time: Some(at), ..lease.record.clone() },
            annotations: Annotations { token: Some(term.token.to_string()), yield_to, ..lease.annotations.clone() },
        }
    }

    /// A call that failed is tried again a while after it was sent; as late as the server asks, but not so late that
    /// the try would be in vain (P7, P14).
    pub(super) fn write_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        self.look_first |= !matches!(failure, CallFailure::Refused { .. });
        let at_once = failure == CallFailure::Conflict && self.look_at_once();
        let State::Holder(held) = &self.state else { return };
        let end = if held.phase == TermPhase::Releasing { held.until } else { self.deadline(held) };
        let asked = (now + failure.retry_after()).min(end - self.timing.call_limit());
        let retry = now.max(call.sent + self.timing.renewal_retry()).max(asked);
        if let State::Holder(held) = &mut self.state {
            held.write_at = if at_once { now } else { retry };
        }
    }
}

/// What a release writes (P9): the shape that client-go writes, which every elector understands.
fn release(lease: &Snapshot, yielded_to: Option<String>, at: WallTime) -> Content {
    let (at, lease_duration_seconds, transitions) = (Some(at), Some(1), lease.record.transitions);
    let Annotations { successor, successor_revision, .. } = lease.annotations.clone();
    Content {
        record: Record { holder: None, lease_duration_seconds, acquire_time: at, renew_time: at, transitions },
        annotations: Annotations { yielded_to, successor, successor_revision, ..Annotations::default() },
    }
}
