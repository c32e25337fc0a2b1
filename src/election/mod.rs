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

use crate::time::{BootTime, Now};
pub use messages::{Answer, CallFailure, CallKind, Content, Ending, Event, Identity, Input, LeaseRequest, Output};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub(crate) use mutants::mutant;
use observed::{ObservedRecord, OwnWrites};
pub use record::{Annotations, Record, Snapshot, Term, Validity, Version, parse_version};
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
    /// The call being waited for.
    call: Option<Call>,
    calls: u64,
    /// A write whose outcome is unknown (P8).
    unresolved: Option<Call>,
    own: OwnWrites,
    /// The next call must be a look: what is known may no longer be so.
    look_first: bool,
    /// A watch has ended since the last look. The next one may be silent about what was missed (a restored backup).
    watch_gap: bool,
    /// Candidate: when to look at the Lease next; `None` while the watch does it.
    look_at: Option<BootTime>,
    /// Candidate: no attempt before this: a failure's pause, or a record that vanished without a release runs out (P1).
    not_before: BootTime,
    /// Candidate: no attempt before this, having handed over on request (P17).
    stand_back_until: BootTime,
    /// Candidate: when to write its name into the succession, or to remove it (P13).
    announce_at: Option<BootTime>,
    /// Candidate: its name is not written again before this, whatever removed it (P20).
    announce_not_before: BootTime,
    /// Conflicts in a row: others edit the Lease as fast as we read it.
    conflicts: u32,
    watching: bool,
    fit: bool,
    shutdown: bool,
    reported_trouble: Option<Event>,
    /// What is wrong with this process's writes (P20).
    write_trouble: Option<Event>,
    outputs: VecDeque<Output>,
    /// The mistake built in.
    #[cfg(feature = "mutants")]
    mistake: Option<Mutant>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    Candidate,
    Holder(ActiveTerm),
    Done,
}

/// A term, from the write that won it until its work has stopped and the Lease is released or lost.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct ActiveTerm {
    term: Term,
    phase: TermPhase,
    /// The send time of the last acknowledged write.
    acked: BootTime,
    /// When to renew or release next.
    write_at: BootTime,
    /// The phase lasts no longer: then the work is killed, or the release given up.
    until: BootTime,
    /// It hands over on request: to this candidate or, if empty, to any other.
    yielded_to: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum TermPhase {
    Leading,
    /// By will.
    Stopping,
    /// By force: nothing is written any more.
    Lost,
    Releasing,
}

impl TermPhase {
    /// Whether the Lease is renewed in it.
    fn renews(self) -> bool {
        matches!(self, TermPhase::Leading | TermPhase::Stopping)
    }
}

/// A call that was made.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Call {
    number: u64,
    purpose: CallKind,
    request: LeaseRequest,
    /// Read before it was sent.
    sent: BootTime,
    /// What was known then: an answer is newer than that, whatever its version says.
    known_version: Option<Version>,
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
            own: OwnWrites::default(),
            look_first: true,
            watch_gap: false,
            look_at: Some(BootTime(0)),
            not_before: BootTime(0),
            stand_back_until: BootTime(0),
            announce_at: None,
            announce_not_before: BootTime(0),
            conflicts: 0,
            watching: false,
            fit: true,
            shutdown: false,
            reported_trouble: None,
            write_trouble: None,
            outputs: VecDeque::new(),
            #[cfg(feature = "mutants")]
            mistake: None,
        }
    }

    /// Builds a known mistake in. For the simulator, which must catch it.
    #[cfg(feature = "mutants")]
    pub fn with_mistake(mut self, mistake: Option<Mutant>) -> Election {
        self.mistake = mistake;
        self
    }

    /// Forgets how many calls were made, what jitter was drawn, and pauses that are over: elections with the same future
    /// become equal, so that the exhaustive check need not look at each. A call in flight gets the number 1.
    #[cfg(feature = "mutants")]
    #[doc(hidden)]
    pub fn forget_history(&mut self, now: BootTime) {
        self.calls = 1;
        self.call.iter_mut().for_each(|call| call.number = 1);
        self.unresolved.iter_mut().for_each(|call| (call.number, call.known_version) = (1, None));
        self.jitter = Jitter::new(0);
        for pause in [&mut self.not_before, &mut self.stand_back_until, &mut self.announce_not_before] {
            *pause = if *pause <= now { BootTime(0) } else { *pause };
        }
    }

    /// The term in which this process leads at `now`; `None` when it does not. Computed from `now` alone: it does
    /// not depend on a timer having fired.
    pub fn leading(&self, now: BootTime) -> Option<&Term> {
        match &self.state {
            State::Holder(held) if held.phase == TermPhase::Leading && now < self.deadline(held) => Some(&held.term),
            _ => None,
        }
    }

    /// Until when the current term's work may run, and by when it must be dead. `None`: there is no work.
    ///
    /// While the work is being stopped `valid_until` lies in the past.
    pub fn validity(&self) -> Option<Validity> {
        let State::Holder(held) = &self.state else { return None };
        let valid_until = match held.phase {
            TermPhase::Leading => self.deadline(held),
            TermPhase::Stopping | TermPhase::Lost => BootTime(0),
            TermPhase::Releasing => return None,
        };
        Some(Validity { valid_until, kill_at: held.until.min(held.acked + self.timing.kill_after()) })
    }

    /// The newest version of the Lease seen; `None` before the first look, and when there is no Lease.
    pub fn lease(&self) -> Option<&Snapshot> {
        self.observed.as_ref().and_then(|known| known.lease.as_ref())
    }

    /// The fencing token of the Lease's present term, this process's or another's; `None` when nobody leads, or when it is not known
    /// yet: it was won before this process looked, and has not been renewed since.
    pub fn token(&self) -> Option<Version> {
        if let State::Holder(held @ ActiveTerm { phase: TermPhase::Leading, .. }) = &self.state {
            return Some(held.term.token);
        }
        let known = self.observed.as_ref()?;
        let lease = known.lease.as_ref().filter(|lease| lease.record.holder.is_some())?;
        // A program that does not know the annotations keeps those of the term before.
        let published = lease.annotations.token.as_ref().filter(|_| lease.incarnation().is_some());
        published.map_or(known.won, |token| parse_version(token))
    }

    /// Takes one input. Drain [`Election::poll`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        let over = matches!(self.state, State::Done);
        self.enforce_deadline(now.boot); // P15: what came too late does not revive the term
        let (known, each) = (self.known_version(), self.watching && !self.watch_gap);
        match input {
            Input::Timer => {}
            Input::Reply { call, result } => self.on_reply(now, call, result),
            Input::Seen(lease) if known < Some(lease.version) => self.learn(now, Some(lease), None, each),
            Input::Deleted(version) if known < Some(version) => self.learn(now, None, Some(version), each),
            Input::Seen(_) | Input::Deleted(_) => {}
            Input::Watching(watching) => self.on_watching(now.boot, watching),
            Input::Fit(fit) => {
                self.fit = fit;
                if !fit {
                    self.step_down(now.boot, Ending::Unfit);
                }
            }
            Input::WorkStopped(token) => self.on_work_stopped(now.boot, token),
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

    /// The next thing to do. [`Output::WaitUntil`] means: nothing until that instant or an input.
    pub fn poll(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::WaitUntil(self.next_wake()))
    }

    fn advance(&mut self, now: Now) {
        if self.call.is_some() {
            return;
        }
        match &self.state {
            State::Candidate => self.advance_candidate(now),
            State::Holder(_) => self.advance_holder(now),
            State::Done => {}
        }
    }

    fn next_wake(&self) -> Option<BootTime> {
        let idle = self.call.is_none();
        match &self.state {
            State::Candidate if idle => {
                [self.look_at, self.attempt_at(), self.announcement_due_at()].into_iter().flatten().min()
            }
            State::Holder(held) => {
                let deadline = held.phase.renews().then(|| self.deadline(held));
                let write_at = (idle && held.phase != TermPhase::Lost).then_some(held.write_at);
                let given_up = (idle && held.phase == TermPhase::Releasing).then_some(held.until);
                [deadline, write_at, given_up].into_iter().flatten().min()
            }
            // The answer to the call in flight comes first.
            State::Candidate | State::Done => None,
        }
    }

    fn deadline(&self, held: &ActiveTerm) -> BootTime {
        held.acked + self.timing.renewal_deadline()
    }

    fn report(&mut self, event: Event) {
        self.outputs.push_back(Output::Report(event));
    }

    fn start_call(&mut self, now: BootTime, purpose: CallKind, request: LeaseRequest) {
        self.calls += 1;
        if let Some(content) = request.content().filter(|_| purpose != CallKind::Announce) {
            self.own.note(purpose, &content.record);
        }
        let (number, known_version, limit) = (self.calls, self.known_version(), self.timing.call_limit());
        self.call = Some(Call { number, purpose, request: request.clone(), sent: now, known_version });
        self.outputs.push_back(Output::Call { call: number, request, purpose, limit });
    }

    /// The newest version known, be it of the Lease or of its deletion.
    fn known_version(&self) -> Option<Version> {
        self.observed.as_ref().and_then(|known| known.version)
    }

    fn on_reply(&mut self, now: Now, number: u64, result: Result<Answer, CallFailure>) {
        let Some(call) = self.call.take_if(|call| call.number == number) else { return };
        match result {
            Ok(Answer::Found(lease)) => self.on_look(now, &call, Some(lease)),
            Ok(Answer::Absent) => self.on_look(now, &call, None),
            Ok(Answer::Written { lease, created }) => self.on_written(now, &call, lease, created),
            Err(failure) => self.on_failure(now.boot, call, failure),
        }
    }

    fn on_look(&mut self, now: Now, call: &Call, lease: Option<Snapshot>) {
        (self.look_first, self.watch_gap) = (false, false);
        let next_look = now.boot + self.jitter.around(self.timing.retry_period());
        self.look_at = Some(next_look).filter(|_| !self.watching);
        if lease.is_none() {
            // A write that was applied before is gone with the Lease; one that makes it anew is found as our own.
            self.unresolved = None;
        }
        self.learn_from_answer(now, call, lease);
    }

    fn on_written(&mut self, now: Now, call: &Call, lease: Snapshot, created: bool) {
        let replaced_nothing = created && matches!(call.request, LeaseRequest::Replace { .. });
        let undone = undone(call, &lease).filter(|_| !replaced_nothing);
        self.write_trouble = undone.map(Event::WriteUndone);
        let sent = if mutant!(self, DeadlineFromReply) { now.boot } else { call.sent };
        self.learn_from_answer(now, call, Some(lease.clone()));
        match call.purpose {
            _ if replaced_nothing => {}
            // Where something removes the name at once, it is not written again for long (P20).
            CallKind::Announce if undone.is_some() => self.announce_at = Some(now.boot + self.timing.lease_duration()),
            _ if undone.is_some() && mutant!(self, NoPace) => {}
            _ if undone.is_some() => self.call_failed(now.boot, call, CallFailure::Refused { retry_after: None }),
            CallKind::Acquire => self.begin_term(now.boot, sent, lease),
            CallKind::Renew => self.acknowledge(sent),
            CallKind::Observe | CallKind::Release | CallKind::Announce => {}
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

    fn on_failure(&mut self, now: BootTime, call: Call, failure: CallFailure) {
        self.call_failed(now, &call, failure);
        let writes_record = call.request != LeaseRequest::Get && call.purpose != CallKind::Announce;
        if writes_record && matches!(failure, CallFailure::Unknown { .. }) {
            if mutant!(self, AmbiguousIsSuccess) && call.purpose == CallKind::Renew {
                self.acknowledge(call.sent);
            }
            self.unresolved = Some(call);
        }
        self.resolve_write(now);
    }

    fn call_failed(&mut self, now: BootTime, call: &Call, failure: CallFailure) {
        match &self.state {
            _ if call.purpose == CallKind::Announce => self.announcement_failed(now, failure),
            State::Candidate => self.attempt_failed(now, call, failure),
            State::Holder(_) => self.write_failed(now, call, failure),
            State::Done => {}
        }
    }
}

/// What the answer to a successful write lacks of what was written, if it matters: a webhook may have undone it (P20).
fn undone(call: &Call, lease: &Snapshot) -> Option<&'static str> {
    let Content { record, annotations } = call.request.content()?;
    let stated = &lease.record;
    if call.purpose == CallKind::Announce {
        let named = |annotations: &Annotations| (annotations.successor.clone(), annotations.successor_revision.clone());
        let kept = named(annotations) == named(&lease.annotations);
        return (!kept).then_some("the annotations leasehold.dev/successor and leasehold.dev/successor-revision");
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
