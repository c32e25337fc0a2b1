//! P8: a write whose reply was lost may have been applied, may be applied later, or never.

use leasehold::election::{Annotations, CallFailure, CallKind, Ending, Event, Input, LeaseRequest};
use leasehold::time::WallTime;

use crate::scenario::{ME, Network, RIVAL, Scenario, millis, secs};

#[test]
fn an_acquisition_that_was_applied_counts_from_its_own_send_time() {
    let mut scenario = Scenario::acquiring();
    let sent = scenario.now.boot;
    scenario.pass(millis(1_500));
    scenario.apply_and_lose_reply();
    assert!(!scenario.leads());
    scenario.expect(CallKind::Observe);
    scenario.pass(millis(1_500));
    scenario.serve();
    assert!(scenario.leads());
    assert_eq!(scenario.election.validity().unwrap().valid_until, sent + secs(10));
}

#[test]
fn an_acquisition_that_was_not_applied_is_decided_anew() {
    let mut scenario = Scenario::acquiring();
    scenario.lose();
    scenario.expect(CallKind::Observe);
    scenario.serve();
    assert!(!scenario.leads());
    scenario.run(millis(2_400), Network::Hangs);
    scenario.expect(CallKind::Acquire);
    scenario.serve();
    assert!(scenario.leads());
}

#[test]
fn an_acquisition_that_is_applied_late_but_in_time_counts_when_the_watch_shows_it() {
    let mut scenario = Scenario::acquiring();
    let (sent, request) = (scenario.now.boot, scenario.pending.clone().unwrap().request);
    scenario.lose();
    scenario.serve(); // the look: not applied
    scenario.run(secs(1), Network::Hangs);
    scenario.apply(&request).unwrap();
    scenario.see();
    assert!(scenario.leads());
    assert_eq!(scenario.election.validity().unwrap().valid_until, sent + secs(10));
}

/// Found by the simulation, seed 14949: an event from before the look begins no term on a Lease that is gone.
#[test]
fn an_acquisition_that_was_applied_to_a_lease_since_deleted_is_no_term() {
    let mut scenario = Scenario::acquiring();
    let request = scenario.pending.clone().unwrap().request;
    scenario.apply(&request).unwrap();
    let applied = scenario.lease.clone().unwrap();
    scenario.delete();
    scenario.lose();
    scenario.serve(); // the look: no Lease
    scenario.input(Input::Seen(applied));
    assert!(!scenario.leads() && scenario.terms.is_empty());
}

#[test]
fn an_acquisition_that_is_applied_after_its_deadline_is_released() {
    let mut scenario = Scenario::acquiring();
    let request = scenario.pending.clone().unwrap().request;
    scenario.lose();
    scenario.serve();
    scenario.input(Input::Fit(false)); // it would try again otherwise
    scenario.run(secs(11), Network::Hangs);
    scenario.input(Input::Fit(true));
    scenario.fail(CallFailure::Refused { retry_after: None });
    scenario.apply(&request).unwrap();
    scenario.see();
    assert_eq!((scenario.leads(), scenario.reported(&Event::AcquiredTooLate)), (false, 1));
    scenario.expect(CallKind::Release);
}

#[test]
fn a_renewal_that_was_applied_counts_from_its_own_send_time() {
    let mut scenario = Scenario::renewing();
    let sent = scenario.now.boot;
    scenario.pass(millis(1_600));
    scenario.apply_and_lose_reply();
    scenario.run(secs(2), Network::Serves);
    assert_eq!(scenario.reported(&Event::Renewed), 1);
    assert_eq!(scenario.election.validity().unwrap().valid_until, sent + secs(10));
}

#[test]
fn a_renewal_without_an_answer_prolongs_nothing() {
    let mut scenario = Scenario::renewing();
    let until = scenario.election.validity().unwrap().valid_until;
    scenario.apply_and_lose_reply();
    assert_eq!(scenario.election.validity().unwrap().valid_until, until);
    scenario.run(until.since(scenario.now.boot), Network::Hangs);
    assert_eq!((scenario.leads(), scenario.ending()), (false, Some(&Ending::DeadlinePassed)));
}

#[test]
fn a_renewal_that_was_not_applied_is_sent_again_after_a_look() {
    let mut scenario = Scenario::renewing();
    scenario.lose();
    scenario.run(secs(2), Network::Hangs);
    scenario.expect(CallKind::Observe);
    scenario.serve();
    scenario.expect(CallKind::Renew);
    scenario.serve();
    assert_eq!((scenario.leads(), scenario.reported(&Event::Renewed)), (true, 1));
}

#[test]
fn a_renewal_that_was_applied_and_then_overwritten_does_not_count() {
    let mut scenario = Scenario::renewing();
    let until = scenario.election.validity().unwrap().valid_until;
    scenario.apply_and_lose_reply();
    let wall = scenario.now.wall;
    scenario.edit(|lease| lease.record.renew_time = Some(WallTime(wall.0 - 77)));
    scenario.run(secs(2), Network::Hangs);
    scenario.serve(); // the look
    assert_eq!(scenario.election.validity().unwrap().valid_until, until);
    scenario.expect(CallKind::Renew);
}

/// Two writes in doubt, one after the other, with the wall clock a day behind the record's times: so the times that
/// are written come from the record, not from the clock.
#[test]
fn of_two_writes_in_doubt_the_one_that_was_applied_counts() {
    let mut scenario = Scenario::leading();
    scenario.now.wall.0 -= 86_400_000_000;
    scenario.run(secs(5), Network::Hangs);
    let (sent, first) = (scenario.now.boot, scenario.expect(CallKind::Renew).request.clone());
    scenario.lose();
    scenario.run(secs(2), Network::Hangs);
    scenario.serve(); // the look: not applied
    scenario.apply(&first).unwrap(); // now it is
    scenario.expect(CallKind::Renew);
    scenario.lose();
    scenario.run(secs(2), Network::Hangs);
    scenario.serve(); // the look: which one is it?
    scenario.serve_until_idle();
    let renewed_later = scenario.now.boot;
    assert!(scenario.leads());
    let valid_until = scenario.election.validity().unwrap().valid_until;
    assert!(
        valid_until == sent + secs(10) || valid_until == renewed_later + secs(10),
        "counted from a write that was not applied"
    );
}

#[test]
fn an_acknowledged_acquisition_after_one_in_doubt_starts_one_term_not_two() {
    let mut scenario = Scenario::leading();
    scenario.run(secs(10), Network::Refuses);
    scenario.now.wall.0 -= 86_400_000_000;
    scenario.work_stops(); // its own record stands: it tries at once
    scenario.lose();
    scenario.serve(); // the look: not applied
    scenario.run(secs(3), Network::Hangs);
    scenario.expect(CallKind::Acquire);
    scenario.serve();
    assert!(scenario.leads());
    assert_eq!(scenario.terms.len(), 2);
}

#[test]
fn a_creation_in_doubt_that_was_applied_counts() {
    let mut scenario = Scenario::new();
    scenario.look();
    scenario.apply_and_lose_reply();
    scenario.serve();
    assert!(scenario.leads());
    assert_eq!(scenario.terms[0].token, scenario.version());
}

#[test]
fn a_write_in_doubt_is_not_mistaken_for_anothers_with_the_same_record() {
    let mut scenario = Scenario::acquiring();
    let LeaseRequest::Replace { content, .. } = scenario.pending.clone().unwrap().request else {
        panic!("a replacement")
    };
    scenario.put(content.record, Annotations { incarnation: Some("another life".into()), ..Annotations::default() });
    scenario.lose();
    scenario.serve();
    assert_eq!((scenario.leads(), scenario.reported(&Event::DuplicateIdentity)), (false, 1));
}

#[test]
fn a_release_in_doubt_that_was_applied_is_a_release() {
    let mut scenario = Scenario::releasing();
    scenario.apply_and_lose_reply();
    scenario.run(secs(2), Network::Serves);
    assert_eq!((scenario.done, scenario.reported(&Event::Released)), (true, 1));
}

#[test]
fn a_release_in_doubt_that_was_not_applied_is_sent_again() {
    let mut scenario = Scenario::releasing();
    scenario.lose();
    assert_eq!(scenario.holder(), Some(ME));
    scenario.run(secs(2), Network::Serves);
    assert_eq!((scenario.done, scenario.holder()), (true, None));
}

#[test]
fn a_release_that_is_applied_late_cannot_harm_the_successor() {
    let mut scenario = Scenario::releasing();
    let late = scenario.pending.clone().unwrap().request;
    scenario.lose();
    scenario.held_by(RIVAL);
    assert_eq!(scenario.apply(&late), Err(CallFailure::Conflict));
}

/// A front that tries twice may answer for one try while the other is on its way. The wall clock stands still.
#[test]
fn a_write_that_was_refused_and_is_applied_all_the_same_is_not_taken_for_the_next_one() {
    let mut scenario = Scenario::acquiring();
    let first = scenario.pending.clone().expect("an attempt").request;
    scenario.fail(CallFailure::Refused { retry_after: None });
    scenario.now.boot = scenario.now.boot + secs(3);
    scenario.input(Input::Timer);
    scenario.serve(); // the look
    let sent = scenario.expect(CallKind::Acquire).sent;
    let _ = scenario.apply(&first);
    scenario.fail(CallFailure::Unknown { retry_after: None });
    scenario.serve();
    assert!(!scenario.leads(), "the Lease is our own, by a write that was sent before {sent:?}");
    scenario.run(secs(5), Network::Serves);
    assert!(scenario.leads(), "by a write of its own");
}
