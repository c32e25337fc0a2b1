//! P17: hand-over on request.

use leasehold::election::{Annotations, CallKind, Ending, Input, Record};

use crate::scenario::{ME, Network, RIVAL, SPREAD, Scenario, held, millis, secs, vacant};

/// A request to yield has been met: the work has stopped and the Lease is released.
fn yielded(to: &str) -> Scenario {
    let mut scenario = Scenario::yielding(to);
    scenario.work_stops();
    scenario.serve();
    assert_eq!(scenario.holder(), None);
    scenario
}

#[test]
fn a_request_to_yield_stops_the_work_and_keeps_the_lease_until_it_has_stopped() {
    for to in [RIVAL, ""] {
        let mut scenario = Scenario::yielding(to);
        assert_eq!(scenario.ending(), Some(&Ending::Yielded(to.into())));
        scenario.run(secs(12), Network::Serves);
        assert_eq!(scenario.holder(), Some(ME));
        assert!(scenario.calls_for(CallKind::Release).is_empty());
    }
}

#[test]
fn the_release_clears_the_request_and_names_who_is_to_follow() {
    for to in [RIVAL, ""] {
        let scenario = yielded(to);
        let annotations = scenario.lease.as_ref().unwrap().annotations.clone();
        assert_eq!(annotations, Annotations { yielded_to: Some(to.into()), ..Annotations::default() });
    }
}

#[test]
fn who_has_yielded_stands_back_for_one_lease_duration() {
    let mut scenario = yielded("");
    let released_at = scenario.now.boot;
    scenario.run(secs(60), Network::Hangs);
    let again = scenario.expect(CallKind::Acquire).sent.since(released_at);
    assert!((secs(15)..=secs(15) + SPREAD).contains(&again), "{again:?}: nobody else came, so it does");
}

#[test]
fn standing_back_outlasts_a_failed_call() {
    // A renewal is in flight when the deadline passes; its answer comes when the leader is a candidate again.
    let mut scenario = Scenario::yielding("");
    scenario.run(secs(5), Network::Serves);
    scenario.run(secs(8), Network::Refuses);
    scenario.run(secs(10), Network::Hangs);
    assert!(scenario.pending.is_some());
    let since = scenario.now.boot;
    scenario.work_stops();
    scenario.lose();
    scenario.run(millis(1), Network::Serves);
    scenario.run(secs(14), Network::Serves);
    assert!(!scenario.leads(), "{:?} after standing back began", scenario.now.boot.since(since));
    scenario.run(secs(2), Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn the_named_candidate_acquires_at_once() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.put(vacant(), Annotations { yielded_to: Some(ME.into()), ..Annotations::default() });
    scenario.see();
    scenario.expect(CallKind::Acquire);
    scenario.serve();
    assert!(scenario.leads());
    assert_eq!(scenario.lease.as_ref().unwrap().annotations.yielded_to, None, "the winner clears the mark");
}

#[test]
fn the_others_wait_a_little_for_the_named_candidate() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.put(vacant(), Annotations { yielded_to: Some("pod-c".into()), ..Annotations::default() });
    scenario.see();
    let seen_at = scenario.now.boot;
    scenario.run(secs(60), Network::Hangs);
    let waited = scenario.expect(CallKind::Acquire).sent.since(seen_at);
    assert!((secs(2)..=secs(2) + SPREAD).contains(&waited), "{waited:?}");
}

#[test]
fn nobody_waits_when_anyone_may_follow() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.put(vacant(), Annotations { yielded_to: Some(String::new()), ..Annotations::default() });
    scenario.see();
    scenario.run(SPREAD, Network::Hangs);
    scenario.expect(CallKind::Acquire);
}

#[test]
fn the_lease_can_be_handed_straight_back() {
    let mut scenario = yielded(RIVAL);
    scenario.held_by(RIVAL);
    scenario.see();
    scenario.run(secs(1), Network::Hangs);
    scenario.put(vacant(), Annotations { yielded_to: Some(ME.into()), ..Annotations::default() });
    scenario.see();
    scenario.expect(CallKind::Acquire);
}

#[test]
fn a_request_to_yield_to_the_leader_itself_is_cleared_soon() {
    let mut scenario = Scenario::leading();
    scenario.edit(|lease| lease.annotations.yield_to = Some(ME.into()));
    scenario.see();
    assert!(scenario.leads());
    scenario.run_until_call(scenario.timing().renewal_retry());
    let (_, annotations) = scenario.written(CallKind::Renew);
    assert_eq!(annotations.yield_to, None);
    assert!(annotations.incarnation.is_some());
    scenario.serve();
    assert!(scenario.leads());
}

#[test]
fn a_request_is_heeded_when_it_is_found_by_a_renewals_conflict() {
    let mut scenario = Scenario::renewing();
    scenario.edit(|lease| lease.annotations.yield_to = Some(RIVAL.into()));
    scenario.serve(); // a conflict
    scenario.serve(); // the look
    assert_eq!(scenario.ending(), Some(&Ending::Yielded(RIVAL.into())));
}

#[test]
fn an_acquisition_clears_a_request_that_was_meant_for_the_holder_before() {
    let mut scenario = Scenario::new();
    scenario.put(Record { ..vacant() }, Annotations { yield_to: Some(String::new()), ..Annotations::default() });
    scenario.look();
    scenario.serve();
    scenario.see();
    assert!(scenario.leads());
    assert_eq!(scenario.lease.as_ref().unwrap().annotations.yield_to, None);
}

#[test]
fn a_second_request_while_the_work_stops_changes_nothing() {
    let mut scenario = Scenario::yielding(RIVAL);
    scenario.edit(|lease| lease.annotations.yield_to = Some("pod-c".into()));
    scenario.see();
    scenario.work_stops();
    scenario.serve();
    assert_eq!(scenario.lease.as_ref().unwrap().annotations.yielded_to.as_deref(), Some(RIVAL));
}

#[test]
fn shutdown_while_standing_back_is_done_at_once() {
    let mut scenario = yielded("");
    scenario.input(Input::Shutdown);
    assert!(scenario.done);
}
