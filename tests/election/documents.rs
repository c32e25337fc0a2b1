//! The worked example of `docs/election.md` is what happens.

use std::time::Duration;

use leasehold::election::{Annotations, CallKind, Input, LeaseRequest};

use crate::scenario::{Network, SPREAD, Scenario, held, secs};

const ELECTION: &str = include_str!("../../docs/election.md");

/// The instants in the first column of the document's table, in order.
fn stated() -> Vec<Duration> {
    let table = ELECTION.split("| leader's clock |").nth(1).expect("the worked example's table");
    let cells = table.lines().skip(2).map_while(|line| line.strip_prefix("| ")?.split(" s |").next());
    cells.map(|cell| Duration::from_secs_f64(cell.parse().expect("seconds"))).collect()
}

/// To the precision of the document.
fn rounded(instant: Duration) -> Duration {
    Duration::from_millis((instant.as_secs_f64() * 1000.0).round() as u64)
}

#[test]
fn the_worked_example_is_what_happens() {
    let mut leader = Scenario::leading();
    let sent = leader.now.boot;
    let timing = leader.timing();
    leader.run(secs(20), Network::Swallows);
    let calls: Vec<_> = leader.calls.iter().filter(|call| call.sent > sent).collect();
    let [renewal, look, another_look] = calls[..] else { panic!("{calls:?}") };
    assert_eq!(
        (renewal.purpose, &look.request, &another_look.request),
        (CallKind::Renew, &LeaseRequest::Get, &LeaseRequest::Get)
    );
    let validity = leader.election.validity().expect("the work has not stopped");

    let mut rival = Scenario::with("pod-b", "i", timing);
    rival.put(held("pod-a", 15), Annotations::default());
    rival.look();
    rival.input(Input::Watching(true));
    let seen = rival.now.boot;
    rival.run(secs(20), Network::Hangs);
    let attempt = rival.expect(CallKind::Acquire).sent.since(seen);

    let happened = [
        Duration::ZERO,
        renewal.sent.since(sent),
        renewal.sent.since(sent) + renewal.limit,
        look.sent.since(sent),
        look.sent.since(sent) + look.limit,
        another_look.sent.since(sent),
        timing.renewal_deadline(),
        validity.kill_at.since(sent),
        timing.lease_duration(),
    ];
    assert_eq!(stated(), happened.map(rounded));
    assert!((timing.lease_duration()..=timing.lease_duration() + SPREAD).contains(&attempt), "{attempt:?}");
}

#[test]
fn the_clock_rates_of_the_document_are_those_of_the_timing() {
    let timing = Scenario::new().timing();
    let lease = timing.lease_duration().as_secs_f64();
    for (of, stated) in [(timing.renewal_deadline(), "15 / 10 = 1.5"), (timing.kill_after(), "15 / 12.5 = 1.2")] {
        assert_eq!(stated, format!("{lease} / {} = {}", of.as_secs_f64(), lease / of.as_secs_f64()));
        assert!(ELECTION.contains(stated), "{stated}");
    }
}

#[test]
fn every_rule_has_its_row() {
    for rule in 1..=20 {
        assert_eq!(ELECTION.matches(&format!("\n| P{rule} | ")).count(), 1, "P{rule}");
    }
}
