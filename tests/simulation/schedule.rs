//! One schedule from its seed to its verdict: faults, then healing, then what must work when nothing is wrong.
//!
//! PURE.

use std::collections::BTreeMap;

use leasehold::election::{ATTEMPT_JITTER, SUCCESSION_GRACE, Timing};

use crate::api::Api;
use crate::checks::{Check, Violation};
use crate::clock::{MILLI, Real, SECOND};
use crate::faults::LONGEST_EDITED_SECONDS;
use crate::parameters::{AnyMutant, Parameters};
use crate::world::World;

/// A leader whose watch is silent reads the Service each minute, and some calls take seconds.
const LOOK: Real = 70 * SECOND;

/// What became of a schedule.
pub struct Verdict {
    pub violation: Option<Violation>,
    pub lasted: Real,
    pub seen: BTreeMap<&'static str, u64>,
    pub trace: Vec<String>,
}

pub fn run<A: Api>(seed: u64, mutant: Option<AnyMutant>, traced: bool) -> Verdict {
    let mut world = World::<A>::new(Parameters::draw(seed), mutant, traced);
    live_through(&mut world);
    Verdict {
        violation: world.checks.violation().cloned(),
        lasted: world.now,
        seen: std::mem::take(&mut world.seen),
        trace: world.into_trace(),
    }
}

/// Ends early at the first violation.
fn live_through<A: Api>(world: &mut World<A>) -> bool {
    let safety = world.parameters.safety;
    if !world.run(safety, |_| false) {
        return false;
    }
    world.heal();
    let limits = Limits::of(&world.parameters);
    let (healed, longest) = (world.now, limits.longest_lease);
    world.run(healed + limits.convergence, |_| false)
        && one_leads(world, "within the bound after the faults stopped")
        && stays(world, longest)
        && is_routed(world)
        && after_a_crash(world, &limits)
        && after_a_shutdown(world, &limits)
        && all_done(world)
}

/// How long things may take when nothing is wrong. Clocks are real time's or faster, so a duration on any clock is
/// at most as long in real time.
struct Limits {
    longest_lease: Real,
    /// From the end of the faults to one leader, at worst one after the other:
    /// - 2 s: processes start again (1 s), and requests from before arrive (1 s);
    /// - a call in flight runs into its limit, which is less than the renewal deadline;
    /// - the API server asked for patience, of which a renewal deadline is granted;
    /// - work that was told to stop is dying: the longest lease duration covers `kill_after`;
    /// - a record that nobody renews runs out: the longest duration that anybody stated;
    /// - the only fit candidate stands back after a request to yield: a lease duration;
    /// - a poll, an attempt that loses to another's late one, a poll: a jittered retry period each;
    /// - the grace for a successor, jitter, and round trips: 1 s.
    convergence: Real,
    /// A leader dies: its record is seen a poll later at worst, runs out, and the successor may be gone.
    crash: Real,
    /// A leader shuts down, and a candidate watches: its work stops in 100 ms, then a release, an event, an attempt.
    handover_watched: Real,
    /// The same when the candidates only poll.
    handover_polled: Real,
}

impl Limits {
    fn of(parameters: &Parameters) -> Limits {
        let longest_lease = parameters.longest(Timing::lease_duration);
        let stated = longest_lease.max(LONGEST_EDITED_SECONDS * SECOND);
        let deadline = parameters.longest(Timing::renewal_deadline);
        let poll = parameters.longest(Timing::retry_period) * 12 / 10;
        let spread = u64::try_from((SUCCESSION_GRACE + ATTEMPT_JITTER).as_nanos()).expect("a short span");
        let trips = 30 * MILLI + 2 * parameters.latency.connect.end();
        Limits {
            longest_lease,
            convergence: 2 * SECOND + 2 * deadline + longest_lease + stated + longest_lease + 3 * poll + SECOND,
            crash: poll + longest_lease + spread + trips,
            handover_watched: 100 * MILLI + spread + trips,
            handover_polled: 100 * MILLI + poll + spread + trips,
        }
    }
}

fn leaders<A: Api>(world: &World<A>) -> Vec<(usize, u128)> {
    let leads = |node: usize| world.nodes[node].leading(world.now).map(|token| (node, token));
    (0..world.nodes.len()).filter_map(leads).collect()
}

fn one_leads<A: Api>(world: &mut World<A>, when: &str) -> bool {
    let leaders = leaders(world);
    if leaders.len() != 1 {
        world.checks.fail(Check::Liveness, || format!("{} lead {when}", leaders.len()));
    }
    leaders.len() == 1
}

/// Nothing is wrong: nothing changes.
fn stays<A: Api>(world: &mut World<A>, lasting: Real) -> bool {
    let before = leaders(world);
    let until = world.now + lasting;
    if !world.run(until, |_| false) {
        return false;
    }
    let after = leaders(world);
    if before != after {
        world.checks.fail(Check::Liveness, || format!("{before:?} led, now {after:?}, and nothing was wrong"));
    }
    before == after
}

/// The Service has followed.
fn is_routed<A: Api>(world: &mut World<A>) -> bool {
    let until = world.now + LOOK;
    if world.parameters.routes && !world.run(until, |_| false) {
        return false;
    }
    if let Some((leader, token)) = leaders(world).first().copied().filter(|_| world.parameters.routes) {
        let service = world.api.service();
        world.checks.settled_on(leader, token, service.as_ref());
    }
    world.checks.violation().is_none()
}

fn after_a_crash<A: Api>(world: &mut World<A>, limits: &Limits) -> bool {
    let Some((leader, token)) = leaders(world).first().copied().filter(|_| world.nodes.len() > 1) else { return true };
    world.crash(leader);
    await_successor(world, token, limits.crash, "a crash")
}

fn after_a_shutdown<A: Api>(world: &mut World<A>, limits: &Limits) -> bool {
    let Some((leader, token)) = leaders(world).first().copied() else { return true };
    let others = |node: &usize| *node != leader && world.nodes[*node].process.is_some();
    let others: Vec<usize> = (0..world.nodes.len()).filter(others).collect();
    if others.is_empty() {
        return true;
    }
    let watched = others.iter().any(|node| world.nodes[*node].process.as_ref().is_some_and(|p| p.watching.is_some()));
    let limit = if watched { limits.handover_watched } else { limits.handover_polled };
    world.shut_down(leader);
    await_successor(world, token, limit, "a shutdown")
}

fn await_successor<A: Api>(world: &mut World<A>, token: u128, limit: Real, after: &str) -> bool {
    let before = world.now;
    let new = |world: &World<A>| leaders(world).iter().any(|(_, later)| *later > token);
    if !world.run(before + limit, new) {
        return false;
    }
    if !new(world) {
        world.checks.fail(Check::Liveness, || format!("nobody leads {} ms after {after}", limit / MILLI));
        return false;
    }
    true
}

/// Work that stops in 100 ms, a release, and a call that was under way.
fn all_done<A: Api>(world: &mut World<A>) -> bool {
    world.closing = true;
    for node in 0..world.nodes.len() {
        world.shut_down(node);
    }
    let until = world.now + SECOND;
    if !world.run(until, |_| false) {
        return false;
    }
    for node in 0..world.nodes.len() {
        if world.nodes[node].process.is_some() {
            world.checks.fail(Check::Shutdown, || format!("node {node} is not done a second after it was asked"));
        }
    }
    if let Some(held) = world.api.facts().filter(|facts| facts.holder.is_some()) {
        world.checks.fail(Check::Shutdown, || format!("all are done, and the Lease is left to {:?}", held.holder));
    }
    world.checks.violation().is_none()
}
