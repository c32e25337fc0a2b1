//! Shutdown, in every state: the work stops, what is held is released, and then the election is done.

use leasehold::election::{CallKind, Event, Input};

use crate::scenario::{ME, Network, RIVAL, Scenario, held, millis, secs};

#[test]
fn a_candidate_is_done_at_once() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.input(Input::Shutdown);
    assert!(scenario.done);
}

#[test]
fn a_candidate_that_never_did_anything_is_done_at_once() {
    let mut scenario = Scenario::new();
    scenario.input(Input::Shutdown);
    assert!(scenario.done && scenario.calls.is_empty());
}

#[test]
fn a_look_in_flight_is_waited_for_and_nothing_follows_it() {
    let mut scenario = Scenario::new();
    scenario.input(Input::Timer);
    scenario.input(Input::Shutdown);
    assert!(!scenario.done);
    scenario.serve();
    assert!(scenario.done && scenario.calls.len() == 1);
}

#[test]
fn an_acquisition_in_flight_that_succeeds_is_released() {
    let mut scenario = Scenario::acquiring();
    scenario.input(Input::Shutdown);
    scenario.serve();
    assert_eq!((scenario.leads(), scenario.work), (false, None));
    assert_eq!(scenario.reported(&Event::AcquiredUnwanted), 1);
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, true));
}

#[test]
fn an_acquisition_in_flight_that_fails_is_the_end() {
    let mut scenario = Scenario::acquiring();
    scenario.held_by(RIVAL);
    scenario.input(Input::Shutdown);
    scenario.serve();
    assert!(scenario.done);
}

#[test]
fn an_acquisition_in_doubt_is_looked_after_and_released() {
    let mut scenario = Scenario::acquiring();
    scenario.input(Input::Shutdown);
    scenario.apply_and_lose_reply();
    assert!(!scenario.done, "the others would wait for it in vain");
    scenario.serve();
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, true));
}

#[test]
fn an_acquisition_in_doubt_that_was_not_applied_is_the_end() {
    let mut scenario = Scenario::acquiring();
    scenario.lose();
    scenario.input(Input::Shutdown);
    scenario.serve();
    assert!(scenario.done);
    assert_eq!(scenario.calls_for(CallKind::Acquire).len(), 1);
}

#[test]
fn an_acquisition_in_doubt_is_looked_after_no_longer_than_it_could_matter() {
    for network in [Network::Refuses, Network::Swallows] {
        let mut scenario = Scenario::acquiring();
        scenario.input(Input::Shutdown);
        scenario.run(secs(20), network);
        assert!(scenario.done, "{network:?}");
        assert_eq!(scenario.calls_for(CallKind::Acquire).len(), 1);
    }
}

#[test]
fn a_leader_stops_its_work_then_releases_then_is_done() {
    let mut scenario = Scenario::leading();
    scenario.input(Input::Shutdown);
    assert!(scenario.told_to_stop && !scenario.done && scenario.pending.is_none());
    scenario.work_stops();
    assert_eq!(scenario.holder(), Some(ME));
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, true));
}

#[test]
fn every_state_ends_in_done_once_the_work_has_stopped_and_the_network_answers() {
    for (name, mut scenario) in Scenario::all() {
        for again in [false, true] {
            if !scenario.done {
                scenario.input(Input::Shutdown);
            }
            assert!(!scenario.leads(), "{name}, again: {again}");
        }
        if scenario.work.is_some() {
            assert!(scenario.told_to_stop, "{name}");
            scenario.work_stops();
        }
        scenario.run(millis(10), Network::Serves);
        assert!(scenario.done, "{name}: {:?}", scenario.election);
        let mine = scenario.holder() == Some(ME);
        assert!(!mine, "{name}: the Lease is still held");
    }
}

#[test]
fn every_state_ends_in_done_though_the_network_is_gone() {
    for (name, mut scenario) in Scenario::all() {
        if !scenario.done {
            scenario.input(Input::Shutdown);
        }
        if scenario.work.is_some() {
            scenario.work_stops();
        }
        scenario.run(secs(30), Network::Swallows);
        assert!(scenario.done, "{name}: {:?}", scenario.election);
    }
}

#[test]
fn nothing_comes_after_done() {
    let mut scenario = Scenario::done();
    let lease = scenario.lease.clone().unwrap();
    let token = scenario.terms[0].token;
    for input in [
        Input::Timer,
        Input::Shutdown,
        Input::Watching(false),
        Input::Fit(false),
        Input::Fit(true),
        Input::WorkStopped(token),
        Input::Deleted(lease.version + 1),
    ] {
        scenario.input(input); // the scenario refuses outputs after Done
        assert_eq!(scenario.wake, None);
    }
    scenario.held_by(ME);
    scenario.see();
    assert!(scenario.done && scenario.wake.is_none());
}
