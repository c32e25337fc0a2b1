//! Breadth first through all that can happen, a tick at a time.
//!
//! PURE. States are told apart by a 64-bit fingerprint; within one tick there are far too few for two to share one.

use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

use leasehold::election::Mutant;

use super::world::{Action, Cast, World};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Scope {
    pub cast: Cast,
    pub ticks: u8,
    /// How many faults a run may have.
    pub faults: u8,
    /// Whether calls and replies may be lost, applied late or twice. Else they are only slow.
    pub losses: bool,
    pub crashes: bool,
    pub operator: bool,
}

impl Scope {
    pub fn network() -> Scope {
        let cast = Cast { names: ["a", "b"], lease_seconds: [2, 2], deletions: false };
        Scope { cast, ticks: 6, faults: 1, losses: true, crashes: false, operator: false }
    }

    pub fn slow_network() -> Scope {
        Scope { losses: false, faults: 2, ..Scope::network() }
    }

    pub fn crashes() -> Scope {
        Scope { crashes: true, losses: false, ..Scope::network() }
    }

    pub fn operator() -> Scope {
        let cast = Cast { deletions: true, ..Scope::network().cast };
        Scope { cast, operator: true, losses: false, ..Scope::network() }
    }

    pub fn one_name() -> Scope {
        Scope { cast: Cast { names: ["a", "a"], ..Scope::network().cast }, ..Scope::crashes() }
    }

    pub fn mixed() -> Scope {
        Scope { cast: Cast { lease_seconds: [8, 2], ..Scope::network().cast }, ..Scope::network() }
    }
}

pub enum Outcome {
    /// Nothing was violated.
    Holds {
        /// States looked at.
        states: usize,
        /// Those that a new term led to.
        terms: usize,
    },
    Violated {
        states: usize,
        what: String,
        trace: String,
    },
}

/// How one came to a state: from which, and by what.
struct Step {
    from: usize,
    action: Option<Action>,
}

pub fn search(scope: &Scope, mistake: Option<Mutant>) -> Outcome {
    let mut steps = vec![Step { from: 0, action: None }];
    let mut terms = 0;
    let mut layer = vec![(World::new(&scope.cast, scope.faults, mistake), 0)];
    for tick in 0..=scope.ticks {
        let mut seen: HashSet<u64> = layer.iter().map(|(world, _)| fingerprint(world)).collect();
        let mut next = Vec::new();
        let mut next_seen = HashSet::new();
        while let Some((world, at)) = layer.pop() {
            for (action, cost) in actions(&world, scope) {
                let mut after = world.clone();
                after.faults -= cost;
                let result = after.act(action, &scope.cast, mistake);
                let is_new = match action {
                    Action::Tick if tick == scope.ticks => continue,
                    Action::Tick => next_seen.insert(fingerprint(&after)),
                    _ => seen.insert(fingerprint(&after)),
                };
                if !is_new && result.is_ok() {
                    continue;
                }
                steps.push(Step { from: at, action: Some(action) });
                terms += usize::from(after.term_began);
                let here = steps.len() - 1;
                let result = result.and_then(|()| check_healing(&after, scope, mistake, here));
                if let Err(what) = result {
                    return Outcome::Violated { states: steps.len(), what, trace: trace(&steps, here, scope, mistake) };
                }
                if action == Action::Tick { next.push((after, here)) } else { layer.push((after, here)) }
            }
        }
        layer = next;
    }
    Outcome::Holds { states: steps.len(), terms }
}

/// From a sample of the states, among them all kinds: once all goes well, somebody leads within two lease durations
/// and some ticks, on the slower clock.
fn check_healing(world: &World, scope: &Scope, mistake: Option<Mutant>, index: usize) -> Result<(), String> {
    let over = world.nodes.iter().all(|node| node.leaving);
    if over || !index.is_multiple_of(16) {
        return Ok(());
    }
    let most = u8::try_from(scope.cast.lease_seconds.iter().max().expect("two") * 4 + 6).expect("small");
    match world.clone().heals_within(&scope.cast, mistake, most)? {
        Some(_) => Ok(()),
        None => Err(format!("nobody leads {most} ticks after all faults have ended")),
    }
}

/// All that can happen, and what each costs.
fn actions(world: &World, scope: &Scope) -> Vec<(Action, u8)> {
    let mut actions = Vec::new();
    for (index, node) in world.nodes.iter().enumerate() {
        if world.timer_is_due(index) {
            actions.push((Action::Timer(index), 0));
        }
        if let Some(call) = &node.call {
            let applied = call.answer.is_some();
            actions.push((if applied { Action::Reply(index) } else { Action::Apply(index) }, 0));
            if scope.losses && (call.is_write() || !applied) {
                actions.push((Action::Lose(index), 1)); // a look that is lost is lost, applied or not
            }
            if scope.losses && call.is_write() && !applied {
                actions.push((Action::ApplyTwice(index), 1));
            }
        }
        if !node.done && world.has_news_for(index) {
            actions.push((Action::See(index), 0));
        }
        if node.work.as_ref().is_some_and(|work| work.told_to_stop || work.killed) {
            actions.push((Action::WorkStops(index), 0));
        }
        if scope.crashes && !node.done {
            actions.extend([(Action::Crash(index, true), 1), (Action::Crash(index, false), 1)]);
        }
        if scope.operator && !node.leaving {
            actions.push((Action::Shutdown(index), 1));
        }
    }
    actions.extend((0..world.late.len()).map(|index| (Action::ApplyLate(index), 0)));
    if scope.operator
        && let Some(lease) = &world.lease
    {
        actions.push((Action::Delete, 1));
        if lease.annotations.yield_to.is_none() {
            actions.push((Action::Yield, 1));
        }
    }
    actions.push((Action::Tick, u8::from(world.is_delayed(0)) + u8::from(world.is_delayed(1))));
    actions.retain(|(_, cost)| *cost <= world.faults);
    actions
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Mixer(0);
    world.hash(&mut hasher);
    hasher.finish()
}

/// SplitMix64's mixing, a word at a time: several times as fast as the standard hasher without optimisation.
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        let mut z = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// What happened, from the beginning: everything is determined by the actions, so it happens again.
fn trace(steps: &[Step], last: usize, scope: &Scope, mistake: Option<Mutant>) -> String {
    let mut path = Vec::new();
    let mut at = last;
    while let Some(action) = steps[at].action {
        path.push(action);
        at = steps[at].from;
    }
    let mut world = World::new(&scope.cast, scope.faults, mistake);
    path.iter().rev().fold(String::new(), |mut text, action| {
        let result = world.act(*action, &scope.cast, mistake);
        let _ = writeln!(text, "{action:?}\n    {}", world.summary());
        result.map_or_else(|what| text.clone() + "    " + &what, |()| text.clone())
    })
}
