//! The event queue, and what the rest of the simulator has in common.
//!
//! PURE: one thread, virtual time, no chance but [`Random`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use leasehold::election::Input;
use leasehold::time::BootTime;

use crate::api::{Api, Facts, Outcome};
use crate::checks::{Check, Checks, Writer};
use crate::clock::{Real, SECOND};
use crate::foreign::Foreign;
use crate::node::Node;
use crate::parameters::{AnyMutant, NodeMistake, Parameters};
use crate::random::Random;

/// Something that reaches a process.
#[expect(clippy::large_enum_variant, reason = "few exist at a time, and a box would only add noise to a test")]
pub enum Stimulus<A: Api> {
    Input(Input),
    /// `version`: that of the Lease, or of its absence, when the call was served.
    Reply {
        number: u64,
        call: A::Call,
        outcome: Outcome<A::Reply>,
        version: u128,
    },
    StreamUp(u64),
    StreamDown(u64),
    /// A retry period after a call stated this version: has the watch shown it?
    StreamBehind(u64, u128),
    StreamEvent(u64, A::Event),
}

/// A call on its way to the API server.
pub struct Flight<A: Api> {
    pub node: usize,
    pub life: usize,
    pub number: u64,
    pub call: A::Call,
    pub sent: BootTime,
    pub sent_real: Real,
    pub fate: crate::network::Fate,
}

/// What happens at an instant.
pub enum Event<A: Api> {
    Wake { node: usize, generation: u64 },
    Arrive(Flight<A>),
    Deliver { node: usize, life: usize, stimulus: Stimulus<A> },
    ConnectWatch { node: usize, life: usize },
    Resume { node: usize, nap: u64 },
    WorkEnds { node: usize, work: u64 },
    KillDue { node: usize, work: u64 },
    WorkDies { node: usize, work: u64 },
    Start { node: usize, life: usize },
    EndPartition { node: usize, number: u64 },
    EndOutage,
    EndUndoing,
    Fit { node: usize, life: usize },
    Uncoordinate,
    NextFault,
    Foreign(crate::foreign::Step),
    Route(crate::routes::Step<A>),
}

struct Entry<A: Api> {
    at: Real,
    sequence: u64,
    event: Event<A>,
}

impl<A: Api> PartialEq for Entry<A> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<A: Api> Eq for Entry<A> {}

impl<A: Api> PartialOrd for Entry<A> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<A: Api> Ord for Entry<A> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

pub struct World<A: Api> {
    pub parameters: Parameters,
    pub mutant: Option<AnyMutant>,
    pub random: Random,
    pub routes_random: Random,
    pub connects_random: Random,
    pub now: Real,
    queue: BinaryHeap<Reverse<Entry<A>>>,
    sequence: u64,
    pub api: A,
    /// The version of the Lease, or of its absence.
    pub lease_version: u128,
    pub outage: bool,
    /// The end: who is done stays done.
    pub closing: bool,
    /// When the faults stopped.
    pub healed: Option<Real>,
    pub nodes: Vec<Node<A>>,
    pub foreign: Option<Foreign>,
    pub checks: Checks,
    /// How often what happened: so that a run can show that it was no idle one.
    pub seen: BTreeMap<&'static str, u64>,
    trace: Option<Vec<String>>,
    events_at_once: u32,
    pub saved: bool,
    /// The API server misbehaves towards routes.
    pub misbehaves: bool,
}

impl<A: Api> World<A> {
    pub fn new(parameters: Parameters, mutant: Option<AnyMutant>, traced: bool) -> World<A> {
        let mut checks = Checks::new(parameters.work_may_overlap);
        let stands_still = mutant == Some(AnyMutant::Node(NodeMistake::ClockStopsInSuspend));
        let mut nodes = Vec::new();
        for node in &parameters.nodes {
            checks.add_candidate(&node.name, node.timing);
            nodes.push(Node::new(node, stands_still));
        }
        let random = Random::new(parameters.seed ^ 0xd1ce);
        let routes_random = Random::new(parameters.seed ^ 0x5e1ec7);
        let connects_random = Random::new(parameters.seed ^ 0xc0_77ec);
        let mut world = World {
            foreign: parameters.foreign.map(|(timing, rate)| Foreign::new(timing, rate)),
            api: A::new(parameters.seed),
            parameters,
            mutant,
            random,
            routes_random,
            connects_random,
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            lease_version: 0,
            outage: false,
            closing: false,
            healed: None,
            nodes,
            checks,
            seen: BTreeMap::new(),
            trace: traced.then(Vec::new),
            events_at_once: 0,
            saved: false,
            misbehaves: false,
        };
        for node in 0..world.nodes.len() {
            let after = world.random.magnitude(1..=5 * SECOND);
            world.schedule(after, Event::Start { node, life: 0 });
        }
        if world.foreign.is_some() {
            world.schedule(0, Event::Foreign(crate::foreign::Step::Tick));
        }
        world.schedule_fault();
        if world.parameters.routes {
            world.schedule_service_edit();
            world.schedule_misbehaviour();
        }
        world
    }

    pub fn schedule(&mut self, after: Real, event: Event<A>) {
        self.schedule_at(self.now.saturating_add(after), event);
    }

    pub fn schedule_at(&mut self, at: Real, event: Event<A>) {
        self.sequence += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), sequence: self.sequence, event }));
    }

    pub fn has_mistake(&self, mistake: NodeMistake) -> bool {
        self.mutant == Some(AnyMutant::Node(mistake))
    }

    pub fn calm(&self) -> bool {
        self.healed.is_some()
    }

    pub fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Says what happens, when somebody listens.
    pub fn note(&mut self, what: impl FnOnce(&World<A>) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>12.6} {}", self.now as f64 / SECOND as f64, what(self));
            self.trace.get_or_insert_default().push(line);
        }
    }

    pub fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    pub fn clocks(&self) -> Vec<BootTime> {
        self.nodes.iter().map(|node| node.clock.boot(self.now)).collect()
    }

    /// Runs until `until`, or until `enough`; false when a check has failed.
    pub fn run(&mut self, until: Real, enough: impl Fn(&World<A>) -> bool) -> bool {
        while self.checks.violation().is_none() {
            if enough(self) {
                return true;
            }
            let Some(Reverse(next)) = self.queue.peek() else { break };
            if next.at > until {
                break;
            }
            let Some(Reverse(Entry { at, event, .. })) = self.queue.pop() else { break };
            self.events_at_once = if at == self.now { self.events_at_once + 1 } else { 0 };
            if self.events_at_once > 100_000 {
                self.checks.fail(Check::Liveness, || "time stands still: something acts without end".to_owned());
            }
            self.now = at;
            self.step(event);
        }
        let clean = self.checks.violation().is_none();
        self.now = if clean { self.now.max(until) } else { self.now };
        clean
    }

    fn step(&mut self, event: Event<A>) {
        match event {
            Event::Wake { node, generation } => self.wake(node, generation),
            Event::Arrive(flight) => self.arrive(flight),
            Event::Deliver { node, life, stimulus } if self.nodes[node].life == life => self.deliver(node, stimulus),
            Event::Deliver { .. } => {}
            Event::ConnectWatch { node, life } => self.connect_watch(node, life),
            Event::Resume { node, nap } => self.resume(node, nap),
            Event::WorkEnds { node, work } => self.work_ends(node, work),
            Event::KillDue { node, work } => self.kill_due(node, work),
            Event::WorkDies { node, work } => self.work_dies(node, work),
            Event::Start { node, life } => self.start(node, life),
            Event::EndPartition { node, number } => self.end_partition(node, number),
            Event::EndOutage => self.end_outage(),
            Event::EndUndoing => self.api.undo_writes(false),
            Event::Fit { node, life } if self.nodes[node].life == life => {
                self.deliver(node, Stimulus::Input(Input::Fit(true)));
            }
            Event::Fit { .. } => {}
            Event::Uncoordinate => self.edit_lease(&crate::api::Edit::Strategy(false)),
            Event::NextFault => self.next_fault(),
            Event::Foreign(step) => self.foreign_step(step),
            Event::Route(step) => self.route_step(step),
        }
    }

    /// Lets `change` act on the store, and tells the checks and the watches what became of the Lease.
    pub fn change<T>(&mut self, writer: Writer, change: impl FnOnce(&mut A) -> T) -> T {
        let before = self.api.facts();
        let result = change(&mut self.api);
        let after = self.api.facts();
        if before != after {
            self.lease_version = after.as_ref().map_or_else(|| self.api.version(), |after| after.version);
            self.note(|world| match &after {
                Some(after) => format!("applied {writer:?}: {}", in_short(after)),
                None => format!("applied {writer:?}: the Lease is gone, version {}", world.lease_version),
            });
            let clocks = self.clocks();
            self.checks.applied(writer, self.lease_version, before.as_ref(), after.as_ref(), &clocks);
            self.pump_streams();
        }
        result
    }
}

fn in_short(facts: &Facts) -> String {
    format!(
        "version {} holder {:?} for {:?} s, acquired {:?}, renewed {:?}, {} transitions{}",
        facts.version,
        facts.holder.as_deref().unwrap_or(""),
        facts.duration_seconds.unwrap_or(0),
        facts.acquire_micros.unwrap_or(0),
        facts.renew_micros.unwrap_or(0),
        facts.transitions,
        if facts.coordinated { ", coordinated" } else { "" },
    )
}
