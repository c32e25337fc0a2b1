//! P15: a term that is lost is lost at once, is reported, and is never resumed.

use leasehold::election::{CallFailure, CallKind, Ending, Event, Input};

use crate::scenario::{ME, Network, RIVAL, SPREAD, Scenario, millis, secs};

#[test]
fn a_passed_deadline_stops_the_work() {
    let scenario = Scenario::overdue();
    assert_eq!(scenario.ending(), Some(&Ending::DeadlinePassed));
    assert!(scenario.told_to_stop && !scenario.leads());
}

#[test]
fn a_rival_seen_by_the_watch_stops_the_work_long_before_the_deadline() {
    let scenario = Scenario::superseded();
    assert_eq!(scenario.ending(), Some(&Ending::Superseded(RIVAL.into())));
    assert!(scenario.told_to_stop && !scenario.leads());
}

#[test]
fn a_rival_seen_while_a_renewal_is_in_flight_stops_the_work_and_the_reply_changes_nothing() {
    for applied in [true, false] {
        let mut scenario = Scenario::renewing();
        let request = scenario.pending.clone().unwrap().request;
        let answer = if applied { scenario.apply(&request) } else { Err(CallFailure::Conflict) };
        scenario.held_by(RIVAL);
        scenario.see();
        assert!(scenario.told_to_stop);
        scenario.reply(answer);
        assert!(!scenario.leads());
        assert_eq!(scenario.election.lease().unwrap().record.holder.as_deref(), Some(RIVAL));
    }
}

#[test]
fn a_cleared_holder_ends_the_term() {
    let mut scenario = Scenario::leading();
    scenario.edit(|lease| lease.record.holder = None);
    scenario.see();
    assert_eq!(scenario.ending(), Some(&Ending::Vacated));
    assert!(scenario.told_to_stop);
}

#[test]
fn a_deletion_ends_the_term() {
    let mut scenario = Scenario::leading();
    scenario.delete_seen();
    assert_eq!(scenario.ending(), Some(&Ending::Deleted));
}

#[test]
fn a_deletion_is_noticed_by_the_next_renewal_without_a_watch() {
    let mut scenario = Scenario::leading();
    scenario.input(Input::Watching(false));
    scenario.delete();
    scenario.run(secs(5), Network::Serves);
    assert_eq!(scenario.ending(), Some(&Ending::Deleted));
}

#[test]
fn a_lease_made_anew_under_the_same_record_is_another_lease() {
    let mut scenario = Scenario::leading();
    let lease = scenario.lease.clone().unwrap();
    scenario.delete();
    scenario.put(lease.record, lease.annotations);
    scenario.see();
    assert_eq!(scenario.ending(), Some(&Ending::Deleted));
}

#[test]
fn the_loss_is_reported_once() {
    let mut scenario = Scenario::overdue();
    scenario.held_by(RIVAL);
    scenario.see();
    scenario.delete_seen();
    scenario.run(secs(20), Network::Refuses);
    let stopped = scenario.events.iter().filter(|event| matches!(event, Event::StoppedLeading { .. })).count();
    assert_eq!(stopped, 1);
}

#[test]
fn nothing_is_written_between_the_loss_and_the_end_of_the_work() {
    for mut scenario in [Scenario::overdue(), Scenario::superseded()] {
        let calls_before = scenario.calls.len();
        scenario.run(secs(60), Network::Serves);
        assert_eq!(scenario.calls.len(), calls_before);
    }
}

#[test]
fn leading_again_is_a_new_term_with_a_new_token() {
    let mut scenario = Scenario::overdue();
    assert_eq!(scenario.holder(), Some(ME), "its own record still stands");
    scenario.work_stops();
    assert!(!scenario.leads());
    let (record, _) = scenario.written(CallKind::Acquire);
    assert_eq!(record.transitions, 5, "the holder does not change");
    scenario.serve();
    assert!(scenario.leads());
    assert!(scenario.terms[1].token > scenario.terms[0].token);
    assert!(scenario.terms[1].acquire_time > scenario.terms[0].acquire_time);
}

#[test]
fn a_candidate_again_waits_for_the_rival_like_any_other() {
    let mut scenario = Scenario::superseded();
    scenario.work_stops();
    scenario.run(millis(14_999), Network::Serves);
    assert_eq!(scenario.terms.len(), 1);
    scenario.run(SPREAD + millis(1), Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn the_work_of_a_lost_term_has_a_bounded_time_to_die() {
    // By the deadline: until half-way to the lease duration. By a rival: the same grace, from when it was seen.
    let scenario = Scenario::overdue();
    let started = scenario.terms[0].clone();
    let kill_at = scenario.election.validity().unwrap().kill_at;
    assert_eq!(kill_at.since(scenario.now.boot), millis(2_500), "{started:?}");

    let mut scenario = Scenario::leading();
    scenario.run(secs(1), Network::Serves);
    scenario.held_by(RIVAL);
    scenario.see();
    let validity = scenario.election.validity().unwrap();
    assert_eq!(validity.kill_at.since(scenario.now.boot), millis(2_500));
    assert!(validity.valid_until < scenario.now.boot);
}

#[test]
fn work_that_stopped_twice_or_for_another_term_is_ignored() {
    let mut scenario = Scenario::leading();
    let token = scenario.terms[0].token;
    scenario.input(Input::WorkStopped(token + 1));
    assert!(scenario.leads());
    scenario.run(secs(10), Network::Refuses);
    scenario.work_stops();
    scenario.serve();
    assert!(scenario.leads());
    scenario.input(Input::WorkStopped(token));
    assert!(scenario.leads(), "that was the first term's");
}
