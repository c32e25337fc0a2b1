//! P4, P5, P12: how long a holder's record is waited out, and what starts the wait anew.

use leasehold::election::{Annotations, CallKind, Event, Input, LeaseRequest, Record, Snapshot};
use leasehold::time::WallTime;

use crate::scenario::{EPOCH, ME, Network, RIVAL, SPREAD, Scenario, held, millis, secs};

/// Waits for the attempt and says how long after `from` it came.
fn attempt_comes_after(mut scenario: Scenario, least: std::time::Duration) {
    let from = scenario.now.boot;
    scenario.run(secs(200), Network::Hangs);
    let waited = scenario.expect(CallKind::Acquire).sent.since(from);
    assert!((least..=least + SPREAD).contains(&waited), "{waited:?} instead of {least:?}");
}

#[test]
fn a_holder_is_waited_out_for_the_duration_that_its_record_states() {
    for seconds in [1, 15, 60, 137] {
        attempt_comes_after(Scenario::watching(held(RIVAL, seconds)), secs(seconds.into()));
    }
}

#[test]
fn a_record_without_a_duration_is_waited_out_for_ones_own() {
    attempt_comes_after(Scenario::watching(Record { lease_duration_seconds: None, ..held(RIVAL, 1) }), secs(15));
}

#[test]
fn the_wait_counts_from_the_own_observation_whatever_the_records_times_say() {
    for renew_time in [None, Some(WallTime(0)), Some(WallTime(EPOCH.0 + 86_400_000_000)), Some(WallTime::LAST)] {
        attempt_comes_after(Scenario::watching(Record { renew_time, ..held(RIVAL, 15) }), secs(15));
    }
}

#[test]
fn any_change_of_the_record_is_a_sign_of_life() {
    let changes: [fn(&mut Snapshot); 5] = [
        |lease| lease.record.holder = Some("pod-c".into()),
        |lease| lease.record.lease_duration_seconds = None, // their own 15 s: the same wait, another record
        |lease| lease.record.acquire_time = None,
        |lease| lease.record.renew_time = Some(WallTime(0)),
        |lease| lease.record.transitions += 1,
    ];
    for change in changes {
        let mut scenario = Scenario::watching(held(RIVAL, 15));
        scenario.run(secs(14), Network::Hangs);
        scenario.edit(change);
        scenario.see();
        attempt_comes_after(scenario, secs(15));
    }
}

#[test]
fn a_changed_label_or_annotation_is_no_sign_of_life() {
    let changes: [fn(&mut Snapshot); 3] = [
        |_| {},
        |lease| lease.annotations.incarnation = Some("x".into()),
        |lease| lease.annotations.yield_to = Some(String::new()),
    ];
    for change in changes {
        let mut scenario = Scenario::watching(held(RIVAL, 15));
        scenario.run(secs(14), Network::Hangs);
        scenario.edit(change);
        scenario.see();
        attempt_comes_after(scenario, secs(1));
    }
}

#[test]
fn an_expired_lease_is_taken_on_the_version_last_seen() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.run(secs(3), Network::Hangs);
    scenario.edit(|_| {}); // a label
    scenario.see();
    scenario.run(secs(13), Network::Hangs);
    let LeaseRequest::Replace { version, .. } = &scenario.expect(CallKind::Acquire).request else {
        panic!("a replacement")
    };
    assert_eq!(*version, scenario.version());
    let (record, _) = scenario.written(CallKind::Acquire);
    assert_eq!((record.holder.as_deref(), record.transitions), (Some(ME), 5));
    scenario.serve();
    assert!(scenario.leads());
}

#[test]
fn a_candidate_with_a_watch_does_not_poll() {
    let mut scenario = Scenario::watching(held(RIVAL, 3600));
    scenario.run(secs(3000), Network::Serves);
    assert_eq!(scenario.calls.len(), 1, "the first look");
}

#[test]
fn a_candidate_without_a_watch_polls_with_jitter() {
    let mut scenario = Scenario::new();
    scenario.put(held(RIVAL, 3600), Annotations::default());
    scenario.run(secs(600), Network::Serves);
    let looks: Vec<_> = scenario.calls.windows(2).map(|two| two[1].sent.since(two[0].sent)).collect();
    assert!(looks.iter().all(|gap| (secs(2)..=millis(2400)).contains(gap)), "{looks:?}");
    assert!(looks.iter().any(|gap| *gap < millis(2100)) && looks.iter().any(|gap| *gap > millis(2300)));
    assert!(scenario.calls.iter().all(|call| call.request == LeaseRequest::Get));
}

#[test]
fn polling_sees_signs_of_life_too() {
    let mut scenario = Scenario::new();
    scenario.put(held(RIVAL, 15), Annotations::default());
    for _ in 0..20 {
        scenario.run(secs(5), Network::Serves);
        scenario.holder_renews();
    }
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
    scenario.run(millis(2400) + secs(15) + SPREAD, Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn a_new_leader_is_reported_once() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    for _ in 0..3 {
        scenario.run(secs(5), Network::Serves);
        scenario.holder_renews();
        scenario.see();
    }
    assert_eq!(scenario.reported(&Event::LeaderChanged(Some(RIVAL.into()))), 1);
    scenario.delete_seen();
    assert_eq!(scenario.reported(&Event::LeaderChanged(None)), 1);
}

#[test]
fn a_pause_longer_than_the_lease_ends_in_a_conflict_not_in_a_second_leader() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.holder_renews(); // unseen: the process is paused
    scenario.pass(secs(3600));
    scenario.input(Input::Timer);
    scenario.expect(CallKind::Acquire);
    scenario.serve();
    assert!(!scenario.leads());
    scenario.expect(CallKind::Observe);
    scenario.serve();
    attempt_comes_after(scenario, secs(15));
}
