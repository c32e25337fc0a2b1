//! A scenario: one election, the Lease that an API server would hold, and virtual time. One call reaches any state.
//!
//! PURE. Every input goes through [`Scenario::input`], which also checks what must hold after any input whatever:
//! the order of the outputs, one call at a time, work that starts and stops in pairs, and no wait that ends in nothing.

use std::time::Duration;

use leasehold::election::{
    Annotations, Answer, CallFailure, CallKind, Election, Ending, Event, Identity, Input, LeaseRequest, Output, Record,
    Snapshot, Term, Timing, Version,
};
use leasehold::time::{BootTime, Now, WallTime};

/// The candidate under test.
pub const ME: &str = "pod-a";
/// Somebody else.
pub const RIVAL: &str = "pod-b";
/// This life of the candidate under test.
pub const INCARNATION: &str = "9f1c";
/// 2026-11-22T15:04:05Z, when every scenario begins.
pub const EPOCH: WallTime = WallTime(1_795_359_845_000_000);
/// Every attempt at a free Lease comes within this span, though another candidate is named the successor (P13).
pub const SPREAD: Duration = leasehold::election::SUCCESSION_GRACE.saturating_add(leasehold::election::ATTEMPT_JITTER);
/// The successor, unless a test says who is.
pub const SUCCESSOR: &str = "pod-z";

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A call that waits for its answer.
#[derive(Clone, Debug)]
pub struct Pending {
    pub number: u64,
    pub request: LeaseRequest,
    pub purpose: CallKind,
    pub limit: Duration,
    pub sent: BootTime,
}

/// What the network does to every call of a stretch of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Network {
    /// Answers at once.
    Serves,
    /// Certainly nothing arrives: no connection.
    Refuses,
    /// Requests vanish, and the time limit ends the wait.
    Swallows,
    /// Neither answers nor ends the wait: whoever enforces the time limit is stuck as well.
    Hangs,
}

#[derive(Clone)]
pub struct Scenario {
    pub election: Election,
    name: String,
    /// A Lease that somebody else holds gets a successor, unless the test names one: so the candidate names itself only
    /// where a test is about that.
    pub has_successor: bool,
    pub now: Now,
    /// What the API server holds.
    pub lease: Option<Snapshot>,
    version: Version,
    leases_made: u32,
    /// The call in flight.
    pub pending: Option<Pending>,
    /// Every call made, oldest first.
    pub calls: Vec<Pending>,
    pub events: Vec<Event>,
    /// Every term begun, oldest first.
    pub terms: Vec<Term>,
    /// The running work's token.
    pub work: Option<Version>,
    /// Whether the running work has been told to stop.
    pub told_to_stop: bool,
    pub done: bool,
    /// The last [`Output::WaitUntil`].
    pub wake: Option<BootTime>,
}

/// Ways to begin.
impl Scenario {
    /// A candidate that has done nothing yet; there is no Lease.
    pub fn new() -> Scenario {
        Scenario::with(ME, INCARNATION, Timing::default())
    }

    pub fn with_timing(timing: Timing) -> Scenario {
        Scenario::with(ME, INCARNATION, timing)
    }

    pub fn with(name: &str, incarnation: &str, timing: Timing) -> Scenario {
        let identity = Identity { name: name.into(), incarnation: incarnation.into(), revision: None };
        Scenario {
            election: Election::new(identity, timing, 7),
            name: name.into(),
            has_successor: true,
            now: Now { boot: BootTime(3_600_000_000_000), wall: EPOCH },
            lease: None,
            version: 100,
            leases_made: 0,
            pending: None,
            calls: Vec::new(),
            events: Vec::new(),
            terms: Vec::new(),
            work: None,
            told_to_stop: false,
            done: false,
            wake: None,
        }
    }

    /// A candidate that has looked at a Lease with this record, with its watch standing.
    pub fn watching(record: Record) -> Scenario {
        let mut scenario = Scenario::new();
        scenario.put(record, Annotations::default());
        scenario.look();
        scenario.input(Input::Watching(true));
        scenario
    }

    /// A candidate whose acquisition of a vacant Lease is in flight.
    pub fn acquiring() -> Scenario {
        let mut scenario = Scenario::watching(vacant());
        scenario.run_until_call(SPREAD);
        scenario.expect(CallKind::Acquire);
        scenario
    }

    /// A leader, its watch standing, right after it has won a Lease that was vacant.
    pub fn leading() -> Scenario {
        let mut scenario = Scenario::acquiring();
        scenario.serve();
        scenario.see();
        assert!(scenario.leads());
        scenario
    }

    /// A leader with a renewal in flight.
    pub fn renewing() -> Scenario {
        let mut scenario = Scenario::leading();
        scenario.run_until_call(scenario.timing().renew_interval());
        scenario.expect(CallKind::Renew);
        scenario
    }

    /// Asked to shut down while leading; the work has not stopped yet.
    pub fn stepping_down() -> Scenario {
        let mut scenario = Scenario::leading();
        scenario.input(Input::Shutdown);
        assert!(scenario.told_to_stop);
        scenario
    }

    /// Asked by an operator to hand over to this candidate; the work has not stopped yet.
    pub fn yielding(to: &str) -> Scenario {
        let mut scenario = Scenario::leading();
        scenario.edit(|lease| lease.annotations.yield_to = Some(to.into()));
        scenario.see();
        assert!(scenario.told_to_stop);
        scenario
    }

    /// A leader that has let its deadline pass; the work has not stopped yet.
    pub fn overdue() -> Scenario {
        let mut scenario = Scenario::leading();
        scenario.run(scenario.timing().renewal_deadline(), Network::Refuses);
        assert!(scenario.told_to_stop);
        scenario
    }

    /// A leader that has seen a rival hold its Lease; the work has not stopped yet.
    pub fn superseded() -> Scenario {
        let mut scenario = Scenario::leading();
        scenario.held_by(RIVAL);
        scenario.see();
        assert!(scenario.told_to_stop);
        scenario
    }

    /// Shutting down, with the release in flight.
    pub fn releasing() -> Scenario {
        let mut scenario = Scenario::stepping_down();
        scenario.work_stops();
        scenario.expect(CallKind::Release);
        scenario
    }

    /// Shut down.
    pub fn done() -> Scenario {
        let mut scenario = Scenario::releasing();
        scenario.serve();
        assert!(scenario.done);
        scenario
    }

    /// Every state by name.
    pub fn all() -> Vec<(&'static str, Scenario)> {
        vec![
            ("new", Scenario::new()),
            ("watching a holder", Scenario::watching(held(RIVAL, 15))),
            ("acquiring", Scenario::acquiring()),
            ("leading", Scenario::leading()),
            ("renewing", Scenario::renewing()),
            ("stepping down", Scenario::stepping_down()),
            ("yielding", Scenario::yielding("")),
            ("overdue", Scenario::overdue()),
            ("superseded", Scenario::superseded()),
            ("releasing", Scenario::releasing()),
            ("done", Scenario::done()),
        ]
    }
}

/// What the process does.
impl Scenario {
    pub fn timing(&self) -> Timing {
        Timing::default()
    }

    /// Gives the election one input and takes all that it asks for.
    pub fn input(&mut self, input: Input) {
        self.handle(input);
        self.check();
    }

    fn handle(&mut self, input: Input) {
        self.election.handle(self.now, input);
        loop {
            match self.election.poll() {
                Output::WaitUntil(wake) => break self.wake = wake,
                output => self.take(output),
            }
        }
    }

    fn take(&mut self, output: Output) {
        assert!(!self.done, "after Done came {output:?}");
        match output {
            Output::Call { call, request, purpose, limit } => {
                assert!(self.pending.is_none(), "{request:?} while {:?} is in flight", self.pending);
                let pending = Pending { number: call, request, purpose, limit, sent: self.now.boot };
                self.calls.push(pending.clone());
                self.pending = Some(pending);
            }
            Output::StartWork(term) => {
                assert_eq!(self.work, None, "work is started while work runs");
                (self.work, self.told_to_stop) = (Some(term.token), false);
                self.terms.push(term);
            }
            Output::StopWork(token) => {
                assert_eq!(self.work, Some(token), "work is stopped that does not run");
                assert!(!self.told_to_stop, "work is stopped twice");
                self.told_to_stop = true;
            }
            Output::Report(event) => self.events.push(event),
            Output::Done => self.done = true,
            Output::WaitUntil(_) => unreachable!("taken by the caller"),
        }
    }

    /// What must hold after any input.
    fn check(&self) {
        let now = self.now.boot;
        if let Some(term) = self.election.leading(now) {
            assert_eq!(self.work, Some(term.token), "leading without its work");
            assert!(!self.told_to_stop, "leading while the work is being stopped");
        }
        assert_eq!(self.election.validity().is_some(), self.work.is_some(), "work has a kill time, nothing else has");
        if let (Some(validity), Some(_)) = (self.election.validity(), self.election.leading(now)) {
            assert!(now < validity.valid_until && validity.valid_until < validity.kill_at);
        }
        assert!(!(self.done && self.work.is_some()), "done while work runs");
        self.check_wait_ends_in_progress();
    }

    /// A wait must end in an output, or in a wait for something later: else whoever drives it spins.
    fn check_wait_ends_in_progress(&self) {
        let Some(wake) = self.wake else { return };
        let (mut probe, at) = (self.election.clone(), wake.max(self.now.boot));
        probe.handle(Now { boot: at, ..self.now }, Input::Timer);
        if let Output::WaitUntil(Some(next)) = probe.poll() {
            assert!(next > at, "a timer at {at:?} changes nothing and asks for {next:?}: {:?}", self.election);
        }
    }

    /// Time passes, timers fire when they are due, and the network treats every call like this.
    pub fn run(&mut self, span: Duration, network: Network) {
        let end = self.now.boot + span;
        self.input(Input::Timer);
        self.settle(network);
        loop {
            let timeout =
                self.pending.as_ref().filter(|_| network != Network::Hangs).map(|call| call.sent + call.limit);
            let next = [timeout, self.wake].into_iter().flatten().min().filter(|at| *at <= end);
            let Some(at) = next else { break };
            self.pass(at.since(self.now.boot));
            if timeout == Some(at) {
                self.fail(CallFailure::Unknown { retry_after: None });
            } else {
                self.input(Input::Timer);
            }
            self.settle(network);
        }
        self.pass(end.since(self.now.boot));
        self.input(Input::Timer);
        self.settle(network);
    }

    /// Deals with the call in flight, as far as that takes no time.
    fn settle(&mut self, network: Network) {
        for _ in 0..100 {
            match (network, &self.pending) {
                (Network::Serves, Some(_)) => self.serve(),
                (Network::Refuses, Some(_)) => self.fail(CallFailure::Refused { retry_after: None }),
                _ => return,
            }
        }
        panic!("a hundred calls without time passing: {:?}", self.calls.last());
    }

    /// Time passes until the election makes a call, at most for this long.
    pub fn run_until_call(&mut self, most: Duration) {
        let end = self.now.boot + most;
        while self.pending.is_none() {
            let wake = self.wake.filter(|at| *at <= end).expect("it waits for something within that time");
            self.pass(wake.since(self.now.boot));
            self.input(Input::Timer);
        }
    }

    /// Time passes and nobody notices: no timer fires.
    pub fn pass(&mut self, span: Duration) {
        self.now.boot = self.now.boot + span;
        self.now.wall.0 += i64::try_from(span.as_micros()).unwrap();
    }

    /// The first look, answered.
    pub fn look(&mut self) {
        self.input(Input::Timer);
        self.expect(CallKind::Observe);
        self.serve();
    }

    pub fn work_stops(&mut self) {
        let token = self.work.expect("work runs");
        self.handle(Input::WorkStopped(token)); // it may ask to stop what has just stopped: both came at once
        self.work = None;
        self.check();
    }

    pub fn leads(&self) -> bool {
        self.election.leading(self.now.boot).is_some()
    }

    /// The call in flight, which must be of this kind.
    #[track_caller]
    pub fn expect(&self, purpose: CallKind) -> &Pending {
        let pending = self.pending.as_ref().unwrap_or_else(|| panic!("{purpose:?} expected, nothing is in flight"));
        assert_eq!(pending.purpose, purpose, "{pending:?}");
        pending
    }

    /// What the call in flight writes.
    #[track_caller]
    pub fn written(&self, purpose: CallKind) -> (Record, Annotations) {
        match &self.expect(purpose).request {
            LeaseRequest::Create(content) | LeaseRequest::Replace { content, .. } => {
                (content.record.clone(), content.annotations.clone())
            }
            LeaseRequest::Get => panic!("a look writes nothing"),
        }
    }

    /// Purpose the last term ended.
    pub fn ending(&self) -> Option<&Ending> {
        self.events.iter().rev().find_map(|event| match event {
            Event::StoppedLeading { why, .. } => Some(why),
            _ => None,
        })
    }

    pub fn reported(&self, event: &Event) -> usize {
        self.events.iter().filter(|reported| *reported == event).count()
    }

    pub fn calls_for(&self, purpose: CallKind) -> Vec<&Pending> {
        self.calls.iter().filter(|call| call.purpose == purpose).collect()
    }
}

/// What the API server and the network do.
impl Scenario {
    /// Applies the call in flight and answers it.
    pub fn serve(&mut self) {
        let request = self.pending.clone().expect("a call is in flight").request;
        let result = self.apply(&request);
        self.reply(result);
    }

    /// Applies and answers every call until none is in flight.
    pub fn serve_until_idle(&mut self) {
        self.settle(Network::Serves);
    }

    /// Answers the call in flight.
    pub fn reply(&mut self, result: Result<Answer, CallFailure>) {
        let call = self.pending.take().expect("a call is in flight").number;
        self.input(Input::Reply { call, result });
    }

    pub fn fail(&mut self, failure: CallFailure) {
        self.reply(Err(failure));
    }

    /// The reply to the call in flight is lost; it was not applied.
    pub fn lose(&mut self) {
        self.fail(CallFailure::Unknown { retry_after: None });
    }

    /// The call in flight is applied, and its reply is lost.
    pub fn apply_and_lose_reply(&mut self) {
        let request = self.pending.clone().expect("a call is in flight").request;
        self.apply(&request).expect("it is applied");
        self.lose();
    }

    /// Does what an API server does. Lease is create-on-update, but the uid that every write carries prevents that.
    pub fn apply(&mut self, request: &LeaseRequest) -> Result<Answer, CallFailure> {
        let content = match (request, &self.lease) {
            (LeaseRequest::Get, Some(lease)) => return Ok(Answer::Found(lease.clone())),
            (LeaseRequest::Get, None) => return Ok(Answer::Absent),
            (LeaseRequest::Create(content), None) => content,
            (LeaseRequest::Replace { version, content }, Some(lease)) if lease.version == *version => content,
            _ => return Err(CallFailure::Conflict),
        };
        let created = self.lease.is_none();
        self.put(content.record.clone(), content.annotations.clone());
        Ok(Answer::Written { lease: self.lease.clone().expect("just put"), created })
    }

    /// The Lease holds this now, whoever wrote it; it is made if there is none.
    pub fn put(&mut self, record: Record, mut annotations: Annotations) {
        if self.has_successor && record.holder.as_ref().is_some_and(|holder| *holder != self.name) {
            annotations.successor.get_or_insert_with(|| SUCCESSOR.into());
        }
        self.version += 1;
        let (version, made) = (self.version, &mut self.leases_made);
        let lease = self.lease.get_or_insert_with(|| {
            *made += 1;
            let uid = format!("uid-{made}");
            Snapshot { uid, version, record: record.clone(), annotations: annotations.clone(), coordinated: false }
        });
        (lease.version, lease.record, lease.annotations) = (version, record, annotations);
    }

    /// The Lease as another scenario left it.
    pub fn find(&mut self, lease: Snapshot) {
        self.version = lease.version;
        self.lease = Some(lease);
    }

    /// Somebody edits the Lease.
    pub fn edit(&mut self, change: impl FnOnce(&mut Snapshot)) {
        self.version += 1;
        let lease = self.lease.as_mut().expect("there is a Lease");
        lease.version = self.version;
        change(lease);
    }

    /// Somebody else has acquired the Lease, now.
    pub fn held_by(&mut self, name: &str) {
        let record = Record {
            acquire_time: Some(self.now.wall),
            renew_time: Some(self.now.wall),
            transitions: self.lease.as_ref().map_or(0, |lease| lease.record.transitions + 1),
            ..held(name, 15)
        };
        self.put(record, Annotations::default());
    }

    /// The holder, whoever it is, renews.
    pub fn holder_renews(&mut self) {
        let wall = self.now.wall;
        self.edit(|lease| lease.record.renew_time = Some(WallTime(wall.0 + 1)));
    }

    /// An operator deletes the Lease. Returns the version of the event.
    pub fn delete(&mut self) -> Version {
        self.version += 1;
        self.lease.take().expect("there is a Lease");
        self.version
    }

    /// An operator deletes the Lease and the watch delivers it.
    pub fn delete_seen(&mut self) {
        let version = self.delete();
        self.input(Input::Deleted(version));
    }

    /// The watch delivers the Lease as it is.
    pub fn see(&mut self) {
        let lease = self.lease.clone().expect("there is a Lease");
        self.input(Input::Seen(lease));
    }

    /// The version of the Lease as it is.
    pub fn version(&self) -> Version {
        self.lease.as_ref().expect("there is a Lease").version
    }

    /// Whom the candidate under test knows to be next in line.
    pub fn successor(&self) -> Option<&str> {
        self.election.lease().and_then(Snapshot::successor)
    }

    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref().and_then(|lease| lease.record.holder.as_deref())
    }
}

/// A record of this holder, with this duration, of some time ago.
pub fn held(name: &str, seconds: u32) -> Record {
    Record {
        holder: Some(name.into()),
        lease_duration_seconds: Some(seconds),
        acquire_time: Some(WallTime(EPOCH.0 - 500_000_000)),
        renew_time: Some(WallTime(EPOCH.0 - 3_000_000)),
        transitions: 4,
    }
}

/// A record as a release leaves it.
pub fn vacant() -> Record {
    Record { holder: None, lease_duration_seconds: Some(1), ..held("", 1) }
}
