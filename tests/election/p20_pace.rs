//! P20: no loop without a pace, whatever is answered.

use leasehold::election::{
    Annotations, Answer, CallFailure, CallKind, Election, Event, Identity, Input, Snapshot, Timing,
};

use crate::scenario::{ME, Network, RIVAL, Scenario, held, millis, secs, vacant};

/// Every write is answered with 200, and `undo` takes back part of it. So many calls in ten seconds.
fn calls_in_ten_seconds(scenario: &mut Scenario, undo: impl Fn(&mut Snapshot)) -> usize {
    let (calls, end) = (scenario.calls.len(), scenario.now.boot + secs(10));
    while scenario.now.boot < end {
        for _ in 0..100 {
            let Some(call) = scenario.pending.clone() else { break };
            let mut result = scenario.apply(&call.request);
            if let Ok(Answer::Written { lease, .. }) = &mut result {
                undo(lease);
                scenario.lease = Some(lease.clone());
            }
            scenario.reply(result);
        }
        scenario.run(millis(10), Network::Hangs);
    }
    scenario.calls.len() - calls
}

#[test]
fn an_acquisition_that_is_undone_is_said_once_and_paced_and_starts_no_term() {
    type Undo = fn(&mut Snapshot);
    let cases: [(&str, Undo); 4] = [
        ("spec.holderIdentity", |lease| lease.record.holder = None),
        ("spec.acquireTime", |lease| lease.record.acquire_time = None),
        ("spec.leaseDurationSeconds", |lease| lease.record.lease_duration_seconds = Some(1)),
        ("the annotation leasehold.dev/incarnation", |lease| lease.annotations.incarnation = None),
    ];
    for (field, undo) in cases {
        let mut scenario = Scenario::watching(vacant());
        let calls = calls_in_ten_seconds(&mut scenario, undo);
        assert!(calls <= 12, "{field}: {calls} calls");
        assert_eq!((scenario.terms.len(), scenario.reported(&Event::WriteUndone(field))), (0, 1), "{field}");
    }
}

#[test]
fn a_renewal_that_is_undone_does_not_prolong_the_term() {
    let mut scenario = Scenario::leading();
    let renewed = scenario.lease.as_ref().unwrap().record.renew_time;
    let calls = calls_in_ten_seconds(&mut scenario, |lease| lease.record.renew_time = renewed);
    assert!(!scenario.leads(), "rivals have seen no sign of life");
    assert!(calls <= 6, "{calls} calls");
    assert_eq!(scenario.reported(&Event::WriteUndone("spec.renewTime")), 1);
}

#[test]
fn a_release_that_is_undone_is_paced() {
    let mut scenario = Scenario::stepping_down();
    let record = scenario.lease.as_ref().unwrap().record.clone();
    scenario.work_stops();
    let calls = calls_in_ten_seconds(&mut scenario, |lease| lease.record = record.clone());
    assert!(calls <= 7, "{calls} calls");
}

/// A candidate of the revision `new`, in a rollout, with its watch standing; nobody is named successor.
fn in_a_rollout() -> Scenario {
    let identity = Identity { name: ME.into(), incarnation: "i".into(), revision: Some("new".into()) };
    let mut scenario = Scenario::new();
    scenario.election = Election::new(identity, Timing::default(), 7);
    scenario.has_successor = false;
    let annotations = Annotations { holder_revision: Some("old".into()), ..Annotations::default() };
    scenario.put(held(RIVAL, 3600), annotations);
    scenario.look();
    scenario.input(Input::Watching(true));
    scenario
}

#[test]
fn a_name_or_revision_that_is_removed_at_once_is_not_written_again_for_a_lease_duration() {
    type Undo = fn(&mut Snapshot);
    let name: Undo = |lease| lease.annotations.successor = None;
    let revision: Undo = |lease| lease.annotations.successor_revision = None;
    let lacking = "the annotations leasehold.dev/successor and leasehold.dev/successor-revision";
    for undo in [name, revision] {
        let mut scenario = in_a_rollout();
        assert_eq!(calls_in_ten_seconds(&mut scenario, undo), 1);
        assert_eq!(scenario.reported(&Event::WriteUndone(lacking)), 1);
    }
}

#[test]
fn a_name_that_is_removed_later_is_written_again_no_sooner_than_a_retry_period_after_the_last_time() {
    let mut scenario = in_a_rollout();
    for _ in 0..1_000 {
        scenario.run(millis(10), Network::Serves);
        if scenario.successor() == Some(ME) {
            scenario.edit(|lease| lease.annotations.successor = None);
            scenario.see();
        }
    }
    let sent: Vec<_> = scenario.calls_for(CallKind::Announce).iter().map(|call| call.sent).collect();
    assert!((4..=5).contains(&sent.len()), "{sent:?}");
    assert!(sent.is_sorted_by(|a, b| b.since(*a) >= scenario.timing().retry_period()), "{sent:?}");
}

#[test]
fn conflicts_without_end_are_paced_after_three_and_said_once() {
    let mut scenario = Scenario::acquiring();
    let (calls, end) = (scenario.calls.len(), scenario.now.boot + secs(20));
    while scenario.now.boot < end {
        match scenario.pending.clone().map(|call| call.purpose) {
            Some(CallKind::Observe) => scenario.serve(),
            Some(_) => scenario.fail(CallFailure::Conflict),
            None => scenario.run(millis(10), Network::Hangs),
        }
    }
    let calls = scenario.calls.len() - calls;
    assert!(calls <= 26, "{calls} calls");
    assert_eq!(scenario.reported(&Event::RepeatedConflicts(3)), 1);
}

#[test]
fn a_standby_that_met_conflicts_still_says_that_its_name_is_taken() {
    let mut scenario = Scenario::acquiring();
    while scenario.reported(&Event::RepeatedConflicts(3)) == 0 {
        match scenario.pending.clone().map(|call| call.purpose) {
            Some(CallKind::Observe) => scenario.serve(),
            Some(_) => scenario.fail(CallFailure::Conflict),
            None => scenario.run(millis(10), Network::Hangs),
        }
    }
    scenario.held_by(ME); // by another process
    scenario.see();
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 1);
}
