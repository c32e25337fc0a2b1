//! The small world: two candidates, one Lease, and what must hold whatever happens in it.
//!
//! PURE. The checks share no code with the election: they follow what each candidate was told.

use std::cmp::Ordering;
use std::time::Duration;

use leasehold::election::{
    Annotations, Answer, CallFailure, CallKind, Election, Identity, Input, LeaseRequest, Mutant, Output, Snapshot,
    Timing, Version,
};
use leasehold::time::{BootTime, Now, WallTime};

pub const TICK: Duration = Duration::from_millis(500);
/// How fast each candidate's clock runs, in tenths. Less than LEASE_DURATION / kill_after apart, which is 8/7.
const RATE_TENTHS: [u64; 2] = [10, 11];
const START: BootTime = BootTime(1_000_000_000_000);
const EPOCH: i64 = 1_795_359_845_000_000;

/// Something that can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A timer that is due fires.
    Timer(usize),
    /// The call in flight is applied; its answer is on the way.
    Apply(usize),
    /// That answer arrives.
    Reply(usize),
    /// The wait for an answer ends without one. If the call has not been applied yet, it may be, later.
    Lose(usize),
    /// The call in flight is applied, and the request arrives once more, later.
    ApplyTwice(usize),
    /// A request that nobody waits for any more is applied.
    ApplyLate(usize),
    /// The watch delivers the latest there is.
    See(usize),
    /// Work that was told to stop, or was killed, has ended.
    WorkStops(usize),
    /// The process dies, its work with it, and starts again: the same container, or another one.
    Crash(usize, bool),
    Shutdown(usize),
    /// An operator deletes the Lease.
    Delete,
    /// An operator asks the leader to hand over.
    Yield,
    /// Time passes.
    Tick,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub tick: u8,
    pub faults: u8,
    pub lease: Option<Snapshot>,
    version: Version,
    leases_made: u8,
    pub nodes: [Node; 2],
    /// Requests that nobody waits for any more.
    pub late: Vec<LeaseRequest>,
    /// Whether the Lease may be deleted.
    deletions: bool,
    /// The Lease and the token of every term begun.
    terms: Vec<(String, Version)>,
    /// Whether the last action began a term.
    pub term_began: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    election: Election,
    incarnation: String,
    pub wake: Option<BootTime>,
    pub call: Option<InFlight>,
    pub work: Option<Work>,
    /// Told to shut down.
    pub leaving: bool,
    pub done: bool,
    told: Option<Told>,
    /// Records that vanished without a release: no acquisition before.
    owed_until: BootTime,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InFlight {
    number: u64,
    request: LeaseRequest,
    pub answer: Option<Result<Answer, CallFailure>>,
    /// What the API server's version was then.
    answered_at: Version,
}

impl InFlight {
    pub fn is_write(&self) -> bool {
        self.request != LeaseRequest::Get
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Work {
    token: Version,
    lease_uid: String,
    pub told_to_stop: bool,
    /// Killed in time, if nothing else ended it; its end has not been reported yet.
    pub killed: bool,
}

/// The newest Lease that a candidate was told of, and since when it knows this record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Told {
    lease: Option<Snapshot>,
    version: Version,
    since: BootTime,
}

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Cast {
    pub names: [&'static str; 2],
    pub lease_seconds: [u64; 2],
    /// Whether an operator may delete the Lease.
    pub deletions: bool,
}

impl Cast {
    fn election(&self, node: usize, incarnation: &str, mistake: Option<Mutant>) -> Election {
        let identity = Identity { name: self.names[node].into(), incarnation: incarnation.into(), revision: None };
        let lease = Duration::from_secs(self.lease_seconds[node]);
        let timing = Timing::new(lease, lease * 3 / 4, lease / 4, None).expect("they fit");
        Election::new(identity, timing, 0).with_mistake(mistake)
    }
}

impl World {
    pub fn new(cast: &Cast, faults: u8, mistake: Option<Mutant>) -> World {
        let node = |node: usize| {
            let incarnation = format!("life-{node}");
            Node {
                election: cast.election(node, &incarnation, mistake),
                incarnation,
                wake: Some(START),
                call: None,
                work: None,
                leaving: false,
                done: false,
                told: None,
                owed_until: START,
            }
        };
        World {
            tick: 0,
            faults,
            lease: None,
            version: 10,
            leases_made: 0,
            nodes: [node(0), node(1)],
            late: Vec::new(),
            deletions: cast.deletions,
            terms: Vec::new(),
            term_began: false,
        }
    }

    pub fn clock(&self, node: usize) -> BootTime {
        START + TICK * u32::from(self.tick) * u32::try_from(RATE_TENTHS[node]).expect("small") / 10
    }

    /// One wall clock follows time; the other stands still, an hour behind.
    fn now(&self, node: usize) -> Now {
        let wall = [EPOCH + i64::from(self.tick) * 500_000, EPOCH - 3_600_000_000][node];
        Now { boot: self.clock(node), wall: WallTime(wall) }
    }

    pub fn leads(&self, node: usize) -> bool {
        self.nodes[node].election.leading(self.clock(node)).is_some()
    }

    pub fn timer_is_due(&self, node: usize) -> bool {
        self.nodes[node].wake.is_some_and(|wake| wake <= self.clock(node))
    }

    pub fn has_news_for(&self, node: usize) -> bool {
        let Some(told) = &self.nodes[node].told else { return false };
        told.version < self.version && told.lease != self.lease
    }

    /// Whether something is outstanding that could happen now.
    pub fn is_delayed(&self, node: usize) -> bool {
        let waiting = self.nodes[node].work.as_ref().is_some_and(|work| work.told_to_stop || work.killed);
        self.nodes[node].call.is_some() || waiting || self.timer_is_due(node)
    }

    /// Lets it happen. `Err`: what does not hold any more.
    pub fn act(&mut self, action: Action, cast: &Cast, mistake: Option<Mutant>) -> Result<(), String> {
        self.term_began = false;
        match action {
            Action::Timer(node) => self.input(node, Input::Timer)?,
            Action::ApplyTwice(node) => {
                self.late.push(self.nodes[node].call.as_ref().expect("in flight").request.clone());
                self.apply_call(node);
            }
            Action::Apply(node) => self.apply_call(node),
            Action::Reply(node) => self.reply(node)?,
            Action::Lose(node) => {
                self.abandon_call(node);
                self.nodes[node].call.as_mut().expect("in flight").answer =
                    Some(Err(CallFailure::Unknown { retry_after: None }));
                self.reply(node)?;
            }
            Action::ApplyLate(index) => {
                let request = self.late.remove(index);
                let _ = self.apply(&request);
            }
            Action::See(node) => {
                let input = match self.lease.clone() {
                    Some(lease) => {
                        self.tell(node, Some(lease.clone()), lease.version);
                        Input::Seen(lease)
                    }
                    None => {
                        self.tell(node, None, self.version);
                        Input::Deleted(self.version)
                    }
                };
                self.input(node, input)?;
            }
            Action::WorkStops(node) => {
                let token = self.nodes[node].work.take().expect("work runs").token;
                self.input(node, Input::WorkStopped(token))?;
            }
            Action::Crash(node, same_container) => self.restart(node, same_container, cast, mistake),
            Action::Shutdown(node) => {
                self.nodes[node].leaving = true;
                self.input(node, Input::Shutdown)?;
            }
            Action::Delete => {
                self.version += 1;
                self.lease = None;
            }
            Action::Yield => {
                self.version += 1;
                let lease = self.lease.as_mut().expect("there is a Lease");
                lease.version = self.version;
                lease.annotations.yield_to = Some(String::new());
            }
            Action::Tick => self.pass(),
        }
        self.forget_what_can_no_longer_apply();
        self.check()
    }

    /// Versions only rise: a replacement of an older one can do nothing any more. (A creation can, after a deletion.)
    fn forget_what_can_no_longer_apply(&mut self) {
        let current = self.lease.as_ref().map(|lease| lease.version);
        self.late.retain(|request| match request {
            LeaseRequest::Replace { version, .. } => Some(*version) == current,
            LeaseRequest::Create(_) => current.is_none() || self.deletions,
            LeaseRequest::Get => false,
        });
    }

    fn pass(&mut self) {
        self.tick += 1;
        for node in 0..2 {
            let due = self.nodes[node].election.validity().is_some_and(|validity| validity.kill_at <= self.clock(node));
            if let Some(work) = self.nodes[node].work.as_mut().filter(|_| due) {
                work.killed = true; // an alarm on the boot clock, which depends on nothing else
            }
        }
    }

    fn restart(&mut self, node: usize, same_container: bool, cast: &Cast, mistake: Option<Mutant>) {
        self.abandon_call(node);
        let mut incarnation = self.nodes[node].incarnation.clone();
        if !same_container {
            incarnation.push('\'');
        }
        self.nodes[node] = Node {
            election: cast.election(node, &incarnation, mistake),
            incarnation,
            wake: Some(self.clock(node)),
            call: None,
            work: None,
            leaving: false,
            done: false,
            told: None,
            owed_until: START,
        };
    }

    /// Nobody waits for it any more; if it has not been applied yet, it may still be.
    fn abandon_call(&mut self, node: usize) {
        let unapplied = self.nodes[node].call.as_ref().filter(|call| call.answer.is_none());
        let write = unapplied.map(|call| call.request.clone()).filter(|request| *request != LeaseRequest::Get);
        self.late.extend(write);
    }

    fn apply_call(&mut self, node: usize) {
        let request = self.nodes[node].call.as_ref().expect("in flight").request.clone();
        let answer = self.apply(&request);
        let version = self.version;
        let call = self.nodes[node].call.as_mut().expect("in flight");
        (call.answer, call.answered_at) = (Some(answer), version);
    }

    /// What the API server does, which compares versions and uids and nothing else.
    fn apply(&mut self, request: &LeaseRequest) -> Result<Answer, CallFailure> {
        let content = match (request, &self.lease) {
            (LeaseRequest::Get, Some(lease)) => return Ok(Answer::Found(lease.clone())),
            (LeaseRequest::Get, None) => return Ok(Answer::Absent),
            (LeaseRequest::Create(content), None) => content,
            (LeaseRequest::Replace { version, content }, Some(lease)) if lease.version == *version => content,
            _ => return Err(CallFailure::Conflict),
        };
        let created = self.lease.is_none();
        self.version += 1;
        self.leases_made += u8::from(created);
        let uid = match &self.lease {
            Some(lease) => lease.uid.clone(),
            None => format!("uid-{}", self.leases_made),
        };
        let (record, annotations) = (content.record.clone(), content.annotations.clone());
        let lease = Snapshot { uid, version: self.version, record, annotations, coordinated: false };
        self.lease = Some(lease.clone());
        Ok(Answer::Written { lease, created })
    }

    fn reply(&mut self, node: usize) -> Result<(), String> {
        let call = self.nodes[node].call.take().expect("in flight");
        let result = call.answer.expect("answered");
        match &result {
            Ok(Answer::Found(lease) | Answer::Written { lease, .. }) => {
                self.tell(node, Some(lease.clone()), lease.version);
            }
            Ok(Answer::Absent) => self.tell(node, None, call.answered_at),
            Err(_) => {}
        }
        self.input(node, Input::Reply { call: call.number, result })
    }

    /// Notes what a candidate knows from now on.
    fn tell(&mut self, node: usize, lease: Option<Snapshot>, version: Version) {
        let since = self.clock(node);
        let before = self.nodes[node].told.take();
        if before.as_ref().is_some_and(|before| before.version >= version) {
            self.nodes[node].told = before;
            return;
        }
        let mut told = Told { lease, version, since };
        if let Some(before) = before {
            let same_lease =
                before.lease.as_ref().map(|lease| &lease.uid) == told.lease.as_ref().map(|lease| &lease.uid);
            if !same_lease {
                let owed = self.nodes[node].expiry_of(&before);
                self.nodes[node].owed_until = self.nodes[node].owed_until.max(owed);
            } else if before.lease.map(|lease| lease.record) == told.lease.as_ref().map(|lease| lease.record.clone()) {
                told.since = before.since;
            }
        }
        self.nodes[node].told = Some(told);
    }

    fn input(&mut self, node: usize, input: Input) -> Result<(), String> {
        let now = self.now(node);
        self.nodes[node].election.handle(now, input);
        loop {
            match self.nodes[node].election.poll() {
                Output::WaitUntil(wake) => break self.nodes[node].wake = wake,
                Output::Call { call, request, purpose, .. } => self.send(node, call, request, purpose)?,
                Output::StartWork(term) => {
                    // Of two Leases the younger one's tokens are greater, whichever the news comes from first.
                    let fence = (term.lease_uid.clone(), term.token);
                    let in_order = |earlier: &(String, Version)| match earlier.0.cmp(&fence.0) {
                        Ordering::Equal | Ordering::Less => earlier.1 < fence.1,
                        Ordering::Greater => earlier.1 > fence.1,
                    };
                    if !self.terms.iter().all(in_order) {
                        return Err(format!("token {} after {:?}", term.token, self.terms));
                    }
                    self.terms.push(fence);
                    self.terms.sort();
                    self.term_began = true;
                    let work =
                        Work { token: term.token, lease_uid: term.lease_uid, told_to_stop: false, killed: false };
                    self.nodes[node].work = Some(work);
                }
                Output::StopWork(_) => {
                    self.nodes[node].work.iter_mut().for_each(|work| work.told_to_stop = true);
                }
                Output::Report(_) => {}
                Output::Done => self.nodes[node].done = true,
            }
        }
        self.nodes[node].election.forget_history(now.boot);
        self.nodes[node].call.iter_mut().for_each(|call| call.number = 1);
        Ok(())
    }

    /// No write without a basis.
    fn send(&mut self, node: usize, number: u64, request: LeaseRequest, purpose: CallKind) -> Result<(), String> {
        let clock = self.clock(node);
        let this = &mut self.nodes[node];
        let work_runs = this.work.as_ref().is_some_and(|work| !work.killed);
        match purpose {
            CallKind::Acquire => {
                let free_at = this.told.as_ref().map_or(BootTime(u64::MAX), |told| this.expiry_of(told));
                if clock < free_at.max(this.owed_until) {
                    return Err("a candidate acquires before the holder it knows of has expired".into());
                }
            }
            CallKind::Release if work_runs => return Err("a release while the work runs".into()),
            CallKind::Release
                if self.lease.as_ref().is_some_and(|lease| replaces(&request, lease) && !this.is_own(lease)) =>
            {
                return Err("a release of what is another's".into());
            }
            CallKind::Renew if this.work.is_none() => return Err("a renewal without a term".into()),
            CallKind::Announce
                if self
                    .lease
                    .as_ref()
                    .is_some_and(|lease| replaces(&request, lease) && changes_record(&request, lease)) =>
            {
                return Err("an announcement that changes the record".into());
            }
            CallKind::Observe | CallKind::Renew | CallKind::Release | CallKind::Announce => {}
        }
        this.call = Some(InFlight { number, request, answer: None, answered_at: 0 });
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let [a, b] = &self.nodes;
        // A deletion by hand speaks for the holder: until the leader sees it, a newcomer may lead on the next Lease.
        let one_lease = |a: &Work, b: &Work| a.lease_uid == b.lease_uid;
        if let (Some(of_a), Some(of_b)) = (&a.work, &b.work)
            && one_lease(of_a, of_b)
        {
            if self.leads(0) && self.leads(1) {
                return Err("two leaders".into());
            }
            if !of_a.killed && !of_b.killed {
                return Err("the work of two".into());
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if self.leads(index) && node.work.as_ref().is_none_or(|work| work.killed || work.told_to_stop) {
                return Err("leading without work".into());
            }
            if !node.done && node.wake.is_none() && node.call.is_none() && node.work.is_none() {
                return Err("a candidate that waits for nothing".into());
            }
        }
        Ok(())
    }

    /// One line: the Lease, and what each candidate is about.
    pub fn summary(&self) -> String {
        let lease =
            self.lease.as_ref().map(|lease| (lease.version, &lease.record.holder, &lease.annotations.incarnation));
        let node = |index: usize| {
            let node = &self.nodes[index];
            let call = node.call.as_ref().map(|call| match &call.request {
                LeaseRequest::Get => "get".into(),
                LeaseRequest::Create(content) => format!("create for {:?}", content.record.holder),
                LeaseRequest::Replace { version, content } => {
                    format!("replace {version} for {:?}", content.record.holder)
                }
            });
            let at = self.clock(index).since(START);
            format!("{at:?} leads: {}, calls: {call:?}, work: {:?}", self.leads(index), node.work)
        };
        format!("lease {lease:?}\n    0: {}\n    1: {}", node(0), node(1))
    }

    /// How many ticks until somebody leads, if from now on all goes well; `None`: nobody does within reason.
    pub fn heals_within(mut self, cast: &Cast, mistake: Option<Mutant>, most: u8) -> Result<Option<u8>, String> {
        for ticks in 0..=most {
            for _ in 0..16 {
                for node in 0..2 {
                    if self.timer_is_due(node) {
                        self.act(Action::Timer(node), cast, mistake)?;
                    }
                    let action = match &self.nodes[node] {
                        Node { call: Some(call), .. } if call.answer.is_some() => Some(Action::Reply(node)),
                        Node { call: Some(_), .. } => Some(Action::Apply(node)),
                        Node { work: Some(work), .. } if work.told_to_stop || work.killed => {
                            Some(Action::WorkStops(node))
                        }
                        _ => None,
                    };
                    action.map_or(Ok(()), |action| self.act(action, cast, mistake))?;
                }
            }
            if self.leads(0) || self.leads(1) {
                return Ok(Some(ticks));
            }
            self.act(Action::Tick, cast, mistake)?;
        }
        Ok(None)
    }
}

/// Whether it would be a sign of life.
fn changes_record(request: &LeaseRequest, lease: &Snapshot) -> bool {
    matches!(request, LeaseRequest::Replace { content, .. } if content.record != lease.record)
}

/// Whether the API server would apply it.
fn replaces(request: &LeaseRequest, lease: &Snapshot) -> bool {
    matches!(request, LeaseRequest::Replace { version, .. } if *version == lease.version)
}

impl Node {
    fn is_own(&self, lease: &Snapshot) -> bool {
        let mark = |annotations: &Annotations| {
            annotations.incarnation.as_ref().is_some_and(|mark| mark.starts_with(&format!("{} ", self.incarnation)))
        };
        lease.record.holder.is_some() && mark(&lease.annotations)
    }

    /// When whoever holds what this candidate was told of can no longer lead, by this candidate's clock.
    fn expiry_of(&self, told: &Told) -> BootTime {
        let held = told.lease.as_ref().filter(|lease| lease.record.holder.is_some() && !self.is_own(lease));
        held.map_or(START, |lease| {
            told.since + Duration::from_secs(lease.record.lease_duration_seconds.expect("stated").into())
        })
    }
}
