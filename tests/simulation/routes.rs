//! The Service that follows the leader: each node's routing, its calls, and the people who edit the Service.
//!
//! PURE. As in the program, routing has a connection and a thread of its own, and makes one call at a time; what
//! comes meanwhile waits. It has a source of chance of its own too, so that schedules are the same with and without.

use std::collections::VecDeque;
use std::time::Duration;

use leasehold::election::Mutant;
use leasehold::program::routing::{self, RouteEvent, RouteFailure, RouteInput, RouteReply, Routing};

use crate::api::{Api, Edit, Misbehaviour, Outcome, ROUTE_LABEL, ServiceEdit};
use crate::clock::{MILLI, Real, SECOND};
use crate::world::{Event, World};

/// What a process does about its route.
pub struct Route<A: Api> {
    routing: Routing,
    awaits: Option<u64>,
    calls: u64,
    inbox: VecDeque<RouteInput>,
    /// What came while the process was paused.
    frozen: Vec<Step<A>>,
    generation: u64,
}

/// What happens to routes.
pub enum Step<A: Api> {
    Wake { node: usize, life: usize, generation: u64 },
    Deliver { node: usize, life: usize, input: RouteInput },
    Arrive(Patch<A>),
    Reply { node: usize, life: usize, number: u64, call: A::RouteCall, outcome: Outcome<A::RouteReply> },
    Edit,
    Misbehave,
}

/// A call about the Pod or the Service, on its way.
pub struct Patch<A: Api> {
    node: usize,
    life: usize,
    number: u64,
    call: A::RouteCall,
    sent_real: Real,
}

impl<A: Api> Route<A> {
    pub fn new(value: String, retry_period: Duration, mistake: Option<Mutant>) -> Route<A> {
        let routing = Routing::new(ROUTE_LABEL.to_owned(), value, retry_period).with_mistake(mistake);
        Route { routing, awaits: None, calls: 0, inbox: VecDeque::new(), frozen: Vec::new(), generation: 0 }
    }
}

/// The label value of a node's Pod.
pub fn value(node: usize) -> String {
    format!("pod-of-node-{node}")
}

impl<A: Api> World<A> {
    pub fn route_step(&mut self, step: Step<A>) {
        let Some(step) = self.freeze(step) else { return };
        match step {
            Step::Wake { node, life, generation } => {
                let current = self.route(node, life).is_some_and(|route| route.generation == generation);
                if current {
                    self.route_input(node, life, RouteInput::Timer);
                }
            }
            Step::Deliver { node, life, input } => self.route_input(node, life, input),
            Step::Arrive(patch) => self.route_arrives(patch),
            Step::Reply { node, life, number, call, outcome } => {
                let Some(route) = self.route(node, life) else { return };
                if route.awaits.take_if(|awaited| *awaited == number).is_none() {
                    return;
                }
                let result = A::decode_route(&call, outcome);
                self.route_input(node, life, RouteInput::Reply(result));
                while let Some(input) = self.route(node, life).filter(|route| route.awaits.is_none()).and_then(pop) {
                    self.route_input(node, life, input);
                }
            }
            Step::Edit => self.edit_service(),
            Step::Misbehave => self.misbehave(),
        }
    }

    /// Keeps what reaches a paused process for when it runs again.
    fn freeze(&mut self, step: Step<A>) -> Option<Step<A>> {
        let (Step::Wake { node, life, .. } | Step::Deliver { node, life, .. } | Step::Reply { node, life, .. }) = step
        else {
            return Some(step);
        };
        if self.nodes[node].nap.is_none() {
            return Some(step);
        }
        if let Some(route) = self.route(node, life) {
            route.frozen.push(step);
        }
        None
    }

    pub fn thaw_route(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let frozen = self.route(node, life).map(|route| std::mem::take(&mut route.frozen)).unwrap_or_default();
        for step in frozen {
            self.route_step(step);
        }
    }

    fn route(&mut self, node: usize, life: usize) -> Option<&mut Route<A>> {
        let found = &mut self.nodes[node];
        if found.life != life {
            return None;
        }
        found.process.as_mut()?.route.as_mut()
    }

    pub fn tell_route(&mut self, node: usize, input: RouteInput) {
        let life = self.nodes[node].life;
        self.schedule(0, Event::Route(Step::Deliver { node, life, input }));
    }

    fn route_input(&mut self, node: usize, life: usize, input: RouteInput) {
        let now = self.nodes[node].clock.boot(self.now);
        let Some(route) = self.route(node, life) else { return };
        if route.awaits.is_some() && !matches!(input, RouteInput::Reply(_)) {
            return route.inbox.push_back(input);
        }
        let begins = matches!(input, RouteInput::Lead(_));
        let event = route.routing.handle(now, input);
        let (call, wake) = (route.routing.call.clone(), route.routing.wake());
        route.generation += 1;
        let generation = route.generation;
        if begins {
            self.checks.route_begins(node);
        }
        if let Some(event) = event {
            self.note(|_| format!("node {node}'s route: {event:?}"));
            self.count(match event {
                RouteEvent::PodLabelled => "pods labelled",
                RouteEvent::ServiceUpdated => "routes set",
                RouteEvent::SelectorChanged => "routes put right",
                RouteEvent::SteppedBack(_) => "routes left to a later term",
                RouteEvent::Conflicts => "routes in conflict, paced",
            });
        }
        if let Some(request) = call {
            self.call_for_route(node, life, &request);
        } else if let Some(at) = wake {
            let at = self.nodes[node].clock.real_at(at);
            self.schedule_at(at, Event::Route(Step::Wake { node, life, generation }));
        }
    }

    fn call_for_route(&mut self, node: usize, life: usize, request: &routing::RouteRequest) {
        let Some(route) = self.route(node, life) else { return };
        route.calls += 1;
        let number = route.calls;
        route.awaits = Some(number);
        let call = A::encode_route(request, node);
        if let routing::RouteRequest::PatchService { fence, .. } = request
            && self.nodes[node].leading(self.now) != Some(fence.token)
        {
            self.count("routes not sent: the term was over");
            if let Some(route) = self.route(node, life) {
                route.awaits = None;
            }
            return self.route_input(node, life, RouteInput::Lost);
        }
        let (at, retry_period) =
            (self.nodes[node].clock.boot(self.now), self.parameters.nodes[node].timing.retry_period());
        self.checks.route_sent(node, A::route_conditions(&call), at, retry_period);
        let (limit, quick) = (2 * SECOND, self.routes_random.within(300_000..=3 * MILLI));
        let trouble = !self.calm() && self.routes_random.chance(self.parameters.call_trouble);
        let (mut out, late) = (quick, self.routes_random.magnitude(MILLI..=20 * SECOND));
        if trouble {
            match self.routes_random.below(3) {
                0 => out = Real::MAX,
                _ => out = late,
            }
        }
        let timeout = Step::Reply { node, life, number, call: call.clone(), outcome: Outcome::TimedOut };
        self.schedule(limit, Event::Route(timeout));
        if out != Real::MAX {
            let patch = Patch { node, life, number, call, sent_real: self.now };
            self.schedule(out, Event::Route(Step::Arrive(patch)));
        }
    }

    fn route_arrives(&mut self, patch: Patch<A>) {
        let Patch { node, life, number, call, sent_real } = patch;
        let stale = self.healed.is_some_and(|healed| sent_real < healed && self.now > healed + SECOND);
        if stale || self.outage || self.nodes[node].mute.is_some() {
            return;
        }
        let before = self.api.service();
        let reply = self.api.serve_route(&call);
        let after = self.api.service();
        if before != after {
            self.note(|_| format!("node {node}'s route is applied: {after:?}"));
            if !self.misbehaves {
                self.checks.routed(node, before.as_ref(), after.as_ref());
            }
            self.deliver_watch_events();
        }
        let lost = self.nodes[node].deaf.is_some()
            || (!self.calm() && self.routes_random.chance(self.parameters.call_trouble / 3));
        if !lost {
            let back = self.routes_random.within(300_000..=3 * MILLI);
            let reply = Step::Reply { node, life, number, call, outcome: Outcome::Reply(reply) };
            self.schedule(back, Event::Route(reply));
        }
    }

    /// A watch on the Service delivers, to some: late, or never. Where it does not, routing polls.
    fn deliver_watch_events(&mut self) {
        let Some(view) = self.api.service().map(|service| service.view()) else { return };
        for node in 0..self.nodes.len() {
            let delay = self.routes_random.magnitude(MILLI..=SECOND);
            if self.nodes[node].watches && self.routes_random.chance(700) {
                let (life, input) = (self.nodes[node].life, RouteInput::Seen(view.clone()));
                self.schedule(delay, Event::Route(Step::Deliver { node, life, input }));
            }
        }
    }

    fn edit_service(&mut self) {
        if self.calm() {
            return;
        }
        self.schedule_service_edit();
        if self.routes_random.chance(300) {
            // For a while two may lead by the operator's word: the Service must follow the later one.
            return self.edit_lease(&Edit::Holder(None));
        }
        let elsewhere = value(self.routes_random.below(5));
        let edit = match self.routes_random.below(7) {
            0 => ServiceEdit::Target(None),
            1 => ServiceEdit::Unsign,
            2 => ServiceEdit::Recreate,
            // From before all terms here, and from another history.
            3 => ServiceEdit::Fence { token: u128::from(self.routes_random.within(1..=90)), target: elsewhere },
            4 => ServiceEdit::Fence { token: self.api.version() + 1_000_000, target: elsewhere },
            _ => ServiceEdit::Target(Some(elsewhere)),
        };
        self.note(|_| format!("an operator, to the Service: {edit:?}"));
        self.count("edits of the Service by hand");
        self.api.edit_service(&edit);
        self.deliver_watch_events();
    }

    /// An admission webhook, or whatever makes each patch a conflict, comes or goes.
    fn misbehave(&mut self) {
        if self.calm() {
            return;
        }
        self.misbehaves = !self.misbehaves;
        let kinds = [
            Misbehaviour::RemovesLabel,
            Misbehaviour::RemovesFence,
            Misbehaviour::RemovesSelector,
            Misbehaviour::Conflicts,
        ];
        let how = Some(*self.routes_random.pick(&kinds)).filter(|_| self.misbehaves);
        self.note(|_| format!("the API server, to routes: {how:?}"));
        self.count("admission webhooks on routes");
        self.api.misbehave(how);
        self.schedule_misbehaviour();
    }

    pub fn schedule_misbehaviour(&mut self) {
        let after = self.routes_random.within(0..=8 * self.parameters.fault_every);
        self.schedule(after, Event::Route(Step::Misbehave));
    }

    pub fn schedule_service_edit(&mut self) {
        let after = self.routes_random.within(0..=4 * self.parameters.fault_every);
        self.schedule(after, Event::Route(Step::Edit));
    }
}

fn pop<A: Api>(route: &mut Route<A>) -> Option<RouteInput> {
    route.inbox.pop_front()
}

/// An answer with this status.
pub fn failure(status: u16) -> RouteFailure {
    RouteFailure { status: Some(status), retry_after: Duration::ZERO }
}

/// An answer about the Pod.
pub fn labelled(labelled: bool) -> RouteReply {
    RouteReply::Labelled(labelled)
}
