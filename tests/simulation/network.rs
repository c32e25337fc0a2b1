//! Between the nodes and the API server: calls, replies, watches, and all that can become of them.
//!
//! PURE.

use std::time::Duration;

use leasehold::election::{Answer, CallFailure, CallKind, Input, LeaseRequest};

use crate::api::{Api, Outcome};
use crate::checks::Sending;
use crate::clock::{MILLI, Real, SECOND};
use crate::parameters::Latency;
use crate::world::{Event, Flight, Stimulus, World};

/// What will become of a call, drawn when it is sent.
#[derive(Clone, Debug)]
pub struct Fate {
    /// The reply takes this long.
    back: Real,
    /// What the client gets for a reply.
    end: End,
    /// A request that meets a closed door is sent again by the network until it gets through.
    stubborn: bool,
    /// This is the second copy of a request that was sent once.
    copy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Reply,
    /// Applied, but the reply never comes.
    Silence,
    /// Applied, but the connection breaks.
    Reset,
    /// The API server's front answers in its place: it is not applied.
    Front(u16),
    /// Applied, and then the API server fails.
    Applied500,
}

pub struct Stream<A: Api> {
    pub number: u64,
    state: A::Stream,
    /// Events of one stream arrive in order.
    last: Real,
    /// The version that it began at, or the newest that it brought.
    heard: u128,
    /// Nothing comes through any more; neither end knows.
    stalled: bool,
}

impl<A: Api> World<A> {
    pub fn call(&mut self, node: usize, number: u64, request: &LeaseRequest, purpose: CallKind, limit: Duration) {
        let caller = &mut self.nodes[node];
        let life = caller.life;
        let sent = caller.clock.boot(self.now);
        let Some(process) = &mut caller.process else { return };
        let Some(call) = A::encode(&mut process.client, request, purpose) else {
            self.count("version not at hand");
            let conflict = Input::Reply { call: number, result: Err(CallFailure::Conflict) };
            return self.schedule(0, Event::Deliver { node, life, stimulus: Stimulus::Input(conflict) });
        };
        process.awaits = Some(number);
        let retry_period = self.parameters.nodes[node].timing.retry_period();
        self.checks.lease_call_sent(node, life, sent, retry_period);
        let late = caller.clock.real_at(sent + limit);
        let what = Sending {
            conditions: A::conditions(&call),
            releases: matches!(request, LeaseRequest::Replace { content, .. } if content.record.holder.is_none()),
            creates: matches!(request, LeaseRequest::Create(_)),
        };
        self.checks.sent(node, what, sent);
        let timeout = self.reply(number, &call, Outcome::TimedOut);
        self.schedule_at(late, Event::Deliver { node, life, stimulus: timeout });

        let trouble = !self.calm() && self.random.chance(self.parameters.call_trouble);
        let limit = u64::try_from(limit.as_nanos()).expect("a short limit");
        let longest = self.parameters.longest(|timing| timing.lease_duration());
        let Latency { out, back, .. } = self.parameters.latency.clone();
        let mut out = self.random.within(out);
        let mut fate = Fate { back: self.random.within(back), end: End::Reply, stubborn: false, copy: false };
        if trouble {
            self.count("calls in trouble");
            match self.random.below(9) {
                0 => return self.count("requests lost"),
                1 => fate.end = End::Silence,
                2 => fate.end = End::Reset,
                3 => fate.end = End::Front(*self.random.pick(&[429, 503, 500])),
                4 => fate.end = End::Applied500,
                5 => out = self.random.magnitude(MILLI..=limit * 2),
                6 => fate.back = self.random.magnitude(MILLI..=limit * 2),
                7 => out = self.random.magnitude(limit..=longest * 3),
                _ => {
                    self.count("requests doubled");
                    let again = self.random.magnitude(MILLI..=longest);
                    let copy = Fate { copy: true, ..fate.clone() };
                    self.fly(again, node, number, &call, sent, copy);
                }
            }
            fate.stubborn = self.random.chance(500);
        } else if matches!(request, LeaseRequest::Replace { .. }) && self.parameters.latency.connect != (0..=0) {
            out += self.connects_random.within(self.parameters.latency.connect.clone());
        }
        self.fly(out, node, number, &call, sent, fate);
    }

    fn fly(
        &mut self,
        after: Real,
        node: usize,
        number: u64,
        call: &A::Call,
        sent: leasehold::time::BootTime,
        fate: Fate,
    ) {
        let life = self.nodes[node].life;
        let flight = Flight { node, life, number, call: call.clone(), sent, sent_real: self.now, fate };
        self.schedule(after, Event::Arrive(flight));
    }

    fn reply(&self, number: u64, call: &A::Call, outcome: Outcome<A::Reply>) -> Stimulus<A> {
        Stimulus::Reply { number, call: call.clone(), outcome, version: self.lease_version }
    }

    /// A request reaches the API server, or what stands in its way.
    pub fn arrive(&mut self, flight: Flight<A>) {
        let Flight { node, life, number, ref fate, .. } = flight;
        if self.healed.is_some_and(|healed| flight.sent_real < healed && self.now > healed + SECOND) {
            return; // Healing is also: connections from before are gone.
        }
        if self.outage || self.nodes[node].mute.is_some() {
            if fate.stubborn {
                let again = self.random.magnitude(50 * MILLI..=2 * SECOND);
                return self.schedule(again, Event::Arrive(flight));
            }
            if self.outage && self.random.chance(500) {
                let stimulus = self.reply(number, &flight.call, Outcome::Unreachable);
                self.schedule(MILLI, Event::Deliver { node, life, stimulus });
            }
            return;
        }
        let outcome = match fate.end {
            End::Front(code) => self.front(code),
            end => {
                let reply = self.serve(&flight);
                match end {
                    End::Applied500 => Outcome::Status { code: 500, retry_after: None },
                    End::Reset => Outcome::Reset,
                    End::Silence => return,
                    End::Reply | End::Front(_) => Outcome::Reply(reply),
                }
            }
        };
        if self.nodes[node].deaf.is_some() {
            return self.count("replies lost");
        }
        let stimulus = self.reply(number, &flight.call, outcome);
        self.schedule(fate.back, Event::Deliver { node, life, stimulus });
    }

    fn front(&mut self, code: u16) -> Outcome<A::Reply> {
        let seconds = *self.random.pick(&[None, Some(1), Some(3), Some(30)]);
        Outcome::Status { code, retry_after: seconds.map(Duration::from_secs) }
    }

    fn serve(&mut self, flight: &Flight<A>) -> A::Reply {
        let wall = crate::clock::WALL_START_MICROS + i64::try_from(self.now / 1000).expect("a schedule is short");
        if self.nodes[flight.node].life != flight.life || flight.fate.copy {
            self.count("served late: of a dead process, or a copy");
        }
        let writer = self.writer(flight.node, flight.life, flight.sent);
        if A::writes(&flight.call) {
            self.change(writer, |api| api.serve(&flight.call, wall))
        } else {
            self.api.serve(&flight.call, wall)
        }
    }

    /// What a stimulus means to the election; `None`: nothing.
    pub fn understand(&mut self, node: usize, stimulus: Stimulus<A>) -> Option<Input> {
        let clock = self.nodes[node].clock.boot(self.now);
        let process = self.nodes[node].process.as_mut()?;
        match stimulus {
            Stimulus::Input(input) => Some(input),
            Stimulus::Reply { number, call, outcome, version } => {
                let result = A::decode(&mut process.client, &call, outcome);
                // The driver has given up on any other: its connection is gone. Were it told all the same, it must
                // not matter.
                let awaited = process.awaits.take_if(|awaited| *awaited == number).is_some();
                let stated = match &result {
                    Ok(Answer::Found(lease) | Answer::Written { lease, .. }) => Some(lease.version),
                    _ => None,
                };
                let watching = process.watching;
                // As the driver (P12): after a restored backup a watch from a version not reached yet is silent.
                let deaf =
                    process.stream.as_ref().filter(|stream| awaited && stated.is_some_and(|it| it < stream.heard));
                let deaf = deaf.map(|stream| stream.number).filter(|number| process.watching == Some(*number));
                match &result {
                    _ if !awaited => {}
                    Ok(Answer::Found(lease) | Answer::Written { lease, .. }) => {
                        self.checks.delivered(node, lease.version, clock);
                    }
                    Ok(Answer::Absent) => self.checks.delivered(node, version, clock),
                    Err(CallFailure::Conflict) => self.count("conflicts"),
                    Err(_) => self.count("calls failed"),
                }
                let life = self.nodes[node].life;
                if let Some(stream) = deaf {
                    self.count("deaf watches begun anew");
                    self.schedule(0, Event::Deliver { node, life, stimulus: Stimulus::StreamDown(stream) });
                } else if let Some((stream, version)) = watching.zip(stated.filter(|_| awaited)) {
                    let later = self.parameters.nodes[node].timing.retry_period().as_nanos();
                    let stimulus = Stimulus::StreamBehind(stream, version);
                    self.schedule(u64::try_from(later).expect("a short span"), Event::Deliver { node, life, stimulus });
                }
                Some(Input::Reply { call: number, result })
            }
            Stimulus::StreamUp(stream) => {
                process.watching = Some(stream);
                Some(Input::Watching(true))
            }
            Stimulus::StreamDown(stream) if process.watching == Some(stream) => {
                process.watching = None;
                let life = self.nodes[node].life;
                let again = self.random.magnitude(MILLI..=SECOND);
                self.schedule(again, Event::ConnectWatch { node, life });
                Some(Input::Watching(false))
            }
            Stimulus::StreamBehind(number, version) => {
                let heard = process.stream.as_ref().filter(|stream| stream.number == number)?.heard;
                if heard >= version || process.watching != Some(number) {
                    return None;
                }
                self.count("stale watches begun anew");
                let life = self.nodes[node].life;
                self.schedule(0, Event::Deliver { node, life, stimulus: Stimulus::StreamDown(number) });
                None
            }
            Stimulus::StreamDown(_) => None,
            Stimulus::StreamEvent(stream, event) => {
                if process.watching != Some(stream) {
                    return None;
                }
                let input = A::decode_event(&mut process.client, &event)?;
                let version = match &input {
                    Input::Seen(lease) => Some(lease.version),
                    Input::Deleted(version) => Some(*version),
                    _ => None,
                };
                if let (Some(stream), Some(version)) = (&mut process.stream, version) {
                    stream.heard = stream.heard.max(version);
                }
                version.into_iter().for_each(|version| self.checks.delivered(node, version, clock));
                self.count("watch events");
                Some(input)
            }
        }
    }

    pub fn connect_watch(&mut self, node: usize, life: usize) {
        let cut_off = self.outage || self.nodes[node].mute.is_some() || self.nodes[node].deaf.is_some();
        let unlucky = cut_off || (!self.calm() && self.random.chance(self.parameters.call_trouble / 2));
        if self.nodes[node].life != life {
            return;
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        let from = process.election.lease().map(|lease| lease.version); // As the driver: none, no watch.
        let from = from.filter(|_| !unlucky && self.nodes[node].nap.is_none());
        let opened = from.and_then(|from| self.api.open(from));
        let Some((state, heard)) = opened.zip(from) else {
            let again = self.random.within(200 * MILLI..=SECOND);
            return self.schedule(again, Event::ConnectWatch { node, life });
        };
        let Some(process) = &mut self.nodes[node].process else { return };
        process.streams += 1;
        let number = process.streams;
        let back = self.random.within(self.parameters.latency.back.clone());
        let up = Stimulus::StreamUp(number);
        process.stream = Some(Stream { number, state, last: self.now + back, heard, stalled: false });
        self.schedule(back, Event::Deliver { node, life, stimulus: up });
        self.pump_stream(node);
    }

    pub fn pump_streams(&mut self) {
        for node in 0..self.nodes.len() {
            self.pump_stream(node);
        }
    }

    fn pump_stream(&mut self, node: usize) {
        let calm = self.calm();
        let quick = self.parameters.latency.event.clone();
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(stream) = &mut process.stream else { return };
        let news = self.api.read(&mut stream.state);
        if stream.stalled {
            return;
        }
        let (number, mut last) = (stream.number, stream.last);
        for event in news {
            let slow = !calm && self.random.chance(self.parameters.call_trouble / 4);
            let delay =
                if slow { self.random.magnitude(MILLI..=3 * SECOND) } else { self.random.within(quick.clone()) };
            last = last.max(self.now + delay);
            let copies = 1 + usize::from(slow && self.random.chance(200));
            for _ in 0..copies {
                let stimulus = Stimulus::StreamEvent(number, event.clone());
                self.schedule_at(last, Event::Deliver { node, life, stimulus });
            }
        }
        if let Some(stream) = self.nodes[node].process.as_mut().and_then(|process| process.stream.as_mut()) {
            stream.last = last;
        }
    }

    /// The stream is dead; the client learns it later.
    pub fn cut_watch(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let Some(stream) = self.nodes[node].process.as_mut().and_then(|process| process.stream.as_mut()) else {
            return;
        };
        if stream.stalled {
            return;
        }
        stream.stalled = true;
        let number = stream.number;
        let learnt = self.random.magnitude(MILLI..=20 * SECOND);
        self.count("watches cut");
        self.schedule(learnt, Event::Deliver { node, life, stimulus: Stimulus::StreamDown(number) });
    }

    pub fn end_partition(&mut self, node: usize, number: u64) {
        let cut_off = &mut self.nodes[node];
        cut_off.deaf.take_if(|partition| *partition == number);
        cut_off.mute.take_if(|partition| *partition == number);
        self.note(|_| format!("node {node}'s partition ends"));
    }

    pub fn end_outage(&mut self) {
        self.outage = false;
        self.note(|_| "the API server is back".to_owned());
    }
}
