//! A candidate that behaves on the wire as client-go does: it polls, renews every retry period with the version it
//! has cached, rebuilds the spec and keeps the metadata, trusts replies however late, and releases by what it
//! remembers, over whatever record is there by then.
//!
//! PURE. Its mistakes are its own: the checks ask of the others only that they stay clear of its terms.

use leasehold::election::Timing;

use crate::api::{Api, Facts, ForeignRecord};
use crate::checks::Writer;
use crate::clock::{Clock, MILLI, Real, SECOND, WALL_START_MICROS};
use crate::world::{Event, World};

const NAME: &str = "client-go";

#[derive(Clone, Debug)]
pub enum Step {
    Tick,
    /// A write reaches the API server.
    Put(Put),
}

#[derive(Clone, Debug)]
pub struct Put {
    version: Option<u128>,
    record: ForeignRecord,
}

pub struct Foreign {
    timing: Timing,
    clock: Clock,
    observed: Option<Facts>,
    observed_at: Real,
}

impl Foreign {
    pub fn new(timing: Timing, rate: u64) -> Foreign {
        Foreign { timing, clock: Clock::new(rate, 0, 0, false), observed: None, observed_at: 0 }
    }

    fn is_leader(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.holder.as_deref() == Some(NAME))
    }

    /// By the record's own duration, from when it was first observed, on its own clock.
    fn expired(&self, now: Real) -> bool {
        let lasting = self.observed.as_ref().and_then(|observed| observed.duration_seconds).unwrap_or(0);
        let since = self.clock.boot(self.observed_at);
        self.clock.boot(now).since(since).as_secs() >= u64::from(lasting)
    }

    fn observe(&mut self, facts: Option<Facts>, now: Real) {
        let silent = matches!((&self.observed, &facts), (Some(old), Some(new)) if old.same_record(new));
        if !silent {
            self.observed_at = now;
        }
        self.observed = facts;
    }

    /// What it writes, if it writes.
    fn attempt(&self, now: Real) -> Option<Put> {
        let micros = WALL_START_MICROS + i64::try_from(now / 1000).expect("a schedule is short");
        let mut record = ForeignRecord {
            holder: NAME.to_owned(),
            duration_seconds: self.timing.lease_duration_seconds(),
            acquire_micros: micros,
            renew_micros: micros,
            transitions: 0,
        };
        let Some(observed) = &self.observed else { return Some(Put { version: None, record }) };
        if self.is_leader() {
            record.acquire_micros = observed.acquire_micros.unwrap_or(micros);
            record.transitions = observed.transitions;
        } else if observed.holder.is_none() || self.expired(now) {
            record.transitions = observed.transitions + 1;
        } else {
            return None;
        }
        Some(Put { version: Some(observed.version), record })
    }
}

impl<A: Api> World<A> {
    pub fn foreign_step(&mut self, step: Step) {
        let (calm, outage) = (self.calm(), self.outage);
        let Some(foreign) = &mut self.foreign else { return };
        match step {
            Step::Tick => {
                let retry = u64::try_from(foreign.timing.retry_period().as_nanos()).expect("a short period");
                let put = if calm || outage {
                    None
                } else {
                    foreign.observe(self.api.facts(), self.now);
                    foreign.attempt(self.now)
                };
                let mut next = self.random.within(retry..=retry * 22 / 10);
                if self.random.chance(20) {
                    next += self.random.magnitude(retry..=20 * retry); // Paused, or cut off.
                }
                if let Some(put) = put {
                    let out = self.random.magnitude(MILLI..=SECOND);
                    self.schedule(out, Event::Foreign(Step::Put(put)));
                }
                if self.random.chance(15) {
                    self.foreign_releases();
                }
                self.schedule(next, Event::Foreign(Step::Tick));
            }
            Step::Put(put) if !calm => {
                let wall = WALL_START_MICROS + i64::try_from(self.now / 1000).expect("a schedule is short");
                self.count("written by client-go");
                self.change(Writer::Foreign(false), |api| api.put_as_client_go(put.version, &put.record, wall));
            }
            Step::Put(_) => {}
        }
    }

    /// It reads the fresh version and tests the record it remembers.
    fn foreign_releases(&mut self) {
        let Some(foreign) = self.foreign.as_mut().filter(|foreign| foreign.is_leader()) else { return };
        let transitions = foreign.observed.as_ref().map_or(0, |observed| observed.transitions);
        let Some(fresh) = self.api.facts() else { return };
        let erases = fresh.holder.as_deref() != Some(NAME);
        let micros = WALL_START_MICROS + i64::try_from(self.now / 1000).expect("a schedule is short");
        let record = ForeignRecord {
            holder: String::new(),
            duration_seconds: 1,
            acquire_micros: micros,
            renew_micros: micros,
            transitions,
        };
        self.count("released by client-go");
        self.change(Writer::Foreign(erases), |api| api.put_as_client_go(Some(fresh.version), &record, micros));
    }

    /// It goes: with a release, or without.
    pub fn retire_foreign(&mut self) {
        if self.random.chance(500) {
            self.foreign_releases();
        }
        self.foreign = None;
    }
}
