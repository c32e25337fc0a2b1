//! The election on a Lease, sans-IO: time comes in as an argument, calls go out as values.
//!
//! PURE: no clock, thread, socket, file or environment. The same code runs in production, in the simulator and in
//! the exhaustive check of small cases. Rule numbers (P1–P20) are those of `docs/election.md`; the argument that at
//! most one candidate leads is there too.
//!
//! ```text
//!                    acquired                     lost: deadline passed, or another holder, a deletion,
//!   ┌───────────┐   (in time)    ┌─────────┐      a coordinated Lease seen
//!   │ Candidate ├───────────────►│ Leading ├───────────────────────────────┐
//!   └─▲───▲───┬─┘                └────┬────┘                               │
//!     │   │   │ acquired, but         │ step down: shutdown, a request     │
//!     │   │   │ too late or           │ to yield, an unfit workload        │
//!     │   │   │ unwanted        ┌─────▼─────────────┐                ┌─────▼─────────────┐
//!     │   │   │                 │ Stopping, by will │ deadline or    │ Stopping, by force│
//!     │   │   │                 │ (renews meanwhile)├───────────────►│ (writes nothing)  │
//!     │   │   │                 └─────┬─────────────┘ rival          └─────┬─────────────┘
//!     │   │   │                       │ the work has stopped               │ the work has stopped
//!     │   │   │                 ┌─────▼─────┐                              │
//!     │   │   └────────────────►│ Releasing │                              │
//!     │   └─────────────────────┴───────────┘                              │
//!     └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! After [`Input::Shutdown`] what would become a candidate again is [`Output::Done`] instead.
//!
//! # Driving it
//!
//! After every [`Election::handle`], call [`Election::poll`] until it answers [`Output::WaitUntil`]; then wait for
//! that instant or for an input, whichever comes first. A timer that fires early is harmless. Whether this process
//! leads is never a matter of having been driven: [`Election::leading`] computes it from the instant it is given.
//!
//! ```
//! use leasehold::election::{Answer, Election, Identity, Input, Output, LeaseRequest, Timing};
//! use leasehold::time::{BootTime, Now, WallTime};
//!
//! let me = Identity { name: "pod-a".into(), incarnation: "9f1c".into(), revision: None };
//! let mut election = Election::new(me, Timing::default(), 42);
//! let now = Now { boot: BootTime(1_000), wall: WallTime(0) };
//!
//! election.handle(now, Input::Timer);
//! let Output::Call { call, request: LeaseRequest::Get, .. } = election.poll() else { panic!("first it looks") };
//! assert!(matches!(election.poll(), Output::WaitUntil(_)));
//!
//! election.handle(now, Input::Reply { call, result: Ok(Answer::Absent) });
//! assert!(matches!(election.poll(), Output::Call { request: LeaseRequest::Create(_), .. }));
//! assert!(election.leading(now.boot).is_none(), "asking is not having");
//! ```

mod candidate;
mod leader;
mod messages;
mod mutants;
mod observed;
mod record;
mod succession;
mod timing;

use std::collections::VecDeque;

use crate::time::{BootTime, Now, WallTime};
pub use messages::{Answer, CallFailure, CallKind, Content, Ending, Event, Identity, Input, LeaseRequest, Output};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub(crate) use mutants::mutant;
use observed::ObservedRecord;
pub use record::{Annotations, Record, Snapshot, Term, Validity, Version, parse_version};
use succession::Announcement;
pub use succession::SUCCESSION_GRACE;
pub use timing::{ATTEMPT_JITTER, Jitter, Timing, TimingError};

/// So many conflicts in a row are met by looking again at once; then something keeps editing the Lease, and the
/// pace of retries is enough.
const QUICK_CONFLICTS: u32 = 3;

/// An election in which this process takes part. See the module's documentation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Election {
    identity: Identity,
    timing: Timing,
    jitter: Jitter,
    state: State,
    observed: Option<ObservedRecord>,
    call: Option<Call>,
    calls: u64,
    unresolved: Option<UnresolvedWrite>,
    /// The latest `renewTime` in any write of this process, applied or not: no two of its writes are alike, so the
    /// Lease tells which of them was applied.
    last_written: Option<WallTime>,
    /// The `acquireTime` of this process's latest acquisitions, applied or not, and of the one it found at its start.
    acquisitions: VecDeque<WallTime>,
    /// The record found by the first look.
    found_at_start: Option<Record>,
    /// The next call must be a look: what is known may no longer be so.
    look_first: bool,
    /// A watch has ended since the last look. The next one may be silent about what was missed (a restored backup).
    watch_gap: bool,
    /// Candidate: when to look at the Lease next; `None` while the watch does it.
    look_at: Option<BootTime>,
    /// Candidate: no attempt before this: a failure's pause.
    pause_until: BootTime,
    /// Candidate: no attempt before this, having handed over on request (P17).
    stand_back_until: BootTime,
    /// Candidate: no attempt before this: records that vanished without a release run out then (P1).
    wait_out_until: BootTime,
    /// Conflicts in a row: others edit the Lease as fast as we read it.
    conflicts: u32,
    /// Candidate: what to write into the succession next, and when.
    announcement: Option<(Announcement, BootTime)>,
    /// Candidate: no announcement before this: a failure's pause.
    no_announcement_before: BootTime,
    watching: bool,
    fit: bool,
    shutdown: bool,
    reported_leader: Option<String>,
    reported_successor: Option<String>,
    reported_trouble: Option<Event>,
    /// What is wrong with this process's writes (P20).
    write_trouble: Option<Event>,
    outputs: VecDeque<Output>,
    #[cfg(feature = "mutants")]
    tampering: MutantState,
}

/// The mistake built in, and what it needs to remember.
#[cfg(feature = "mutants")]
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct MutantState {
    mistake: Option<Mutant>,
    first_token: Option<Version>,
    conflicted: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    Candidate,
    Leading(ActiveTerm),
    Stopping { held: ActiveTerm, kill_by: BootTime, forced: bool, yielded_to: Option<String> },
    Releasing { held: ActiveTerm, until: BootTime, retry_at: BootTime, yielded_to: Option<String> },
    Done,
}

/// A term and how long it holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct ActiveTerm {
    term: Term,
    /// The send time of the last acknowledged write.
    acked: BootTime,
    renew_at: BootTime,
}

/// The call being waited for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Call {
    number: u64,
    purpose: CallKind,
    /// Read before it was sent.
    sent: BootTime,
    written: Option<Content>,
    /// What was known then: an answer is newer than that, whatever its version says.
    known_version: Option<Version>,
    replaces: bool,
}

/// A write whose outcome is unknown.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct UnresolvedWrite {
    content: Content,
    purpose: CallKind,
    sent: BootTime,
}

impl Election {
    /// A candidate that knows nothing yet. Equal seeds give equal jitter.
    pub fn new(identity: Identity, timing: Timing, seed: u64) -> Election {
        Election {
            identity,
            timing,
            jitter: Jitter::new(seed),
            state: State::Candidate,
            observed: None,
            call: None,
            calls: 0,
            unresolved: None,
            last_written: None,
            acquisitions: VecDeque::new(),
            found_at_start: None,
            look_first: true,
            watch_gap: false,
            look_at: Some(BootTime(0)),
            pause_until: BootTime(0),
            stand_back_until: BootTime(0),
            wait_out_until: BootTime(0),
            conflicts: 0,
            announcement: None,
            no_announcement_before: BootTime(0),
            watching: false,
            fit: true,
            shutdown: false,
            reported_leader: None,
            reported_successor: None,
            reported_trouble: None,
            write_trouble: None,
            outputs: VecDeque::new(),
            #[cfg(feature = "mutants")]
            tampering: MutantState::default(),
        }
    }

    /// Builds a known mistake in. For the simulator, which must catch it.
    #[cfg(feature = "mutants")]
    pub fn with_mistake(mut self, mistake: Option<Mutant>) -> Election {
        self.tampering.mistake = mistake;
        self
    }

    /// Forgets how many calls were made, what jitter was drawn, and pauses that are over: elections with the same future
    /// become equal, so that the exhaustive check need not look at each. A call in flight gets the number 1.
    #[cfg(feature = "mutants")]
    #[doc(hidden)]
    pub fn forget_history(&mut self, now: BootTime) {
        self.calls = 1;
        self.call.iter_mut().for_each(|call| call.number = 1);
        self.jitter = Jitter::new(0);
        let longest = SUCCESSION_GRACE + ATTEMPT_JITTER;
        for pause in [
            &mut self.pause_until,
            &mut self.stand_back_until,
            &mut self.wait_out_until,
            &mut self.no_announcement_before,
        ] {
            *pause = if *pause <= now - longest { BootTime(0) } else { *pause };
        }
    }

    /// The term in which this process leads at `now`; `None` when it does not. Computed from `now` alone: it does
    /// not depend on a timer having fired.
    pub fn leading(&self, now: BootTime) -> Option<&Term> {
        match &self.state {
            State::Leading(held) if now < self.deadline(held) => Some(&held.term),
            _ => None,
        }
    }

    /// Until when the current term's work may run, and by when it must be dead. `None`: there is no work.
    ///
    /// While the work is being stopped `valid_until` lies in the past.
    pub fn validity(&self) -> Option<Validity> {
        match &self.state {
            State::Leading(held) => {
                Some(Validity { valid_until: self.deadline(held), kill_at: held.acked + self.timing.kill_after() })
            }
            State::Stopping { held, kill_by, .. } => {
                let kill_at = (*kill_by).min(held.acked + self.timing.kill_after());
                Some(Validity { valid_until: BootTime(0), kill_at })
            }
            State::Candidate | State::Releasing { .. } | State::Done => None,
        }
    }

    /// The newest version of the Lease seen; `None` before the first look, and when there is no Lease.
    pub fn lease(&self) -> Option<&Snapshot> {
        self.observed.as_ref().and_then(|known| known.lease.as_ref())
    }

    /// The fencing token of the Lease's present term, this process's or another's; `None` when nobody leads, or when it is not known
    /// yet: it was won before this process looked, and has not been renewed since.
    pub fn token(&self) -> Option<Version> {
        if let State::Leading(held) = &self.state {
            return Some(held.term.token);
        }
        let known = self.observed.as_ref()?;
        let lease = known.lease.as_ref().filter(|lease| lease.record.holder.is_some())?;
        let marked = lease.annotations.token.as_ref().filter(|_| self.mark_is_of_this_acquisition(lease));
        marked.map_or(known.won, |token| parse_version(token))
    }

    /// A program that does not know the annotations keeps those of the term before.
    fn mark_is_of_this_acquisition(&self, lease: &Snapshot) -> bool {
        let (Some(mark), Some(acquired)) = (&lease.annotations.incarnation, lease.record.acquire_time) else {
            return false;
        };
        mark.ends_with(&acquired.to_string())
    }

    /// Takes one input. Drain [`Election::poll`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        let over = matches!(self.state, State::Done);
        self.enforce_deadline(now.boot); // P15: what came too late does not revive the term
        match input {
            Input::Timer => {}
            Input::Reply { call, result } => self.on_reply(now, call, result),
            Input::Seen(lease) => {
                if self.known_version() < Some(lease.version) {
                    self.learn(now, Some(lease));
                }
            }
            Input::Deleted(version) => {
                if self.known_version() < Some(version) {
                    self.learn(now, None);
                    self.observed.iter_mut().for_each(|known| known.deleted = Some(version));
                }
            }
            Input::Watching(watching) => self.on_watching(now.boot, watching),
            Input::Fit(fit) => self.on_fit(now.boot, fit),
            Input::WorkStopped { token } => self.on_work_stopped(now, token),
            Input::Shutdown => {
                self.shutdown = true;
                self.step_down(now.boot, Ending::Shutdown);
            }
        }
        self.advance(now);
        if over {
            self.outputs.clear(); // what the Lease says is still taken in, for those who ask
        }
    }

    /// The next thing to do. [`Output::WaitUntil`] means: nothing more for now.
    pub fn poll(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::WaitUntil(self.next_wake()))
    }

    fn advance(&mut self, now: Now) {
        self.enforce_deadline(now.boot);
        if self.call.is_some() {
            return;
        }
        match &self.state {
            State::Candidate => self.advance_candidate(now),
            State::Leading(_) | State::Stopping { forced: false, .. } => self.advance_leader(now),
            State::Releasing { .. } => self.advance_release(now),
            State::Stopping { forced: true, .. } | State::Done => {}
        }
    }

    fn next_wake(&self) -> Option<BootTime> {
        let idle = self.call.is_none();
        match &self.state {
            State::Candidate if idle => self.candidate_wake(),
            State::Leading(held) | State::Stopping { held, forced: false, .. } => {
                let deadline = self.deadline(held);
                Some(if idle { deadline.min(held.renew_at) } else { deadline })
            }
            State::Releasing { until, retry_at, .. } if idle => Some(*retry_at.min(until)),
            // The answer to the call in flight comes first.
            State::Candidate | State::Releasing { .. } => None,
            State::Stopping { .. } | State::Done => None,
        }
    }

    fn deadline(&self, held: &ActiveTerm) -> BootTime {
        held.acked + self.timing.renewal_deadline()
    }

    fn report(&mut self, event: Event) {
        self.outputs.push_back(Output::Report(event));
    }

    /// Reports a trouble once, until another one or none.
    fn report_trouble(&mut self, trouble: Option<Event>) {
        if self.reported_trouble != trouble {
            self.reported_trouble.clone_from(&trouble);
            self.outputs.extend(trouble.map(Output::Report));
        }
    }

    fn start_call(&mut self, now: BootTime, purpose: CallKind, request: LeaseRequest) {
        let written = request.content().cloned();
        self.calls += 1;
        if let Some(content) = written.as_ref().filter(|_| purpose != CallKind::Announce) {
            self.last_written = self.last_written.max(content.record.renew_time);
        }
        let known_version = self.known_version();
        let replaces = matches!(request, LeaseRequest::Replace { .. });
        self.call = Some(Call { number: self.calls, purpose, sent: now, written, known_version, replaces });
        let announces = purpose == CallKind::Announce;
        let limit = if announces { self.announcement_limit() } else { self.timing.call_limit() };
        self.outputs.push_back(Output::Call { call: self.calls, request, purpose, limit });
    }

    /// The newest version known, be it of the Lease or of its deletion.
    fn known_version(&self) -> Option<Version> {
        self.observed.as_ref().and_then(ObservedRecord::version)
    }

    fn on_reply(&mut self, now: Now, number: u64, result: Result<Answer, CallFailure>) {
        let Some(call) = self.call.take_if(|call| call.number == number) else { return };
        match result {
            Ok(Answer::Found(lease)) => self.on_look(now, &call, Some(lease)),
            Ok(Answer::Absent) => self.on_look(now, &call, None),
            Ok(Answer::Written { lease, created }) => self.on_written(now, &call, lease, created),
            Err(failure) => self.on_failure(now, call, failure),
        }
    }

    fn on_look(&mut self, now: Now, call: &Call, lease: Option<Snapshot>) {
        (self.look_first, self.watch_gap) = (false, false);
        self.schedule_look(now.boot);
        if lease.is_none() {
            // A write that was applied before is gone with the Lease; one that makes it anew is found as our own.
            self.unresolved = None;
        }
        self.learn_from_answer(now, call, lease);
        self.mutant_retry_after_conflict(now);
    }

    fn on_written(&mut self, now: Now, call: &Call, lease: Snapshot, created: bool) {
        let replaced_nothing = created && call.replaces;
        let undone = if replaced_nothing { None } else { undone(call, &lease) };
        self.write_trouble = undone.map(Event::WriteUndone);
        let sent = if mutant!(self, DeadlineFromReply) { now.boot } else { call.sent };
        match call.purpose {
            CallKind::Announce => {
                self.announced(now.boot, undone.is_some());
                self.learn_from_answer(now, call, Some(lease));
            }
            _ if undone.is_some() => {
                self.learn_from_answer(now, call, Some(lease));
                if !mutant!(self, NoPace) {
                    self.call_failed(now.boot, call, CallFailure::Refused { retry_after: None });
                }
            }
            CallKind::Acquire if !replaced_nothing => {
                self.learn_from_answer(now, call, Some(lease.clone()));
                self.begin_term(now.boot, sent, lease);
            }
            CallKind::Renew if !replaced_nothing => {
                self.learn_from_answer(now, call, Some(lease));
                self.acknowledge(sent);
            }
            CallKind::Observe | CallKind::Acquire | CallKind::Renew | CallKind::Release => {
                self.learn_from_answer(now, call, Some(lease));
            }
        }
    }

    /// After a conflict: whether to look again at once, and not at the pace of retries.
    fn look_at_once(&mut self) -> bool {
        self.conflicts = self.conflicts.saturating_add(1);
        if self.conflicts > QUICK_CONFLICTS {
            self.write_trouble = Some(Event::RepeatedConflicts(QUICK_CONFLICTS));
            self.note_trouble();
        }
        self.conflicts <= QUICK_CONFLICTS
    }

    fn on_failure(&mut self, now: Now, call: Call, failure: CallFailure) {
        if call.purpose == CallKind::Announce {
            return self.announcement_failed(now.boot, failure);
        }
        let unknown = matches!(failure, CallFailure::Unknown { .. });
        if let Some(content) = call.written.as_ref().filter(|_| unknown) {
            self.unresolved =
                Some(UnresolvedWrite { content: content.clone(), purpose: call.purpose, sent: call.sent });
            if mutant!(self, AmbiguousIsSuccess) && call.purpose == CallKind::Renew {
                self.acknowledge(call.sent);
            }
        }
        self.call_failed(now.boot, &call, failure);
        self.resolve_write(now.boot);
    }

    fn call_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        self.look_first |= matches!(failure, CallFailure::Unknown { .. } | CallFailure::Conflict);
        match &self.state {
            State::Candidate => self.attempt_failed(now, call, failure),
            State::Leading(_) | State::Stopping { .. } => self.renewal_failed(now, call, failure),
            State::Releasing { .. } => self.release_failed(now, call, failure),
            State::Done => {}
        }
    }

    #[cfg(feature = "mutants")]
    fn mutant_retry_after_conflict(&mut self, now: Now) {
        if mutant!(self, RetryAfterConflict) && std::mem::take(&mut self.tampering.conflicted) {
            if let Some(known) = &mut self.observed {
                known.since = BootTime(0);
            }
            self.advance(now);
        }
    }

    #[cfg(not(feature = "mutants"))]
    fn mutant_retry_after_conflict(&mut self, _: Now) {}
}

/// What the answer to a successful write lacks of what was written, if it matters: a webhook may have undone it (P20).
fn undone(call: &Call, lease: &Snapshot) -> Option<&'static str> {
    let Content { record, annotations } = call.written.as_ref()?;
    let stated = &lease.record;
    if call.purpose == CallKind::Announce {
        let kept = annotations.successor == lease.annotations.successor;
        return (!kept).then_some("the annotation leasehold.dev/successor");
    }
    [
        (record.holder == stated.holder, "spec.holderIdentity"),
        // Rivals would wait less than the leader counts on.
        (record.lease_duration_seconds <= stated.lease_duration_seconds, "spec.leaseDurationSeconds"),
        (record.acquire_time == stated.acquire_time, "spec.acquireTime"),
        (record.renew_time == stated.renew_time, "spec.renewTime"),
        (annotations.incarnation == lease.annotations.incarnation, "the annotation leasehold.dev/incarnation"),
    ]
    .into_iter()
    .find_map(|(kept, field)| (!kept).then_some(field))
}

/// The value of the incarnation annotation.
fn mark(incarnation: &str, acquired: crate::time::WallTime) -> String {
    format!("{incarnation} {acquired}")
}
