//! P6, P7: how a term is kept.

use std::time::Duration;

use leasehold::election::{CallKind, Ending, Event, LeaseRequest, Timing};
use leasehold::time::WallTime;

use crate::scenario::{INCARNATION, ME, Network, Scenario, held, millis, secs};

#[test]
fn a_leader_renews_by_replacement_alone_every_renew_interval() {
    let mut scenario = Scenario::leading();
    let (calls_before, start) = (scenario.calls.len(), scenario.now.boot);
    scenario.run(secs(60), Network::Serves);
    let renewals = &scenario.calls[calls_before..];
    assert!(renewals.iter().all(|call| matches!(call.request, LeaseRequest::Replace { .. })), "no look in between");
    let at: Vec<_> = renewals.iter().map(|call| call.sent.since(start).as_secs_f64().round() as u64).collect();
    assert_eq!(at, (1..=12).map(|n| n * 5).collect::<Vec<_>>());
}

#[test]
fn a_renewal_changes_the_renew_time_and_states_the_token_and_nothing_else() {
    let scenario = Scenario::renewing();
    let (record, annotations) = scenario.written(CallKind::Renew);
    let before = scenario.lease.as_ref().unwrap();
    assert!(record.renew_time > before.record.renew_time);
    assert_eq!(record.renew_time, Some(scenario.now.wall));
    let mut expected = (before.record.clone(), before.annotations.clone());
    expected.0.renew_time = record.renew_time;
    expected.1.token = Some(scenario.terms[0].token.to_string());
    assert_eq!((record, annotations), expected);
}

#[test]
fn the_term_is_prolonged_from_before_the_send_not_from_the_reply() {
    let mut scenario = Scenario::renewing();
    let sent = scenario.now.boot;
    scenario.pass(millis(1_500));
    scenario.serve();
    assert_eq!(scenario.election.validity().unwrap().valid_until, sent + secs(10));
    assert_eq!(scenario.election.validity().unwrap().kill_at, sent + millis(12_500));
}

#[test]
fn a_reply_after_the_deadline_does_not_revive_the_term() {
    for late_by in [Duration::ZERO, millis(1), secs(100)] {
        let mut scenario = Scenario::renewing();
        let request = scenario.pending.clone().unwrap().request;
        let answer = scenario.apply(&request);
        scenario.pass(secs(5) + late_by);
        assert!(!scenario.leads(), "asked before anything was handled");
        scenario.reply(answer);
        assert_eq!((scenario.leads(), scenario.ending()), (false, Some(&Ending::DeadlinePassed)));
        assert_eq!(scenario.reported(&Event::Renewed), 0);
    }
}

#[test]
fn a_reply_before_the_deadline_keeps_the_term() {
    let mut scenario = Scenario::renewing();
    scenario.pass(millis(4_999));
    scenario.serve();
    assert!(scenario.leads());
}

#[test]
fn a_failed_renewal_is_tried_again_after_the_retry_period_until_the_deadline() {
    let mut scenario = Scenario::leading();
    let start = scenario.now.boot;
    scenario.run(secs(10), Network::Refuses);
    let at: Vec<_> =
        scenario.calls_for(CallKind::Renew).iter().map(|call| call.sent.since(start).as_millis()).collect();
    assert_eq!(at, [5_000, 7_000, 9_000]);
    assert_eq!(scenario.ending(), Some(&Ending::DeadlinePassed));
}

#[test]
fn retries_come_no_later_than_a_fifth_of_the_deadline() {
    let timing = Timing::new(secs(30), secs(15), secs(10), None).unwrap();
    let mut scenario = Scenario::with_timing(timing);
    scenario.run(millis(1), Network::Serves);
    let start = scenario.terms.first().map(|_| scenario.calls.last().unwrap().sent).unwrap();
    scenario.run(secs(15), Network::Refuses);
    let at: Vec<_> =
        scenario.calls_for(CallKind::Renew).iter().map(|call| call.sent.since(start).as_millis()).collect();
    assert_eq!(at, [7_500, 10_500, 13_500]);
}

#[test]
fn a_renewal_and_one_more_that_hang_leave_room_for_a_third_call() {
    for (lease, deadline, retry) in [(15, 10, 2), (15, 10, 5), (30, 15, 10), (3, 2, 1), (60, 40, 5)] {
        let timing = Timing::new(secs(lease), secs(deadline), secs(retry), None).unwrap();
        let mut scenario = Scenario::with_timing(timing);
        scenario.run(millis(1), Network::Serves);
        let start = scenario.calls.last().unwrap().sent;
        // A renewal is swallowed; then the network works again: the look and the second renewal are in time.
        scenario.run(timing.renew_interval() + timing.call_limit(), Network::Swallows);
        assert!(scenario.leads(), "{lease}/{deadline}/{retry}");
        scenario.run((start + timing.renewal_deadline()).since(scenario.now.boot), Network::Serves);
        assert!(scenario.leads(), "{lease}/{deadline}/{retry}");
        assert_eq!(scenario.reported(&Event::Renewed), 1, "{lease}/{deadline}/{retry}");
    }
}

#[test]
fn the_time_limit_of_a_call_is_that_of_the_timing() {
    let scenario = Scenario::renewing();
    assert_eq!(scenario.expect(CallKind::Renew).limit, scenario.timing().call_limit());
    assert!(
        scenario.timing().call_limit() * 2 <= scenario.timing().renewal_deadline() - scenario.timing().renew_interval()
    );
}

#[test]
fn leading_is_a_question_to_the_clock_not_to_a_timer() {
    let mut scenario = Scenario::leading();
    scenario.pass(millis(9_999));
    assert!(scenario.leads());
    scenario.pass(millis(1));
    assert!(!scenario.leads());
    scenario.pass(secs(1_000_000));
    assert!(!scenario.leads());
}

#[test]
fn a_changed_label_is_kept_and_the_next_renewal_goes_to_its_version() {
    let mut scenario = Scenario::leading();
    scenario.edit(|_| {});
    scenario.see();
    scenario.run(secs(5), Network::Hangs);
    let LeaseRequest::Replace { version, .. } = scenario.expect(CallKind::Renew).request else {
        panic!("a replacement")
    };
    assert_eq!(version, scenario.version());
    scenario.serve();
    assert!(scenario.leads());
}

#[test]
fn a_duration_edited_by_hand_is_put_right() {
    let mut scenario = Scenario::leading();
    scenario.edit(|lease| lease.record.lease_duration_seconds = Some(1));
    scenario.see();
    scenario.run(scenario.timing().renewal_retry(), Network::Serves);
    assert_eq!(scenario.lease.as_ref().unwrap().record.lease_duration_seconds, Some(15));
    assert!(scenario.leads());
}

#[test]
fn the_mark_names_the_incarnation_and_the_acquisition() {
    let scenario = Scenario::leading();
    let lease = scenario.lease.as_ref().unwrap();
    let mark = lease.annotations.incarnation.clone().unwrap();
    assert!(mark.contains(INCARNATION) && mark.contains(&lease.record.acquire_time.unwrap().to_string()), "{mark}");
    assert_eq!(lease.record.holder.as_deref(), Some(ME));
    assert_ne!(lease.record.acquire_time, held(ME, 15).acquire_time);
    assert_ne!(lease.record.acquire_time, Some(WallTime(0)));
}
