//! Every interleaving of a small case: two candidates, one Lease, coarse ticks, a bounded number of faults.
//!
//! PURE, but for the one variable below. Breadth first, a tick at a time. All that may happen within a tick, in any order: due timers, the API server
//! applying a call, its reply, the watch's news, work that stops. A tick may pass with some of it still outstanding,
//! but that, as any other fault (a call lost, applied late or twice, a crash, a deletion, a request to yield, a
//! shutdown), is paid for from a budget: so every run with that many faults, in any combination, is looked at.
//!
//! Durations are 2 s, 1.5 s and 0.5 s, a tick is half a second, and the second candidate's clock runs 1.1 times as fast
//! as the first one's: deadlines and expiries fall on ticks for the one and between ticks for the other.
//!
//! `EXHAUSTIVE=1 cargo test --release --test exhaustive -- --nocapture` allows one more fault, and takes minutes.

mod exhaustive {
    pub mod search;
    pub mod world;
}

use exhaustive::search::{Outcome, Scope, search};
use leasehold::election::Mutant;

/// As asked for by the environment: so many more faults than by default.
fn more() -> u8 {
    std::env::var("EXHAUSTIVE").ok().map_or(0, |text| text.parse().expect("EXHAUSTIVE is a small number"))
}

fn holds(name: &str, scope: &Scope) {
    let scope = Scope { faults: scope.faults + more(), ..scope.clone() };
    match search(&scope, None) {
        Outcome::Holds { states, terms } => {
            println!(
                "{name}: {states} states, {terms} of them with a new term, {} ticks, {} faults",
                scope.ticks, scope.faults
            );
            assert!(terms > 100, "{name}: the case is too small to show anything");
        }
        Outcome::Violated { states, what, trace } => panic!("{name}, after {states} states: {what}\n{trace}"),
    }
}

#[test]
fn two_candidates_and_a_bad_network() {
    holds("two candidates and a bad network", &Scope::network());
}

#[test]
fn two_candidates_and_a_slow_network() {
    holds("two candidates and a slow network", &Scope::slow_network());
}

#[test]
fn two_candidates_that_crash_and_restart() {
    holds("two candidates that crash and restart", &Scope::crashes());
}

#[test]
fn two_candidates_and_an_operator() {
    holds("two candidates and an operator", &Scope::operator());
}

#[test]
fn two_candidates_with_one_name() {
    holds("two candidates with one name", &Scope::one_name());
}

#[test]
fn two_candidates_with_different_durations() {
    holds("two candidates with different durations", &Scope::mixed());
}

#[test]
fn known_mistakes_are_found() {
    let mistakes = [
        (Mutant::DeadlineFromReply, Scope::slow_network(), 2),
        (Mutant::LateAcquisitionLeads, Scope::slow_network(), 3),
        (Mutant::ExpiryByWallClock, Scope::slow_network(), 1),
        (Mutant::RetryAfterConflict, Scope::slow_network(), 1),
        (Mutant::ResumeTerm, Scope::slow_network(), 2),
        (Mutant::AmbiguousIsSuccess, Scope::network(), 2),
        (Mutant::ReleaseBeforeWorkStopped, Scope::operator(), 1),
        (Mutant::DeletionIsRelease, Scope::operator(), 1),
        (Mutant::IdentityWithoutIncarnation, Scope::one_name(), 1),
        (Mutant::ExpiryByOwnDuration, Scope::mixed(), 1),
    ];
    let mut missed = Vec::new();
    for (mistake, scope, faults) in mistakes {
        match search(&Scope { faults, ..scope }, Some(mistake)) {
            Outcome::Violated { states, what, .. } => println!("{mistake:?}: {what}, after {states} states"),
            Outcome::Holds { states, .. } => missed.push(format!("{mistake:?} ({states} states)")),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
