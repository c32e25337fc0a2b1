//! P9: what a release writes, and that it can only ever end one's own term.

use leasehold::election::{Annotations, CallKind, Event, Input, Record};

use crate::scenario::{ME, Network, RIVAL, Scenario, millis, secs};

#[test]
fn a_release_has_the_shape_that_every_elector_understands() {
    let scenario = Scenario::releasing();
    let (record, annotations) = scenario.written(CallKind::Release);
    let now = Some(scenario.now.wall);
    let expected =
        Record { holder: None, lease_duration_seconds: Some(1), acquire_time: now, renew_time: now, transitions: 5 };
    assert!(record.renew_time > scenario.lease.as_ref().unwrap().record.renew_time || record.renew_time == now);
    assert_eq!(record.renew_time, record.acquire_time);
    assert_eq!(Record { acquire_time: now, renew_time: now, ..record }, expected);
    assert_eq!(annotations, Annotations::default());
}

#[test]
fn a_conflicting_release_of_what_is_still_ones_own_is_sent_again() {
    let mut scenario = Scenario::releasing();
    scenario.edit(|_| {}); // a label
    scenario.serve();
    scenario.expect(CallKind::Observe);
    scenario.serve();
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, true));
    assert_eq!(scenario.reported(&Event::Released), 1);
}

#[test]
fn a_conflicting_release_of_what_is_anothers_is_given_up() {
    let mut scenario = Scenario::releasing();
    scenario.held_by(RIVAL);
    scenario.serve();
    scenario.expect(CallKind::Observe);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (Some(RIVAL), true));
    assert_eq!(scenario.reported(&Event::Released), 0);
}

#[test]
fn a_later_term_of_the_same_name_is_anothers_too() {
    let mut scenario = Scenario::releasing();
    scenario.now.wall.0 += 1_000_000;
    scenario.held_by(ME);
    scenario.serve();
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (Some(ME), true));
}

#[test]
fn a_rival_seen_by_the_watch_ends_the_release_before_its_reply() {
    let mut scenario = Scenario::releasing();
    scenario.held_by(RIVAL);
    scenario.see();
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (Some(RIVAL), true));
    assert_eq!(scenario.calls_for(CallKind::Release).len(), 1);
}

#[test]
fn the_own_release_seen_by_the_watch_before_its_reply_is_a_release() {
    let mut scenario = Scenario::releasing();
    let request = scenario.pending.clone().unwrap().request;
    let answer = scenario.apply(&request);
    scenario.see();
    scenario.reply(answer);
    assert_eq!((scenario.done, scenario.reported(&Event::Released)), (true, 1));
}

#[test]
fn a_deleted_lease_needs_no_release() {
    let mut scenario = Scenario::stepping_down();
    scenario.delete_seen();
    scenario.work_stops();
    assert!(scenario.done && scenario.pending.is_none());
}

#[test]
fn a_release_that_cannot_be_sent_is_given_up_in_bounded_time() {
    for network in [Network::Refuses, Network::Swallows] {
        let mut scenario = Scenario::releasing();
        scenario.run(scenario.timing().renewal_deadline() + scenario.timing().call_limit(), network);
        assert_eq!((scenario.done, scenario.reported(&Event::ReleaseFailed)), (true, 1), "{network:?}");
    }
}

#[test]
fn a_release_that_is_refused_is_tried_again() {
    let mut scenario = Scenario::releasing();
    scenario.run(secs(3), Network::Refuses);
    assert_eq!(scenario.holder(), Some(ME));
    scenario.run(secs(2), Network::Serves);
    assert_eq!((scenario.holder(), scenario.done), (None, true));
}

#[test]
fn a_release_in_flight_when_its_time_runs_out_is_waited_for_without_spinning() {
    let mut scenario = Scenario::releasing();
    scenario.run(secs(60), Network::Hangs); // the scenario checks that no wait ends in nothing
    scenario.lose();
    assert_eq!((scenario.done, scenario.reported(&Event::ReleaseFailed)), (true, 1));
}

#[test]
fn a_release_without_shutdown_makes_a_candidate_again() {
    let mut scenario = Scenario::leading();
    scenario.input(Input::Fit(false));
    scenario.work_stops();
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, false));
    scenario.run(secs(30), Network::Serves);
    assert!(!scenario.leads());
    scenario.input(Input::Fit(true));
    scenario.run(millis(100), Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn a_record_that_has_run_out_is_released_too() {
    let mut scenario = Scenario::acquiring();
    scenario.apply_and_lose_reply();
    scenario.run(secs(20), Network::Refuses);
    scenario.run(secs(3), Network::Serves);
    assert_eq!((scenario.reported(&Event::AcquiredTooLate), scenario.reported(&Event::Released)), (1, 1));
    assert_eq!(scenario.reported(&Event::ReleaseFailed), 0);
}
