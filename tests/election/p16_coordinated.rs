//! P16: a Lease with a `strategy` belongs to coordinated leader election.

use leasehold::election::{Annotations, CallKind, Ending, Event};

use crate::scenario::{Network, Scenario, millis, secs, vacant};

fn campaigning() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.put(vacant(), Annotations::default());
    scenario.edit(|lease| lease.coordinated = true);
    scenario.look();
    scenario
}

#[test]
fn a_coordinated_lease_is_not_campaigned_for_and_the_reason_is_said_once() {
    let mut scenario = campaigning();
    scenario.run(secs(100), Network::Serves);
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
    assert_eq!(scenario.reported(&Event::Coordinated), 1);
}

#[test]
fn campaigning_begins_when_the_strategy_is_removed() {
    let mut scenario = campaigning();
    scenario.edit(|lease| lease.coordinated = false);
    scenario.run(secs(3), Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn a_leader_whose_lease_becomes_coordinated_stops_at_once_and_writes_nothing_more() {
    let mut scenario = Scenario::leading();
    scenario.edit(|lease| lease.coordinated = true);
    scenario.see();
    assert_eq!(scenario.ending(), Some(&Ending::Coordinated));
    let calls_before = scenario.calls.len();
    scenario.run(secs(6), Network::Serves);
    scenario.work_stops();
    scenario.run(secs(60), Network::Serves);
    assert_eq!(scenario.calls.len(), calls_before);
    assert_eq!(scenario.reported(&Event::Coordinated), 1);
}

#[test]
fn a_term_that_was_won_on_a_lease_that_became_coordinated_never_begins() {
    let mut scenario = Scenario::acquiring();
    let request = scenario.pending.clone().unwrap().request;
    let answer = scenario.apply(&request);
    scenario.edit(|lease| lease.coordinated = true);
    scenario.see();
    scenario.reply(answer);
    scenario.run(millis(10), Network::Serves);
    assert_eq!(scenario.terms.len(), 0);
}
