//! P10: the fencing token.

use leasehold::election::{CallKind, Event};

use crate::scenario::{Network, RIVAL, Scenario, millis, secs};

#[test]
fn the_fencing_token_is_the_version_that_the_winning_write_produced() {
    let mut scenario = Scenario::leading();
    let term = scenario.terms[0].clone();
    assert_eq!(term.token, scenario.version());
    assert_eq!(scenario.reported(&Event::StartedLeading(term.token)), 1);

    scenario.run(secs(60), Network::Serves);
    assert_eq!(scenario.election.leading(scenario.now.boot), Some(&term), "renewals leave it alone");
    assert!(scenario.version() > term.token);
}

#[test]
fn every_terms_token_is_greater_than_the_one_before() {
    let mut scenario = Scenario::leading();
    for _ in 0..5 {
        scenario.run(scenario.timing().renewal_deadline(), Network::Refuses);
        scenario.work_stops();
        scenario.run(millis(100), Network::Serves);
        assert!(scenario.leads());
    }
    assert_eq!(scenario.terms.len(), 6);
    assert!(scenario.terms.is_sorted_by(|a, b| a.token < b.token && a.acquire_time < b.acquire_time));
}

#[test]
fn a_look_does_not_tell_the_token_as_the_version_that_won_may_be_an_earlier_one() {
    let mut scenario = Scenario::acquiring();
    scenario.held_by(RIVAL);
    scenario.edit(|lease| lease.annotations.successor = Some("pod-c".into()));
    scenario.serve();
    scenario.expect(CallKind::Observe);
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.election.token()), (Some(RIVAL), None));
}
