//! P11: "holder = me" is mine only if this life of this process wrote it.

use leasehold::election::{Annotations, CallFailure, CallKind, Ending, Event, Mutant, Snapshot, Timing};
use leasehold::time::WallTime;

use crate::scenario::{EPOCH, INCARNATION, ME, Network, SPREAD, Scenario, held, millis, secs, vacant};

/// The Lease as a leader left it that was killed.
fn left_behind() -> Snapshot {
    Scenario::leading().lease.unwrap()
}

/// A fresh process of this incarnation that looks at what the one before left behind.
fn successor(incarnation: &str) -> Scenario {
    let mut scenario = Scenario::with(ME, incarnation, Timing::default());
    scenario.now.wall.0 += 1_000_000;
    scenario.find(left_behind());
    scenario.look();
    scenario
}

#[test]
fn a_restarted_container_of_the_same_pod_takes_the_lease_back_at_once_as_a_new_term() {
    let mut scenario = successor(INCARNATION);
    let (record, _) = scenario.written(CallKind::Acquire);
    let before = left_behind();
    assert_eq!(record.transitions, before.record.transitions, "the holder does not change");
    assert!(record.acquire_time > before.record.acquire_time);
    scenario.serve();
    assert!(scenario.leads());
    assert!(scenario.terms[0].token > before.version);
}

#[test]
fn a_pod_made_anew_under_the_same_name_waits_for_its_predecessors_record_and_is_not_called_a_duplicate() {
    let mut scenario = successor("another life");
    scenario.run(secs(14), Network::Serves);
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
    assert_eq!(scenario.reported(&Event::HeldByPredecessor), 1);
    scenario.run(secs(4), Network::Serves);
    assert!(scenario.leads());
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 0);
}

#[test]
fn a_living_process_with_the_same_name_is_called_a_duplicate_once_it_renews() {
    let mut scenario = successor("another life");
    scenario.holder_renews();
    scenario.see();
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 1);
    scenario.run(secs(14), Network::Serves);
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
}

/// A twin has this process's name and incarnation: a cloned machine, or a restored checkpoint.
#[test]
fn a_record_of_the_own_incarnation_that_this_process_never_wrote_proves_a_twin() {
    let mut twin = Scenario::leading();
    twin.run(secs(7), Network::Serves);
    let mut scenario = Scenario::leading();
    scenario.find(Snapshot { version: scenario.version() + 10, ..with_uid(&scenario, twin.lease.unwrap()) });
    scenario.edit(|lease| {
        let acquired = WallTime(EPOCH.0 + 77);
        lease.record.acquire_time = Some(acquired);
        lease.annotations.incarnation = Some(format!("{INCARNATION} {acquired}"));
    });
    scenario.see();
    assert_eq!(scenario.ending(), Some(&Ending::Superseded(ME.into())));
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 1);
    scenario.work_stops();
    scenario.run(secs(14), Network::Hangs);
    assert!(scenario.pending.is_none(), "it waits as for any rival: {:?}", scenario.pending);
    scenario.run(secs(1) + SPREAD, Network::Hangs);
    let (_, annotations) = scenario.written(CallKind::Acquire);
    assert!(!annotations.incarnation.unwrap().starts_with(INCARNATION), "under an incarnation of its own");
}

#[test]
fn a_renewal_of_the_own_term_that_this_process_never_wrote_proves_a_twin() {
    for (mistake, believed) in [(None, false), (Some(Mutant::TwinBelieved), true)] {
        let mut scenario = Scenario::leading();
        scenario.election = scenario.election.with_mistake(mistake);
        scenario.pass(secs(1));
        scenario.holder_renews();
        scenario.see();
        assert_eq!((scenario.leads(), !scenario.told_to_stop), (believed, believed), "{mistake:?}");
        assert_eq!(scenario.reported(&Event::DuplicateIdentity), usize::from(!believed));
    }
}

#[test]
fn a_late_renewal_by_the_container_that_this_one_replaces_is_no_twins() {
    let mut scenario = successor(INCARNATION);
    scenario.holder_renews();
    scenario.fail(CallFailure::Conflict);
    scenario.serve_until_idle();
    assert!(scenario.leads());
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 0);
}

fn with_uid(scenario: &Scenario, lease: Snapshot) -> Snapshot {
    Snapshot { uid: scenario.lease.as_ref().expect("a Lease").uid.clone(), ..lease }
}

#[test]
fn of_two_processes_with_one_name_the_leader_loses_when_the_other_takes_over() {
    let mut scenario = Scenario::leading();
    let mut other = successor("another life");
    other.run(secs(20), Network::Serves);
    let stolen = other.lease.unwrap();
    scenario.put(stolen.record, stolen.annotations);
    scenario.see();
    assert_eq!(scenario.ending(), Some(&Ending::Superseded(ME.into())));
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 1);
}

#[test]
fn a_mark_does_not_vouch_for_a_record_that_another_program_wrote_since() {
    // It keeps annotations that it does not know, and acquires under our name: the mark names another acquisition.
    let annotations = left_behind().annotations;
    let mut scenario = Scenario::new();
    scenario.put(held(ME, 15), annotations.clone());
    scenario.look();
    scenario.run(secs(14), Network::Serves);
    assert!(scenario.calls_for(CallKind::Acquire).is_empty());
    assert_eq!(scenario.reported(&Event::HeldByPredecessor), 1);

    let mut scenario = Scenario::leading();
    let annotations = scenario.lease.as_ref().unwrap().annotations.clone();
    scenario.now.wall.0 += 1_000_000;
    scenario.held_by(ME);
    scenario.edit(|lease| lease.annotations = annotations);
    scenario.see();
    assert_eq!(scenario.ending(), Some(&Ending::Superseded(ME.into())));
}

#[test]
fn a_record_of_ours_without_a_mark_or_without_an_acquire_time_is_not_ours() {
    let mut without_mark = left_behind();
    without_mark.annotations = Annotations::default();
    let mut without_time = left_behind();
    without_time.record.acquire_time = None;
    for lease in [without_mark, without_time] {
        let mut scenario = Scenario::new();
        scenario.put(lease.record, lease.annotations);
        scenario.look();
        assert!(scenario.pending.is_none());
        assert_eq!(scenario.reported(&Event::HeldByPredecessor), 1);
    }
}

#[test]
fn an_incarnation_is_compared_whole() {
    // "9f1c" and a mark that merely begins with it, and the other way round.
    for incarnation in ["9f1", "9f1c7", "9f1c 2026-11-22T15:04:05.000000Z", ""] {
        let scenario = successor(incarnation);
        assert!(scenario.pending.is_none(), "{incarnation:?}");
    }
}

#[test]
fn names_are_compared_whole_too() {
    let mut scenario = Scenario::watching(held("pod-a2", 15));
    scenario.run(secs(14), Network::Hangs);
    assert!(scenario.pending.is_none());
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 0);
}

#[test]
fn a_duplicate_that_goes_away_is_said_again_when_it_comes_back() {
    let mut scenario = successor("another life");
    let lease = scenario.lease.clone().unwrap();
    scenario.run(millis(10), Network::Serves);
    scenario.put(held("pod-c", 15), Annotations::default());
    scenario.see();
    scenario.put(lease.record, lease.annotations);
    scenario.see();
    assert_eq!(scenario.reported(&Event::HeldByPredecessor), 2);
}

#[test]
fn the_own_lost_term_is_not_reported_as_a_duplicate() {
    let mut scenario = Scenario::overdue();
    scenario.work_stops();
    scenario.run(secs(3), Network::Serves);
    assert_eq!(scenario.reported(&Event::DuplicateIdentity), 0);
}

#[test]
fn a_released_lease_bears_no_mark_that_could_be_taken_for_ours() {
    let mut scenario = Scenario::done();
    assert_eq!(scenario.lease.as_ref().unwrap().annotations, Annotations::default());
    scenario.put(vacant(), Annotations::default());
    assert_ne!(scenario.lease.unwrap().record.acquire_time, Some(WallTime(0)));
}

#[test]
fn the_token_of_a_term_is_told_by_the_leader_by_the_watch_or_by_the_mark_of_a_renewal() {
    let mut leader = Scenario::leading();
    let token = leader.terms[0].token;
    assert_eq!(leader.election.token(), Some(token));

    let mut watching = Scenario::watching(vacant());
    assert_eq!(watching.election.token(), None, "nobody leads");
    watching.held_by("pod-c");
    watching.see();
    assert_eq!(watching.election.token(), Some(watching.version()));

    leader.run(secs(5), Network::Serves);
    let mut newcomer = Scenario::with("pod-c", "i", Timing::default());
    newcomer.find(leader.lease.clone().unwrap());
    newcomer.look();
    assert_eq!(newcomer.election.token(), Some(token));
}

#[test]
fn a_mark_does_not_tell_the_token_of_a_term_that_another_program_won_since() {
    let mut leader = Scenario::leading();
    leader.run(secs(5), Network::Serves);
    let annotations = leader.lease.clone().unwrap().annotations;
    assert!(annotations.token.is_some());
    leader.now.wall.0 += 1_000_000;
    leader.held_by("client-go");
    leader.edit(|lease| lease.annotations = annotations);
    let mut newcomer = Scenario::with("pod-c", "i", Timing::default());
    newcomer.find(leader.lease.clone().unwrap());
    newcomer.look();
    assert_eq!(newcomer.election.token(), None);
}
