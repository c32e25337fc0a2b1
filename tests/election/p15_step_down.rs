//! P9, P15: a term that ends by will is kept, and renewed, until its work has stopped.

use leasehold::election::{CallKind, Ending, Event, Input};

use crate::scenario::{ME, Network, RIVAL, Scenario, millis, secs};

#[test]
fn stepping_down_stops_the_work_and_keeps_the_lease() {
    let scenario = Scenario::stepping_down();
    assert_eq!(scenario.ending(), Some(&Ending::Shutdown));
    assert!(!scenario.leads() && scenario.told_to_stop);
    assert!(scenario.pending.is_none(), "no release while the work runs");
    assert_eq!(scenario.holder(), Some(ME));
}

#[test]
fn the_lease_is_renewed_while_the_work_stops() {
    let mut scenario = Scenario::stepping_down();
    scenario.run(secs(60), Network::Serves);
    assert_eq!(scenario.calls_for(CallKind::Renew).len(), 12);
    assert!(scenario.calls_for(CallKind::Release).is_empty());
    assert!(!scenario.leads(), "keeping is not leading");
}

#[test]
fn a_renewal_in_flight_is_still_acknowledged() {
    let mut scenario = Scenario::renewing();
    scenario.input(Input::Shutdown);
    scenario.serve();
    assert_eq!(scenario.reported(&Event::Renewed), 1);
    scenario.run(secs(9), Network::Refuses);
    assert_eq!(scenario.calls_for(CallKind::Release).len(), 0);
}

#[test]
fn the_release_follows_the_end_of_the_work() {
    let mut scenario = Scenario::stepping_down();
    scenario.run(secs(7), Network::Serves);
    scenario.work_stops();
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, true));
}

#[test]
fn the_release_waits_for_a_renewal_in_flight() {
    let mut scenario = Scenario::stepping_down();
    scenario.run(secs(5), Network::Hangs);
    scenario.expect(CallKind::Renew);
    scenario.work_stops();
    scenario.expect(CallKind::Renew);
    scenario.serve();
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, true));
}

#[test]
fn a_deadline_that_passes_while_the_work_stops_ends_all_writing() {
    let mut scenario = Scenario::stepping_down();
    scenario.run(secs(10), Network::Refuses);
    let calls_before = scenario.calls.len();
    scenario.run(secs(60), Network::Serves);
    assert_eq!(scenario.calls.len(), calls_before);
    assert_eq!(scenario.ending(), Some(&Ending::Shutdown), "the term ended by will, and is reported once");
}

#[test]
fn work_that_ends_after_the_deadline_but_before_the_lease_runs_out_is_still_released_on_shutdown() {
    let mut scenario = Scenario::stepping_down();
    scenario.run(secs(12), Network::Refuses);
    scenario.work_stops();
    scenario.run(millis(1), Network::Serves);
    assert_eq!((scenario.holder(), scenario.done), (None, true));
}

#[test]
fn a_rival_seen_while_the_work_stops_ends_all_writing() {
    let mut scenario = Scenario::stepping_down();
    scenario.held_by(RIVAL);
    scenario.see();
    scenario.run(secs(6), Network::Serves);
    assert!(scenario.calls_for(CallKind::Renew).is_empty());
    scenario.work_stops();
    assert_eq!((scenario.holder(), scenario.done), (Some(RIVAL), true));
    assert!(scenario.calls_for(CallKind::Release).is_empty());
}

#[test]
fn work_that_is_told_to_stop_has_until_the_kill_time_of_the_last_renewal() {
    let mut scenario = Scenario::stepping_down();
    let stopping_since = scenario.now.boot;
    let kill_at = |scenario: &Scenario| scenario.election.validity().unwrap().kill_at;
    assert!(kill_at(&scenario) <= stopping_since + millis(12_500));
    scenario.run(secs(6), Network::Serves);
    assert_eq!(kill_at(&scenario), stopping_since + millis(12_500), "renewals do not prolong the stopping without end");
    scenario.run(millis(12_500), Network::Refuses);
    assert!(kill_at(&scenario) <= stopping_since + millis(12_500));
}

#[test]
fn work_that_ends_by_itself_is_released_at_once() {
    let mut scenario = Scenario::leading();
    scenario.work_stops();
    assert_eq!(scenario.ending(), Some(&Ending::WorkEnded));
    assert!(!scenario.told_to_stop, "there is nothing to stop");
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, false));
}
