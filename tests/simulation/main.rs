//! The deterministic simulation of whole elections; `README.md` beside this file says what it simulates and checks.
//!
//! - `SIMULATION_SEED=n` replays one schedule, with every event.
//! - `SIMULATION_SCHEDULES=n` runs that many; `SIMULATION_KEEP_GOING=1` shows all failures, not the first.

mod api;
mod checks;
mod clock;
mod faults;
mod foreign;
mod model;
mod mutants;
mod network;
mod node;
mod parameters;
mod random;
mod routes;
mod runner;
mod schedule;
mod seen;
mod spread;
mod wire;
mod world;

use std::time::Instant;

use model::Model;

/// Seeds that once found something. What it was is in `README.md`.
const REGRESSIONS: [u64; 3] = [85, 306, 475];

/// The last so many events explain a failure.
const EVENTS_SHOWN: usize = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

fn schedules() -> u64 {
    let usual = if cfg!(debug_assertions) { 400 } else { 20_000 };
    number("SIMULATION_SCHEDULES").unwrap_or(usual)
}

fn fail(seed: u64) -> ! {
    runner::replay::<Model>(seed, None, EVENTS_SHOWN);
    panic!("to replay it: SIMULATION_SEED={seed} cargo test --test simulation schedule -- --nocapture");
}

#[test]
fn no_schedule_violates_a_check() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let verdict = runner::replay::<Model>(seed, None, usize::MAX);
        return assert!(verdict.violation.is_none(), "seed {seed}");
    }
    let keep_going = number("SIMULATION_KEEP_GOING").is_some();
    for seed in REGRESSIONS.into_iter().filter(|_| !keep_going) {
        if schedule::run::<Model>(seed, None, false).violation.is_some() {
            fail(seed);
        }
    }
    let (began, seeds) = (Instant::now(), 0..schedules());
    println!("seeds {seeds:?}");
    let summary = runner::run::<Model>(seeds, keep_going);
    println!("{} schedules, {:.0} simulated hours, in {:.0?}", summary.schedules, summary.hours(), began.elapsed());
    println!("{:#?}", summary.seen);
    for (seed, what) in &summary.failures {
        println!("seed {seed}: {what}");
    }
    if let Some(seed) = summary.failures.keys().next() {
        fail(*seed);
    }
}

#[test]
fn the_shipped_json_and_the_served_store_do_as_well() {
    let schedules = if cfg!(debug_assertions) { 50 } else { 2_000 };
    let began = Instant::now();
    let summary = runner::run::<wire::Wire>(1_000_000..1_000_000 + schedules, false);
    println!("{} schedules, {:.0} simulated hours, in {:.0?}", summary.schedules, summary.hours(), began.elapsed());
    if let Some(seed) = summary.failures.keys().next() {
        runner::replay::<wire::Wire>(*seed, None, EVENTS_SHOWN);
        panic!("seed {seed}, on the wire");
    }
}
