//! P13: how fast a Lease changes hands, and at the price of how many conflicts, by the number of candidates.
//!
//! On virtual time, so the figures are the same on every machine.

use crate::api::Api;
use crate::clock::{MILLI, Real, SECOND};
use crate::model::Model;
use crate::parameters::Parameters;
use crate::world::World;

struct HandOver {
    /// From the instant at which the release is applied to the next leader.
    took: Real,
    /// Meanwhile: attempts that met another's.
    conflicts: u64,
    /// Afterwards, while the next successor is named.
    naming_conflicts: u64,
}

fn leader(world: &World<Model>) -> Option<usize> {
    (0..world.nodes.len()).find(|node| world.nodes[*node].leading(world.now).is_some())
}

/// The leader of `count` candidates shuts down.
fn hand_over(seed: u64, count: usize) -> HandOver {
    let mut world = World::<Model>::new(Parameters::fleet(seed, count), None, false);
    world.healed = Some(0);
    world.closing = false;
    world.run(20 * SECOND, |_| false);
    let old = leader(&world).expect("somebody leads");
    world.closing = true; // Who leaves does not come back as a candidate.
    world.shut_down(old);
    let limit = world.now + 20 * SECOND;
    world.run(limit, |world| world.api.facts().is_some_and(|lease| lease.holder.is_none()));
    let conflicts = |world: &World<Model>| world.seen.get("conflicts").copied().unwrap_or(0);
    let (released, before) = (world.now, conflicts(&world));
    world.run(limit, |world| leader(world).is_some());
    let (took, meanwhile) = (world.now - released, conflicts(&world));
    world.run(limit, |_| false);
    assert!(world.checks.violation().is_none(), "{:?}", world.checks.violation());
    HandOver { took, conflicts: meanwhile - before, naming_conflicts: conflicts(&world) - meanwhile }
}

/// The median, and the worst.
fn median_and_worst(figures: impl Iterator<Item = u64>) -> (u64, u64) {
    let mut sorted: Vec<u64> = figures.collect();
    sorted.sort_unstable();
    (sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}

#[test]
fn hand_over_is_quick_and_conflicts_are_few() {
    println!("candidates | rounds | hand-over, ms   | conflicts       | while naming    (median, worst)");
    for (count, rounds) in [(3, 200), (50, 200), (500, 20)] {
        let all: Vec<HandOver> = (0..rounds).map(|seed| hand_over(seed, count)).collect();
        let took = median_and_worst(all.iter().map(|one| one.took));
        let conflicts = median_and_worst(all.iter().map(|one| one.conflicts));
        let naming = median_and_worst(all.iter().map(|one| one.naming_conflicts));
        let ms = |real: Real| real as f64 / MILLI as f64;
        println!(
            "{count:>10} | {rounds:>6} | {:>6.1} {:>8.1} | {:>6} {:>8} | {:>6} {:>8}",
            ms(took.0),
            ms(took.1),
            conflicts.0,
            conflicts.1,
            naming.0,
            naming.1
        );
        assert!(took.1 <= 12 * MILLI, "{count} candidates hand over in {} ns", took.1);
        assert!(conflicts.1 <= 1, "{count} candidates make {} conflicts", conflicts.1);
        assert!(naming.1 <= 3, "{count} candidates make {} conflicts while they name the successor", naming.1);
    }
}
