//! P2: a conflict says nothing about who leads. Look, and decide anew.

use leasehold::election::{Annotations, CallFailure, CallKind, Ending, Event, Input, LeaseRequest};

use crate::scenario::{Network, RIVAL, Scenario, held, millis, secs};

#[test]
fn a_conflicting_acquisition_is_followed_by_a_look_not_by_the_same_write() {
    let mut scenario = Scenario::acquiring();
    scenario.held_by(RIVAL);
    scenario.serve();
    assert_eq!(scenario.expect(CallKind::Observe).request, LeaseRequest::Get);
    scenario.serve();
    scenario.run(secs(14), Network::Hangs);
    assert!(scenario.pending.is_none(), "the winner is waited out");
}

#[test]
fn an_acquisition_that_met_a_changed_label_is_decided_anew_on_the_new_version() {
    let mut scenario = Scenario::acquiring();
    scenario.edit(|_| {});
    scenario.serve();
    scenario.expect(CallKind::Observe);
    scenario.serve();
    let LeaseRequest::Replace { version, .. } = scenario.expect(CallKind::Acquire).request else {
        panic!("a replacement")
    };
    assert_eq!(version, scenario.version());
    scenario.serve();
    assert!(scenario.leads());
}

#[test]
fn a_conflicting_renewal_is_no_end_of_the_term() {
    let mut scenario = Scenario::renewing();
    scenario.edit(|_| {}); // a label, and the watch has not delivered it yet
    scenario.serve();
    assert!(scenario.leads());
    scenario.expect(CallKind::Observe);
    scenario.serve();
    scenario.expect(CallKind::Renew);
    scenario.serve();
    assert_eq!((scenario.leads(), scenario.reported(&Event::Renewed)), (true, 1));
}

#[test]
fn a_conflicting_renewal_that_finds_a_rival_ends_the_term() {
    let mut scenario = Scenario::renewing();
    scenario.held_by(RIVAL);
    scenario.serve();
    assert!(scenario.leads(), "nothing is known about who leads");
    scenario.serve();
    assert_eq!((scenario.leads(), scenario.ending()), (false, Some(&Ending::Superseded(RIVAL.into()))));
}

#[test]
fn endless_conflicts_are_met_at_the_pace_of_retries() {
    let mut scenario = Scenario::leading();
    let calls_before = scenario.calls.len();
    let start = scenario.now.boot;
    while scenario.leads() {
        match scenario.pending.clone().map(|call| call.purpose) {
            Some(CallKind::Observe) => scenario.serve(),
            Some(_) => scenario.fail(CallFailure::Conflict),
            None => scenario.run(millis(100), Network::Hangs),
        }
        assert!(scenario.calls.len() < calls_before + 40, "calls without time passing");
    }
    assert_eq!(scenario.now.boot.since(start), secs(10), "and the deadline stands");
}

#[test]
fn endless_conflicts_do_not_make_a_candidate_spin() {
    let mut scenario = Scenario::acquiring();
    let calls_before = scenario.calls.len();
    for _ in 0..100 {
        match scenario.pending.clone().map(|call| call.purpose) {
            Some(CallKind::Observe) => scenario.serve(),
            Some(_) => scenario.fail(CallFailure::Conflict),
            None => scenario.run(millis(100), Network::Hangs),
        }
    }
    assert!(scenario.calls.len() < calls_before + 30, "{} calls", scenario.calls.len() - calls_before);
    scenario.run(secs(3), Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn endless_conflicts_do_not_make_a_release_spin() {
    let mut scenario = Scenario::releasing();
    let calls_before = scenario.calls.len();
    while !scenario.done {
        match scenario.pending.clone().map(|call| call.purpose) {
            Some(CallKind::Observe) => scenario.serve(),
            Some(_) => scenario.fail(CallFailure::Conflict),
            None => scenario.run(millis(100), Network::Hangs),
        }
        assert!(scenario.calls.len() < calls_before + 40, "calls without time passing");
    }
}

#[test]
fn a_replacement_that_was_answered_as_a_creation_is_no_renewal() {
    use leasehold::election::Answer;
    let mut scenario = Scenario::renewing();
    let request = scenario.pending.clone().unwrap().request;
    let LeaseRequest::Replace { content, .. } = request else { panic!("a replacement") };
    scenario.delete();
    scenario.put(content.record, content.annotations); // another uid: what a PUT without a uid would bring about
    let lease = scenario.lease.clone().unwrap();
    scenario.reply(Ok(Answer::Written { lease, created: true }));
    assert_eq!((scenario.leads(), scenario.ending()), (false, Some(&Ending::Deleted)));
    assert_eq!(scenario.reported(&Event::Renewed), 0);
}

#[test]
fn a_replacement_that_was_answered_as_a_creation_is_no_acquisition() {
    use leasehold::election::Answer;
    let mut scenario = Scenario::acquiring();
    let LeaseRequest::Replace { content, .. } = scenario.pending.clone().unwrap().request else {
        panic!("a replacement")
    };
    scenario.delete();
    scenario.put(content.record, content.annotations);
    let lease = scenario.lease.clone().unwrap();
    scenario.reply(Ok(Answer::Written { lease, created: true }));
    assert_eq!(scenario.terms.len(), 0);
    scenario.input(Input::Timer);
    assert!(!scenario.leads());
}

#[test]
fn after_a_poll_that_failed_a_candidate_looks_before_it_writes_though_the_record_has_run_out() {
    let mut scenario = Scenario::new();
    scenario.put(held(RIVAL, 3), Annotations::default());
    scenario.look();
    scenario.run_until_call(secs(3));
    scenario.expect(CallKind::Observe);
    scenario.fail(CallFailure::Refused { retry_after: None });
    scenario.run_until_call(secs(3));
    scenario.expect(CallKind::Observe);
    scenario.held_by("pod-c");
    scenario.serve();
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
}
