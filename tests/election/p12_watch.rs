//! P12: the watch is an accelerator. Its events come late, out of order, twice or never, and nothing depends on it.

use leasehold::election::{Annotations, CallKind, Event, Input, Version};

use crate::scenario::{ME, Network, RIVAL, SPREAD, Scenario, held, millis, secs, vacant};

#[test]
fn an_older_event_changes_nothing() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    let old = scenario.lease.clone().unwrap();
    scenario.put(vacant(), Annotations::default());
    scenario.see();
    scenario.input(Input::Seen(old.clone()));
    assert_eq!(scenario.election.lease(), scenario.lease.as_ref());
    scenario.input(Input::Deleted(old.version));
    assert_eq!(scenario.election.lease(), scenario.lease.as_ref());
}

#[test]
fn an_event_seen_twice_is_no_sign_of_life() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.run(secs(14), Network::Hangs);
    scenario.see();
    scenario.run(secs(1) + SPREAD, Network::Hangs);
    scenario.expect(CallKind::Acquire);
}

#[test]
fn events_of_a_lease_that_was_seen_deleted_do_not_bring_it_back() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    let old = scenario.lease.clone().unwrap();
    scenario.edit(|_| {});
    let newer = scenario.lease.clone().unwrap();
    scenario.delete_seen();
    scenario.input(Input::Seen(old));
    scenario.input(Input::Seen(newer));
    assert_eq!(scenario.election.lease(), None);
}

#[test]
fn a_look_that_was_overtaken_by_a_deletion_does_not_bring_the_lease_back() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.input(Input::Watching(false));
    scenario.run(secs(2), Network::Hangs);
    scenario.expect(CallKind::Observe);
    let answer = scenario.apply(&leasehold::election::LeaseRequest::Get);
    scenario.delete_seen();
    scenario.reply(answer);
    assert_eq!(scenario.election.lease(), None);
}

#[test]
fn a_look_that_found_nothing_does_not_undo_a_creation_seen_since() {
    let mut scenario = Scenario::new();
    scenario.input(Input::Timer);
    let answer = scenario.apply(&leasehold::election::LeaseRequest::Get);
    scenario.held_by(RIVAL);
    scenario.see();
    scenario.reply(answer);
    assert_eq!(scenario.election.lease(), scenario.lease.as_ref());
    scenario.run(secs(14), Network::Serves);
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
}

#[test]
fn a_smaller_version_from_a_look_is_believed_for_a_backup_was_restored() {
    let mut scenario = Scenario::watching(vacant());
    let restored: Version = 5;
    scenario.edit(|lease| lease.version = restored);
    scenario.input(Input::Watching(false));
    scenario.run(secs(10), Network::Serves);
    assert!(scenario.election.lease().is_some());
    assert!(scenario.leads(), "a write on the version from before could never succeed");
}

#[test]
fn a_leader_goes_on_after_a_backup_of_its_own_term_is_restored() {
    let mut scenario = Scenario::leading();
    let backup = scenario.lease.clone().unwrap();
    scenario.run(secs(60), Network::Serves);
    scenario.see();
    scenario.lease = Some(backup);
    scenario.run(secs(60), Network::Serves);
    assert!(scenario.leads());
    assert_eq!(scenario.terms.len(), 1);
}

#[test]
fn a_leader_stops_after_a_backup_of_a_rivals_term_is_restored() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    let backup = scenario.lease.clone().unwrap();
    scenario.run(secs(16), Network::Serves);
    assert!(scenario.leads());
    scenario.lease = Some(backup);
    scenario.run(secs(5), Network::Serves);
    assert!(!scenario.leads());
}

#[test]
fn the_own_acquisition_seen_before_its_reply_is_not_leading_yet() {
    let mut scenario = Scenario::acquiring();
    let request = scenario.pending.clone().unwrap().request;
    let answer = scenario.apply(&request);
    scenario.see();
    assert!(!scenario.leads());
    scenario.reply(answer);
    assert!(scenario.leads());
    assert_eq!(scenario.terms.len(), 1);
}

#[test]
fn the_own_acquisition_seen_and_its_reply_lost_is_leading_without_another_look() {
    let mut scenario = Scenario::acquiring();
    let (sent, request) = (scenario.now.boot, scenario.pending.clone().unwrap().request);
    scenario.apply(&request).unwrap();
    scenario.see();
    scenario.pass(millis(1_600));
    scenario.lose();
    assert!(scenario.leads());
    assert_eq!(scenario.election.validity().unwrap().valid_until, sent + secs(10));
}

#[test]
fn the_own_renewal_seen_before_its_reply_ends_nothing() {
    let mut scenario = Scenario::renewing();
    let request = scenario.pending.clone().unwrap().request;
    let answer = scenario.apply(&request);
    scenario.see();
    assert!(scenario.leads());
    scenario.reply(answer);
    assert_eq!((scenario.leads(), scenario.reported(&Event::Renewed)), (true, 1));
}

#[test]
fn a_watch_that_breaks_is_followed_by_polls_and_one_that_stands_ends_them() {
    let mut scenario = Scenario::watching(held(RIVAL, 3600));
    scenario.input(Input::Watching(false));
    scenario.run(secs(10), Network::Serves);
    let polled = scenario.calls.len();
    assert!((4..=7).contains(&polled), "{polled}");
    scenario.input(Input::Watching(true));
    scenario.run(secs(100), Network::Serves);
    assert_eq!(scenario.calls.len(), polled);
}

#[test]
fn a_watch_that_is_back_is_not_believed_before_a_look() {
    let mut scenario = Scenario::watching(held(RIVAL, 3600));
    scenario.input(Input::Watching(false));
    scenario.input(Input::Watching(true));
    let before = scenario.calls.len();
    scenario.run(secs(100), Network::Serves);
    assert_eq!(scenario.calls.len() - before, 1, "it may be silent about what was missed");
}

#[test]
fn a_broken_watch_polls_soon_but_not_all_candidates_at_once() {
    let gap = |seed: u64| {
        let mut scenario = Scenario::new();
        let identity = leasehold::election::Identity { name: ME.into(), incarnation: "i".into(), revision: None };
        scenario.election = leasehold::election::Election::new(identity, scenario.timing(), seed);
        scenario.put(held(RIVAL, 3600), Annotations::default());
        scenario.look();
        scenario.input(Input::Watching(true));
        let from = scenario.now.boot;
        scenario.input(Input::Watching(false));
        scenario.run(secs(2), Network::Hangs);
        scenario.expect(CallKind::Observe).sent.since(from)
    };
    let gaps: Vec<_> = (0..50).map(gap).collect();
    assert!(gaps.iter().all(|gap| *gap <= secs(2)));
    assert!(gaps.iter().any(|gap| *gap < millis(500)) && gaps.iter().any(|gap| *gap > millis(1500)));
}

#[test]
fn a_watch_that_delivers_nothing_delays_a_takeover_by_nothing_but_a_conflict() {
    let mut scenario = Scenario::watching(held(RIVAL, 15));
    scenario.put(vacant(), Annotations::default()); // never delivered
    scenario.run(secs(15) + SPREAD * 2, Network::Serves);
    assert!(scenario.leads());
}

#[test]
fn a_leader_does_not_need_its_watch() {
    let mut scenario = Scenario::leading();
    scenario.input(Input::Watching(false));
    let calls_before = scenario.calls.len();
    scenario.run(secs(60), Network::Serves);
    assert!(scenario.leads());
    assert_eq!(scenario.calls.len() - calls_before, 12, "renewals, no looks");
}
