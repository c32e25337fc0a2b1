//! P1, P4, P6, P8: how a term is won.

use std::time::Duration;

use leasehold::election::{Annotations, Answer, CallFailure, CallKind, Event, Input, LeaseRequest, Record, Timing};
use leasehold::time::WallTime;

use leasehold::election::ATTEMPT_JITTER;

use crate::scenario::{EPOCH, ME, Network, RIVAL, SPREAD, Scenario, held, millis, secs, vacant};

#[test]
fn the_first_call_is_a_look() {
    let mut scenario = Scenario::new();
    scenario.input(Input::Timer);
    assert_eq!(scenario.expect(CallKind::Observe).request, LeaseRequest::Get);
}

#[test]
fn an_absent_lease_is_created_at_once() {
    let mut scenario = Scenario::new();
    scenario.look();
    let now = Some(scenario.now.wall);
    let (record, annotations) = scenario.written(CallKind::Acquire);
    assert!(matches!(scenario.expect(CallKind::Acquire).request, LeaseRequest::Create(_)));
    let expected = Record {
        holder: Some(ME.into()),
        lease_duration_seconds: Some(15),
        acquire_time: now,
        renew_time: now,
        transitions: 0,
    };
    assert_eq!(record, expected);
    assert!(annotations.incarnation.is_some() && annotations.yield_to.is_none() && annotations.yielded_to.is_none());

    scenario.serve();
    assert!(scenario.leads());
}

#[test]
fn asking_is_not_having() {
    let mut scenario = Scenario::new();
    scenario.look();
    assert!(!scenario.leads());
    assert_eq!(scenario.work, None);
}

#[test]
fn a_lease_that_somebody_else_created_first_is_looked_at_again() {
    let mut scenario = Scenario::new();
    scenario.look();
    scenario.held_by(RIVAL);
    scenario.serve();
    assert_eq!(scenario.expect(CallKind::Observe).request, LeaseRequest::Get);
    scenario.serve();
    assert_eq!(scenario.pending.as_ref().map(|call| &call.request), None, "the rival's record is waited out");
}

#[test]
fn a_vacant_lease_is_taken_by_a_newcomer_at_once() {
    let mut scenario = Scenario::new();
    scenario.put(vacant(), Annotations::default());
    scenario.look();
    let (record, _) = scenario.written(CallKind::Acquire);
    assert_eq!(record.holder.as_deref(), Some(ME));
    assert_eq!(record.transitions, vacant().transitions + 1, "a change of holder, from vacant too");
    assert_eq!((record.acquire_time, record.renew_time), (Some(EPOCH), Some(EPOCH)));
}

#[test]
fn a_released_lease_is_taken_within_the_spread() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.put(vacant(), Annotations::default());
    scenario.see();
    scenario.run(SPREAD, Network::Hangs);
    scenario.expect(CallKind::Acquire);
}

#[test]
fn an_observed_winner_cancels_a_pending_attempt() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.put(vacant(), Annotations::default());
    scenario.see();
    scenario.held_by("pod-c");
    scenario.see();
    scenario.run(secs(14), Network::Hangs);
    assert!(scenario.pending.is_none());
}

/// When each of fifty candidates tries first, after this has happened to the Lease that it watches.
fn first_tries(happens: impl Fn(&mut Scenario)) -> Vec<Duration> {
    let first_try = |seed| {
        let identity =
            leasehold::election::Identity { name: format!("pod-{seed}"), incarnation: "i".into(), revision: None };
        let mut scenario = Scenario::new();
        scenario.has_successor = false;
        scenario.election = leasehold::election::Election::new(identity, Timing::default(), seed);
        scenario.put(held(RIVAL, 15), Annotations::default());
        scenario.look();
        scenario.input(Input::Watching(true));
        happens(&mut scenario);
        let since = scenario.now.boot;
        scenario.run(SPREAD, Network::Hangs);
        scenario.expect(CallKind::Acquire).sent.since(since)
    };
    let mut all: Vec<_> = (0..50).map(first_try).collect();
    all.sort();
    all
}

#[test]
fn candidates_spread_their_attempts() {
    for happens in [
        |scenario: &mut Scenario| {
            scenario.put(vacant(), Annotations::default());
            scenario.see();
        },
        |scenario: &mut Scenario| scenario.run(secs(15), Network::Refuses), // No name is written, so nobody is next.
    ] {
        let tries = first_tries(happens);
        assert!(tries[49] <= ATTEMPT_JITTER && tries[49] - tries[0] > ATTEMPT_JITTER / 2, "{tries:?}");
    }
}

#[test]
fn absent_fields_are_no_error() {
    for transitions in [0, 3] {
        let mut scenario = Scenario::new();
        scenario.put(Record { transitions, ..Record::default() }, Annotations::default());
        scenario.look();
        let (record, _) = scenario.written(CallKind::Acquire);
        assert_eq!(record.transitions, transitions + 1);
        scenario.serve();
        assert!(scenario.leads());
    }
}

#[test]
fn transitions_saturate_where_the_field_does() {
    let mut scenario = Scenario::new();
    scenario.put(Record { transitions: i32::MAX as u32, ..vacant() }, Annotations::default());
    scenario.look();
    assert_eq!(scenario.written(CallKind::Acquire).0.transitions, i32::MAX as u32);
}

#[test]
fn an_acquisition_answered_after_its_own_deadline_is_released() {
    let mut scenario = Scenario::acquiring();
    let request = scenario.pending.clone().unwrap().request;
    let answer = scenario.apply(&request);
    scenario.pass(scenario.timing().renewal_deadline());
    scenario.reply(answer);
    assert!(!scenario.leads());
    assert_eq!((scenario.work, scenario.reported(&Event::AcquiredTooLate)), (None, 1));

    let (record, annotations) = scenario.written(CallKind::Release);
    assert_eq!((record.holder, annotations.incarnation), (None, None));
    scenario.serve();
    assert_eq!(scenario.holder(), None);
    scenario.run(SPREAD, Network::Serves);
    assert!(scenario.leads(), "and the next try is as good as any");
}

#[test]
fn an_acquisition_answered_just_before_its_deadline_leads_only_that_long() {
    let mut scenario = Scenario::acquiring();
    let request = scenario.pending.clone().unwrap().request;
    let answer = scenario.apply(&request);
    scenario.pass(scenario.timing().renewal_deadline() - millis(1));
    scenario.reply(answer);
    assert!(scenario.leads());
    scenario.pass(millis(1));
    assert!(!scenario.leads());
}

#[test]
fn a_term_that_was_won_and_lost_before_the_news_of_it_came_never_begins() {
    let mut scenario = Scenario::acquiring();
    let request = scenario.pending.clone().unwrap().request;
    let answer = scenario.apply(&request);
    scenario.held_by(RIVAL);
    scenario.see();
    scenario.reply(answer);
    assert_eq!((scenario.leads(), scenario.terms.len()), (false, 0));
}

#[test]
fn a_term_on_a_lease_that_was_deleted_before_the_news_of_it_came_never_begins() {
    for acquiring in [Scenario::acquiring as fn() -> Scenario, creating] {
        for with_its_creation_seen in [true, false] {
            let mut scenario = acquiring();
            let request = scenario.pending.clone().unwrap().request;
            let answer = scenario.apply(&request);
            if with_its_creation_seen {
                scenario.see();
            }
            scenario.delete_seen();
            scenario.reply(answer);
            assert_eq!((scenario.leads(), scenario.terms.len()), (false, 0));
            assert!(scenario.election.lease().is_none(), "a reply does not raise the dead");
        }
    }
}

fn creating() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.look();
    scenario.input(Input::Watching(true));
    scenario
}

#[test]
fn an_answer_to_another_call_is_ignored() {
    let mut scenario = Scenario::acquiring();
    let lease = scenario.lease.clone().unwrap();
    scenario.input(Input::Reply { call: 0, result: Ok(Answer::Written { lease, created: false }) });
    scenario.input(Input::Reply { call: 99, result: Err(CallFailure::Conflict) });
    scenario.expect(CallKind::Acquire);
    assert!(!scenario.leads());
}

#[test]
fn the_acquire_time_is_now_even_if_the_last_holders_lay_in_the_future() {
    let mut scenario = Scenario::new();
    let future = Some(WallTime(EPOCH.0 + 3_600_000_000));
    scenario.put(Record { acquire_time: future, renew_time: future, ..vacant() }, Annotations::default());
    scenario.look();
    assert_eq!(scenario.written(CallKind::Acquire).0.acquire_time, Some(EPOCH));
}
