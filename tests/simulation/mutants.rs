//! The checkers, checked: known mistakes, built in one at a time, must each be caught by a check.
//!
//! The same seeds without a mistake violate nothing: the main run of schedules begins with them.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use leasehold::election::Mutant;

use crate::model::Model;
use crate::parameters::{AnyMutant, NodeMistake};
use crate::schedule;

/// Within so many schedules each must be caught; the main run is as long, or longer.
const BUDGET: u64 = 400;

const ALL: [AnyMutant; 26] = [
    AnyMutant::Election(Mutant::DeadlineFromReply),
    AnyMutant::Election(Mutant::ExpiryByWallClock),
    AnyMutant::Election(Mutant::ExpiryByOwnDuration),
    AnyMutant::Election(Mutant::WriteWithoutVersion),
    AnyMutant::Election(Mutant::RetryAfterConflict),
    AnyMutant::Election(Mutant::ReleaseBeforeWorkStopped),
    AnyMutant::Election(Mutant::ReleaseWithoutOwnership),
    AnyMutant::Election(Mutant::LeadOnBesideRival),
    AnyMutant::Election(Mutant::ResumeTerm),
    AnyMutant::Election(Mutant::AmbiguousIsSuccess),
    AnyMutant::Election(Mutant::IdentityWithoutIncarnation),
    AnyMutant::Election(Mutant::DeletionIsRelease),
    AnyMutant::Election(Mutant::LateAcquisitionLeads),
    AnyMutant::Election(Mutant::SuccessorBeforeExpiry),
    AnyMutant::Election(Mutant::SuccessorWithoutVacancy),
    AnyMutant::Election(Mutant::UnfencedRoute),
    AnyMutant::Election(Mutant::FenceByLeaseAge),
    AnyMutant::Election(Mutant::VoidFenceObeyed),
    AnyMutant::Election(Mutant::UnpacedRoute),
    AnyMutant::Election(Mutant::RouteByWatchAlone),
    AnyMutant::Node(NodeMistake::ClockStopsInSuspend),
    AnyMutant::Node(NodeMistake::NoKillTimer),
    AnyMutant::Node(NodeMistake::StoppedWhenTold),
    AnyMutant::Node(NodeMistake::StartsUnasked),
    AnyMutant::Node(NodeMistake::IncarnationWithoutNamespace),
    AnyMutant::Election(Mutant::NoPace),
];

/// The line of the table, or `None` when it survived.
fn hunt(mutant: AnyMutant) -> Option<String> {
    (0..BUDGET).find_map(|seed| {
        let violation = schedule::run::<Model>(seed, Some(mutant), false).violation?;
        let name = match mutant {
            AnyMutant::Election(mistake) => format!("{mistake:?}"),
            AnyMutant::Node(mistake) => format!("{mistake:?}"),
        };
        let what: String = violation.what.chars().take(90).collect();
        Some(format!("{name:28} | {:11} | {:>5} | {what}", format!("{:?}", violation.check), seed + 1))
    })
}

#[test]
fn every_mutant_is_caught() {
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(vec![None; ALL.len()]);
    let worker = || {
        while let Some(mutant) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let line = hunt(*mutant);
            let at = ALL.iter().position(|one| one == mutant).expect("one of them");
            lines.lock().expect("no worker panics")[at] = Some(line);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
    let mut table = format!("{:28} | {:11} | {:>5} | what it saw\n", "mutant", "caught by", "after");
    let mut survivors = Vec::new();
    for (mutant, line) in ALL.iter().zip(lines.into_inner().expect("no worker panics")) {
        match line.flatten() {
            Some(line) => writeln!(table, "{line}").expect("a String"),
            None => survivors.push(mutant),
        }
    }
    println!("{table}");
    assert!(survivors.is_empty(), "not caught within {BUDGET} schedules: {survivors:?}");
}
