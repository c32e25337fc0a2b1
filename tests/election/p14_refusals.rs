//! P14: what the API server refuses is tried again at a pace. What of it concerns HTTP is in `tests/it`.

use leasehold::election::{CallFailure, CallKind, LeaseRequest};

use crate::scenario::{Network, Scenario, millis, secs};

#[test]
fn an_acquisition_that_the_server_refuses_is_tried_again_after_the_retry_period_and_a_look() {
    let mut scenario = Scenario::acquiring();
    let refused_at = scenario.now.boot;
    scenario.fail(CallFailure::Refused { retry_after: None });
    scenario.run_until_call(secs(10));
    scenario.expect(CallKind::Observe);
    scenario.serve();
    let again = scenario.expect(CallKind::Acquire).sent.since(refused_at);
    assert!((secs(2)..=millis(2400)).contains(&again), "{again:?}");
}

#[test]
fn a_candidate_honours_retry_after_but_not_without_end() {
    for (asked, at_least, at_most) in [(5, 5, 5), (3600, 10, 10)] {
        let mut scenario = Scenario::acquiring();
        let refused_at = scenario.now.boot;
        scenario.fail(CallFailure::Refused { retry_after: Some(secs(asked)) });
        scenario.run_until_call(secs(60));
        scenario.serve(); // the look
        let again = scenario.expect(CallKind::Acquire).sent.since(refused_at);
        assert!((secs(at_least)..=secs(at_most)).contains(&again), "asked for {asked} s: {again:?}");
    }
}

#[test]
fn a_look_that_fails_is_tried_again_and_nothing_is_written_on_guesswork() {
    let mut scenario = Scenario::new();
    scenario.run(secs(60), Network::Refuses);
    assert!(scenario.calls.iter().all(|call| call.request == LeaseRequest::Get));
    assert!((25..=31).contains(&scenario.calls.len()), "one each retry period: {}", scenario.calls.len());
    scenario.run(secs(3), Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn a_leader_honours_retry_after_within_its_deadline() {
    // (what the server asks for, when the renewal that was sent at 5 s is tried again)
    for (asked, again) in [(0, 7_000), (1, 7_000), (3, 8_000), (60, 8_333)] {
        let mut scenario = Scenario::renewing();
        let start = scenario.now.boot - secs(5);
        scenario.fail(CallFailure::Refused { retry_after: Some(secs(asked)) });
        scenario.run(millis(4_900), Network::Hangs);
        assert_eq!(scenario.expect(CallKind::Renew).sent.since(start).as_millis(), again, "asked for {asked} s");
    }
}
