//! Many schedules on all cores, and what they add up to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::api::Api;
use crate::clock::Real;
use crate::parameters::{AnyMutant, Parameters};
use crate::schedule::{self, Verdict};

/// What a range of schedules came to.
#[derive(Default)]
pub struct Summary {
    pub schedules: u64,
    lasted: u128,
    pub seen: BTreeMap<&'static str, u64>,
    /// The violations found, by seed.
    pub failures: BTreeMap<u64, String>,
}

impl Summary {
    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.schedules += 1;
        self.lasted += u128::from(verdict.lasted);
        for (what, times) in verdict.seen {
            *self.seen.entry(what).or_default() += times;
        }
        if let Some(violation) = verdict.violation {
            self.failures.insert(seed, violation.to_string());
        }
    }

    fn join(mut self, other: Summary) -> Summary {
        self.schedules += other.schedules;
        self.lasted += other.lasted;
        other.seen.into_iter().for_each(|(what, times)| *self.seen.entry(what).or_default() += times);
        self.failures.extend(other.failures);
        self
    }

    pub fn hours(&self) -> f64 {
        self.lasted as f64 / (3600.0 * crate::clock::SECOND as f64)
    }
}

/// Runs the schedules of `seeds`; stops at the first failure unless all are wanted.
pub fn run<A: Api>(seeds: std::ops::Range<u64>, keep_going: bool) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let worker = || {
        let mut summary = Summary::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let verdict = schedule::run::<A>(seed, None, false);
            if verdict.violation.is_some() && !keep_going {
                stop.store(true, Ordering::Relaxed);
            }
            summary.add(seed, verdict);
        }
        summary
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker")).fold(Summary::default(), Summary::join)
    })
}

/// Runs one schedule again and prints all that is needed to understand it.
pub fn replay<A: Api>(seed: u64, mutant: Option<AnyMutant>, events: usize) -> Verdict {
    print!("{}", Parameters::draw(seed));
    let verdict = schedule::run::<A>(seed, mutant, true);
    let skipped = verdict.trace.len().saturating_sub(events);
    println!("({skipped} events before)");
    verdict.trace[skipped..].iter().for_each(|line| println!("{line}"));
    let lasted: Real = verdict.lasted;
    match &verdict.violation {
        Some(violation) => println!("after {:.3} s: {violation}", lasted as f64 / crate::clock::SECOND as f64),
        None => println!("no check is violated"),
    }
    verdict
}
