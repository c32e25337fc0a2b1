//! A node: one machine with one pod, its processes one after the other, and the work.
//!
//! PURE. It drives the election exactly as the driver does: one input, then all outputs, then wait. What the driver
//! does beside it (calls, watch, kill timer) is modelled here and in `network`.

use std::collections::VecDeque;

use leasehold::election::{Election, Event as Report, Identity, Input, Output, Validity};
use leasehold::kube::Fence;
use leasehold::program::routing;
use leasehold::time::BootTime;

use crate::api::Api;
use crate::checks::{Lead, Writer};
use crate::clock::{Clock, MILLI, Real, SECOND};
use crate::network::Stream;
use crate::parameters::{AnyMutant, KILL_LATENCY, NodeMistake, NodeParameters};
use crate::routes::{self, Route};
use crate::world::{Event, Stimulus, World};

pub struct Node<A: Api> {
    pub clock: Clock,
    pub watches: bool,
    /// Lives so far; the present one's number is one less.
    lives: usize,
    pub life: usize,
    pub incarnation: String,
    pub process: Option<Process<A>>,
    pub work: Option<Work>,
    works: u64,
    /// Armed by the process, fired by the kernel, whatever the process does.
    kill_at: Option<BootTime>,
    kill_armed: Option<Real>,
    pub nap: Option<Nap>,
    naps: u64,
    generation: u64,
    /// Cut off, by partition number: towards the API server, from it.
    pub deaf: Option<u64>,
    pub mute: Option<u64>,
    pub partitions: u64,
}

pub struct Process<A: Api> {
    pub election: Election,
    pub client: A::Client,
    inbox: VecDeque<Stimulus<A>>,
    backlog: VecDeque<Todo>,
    /// The call under way.
    pub awaits: Option<u64>,
    /// The watch as the API server's end knows it.
    pub stream: Option<Stream<A>>,
    /// The watch as this end knows it.
    pub watching: Option<u64>,
    pub streams: u64,
    pub route: Option<Route<A>>,
}

/// What the process has yet to do of what the election asked for; it can be paused between any two.
#[expect(clippy::large_enum_variant, reason = "few exist at a time, and a box would only add noise to a test")]
enum Todo {
    ArmKillTimer(Option<Validity>),
    Output(Output),
}

pub struct Work {
    number: u64,
    pub token: u128,
    told_to_stop: bool,
}

/// A stop of the process, in which clocks run on.
#[derive(Clone, Copy)]
pub struct Nap {
    number: u64,
    pub until: Real,
    /// The whole machine sleeps: the work too, and the kernel's timers.
    machine: bool,
}

impl<A: Api> Node<A> {
    pub fn new(parameters: &NodeParameters, stands_still: bool) -> Node<A> {
        let NodeParameters { rate, boot_offset, wall_offset_micros, watches, .. } = *parameters;
        Node {
            clock: Clock::new(rate, boot_offset, wall_offset_micros, stands_still),
            watches,
            lives: 0,
            life: usize::MAX,
            incarnation: String::new(),
            process: None,
            work: None,
            works: 0,
            kill_at: None,
            kill_armed: None,
            nap: None,
            naps: 0,
            generation: 0,
            deaf: None,
            mute: None,
            partitions: 0,
        }
    }

    pub fn next_life(&self) -> usize {
        self.lives
    }

    pub fn work_number(&self) -> Option<u64> {
        self.work.as_ref().map(|work| work.number)
    }

    pub fn leading(&self, now: Real) -> Option<u128> {
        let election = &self.process.as_ref()?.election;
        election.leading(self.clock.boot(now)).map(|term| term.token)
    }
}

impl<A: Api> World<A> {
    /// Starts a process; in life 0 or after a crash of the same pod, perhaps, under the incarnation it had.
    pub fn start(&mut self, node: usize, life: usize) {
        if self.closing || self.nodes[node].lives != life || self.nodes[node].process.is_some() {
            return;
        }
        let same_pod = life > 0 && self.random.chance(400);
        let mistake = match self.mutant {
            Some(AnyMutant::Election(mistake)) => Some(mistake),
            _ => None,
        };
        let seed = self.random.next();
        let parameters = &self.parameters.nodes[node];
        let (name, timing) = (parameters.name.clone(), parameters.timing);
        let route = self.parameters.routes.then(|| Route::new(routes::value(node), timing.retry_period(), mistake));
        let process = &mut self.nodes[node];
        if !same_pod {
            // Of twins, each owns "the" socket of its own sandbox. So the incarnation names the sandbox, or they would be one.
            process.incarnation = format!("{node}.{life}");
            if self.mutant == Some(AnyMutant::Node(NodeMistake::IncarnationWithoutNamespace)) {
                process.incarnation.clone_from(&name);
            }
        }
        process.life = life;
        process.lives = life + 1;
        let identity = Identity { name, incarnation: process.incarnation.clone(), revision: None };
        process.process = Some(Process {
            election: Election::new(identity, timing, seed).with_mistake(mistake),
            client: A::client(mistake),
            inbox: VecDeque::new(),
            backlog: VecDeque::new(),
            awaits: None,
            stream: None,
            watching: None,
            streams: 0,
            route,
        });
        self.checks.born(node, &self.nodes[node].incarnation);
        self.note(|world| format!("node {node} starts, incarnation {}", world.nodes[node].incarnation));
        self.count("started");
        if self.nodes[node].watches {
            self.schedule(MILLI, Event::ConnectWatch { node, life });
        }
        self.handle(node, Input::Timer);
        if self.parameters.routes {
            let watches = self.nodes[node].watches;
            self.tell_route(node, routing::RouteInput::Watching(watches));
        }
    }

    /// The process dies, and its work with it: the kernel sees to that.
    pub fn crash(&mut self, node: usize) {
        self.note(|_| format!("node {node} dies"));
        self.checks.died(node);
        let dead = &mut self.nodes[node];
        dead.process = None;
        dead.work = None;
        dead.kill_at = None;
        if dead.nap.take().is_some_and(|nap| nap.machine) {
            dead.clock.resume(self.now);
        }
    }

    pub fn wake(&mut self, node: usize, generation: u64) {
        if self.nodes[node].generation == generation && self.nodes[node].nap.is_none() {
            self.handle(node, Input::Timer);
        }
    }

    pub fn deliver(&mut self, node: usize, stimulus: Stimulus<A>) {
        let napping = self.nodes[node].nap.is_some();
        let Some(process) = &mut self.nodes[node].process else { return };
        if napping || !process.backlog.is_empty() {
            process.inbox.push_back(stimulus);
        } else if let Some(input) = self.understand(node, stimulus) {
            self.handle(node, input);
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let now = self.nodes[node].clock.now(self.now);
        let traced = self.traced();
        let Some(process) = &mut self.nodes[node].process else { return };
        let said = traced.then(|| input.clone());
        process.election.handle(now, input);
        let validity = process.election.validity();
        process.backlog.push_back(Todo::ArmKillTimer(validity));
        loop {
            match process.election.poll() {
                Output::WaitUntil(_) => break,
                output => process.backlog.push_back(Todo::Output(output)),
            }
        }
        let lead = process.election.leading(now.boot).map(|term| Lead {
            token: term.token,
            until: validity.map_or(BootTime(u64::MAX), |validity| validity.valid_until),
        });
        if !matches!(said, Some(Input::Timer)) {
            self.note(|_| format!("node {node} at {} takes {said:?}, then leads: {lead:?}", now.boot.0));
        }
        self.check_leading(node, lead);
        let clocks = self.clocks();
        self.checks.handled(node, lead, validity, &clocks);
        self.work_through(node);
    }

    /// What `leading` says of any instant follows from one answer and the end of the validity.
    fn check_leading(&mut self, node: usize, lead: Option<Lead>) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(Lead { token, until }) = lead else { return };
        let at = |boot: BootTime| process.election.leading(boot).map(|term| term.token);
        if at(BootTime(until.0 - 1)) != Some(token) || at(until).is_some() {
            self.checks.contradiction(node, "`leading` and `validity` contradict each other");
        }
    }

    fn work_through(&mut self, node: usize) {
        loop {
            let pause = !self.calm() && self.random.within(0..=9_999) < self.parameters.step_pause;
            let Some(process) = &mut self.nodes[node].process else { return };
            if process.backlog.is_empty() {
                break;
            }
            if pause {
                let longest = self.parameters.longest(|timing| timing.lease_duration() * 2);
                let nap = self.random.magnitude(MILLI..=longest);
                self.count("paused between two steps");
                return self.pause(node, nap, false);
            }
            match process.backlog.pop_front() {
                Some(Todo::ArmKillTimer(validity)) => self.arm_kill_timer(node, validity),
                Some(Todo::Output(output)) => self.execute(node, output),
                None => break,
            }
        }
        self.set_alarm(node);
    }

    fn set_alarm(&mut self, node: usize) {
        let early = !self.calm() && self.random.chance(20);
        let late = if self.calm() { 0 } else { self.random.magnitude(1..=2 * MILLI) };
        let sleeper = &mut self.nodes[node];
        let Some(process) = &mut sleeper.process else { return };
        sleeper.generation += 1;
        if let Output::WaitUntil(Some(at)) = process.election.poll() {
            let at = sleeper.clock.real_at(at).max(self.now);
            let at = if early { self.now.midpoint(at) } else { at.saturating_add(late) };
            let generation = sleeper.generation;
            self.schedule_at(at, Event::Wake { node, generation });
        }
    }

    fn execute(&mut self, node: usize, output: Output) {
        if !matches!(output, Output::Report(Report::Renewed)) {
            self.note(|_| format!("node {node} asks for {output:?}"));
        }
        match output {
            Output::Call { call, request, purpose, limit } => self.call(node, call, &request, purpose, limit),
            Output::StartWork(term) => {
                self.start_work(node, term.token);
                if self.parameters.routes {
                    self.tell_route(node, routing::RouteInput::Lead(Fence::of(&term)));
                }
            }
            Output::StopWork(token) => {
                self.stop_work(node, token);
                if self.parameters.routes {
                    self.tell_route(node, routing::RouteInput::Lost);
                }
            }
            Output::Report(report) => self.report(node, &report),
            Output::WaitUntil(_) => {}
            Output::Done => {
                self.checks.settled(node);
                self.count("done");
                let ended = &mut self.nodes[node];
                ended.process = None;
                let life = ended.lives;
                if !self.closing {
                    let after = self.random.within(0..=SECOND);
                    self.schedule(after, Event::Start { node, life });
                }
            }
        }
    }

    fn report(&mut self, node: usize, report: &Report) {
        match report {
            Report::StoppedLeading { token, why } => {
                self.checks.stop_reported(node, *token);
                self.count(crate::seen::ending(why));
            }
            other => self.count(crate::seen::report(other)),
        }
    }

    fn start_work(&mut self, node: usize, token: u128) {
        self.checks.term_started(node, token);
        let holds = self.nodes[node].leading(self.now) == Some(token);
        if !holds && !self.has_mistake(NodeMistake::StartsUnasked) {
            self.count("work not started: the term was over");
            return self.work_is_over(node, token);
        }
        let clocks = self.clocks();
        self.checks.work_started(node, token, &clocks);
        let worker = &mut self.nodes[node];
        worker.works += 1;
        worker.work = Some(Work { number: worker.works, token, told_to_stop: false });
        worker.kill_armed = None;
        self.watch_over_work(node);
    }

    fn stop_work(&mut self, node: usize, token: u128) {
        let Some(work) = self.nodes[node].work.as_mut().filter(|work| work.token == token) else { return };
        work.told_to_stop = true;
        let work = work.number;
        let longest = self.parameters.longest(|timing| timing.lease_duration() / 2);
        let takes = match self.random.below(4) {
            _ if self.calm() => self.random.within(0..=100 * MILLI),
            0 => 0,
            1 => longest * 100, // it ignores the signal
            _ => self.random.magnitude(MILLI..=longest),
        };
        if self.has_mistake(NodeMistake::StoppedWhenTold) {
            self.work_is_over(node, token);
        }
        self.schedule(takes, Event::WorkEnds { node, work });
    }

    pub fn work_ends(&mut self, node: usize, work: u64) {
        match self.nodes[node].nap.filter(|nap| nap.machine) {
            Some(nap) => self.schedule_at(nap.until + 1, Event::WorkEnds { node, work }),
            None => self.work_dies(node, work),
        }
    }

    pub fn work_dies(&mut self, node: usize, number: u64) {
        let Some(work) = self.nodes[node].work.take_if(|work| work.number == number) else { return };
        self.note(|_| format!("node {node}'s work of term {} is dead", work.token));
        self.checks.work_ended(node);
        if !(work.told_to_stop && self.has_mistake(NodeMistake::StoppedWhenTold)) {
            self.work_is_over(node, work.token);
        }
    }

    fn work_is_over(&mut self, node: usize, token: u128) {
        self.checks.stop_told(node, token);
        let life = self.nodes[node].life;
        let stimulus = Stimulus::Input(Input::WorkStopped(token));
        self.schedule(0, Event::Deliver { node, life, stimulus });
    }

    fn arm_kill_timer(&mut self, node: usize, validity: Option<Validity>) {
        match validity {
            Some(validity) => self.nodes[node].kill_at = Some(validity.kill_at),
            None if self.nodes[node].work.is_some() => self.checks.work_without_limit(node),
            None => {}
        }
        self.watch_over_work(node);
    }

    fn watch_over_work(&mut self, node: usize) {
        let worker = &mut self.nodes[node];
        let (Some(work), Some(kill_at)) = (&worker.work, worker.kill_at) else { return };
        let due = worker.clock.real_at(kill_at);
        if worker.kill_armed.is_none_or(|armed| due < armed) {
            worker.kill_armed = Some(due);
            let work = work.number;
            self.schedule_at(due, Event::KillDue { node, work });
        }
    }

    /// The kill timer is the kernel's: a paused process does not stop it, a suspended machine does.
    pub fn kill_due(&mut self, node: usize, number: u64) {
        let asleep = self.nodes[node].nap.is_some_and(|nap| nap.machine);
        let worker = &mut self.nodes[node];
        let alive = worker.work.as_ref().is_some_and(|work| work.number == number);
        if !alive || asleep || self.mutant == Some(AnyMutant::Node(NodeMistake::NoKillTimer)) {
            return;
        }
        worker.kill_armed = None;
        if worker.kill_at.is_some_and(|at| at <= worker.clock.boot(self.now)) {
            let latency = self.random.within(0..=KILL_LATENCY);
            self.count("work killed");
            self.schedule(latency, Event::WorkDies { node, work: number });
        } else {
            self.watch_over_work(node);
        }
    }

    pub fn pause(&mut self, node: usize, lasting: Real, machine: bool) {
        let sleeper = &mut self.nodes[node];
        if sleeper.nap.is_some() || sleeper.process.is_none() {
            return;
        }
        sleeper.naps += 1;
        let nap = Nap { number: sleeper.naps, until: self.now + lasting, machine };
        sleeper.nap = Some(nap);
        if machine {
            sleeper.clock.suspend(self.now);
            if sleeper.work.is_some() {
                self.checks.work_ended(node); // Asleep it does nothing; on waking it is looked at again.
            }
        }
        let what = if machine { "is suspended" } else { "is paused" };
        self.note(|_| format!("node {node} {what} for {:.3} s", lasting as f64 / SECOND as f64));
        self.schedule(lasting, Event::Resume { node, nap: nap.number });
    }

    pub fn resume(&mut self, node: usize, number: u64) {
        let Some(nap) = self.nodes[node].nap.take_if(|nap| nap.number == number) else { return };
        self.note(|_| format!("node {node} runs again"));
        if nap.machine {
            self.machine_wakes(node);
        }
        self.work_through(node);
        while self.nodes[node].nap.is_none()
            && let Some(stimulus) = self.nodes[node].process.as_mut().and_then(|process| process.inbox.pop_front())
        {
            if let Some(input) = self.understand(node, stimulus) {
                self.handle(node, input);
            }
        }
        if self.nodes[node].nap.is_none() {
            self.handle(node, Input::Timer);
        }
        self.thaw_route(node);
    }

    /// Wakes every sleeper: the faults are over.
    pub fn wake_all(&mut self) {
        for node in 0..self.nodes.len() {
            if let Some(nap) = self.nodes[node].nap {
                self.resume(node, nap.number);
            }
        }
    }

    fn machine_wakes(&mut self, node: usize) {
        let worker = &mut self.nodes[node];
        worker.clock.resume(self.now);
        worker.kill_armed = None;
        let Some((number, token)) = worker.work.as_ref().map(|work| (work.number, work.token)) else { return };
        if worker.kill_at.is_some_and(|at| at <= worker.clock.boot(self.now)) {
            self.count("work killed on waking");
            self.work_dies(node, number);
        } else {
            self.checks.work_woke(node, token);
            self.watch_over_work(node);
        }
    }

    /// A clock's rate has changed: what waits for an instant on it waits anew.
    pub fn rearm(&mut self, node: usize) {
        self.nodes[node].kill_armed = None;
        self.watch_over_work(node);
        if self.nodes[node].nap.is_none() {
            self.set_alarm(node);
        }
    }

    pub fn writer(&self, node: usize, life: usize, sent: BootTime) -> Writer {
        Writer::Node { node, life, sent }
    }
}
