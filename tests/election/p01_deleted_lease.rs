//! P1, P2: a Lease that is deleted, made anew or restored was not released: its holder is waited out.

use leasehold::election::{Annotations, CallKind, Ending, Input, LeaseRequest};

use crate::scenario::{Network, RIVAL, SPREAD, Scenario, held, millis, secs, vacant};

/// A candidate that has watched a rival's record for five seconds of its fifteen.
fn five_seconds_in() -> Scenario {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.run(secs(5), Network::Hangs);
    scenario
}

fn no_attempt_for(scenario: &mut Scenario, span: std::time::Duration) {
    scenario.run(span, Network::Hangs);
    assert!(scenario.pending.is_none(), "{:?}", scenario.pending);
}

#[test]
fn the_holder_of_a_deleted_lease_is_waited_out() {
    let mut scenario = five_seconds_in();
    scenario.delete_seen();
    no_attempt_for(&mut scenario, millis(9_999));
    scenario.run(SPREAD + millis(1), Network::Hangs);
    assert!(matches!(scenario.expect(CallKind::Acquire).request, LeaseRequest::Create(_)));
}

#[test]
fn the_holder_is_waited_out_when_a_look_finds_the_lease_gone() {
    let mut scenario = five_seconds_in();
    scenario.delete();
    scenario.input(Input::Watching(false));
    scenario.run(secs(9), Network::Serves);
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
    scenario.run(secs(1) + SPREAD, Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn the_holder_is_waited_out_when_the_lease_is_made_anew_vacant() {
    let mut scenario = five_seconds_in();
    scenario.delete();
    scenario.put(vacant(), Annotations::default());
    scenario.see();
    no_attempt_for(&mut scenario, millis(9_999));
    scenario.run(SPREAD + millis(1), Network::Hangs);
    scenario.expect(CallKind::Acquire);
}

#[test]
fn both_are_waited_out_when_the_lease_is_made_anew_with_another_holder() {
    for (seconds, until) in [(15, 15), (1, 10)] {
        let mut scenario = five_seconds_in();
        scenario.delete_seen();
        scenario.put(held("pod-c", seconds), Annotations::default());
        scenario.see();
        no_attempt_for(&mut scenario, secs(until) - millis(1));
        scenario.run(SPREAD + millis(1), Network::Hangs);
        scenario.expect(CallKind::Acquire);
    }
}

#[test]
fn the_longest_of_several_vanished_records_counts() {
    let mut scenario = Scenario::watching(held(RIVAL, 60));
    scenario.delete_seen();
    scenario.put(held("pod-c", 1), Annotations::default());
    scenario.see();
    scenario.delete_seen();
    no_attempt_for(&mut scenario, millis(59_999));
}

#[test]
fn a_deletion_after_a_release_is_not_waited_out() {
    let mut scenario = five_seconds_in();
    scenario.put(vacant(), Annotations::default());
    scenario.see();
    scenario.delete_seen();
    scenario.run(SPREAD, Network::Hangs);
    scenario.expect(CallKind::Acquire);
}

#[test]
fn ones_own_deleted_lease_is_not_waited_out() {
    let mut scenario = Scenario::leading();
    scenario.delete_seen();
    assert_eq!(scenario.ending(), Some(&Ending::Deleted));
    scenario.work_stops();
    scenario.run(SPREAD, Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn the_holder_is_waited_out_when_a_backup_of_the_lease_is_restored() {
    // The older record may be vacant, or even one's own from an earlier term: the holder of the newer one still leads.
    let mut earlier = Scenario::leading();
    let own = earlier.lease.clone().unwrap();
    earlier.held_by(RIVAL);
    earlier.see();
    earlier.work_stops();
    earlier.run(secs(5), Network::Hangs);
    let mut vacant_again = own.clone();
    (vacant_again.record, vacant_again.annotations) = (vacant(), Annotations::default());
    for restored in [own, vacant_again] {
        let mut scenario = earlier.clone();
        assert!(restored.version < scenario.version() && restored.uid == scenario.lease.as_ref().unwrap().uid);
        scenario.lease = Some(restored);
        scenario.input(Input::Watching(false));
        scenario.run(secs(9), Network::Serves);
        assert!(!scenario.leads(), "the rival may lead on for its ten seconds");
        scenario.run(secs(2), Network::Serves);
        assert!(scenario.leads());
    }
}

#[test]
fn a_newcomer_cannot_know_of_a_deleted_lease() {
    let mut scenario = Scenario::new();
    scenario.look();
    assert!(matches!(scenario.expect(CallKind::Acquire).request, LeaseRequest::Create(_)));
}

#[test]
fn a_deletion_older_than_what_is_known_changes_nothing() {
    let mut scenario = five_seconds_in();
    let deleted = scenario.delete();
    scenario.put(held("pod-c", 15), Annotations::default());
    scenario.see();
    scenario.input(Input::Deleted(deleted));
    assert_eq!(scenario.election.lease(), scenario.lease.as_ref());
}
