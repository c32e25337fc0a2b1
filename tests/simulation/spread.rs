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
    conflicts: u64,
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
    let (released, conflicts) = (world.now, world.seen.get("conflicts").copied().unwrap_or(0));
    world.run(limit, |world| leader(world).is_some());
    let took = world.now - released;
    world.run(limit, |_| false);
    assert!(world.checks.violation().is_none(), "{:?}", world.checks.violation());
    HandOver { took, conflicts: world.seen.get("conflicts").copied().unwrap_or(0) - conflicts }
}

fn at(sorted: &[u64], per_cent: usize) -> u64 {
    sorted[(sorted.len() - 1) * per_cent / 100]
}

#[test]
fn hand_over_is_quick_and_conflicts_are_few() {
    println!("candidates | hand-over, median | worst    | conflicts, median | 95 of 100");
    let mut figures = Vec::new();
    for (count, runs) in [(3, 100), (50, 20), (500, 1)] {
        let all: Vec<HandOver> = (0..runs).map(|seed| hand_over(seed, count)).collect();
        let mut took: Vec<u64> = all.iter().map(|one| one.took).collect();
        let mut conflicts: Vec<u64> = all.iter().map(|one| one.conflicts).collect();
        took.sort_unstable();
        conflicts.sort_unstable();
        let ms = |real: Real| real as f64 / MILLI as f64;
        println!(
            "{count:>10} | {:>14.1} ms | {:>5.1} ms | {:>17} | {:>9}",
            ms(at(&took, 50)),
            ms(at(&took, 100)),
            at(&conflicts, 50),
            at(&conflicts, 95)
        );
        figures.push((count, at(&took, 100), at(&conflicts, 100)));
    }
    for (count, took, conflicts) in figures {
        assert!(took <= 12 * MILLI, "{count} candidates hand over in {took} ns");
        assert!(conflicts <= 2, "{count} candidates make {conflicts} conflicts");
    }
}
