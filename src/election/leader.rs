//! What a leader does: hold, and let go in the right order.
//!
//! PURE, as the whole election.

use super::{
    ActiveTerm, Annotations, Call, CallFailure, CallKind, Content, Election, Ending, Event, LeaseRequest, Output,
    Record, Snapshot, State, Term, Version, mutant,
};
use crate::time::{BootTime, Now, WallTime};

impl Election {
    /// The acquisition sent at `sent` was applied, as `lease`.
    pub(super) fn begin_term(&mut self, now: BootTime, sent: BootTime, lease: Snapshot) {
        let term = Term {
            token: lease.version,
            lease_uid: lease.uid,
            acquire_time: lease.record.acquire_time.unwrap_or_default(),
        };
        let term = self.mutant_same_term(term);
        if !self.lease().is_some_and(|known| self.is_of_term(known, &term)) {
            return; // Won, and lost again before the news of it came.
        }
        let late = now >= sent + self.timing.renewal_deadline();
        let acked = if late && mutant!(self, LateAcquisitionLeads) { now } else { sent };
        let held = ActiveTerm { term, acked, renew_at: acked + self.timing.renew_interval() };
        self.conflicts = 0;
        let late = now >= self.deadline(&held);
        if late || self.shutdown || !self.fit {
            self.report(if late { Event::AcquiredTooLate } else { Event::AcquiredUnwanted });
            return self.start_release(now, held, None);
        }
        self.report(Event::StartedLeading { token: held.term.token });
        self.outputs.push_back(Output::StartWork(held.term.clone()));
        self.state = State::Leading(held);
    }

    /// The write sent at `sent` was applied: it prolongs the term from then, not from now.
    pub(super) fn acknowledge(&mut self, sent: BootTime) {
        let interval = self.timing.renew_interval();
        if let State::Leading(held) | State::Stopping { held, forced: false, .. } = &mut self.state
            && sent > held.acked
        {
            held.acked = sent;
            held.renew_at = sent + interval;
            self.conflicts = 0;
            self.report(Event::Renewed);
        }
    }

    /// Whether the deadline has passed is a question to the clock; this makes the end of the term known.
    pub(super) fn enforce_deadline(&mut self, now: BootTime) {
        if let State::Leading(held) | State::Stopping { held, forced: false, .. } = &self.state
            && now >= self.deadline(held)
        {
            self.lose(now, Ending::DeadlinePassed);
        }
    }

    /// What is known of the Lease has changed: is the term still ours?
    pub(super) fn check_hold(&mut self, now: BootTime) {
        let (State::Leading(held) | State::Stopping { held, forced: false, .. } | State::Releasing { held, .. }) =
            &self.state
        else {
            return;
        };
        let loss = match self.lease() {
            None => Ending::Deleted,
            Some(lease) if lease.uid != held.term.lease_uid => Ending::Deleted,
            Some(lease) if lease.coordinated => Ending::Coordinated,
            Some(lease) if self.is_of_term(lease, &held.term) => return self.hold_on(now),
            Some(lease) => lease.record.holder.clone().map_or(Ending::Vacated, Ending::Superseded),
        };
        match &self.state {
            State::Releasing { .. } => self.release_settled(now, &loss),
            _ if mutant!(self, LeadOnBesideRival) => {}
            _ => self.lose(now, loss),
        }
    }

    fn hold_on(&mut self, now: BootTime) {
        let Some(lease) = self.lease() else { return };
        let asked_to_yield = lease.annotations.yield_to.clone();
        let edited = lease.record.lease_duration_seconds != Some(self.timing.lease_duration_seconds());
        match asked_to_yield {
            Some(name) if name == self.identity.name => {
                self.report_trouble(Some(Event::AlreadyLeading));
                self.renew_by(now);
            }
            Some(name) => self.step_down(now, Ending::Yielded(name)),
            None if edited => self.renew_by(now + self.timing.renewal_retry()),
            None => {}
        }
    }

    fn renew_by(&mut self, at: BootTime) {
        if let State::Leading(held) = &mut self.state {
            held.renew_at = held.renew_at.min(at);
        }
    }

    /// Ends the term by will: the Lease is kept, and renewed, until the work has stopped.
    pub(super) fn step_down(&mut self, now: BootTime, why: Ending) {
        let State::Leading(held) = &self.state else { return };
        let held = held.clone();
        let yielded_to = if let Ending::Yielded(name) = &why { Some(name.clone()) } else { None };
        self.end_term(held.term.token, why);
        if mutant!(self, ReleaseBeforeWorkStopped) {
            return self.start_release(now, held, yielded_to);
        }
        let kill_by = now + self.timing.kill_after();
        self.state = State::Stopping { held, kill_by, forced: false, yielded_to };
    }

    /// Ends the term by force: nothing is written any more.
    fn lose(&mut self, now: BootTime, why: Ending) {
        let soon = now + (self.timing.kill_after() - self.timing.renewal_deadline());
        match &self.state {
            State::Leading(held) => {
                let held = held.clone();
                self.end_term(held.term.token, why);
                self.state = State::Stopping { held, kill_by: soon, forced: true, yielded_to: None };
            }
            State::Stopping { held, kill_by, yielded_to, .. } => {
                let (held, kill_by, yielded_to) = (held.clone(), soon.min(*kill_by), yielded_to.clone());
                self.state = State::Stopping { held, kill_by, forced: true, yielded_to };
            }
            State::Candidate | State::Releasing { .. } | State::Done => {}
        }
    }

    fn end_term(&mut self, token: Version, why: Ending) {
        self.report(Event::StoppedLeading { token, why });
        self.outputs.push_back(Output::StopWork { token });
    }

    pub(super) fn on_work_stopped(&mut self, now: Now, token: Version) {
        match self.state.clone() {
            State::Leading(held) if held.term.token == token => {
                self.report(Event::StoppedLeading { token, why: Ending::WorkEnded });
                self.start_release(now.boot, held, None);
            }
            State::Stopping { held, forced, yielded_to, .. } if held.term.token == token => {
                if forced && !self.shutdown {
                    self.become_candidate(now.boot, yielded_to.is_some());
                } else {
                    self.start_release(now.boot, held, yielded_to);
                }
            }
            _ => {}
        }
    }

    pub(super) fn advance_leader(&mut self, now: Now) {
        let (State::Leading(held) | State::Stopping { held, .. }) = &self.state else { return };
        if now.boot < held.renew_at {
            return;
        }
        match self.lease() {
            Some(lease) if !self.look_first => {
                let content = self.renewal(lease, &held.term, now.wall);
                let request = LeaseRequest::Replace { version: lease.version, content };
                self.start_call(now.boot, CallKind::Renew, request);
            }
            _ => self.start_call(now.boot, CallKind::Observe, LeaseRequest::Get),
        }
    }

    fn renewal(&self, lease: &Snapshot, term: &Term, wall: WallTime) -> Content {
        let record = Record {
            lease_duration_seconds: Some(self.timing.lease_duration_seconds()),
            renew_time: Some(self.time_to_write(wall, lease.record.renew_time)),
            ..lease.record.clone()
        };
        let yield_to = lease.annotations.yield_to.clone().filter(|name| *name != self.identity.name);
        Content {
            record,
            annotations: Annotations { token: Some(term.token.to_string()), yield_to, ..lease.annotations.clone() },
        }
    }

    pub(super) fn renewal_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        let next = self.next_try(now, call, failure);
        if let State::Leading(held) | State::Stopping { held, .. } = &mut self.state {
            held.renew_at = next;
        }
    }

    /// A call that failed is tried again a while after it was sent; as late as the server asks, but not so late that
    /// the try would be in vain (P7, P14).
    fn next_try(&mut self, now: BootTime, call: &Call, failure: CallFailure) -> BootTime {
        let retry = now.max(call.sent + self.timing.renewal_retry());
        let (CallFailure::Refused { retry_after } | CallFailure::Unknown { retry_after }) = failure else {
            return if self.look_at_once() { now } else { retry };
        };
        let last = match &self.state {
            State::Leading(held) | State::Stopping { held, .. } => self.deadline(held),
            State::Releasing { until, .. } => *until,
            State::Candidate | State::Done => retry,
        } - self.timing.call_limit();
        retry.max((now + retry_after.unwrap_or_default()).min(last))
    }

    pub(super) fn start_release(&mut self, now: BootTime, held: ActiveTerm, yielded_to: Option<String>) {
        let run_out = held.acked + self.timing.lease_duration();
        let until = run_out.min(now + self.timing.renewal_deadline());
        self.conflicts = 0;
        self.state = State::Releasing { held, until, retry_at: now, yielded_to };
        self.check_hold(now);
    }

    pub(super) fn advance_release(&mut self, now: Now) {
        let State::Releasing { until, retry_at, yielded_to, .. } = &self.state else { return };
        if now.boot >= *until {
            let stand_back = yielded_to.is_some();
            self.report(Event::ReleaseFailed);
            self.become_candidate(now.boot, stand_back);
            return self.advance_candidate(now);
        }
        if now.boot < *retry_at {
            return;
        }
        match self.lease() {
            Some(lease) if !self.look_first => {
                let at = self.time_to_write(now.wall, lease.record.renew_time);
                let content = release(lease, yielded_to.clone(), at);
                let request = LeaseRequest::Replace { version: lease.version, content };
                self.start_call(now.boot, CallKind::Release, request);
            }
            _ => self.start_call(now.boot, CallKind::Observe, LeaseRequest::Get),
        }
    }

    pub(super) fn release_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        let next = self.next_try(now, call, failure);
        if let State::Releasing { retry_at, .. } = &mut self.state {
            *retry_at = next;
        }
    }

    /// The Lease is no longer this term's: released, or held by another candidate.
    fn release_settled(&mut self, now: BootTime, how: &Ending) {
        let State::Releasing { yielded_to, .. } = &self.state else { return };
        let stand_back = yielded_to.is_some();
        if mutant!(self, ReleaseWithoutOwnership) && matches!(how, Ending::Superseded(_)) {
            return;
        }
        if matches!(how, Ending::Vacated) {
            self.report(Event::Released);
        }
        self.become_candidate(now, stand_back);
    }

    #[cfg(feature = "mutants")]
    fn mutant_same_term(&mut self, term: Term) -> Term {
        let token = *self.tampering.first_token.get_or_insert(term.token);
        if mutant!(self, ResumeTerm) { Term { token, ..term } } else { term }
    }

    #[cfg(not(feature = "mutants"))]
    fn mutant_same_term(&mut self, term: Term) -> Term {
        term
    }
}

/// What a release writes (P9): the shape that client-go writes, which every elector understands.
fn release(lease: &Snapshot, yielded_to: Option<String>, at: WallTime) -> Content {
    Content {
        record: Record {
            holder: None,
            lease_duration_seconds: Some(1),
            acquire_time: Some(at),
            renew_time: Some(at),
            transitions: lease.record.transitions,
        },
        annotations: Annotations {
            yielded_to,
            successor: lease.annotations.successor.clone(),
            successor_revision: lease.annotations.successor_revision.clone(),
            ..Annotations::default()
        },
    }
}
