//! P13: one candidate is next in line, by name; it tries at once, and everybody else later.

use std::time::Duration;

use leasehold::election::{ATTEMPT_JITTER, Annotations, CallFailure, CallKind, Event, Input, SUCCESSION_GRACE};

use crate::scenario::{EPOCH, ME, Network, RIVAL, Scenario, held, secs, vacant};

fn named(name: &str) -> Annotations {
    Annotations { successor: Some(name.into()), ..Annotations::default() }
}

/// A candidate that watches a Lease of a rival, whose successor is as given.
fn watching(annotations: Annotations) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.has_successor = false;
    scenario.put(held(RIVAL, 15), annotations);
    scenario.look();
    scenario.input(Input::Watching(true));
    scenario
}

fn released(scenario: &mut Scenario) {
    let annotations = scenario.lease.as_ref().expect("a Lease").annotations.clone();
    scenario.put(vacant(), annotations);
    scenario.see();
}

/// From now until it tries.
fn tries_after(scenario: &mut Scenario) -> Duration {
    let since = scenario.now.boot;
    scenario.run(secs(20), Network::Hangs);
    scenario.expect(CallKind::Acquire).sent.since(since)
}

#[test]
fn where_nobody_is_named_a_candidate_names_itself_within_a_retry_period_and_changes_nothing_else() {
    for annotations in [Annotations::default(), named(RIVAL), named("")] {
        let mut scenario = watching(annotations);
        scenario.run_until_call(secs(2));
        let before = scenario.lease.clone().unwrap();
        let (record, annotations) = scenario.written(CallKind::Announce);
        assert_eq!(record, before.record, "no sign of life");
        assert_eq!(annotations, Annotations { successor: Some(ME.into()), ..before.annotations });
        scenario.serve();
        assert_eq!(scenario.reported(&Event::SuccessorChanged(Some(ME.into()))), 1);
        let calls = scenario.calls.len();
        scenario.run(secs(10), Network::Hangs);
        assert_eq!(scenario.calls.len(), calls, "once");
    }
}

#[test]
fn seeing_another_name_cancels_the_announcement() {
    let mut scenario = watching(Annotations::default());
    scenario.edit(|lease| lease.annotations.successor = Some("pod-c".into()));
    scenario.see();
    scenario.run(secs(14), Network::Hangs);
    assert!(scenario.pending.is_none(), "{:?}", scenario.pending);
}

#[test]
fn the_successor_tries_at_once_when_the_lease_is_released() {
    let mut scenario = watching(named(ME));
    released(&mut scenario);
    assert_eq!(tries_after(&mut scenario), Duration::ZERO);
}

#[test]
fn the_successor_tries_at_the_records_expiry_and_not_before() {
    let mut scenario = watching(named(ME));
    assert_eq!(tries_after(&mut scenario), secs(15));
}

#[test]
fn everybody_else_leaves_the_successor_its_grace() {
    let mut scenario = watching(named("pod-c"));
    released(&mut scenario);
    let waited = tries_after(&mut scenario);
    assert!((SUCCESSION_GRACE..=SUCCESSION_GRACE + ATTEMPT_JITTER).contains(&waited), "{waited:?}");

    let mut scenario = watching(named("pod-c"));
    let waited = tries_after(&mut scenario).saturating_sub(secs(15));
    assert!((SUCCESSION_GRACE..=SUCCESSION_GRACE + ATTEMPT_JITTER).contains(&waited), "{waited:?}");
}

#[test]
fn the_winner_removes_the_successors_name() {
    let mut scenario = watching(named(ME));
    released(&mut scenario);
    let (_, annotations) = scenario.written(CallKind::Acquire);
    assert_eq!((annotations.successor, annotations.successor_revision), (None, None));
}

#[test]
fn a_leaders_renewal_and_release_keep_the_successors_name() {
    let mut scenario = Scenario::leading();
    scenario.edit(|lease| lease.annotations.successor = Some("pod-c".into()));
    scenario.see();
    scenario.run(secs(5), Network::Hangs);
    assert_eq!(scenario.written(CallKind::Renew).1.successor.as_deref(), Some("pod-c"));
    scenario.serve();
    scenario.input(Input::Shutdown);
    scenario.work_stops();
    assert_eq!(scenario.written(CallKind::Release).1.successor.as_deref(), Some("pod-c"));
}

#[test]
fn a_leader_whose_renewal_collides_with_an_announcement_leads_on() {
    for seen in [true, false] {
        let mut scenario = Scenario::renewing();
        scenario.edit(|lease| lease.annotations.successor = Some("pod-c".into()));
        if seen {
            scenario.see();
        }
        scenario.serve();
        scenario.run(secs(2), Network::Serves);
        assert!(scenario.leads() && scenario.reported(&Event::Renewed) == 1);
    }
}

#[test]
fn a_successor_that_shuts_down_or_becomes_unfit_withdraws_its_name_once() {
    for input in [Input::Shutdown, Input::Fit(false)] {
        let mut scenario = watching(named(ME));
        scenario.input(input.clone());
        let (record, annotations) = scenario.written(CallKind::Announce);
        assert_eq!((record, annotations), (held(RIVAL, 15), Annotations::default()));
        scenario.serve();
        assert_eq!((scenario.done, scenario.pending.is_none()), (input == Input::Shutdown, true));
    }
}

#[test]
fn a_withdrawal_that_fails_does_not_keep_a_process_from_ending() {
    for failure in [
        CallFailure::Conflict,
        CallFailure::Refused { retry_after: Some(secs(60)) },
        CallFailure::Unknown { retry_after: None },
    ] {
        let mut scenario = watching(named(ME));
        scenario.input(Input::Shutdown);
        scenario.expect(CallKind::Announce);
        scenario.fail(failure);
        assert!(scenario.done, "{failure:?}");
    }
}

#[test]
fn a_candidate_that_is_unfit_or_shutting_down_does_not_name_itself() {
    let mut scenario = watching(Annotations::default());
    scenario.input(Input::Fit(false));
    scenario.run(secs(10), Network::Hangs);
    assert!(scenario.calls_for(CallKind::Announce).is_empty());
    scenario.input(Input::Shutdown);
    assert!(scenario.done);
}

#[test]
fn of_two_that_name_themselves_at_once_the_second_gives_way() {
    let mut scenario = watching(Annotations::default());
    scenario.run_until_call(secs(2));
    scenario.edit(|lease| lease.annotations.successor = Some("pod-c".into()));
    scenario.serve(); // a conflict
    scenario.see();
    scenario.run(secs(10), Network::Serves);
    assert_eq!(scenario.calls_for(CallKind::Announce).len(), 1);
    assert_eq!(scenario.successor(), Some("pod-c"));
}

#[test]
fn a_yield_to_somebody_else_goes_before_the_successor() {
    let mut scenario = watching(named(ME));
    scenario.put(vacant(), Annotations { yielded_to: Some("pod-c".into()), ..named(ME) });
    scenario.see();
    assert_eq!(tries_after(&mut scenario), secs(2));
}

#[test]
fn a_name_that_client_go_left_does_no_harm() {
    // It keeps annotations that it does not know: first the winner's own name, then that of one that is gone.
    let mut scenario = watching(named(ME));
    scenario.put(held("client-go", 15), named("client-go"));
    scenario.see();
    let since = scenario.now.boot;
    assert_eq!(scenario.successor(), None);
    scenario.run_until_call(secs(2));
    scenario.expect(CallKind::Announce);
    scenario.serve();
    scenario.see();
    scenario.put(held("client-go", 15), named("gone"));
    scenario.see();
    let now = scenario.now.boot;
    let waited = (now + tries_after(&mut scenario)).since(since).saturating_sub(secs(15));
    assert!((SUCCESSION_GRACE..=SUCCESSION_GRACE + ATTEMPT_JITTER).contains(&waited), "{waited:?}");
}

#[test]
fn a_strangers_name_that_an_operator_wrote_costs_the_grace() {
    let mut scenario = watching(named(ME));
    scenario.edit(|lease| lease.annotations.successor = Some("nobody-here".into()));
    scenario.see();
    scenario.run(secs(5), Network::Hangs);
    assert!(scenario.pending.is_none(), "it is left alone: {:?}", scenario.pending);
    released(&mut scenario);
    let waited = tries_after(&mut scenario);
    assert!((SUCCESSION_GRACE..=SUCCESSION_GRACE + ATTEMPT_JITTER).contains(&waited), "{waited:?}");
}

#[test]
fn a_candidate_that_does_not_know_the_rule_may_win_and_the_successor_stays_next() {
    // As leasehold 0.1.0: it tries as soon as the Lease is vacant, and keeps annotations that it does not know.
    let mut scenario = watching(named(ME));
    released(&mut scenario);
    scenario.expect(CallKind::Acquire);
    scenario.put(held("pod-of-0.1.0", 15), named(ME));
    scenario.serve();
    scenario.expect(CallKind::Observe);
    scenario.serve();
    assert!(!scenario.leads());
    assert_eq!(tries_after(&mut scenario), secs(15), "at the expiry, and without a grace");
    assert_eq!(scenario.calls_for(CallKind::Acquire).len(), 2);
}

#[test]
fn an_operator_who_removes_the_name_gets_another_one_after_a_pause() {
    let mut scenario = watching(named(ME));
    for _ in 0..3 {
        scenario.edit(|lease| lease.annotations.successor = None);
        scenario.see();
        let since = scenario.now.boot;
        scenario.run_until_call(secs(2));
        assert!(scenario.expect(CallKind::Announce).sent > since);
        scenario.serve();
    }
    assert_eq!(scenario.calls_for(CallKind::Announce).len(), 3);
}

#[test]
fn a_successor_that_slept_through_the_hand_over_finds_out_by_a_conflict() {
    let mut scenario = watching(named(ME));
    released(&mut scenario);
    scenario.expect(CallKind::Acquire);
    scenario.held_by("pod-c");
    scenario.serve(); // a conflict
    scenario.serve(); // the look
    assert!(!scenario.leads());
    scenario.run(secs(1), Network::Hangs);
    assert!(scenario.calls_for(CallKind::Acquire).len() == 1);
}

#[test]
fn a_successor_that_was_cut_off_looks_before_it_writes() {
    let mut scenario = watching(named(ME));
    scenario.run(secs(15), Network::Refuses); // its attempt at the expiry is refused
    scenario.held_by("pod-c");
    scenario.run(secs(5), Network::Serves);
    assert_eq!(scenario.calls_for(CallKind::Acquire).len(), 1, "the only write is the one that was refused");
}

#[test]
fn a_restored_backup_with_an_old_name_delays_by_the_grace_at_most() {
    let mut scenario = watching(named(ME));
    let (old, since) = (scenario.lease.clone().unwrap(), scenario.now.boot);
    scenario.edit(|lease| lease.annotations.successor = Some("pod-c".into()));
    scenario.see();
    scenario.input(Input::Watching(false));
    scenario.run_until_call(secs(3));
    scenario.lease = Some(old);
    scenario.serve();
    assert_eq!(scenario.successor(), Some(ME));
    scenario.input(Input::Watching(true));
    let now = scenario.now.boot;
    let waited = (now + tries_after(&mut scenario)).since(since).saturating_sub(secs(15));
    assert!(waited <= SUCCESSION_GRACE + ATTEMPT_JITTER, "{waited:?}");
}

#[test]
fn nobody_is_announced_on_a_coordinated_lease() {
    let mut scenario = watching(Annotations::default());
    scenario.edit(|lease| lease.coordinated = true);
    scenario.see();
    scenario.run(secs(60), Network::Hangs);
    assert!(scenario.pending.is_none() && scenario.now.wall > EPOCH);
}

#[test]
fn nobody_names_itself_while_its_own_name_holds_the_lease() {
    let mut scenario = Scenario::new();
    scenario.has_successor = false;
    scenario.put(held(ME, 15), Annotations::default());
    scenario.look();
    scenario.input(Input::Watching(true));
    scenario.run(secs(14), Network::Hangs);
    assert!(scenario.pending.is_none(), "{:?}", scenario.pending);
}
