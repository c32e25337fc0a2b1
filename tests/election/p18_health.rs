//! P18: only a process whose workload is fit campaigns, and a leader whose workload is not steps down.

use leasehold::election::{Annotations, CallKind, Ending, Event, Input};

use crate::scenario::{ME, Network, RIVAL, SPREAD, Scenario, held, millis, secs, vacant};

#[test]
fn an_unfit_candidate_watches_and_does_not_campaign() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.input(Input::Fit(false));
    scenario.run(secs(60), Network::Serves);
    scenario.put(vacant(), Annotations::default());
    scenario.see();
    scenario.run(secs(60), Network::Serves);
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
    assert_eq!(scenario.reported(&Event::LeaderChanged(None)), 1, "it follows what happens");
}

#[test]
fn a_candidate_that_becomes_fit_campaigns_at_once() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.input(Input::Fit(false));
    scenario.run(secs(60), Network::Serves);
    scenario.input(Input::Fit(true));
    scenario.expect(CallKind::Acquire);
}

#[test]
fn a_leader_that_becomes_unfit_stops_its_work_then_releases() {
    let mut scenario = Scenario::leading();
    scenario.input(Input::Fit(false));
    assert_eq!(scenario.ending(), Some(&Ending::Unfit));
    assert!(scenario.told_to_stop && scenario.pending.is_none());
    scenario.work_stops();
    scenario.serve();
    assert_eq!((scenario.holder(), scenario.done), (None, false));
    assert_eq!(scenario.lease.as_ref().unwrap().annotations.yielded_to, None, "nobody asked for this");
    scenario.run(secs(60), Network::Serves);
    assert_eq!(scenario.terms.len(), 1);
}

#[test]
fn an_acquisition_that_succeeds_for_an_unfit_workload_is_released() {
    let mut scenario = Scenario::acquiring();
    scenario.input(Input::Fit(false));
    scenario.serve();
    assert_eq!((scenario.leads(), scenario.work), (false, None));
    scenario.expect(CallKind::Release);
    scenario.serve();
    assert_eq!(scenario.holder(), None);
}

#[test]
fn an_acquisition_in_doubt_for_an_unfit_workload_is_found_and_released() {
    let mut scenario = Scenario::acquiring();
    scenario.input(Input::Fit(false));
    scenario.apply_and_lose_reply();
    scenario.run(millis(1), Network::Serves);
    assert_eq!((scenario.terms.len(), scenario.holder()), (0, None));
}

#[test]
fn becoming_fit_again_does_not_call_the_stopping_off() {
    let mut scenario = Scenario::leading();
    scenario.input(Input::Fit(false));
    scenario.input(Input::Fit(true));
    assert!(!scenario.leads(), "a term is never resumed");
    scenario.work_stops();
    scenario.run(SPREAD, Network::Serves);
    assert!(scenario.leads());
    assert_eq!(scenario.terms.len(), 2);
}

#[test]
fn in_every_state_unfit_means_not_leading_and_no_new_term() {
    for (name, mut scenario) in Scenario::all() {
        scenario.input(Input::Fit(false));
        assert!(!scenario.leads(), "{name}");
        let terms = scenario.terms.len();
        if scenario.work.is_some() {
            scenario.work_stops();
        }
        scenario.run(secs(100), Network::Serves);
        assert_eq!(scenario.terms.len(), terms, "{name}");
        assert_eq!(scenario.holder().filter(|holder| *holder == ME && name != "overdue"), None, "{name}");
    }
}
