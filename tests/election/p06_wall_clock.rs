//! P6: wall-clock times are written for people and as signs of life, whatever the wall clock does. Nothing is decided
//! by them.

use leasehold::election::{Annotations, CallKind, Input, Record};
use leasehold::time::WallTime;

use crate::scenario::{EPOCH, ME, Network, RIVAL, Scenario, held, secs, vacant};

const HOUR: i64 = 3_600_000_000;

#[test]
fn the_renew_time_rises_strictly_when_the_wall_clock_steps_back() {
    let mut scenario = Scenario::leading();
    let mut last = scenario.lease.as_ref().unwrap().record.renew_time.unwrap();
    for step in [-HOUR, 0, -24 * HOUR, 3 * HOUR, -HOUR, -1] {
        scenario.now.wall.0 += step;
        scenario.run(secs(5), Network::Serves);
        let renewed = scenario.lease.as_ref().unwrap().record.renew_time.unwrap();
        assert!(renewed > last, "{renewed} after {last}");
        last = renewed;
    }
    assert!(scenario.leads());
}

#[test]
fn the_renew_time_rises_strictly_when_the_wall_clock_stands_still() {
    let mut scenario = Scenario::leading();
    for _ in 0..5 {
        let before = scenario.lease.clone().unwrap().record;
        let wall = scenario.now.wall;
        scenario.run(secs(5), Network::Hangs);
        scenario.now.wall = wall;
        scenario.fail(leasehold::election::CallFailure::Conflict);
        scenario.serve();
        let (record, _) = scenario.written(CallKind::Renew);
        assert!(record.renew_time > before.renew_time);
        scenario.serve();
    }
}

#[test]
fn every_write_is_a_change_even_at_the_end_of_time() {
    let last = WallTime::LAST;
    for stated in [WallTime(last.0 - 1), last, WallTime(last.0 + 1), WallTime(i64::MAX)] {
        for wall in [EPOCH, WallTime(last.0 - 1), last, WallTime(last.0 + 1), WallTime(i64::MAX)] {
            let mut lease = Scenario::leading().lease.unwrap();
            lease.record.renew_time = Some(stated);
            let mut scenario = Scenario::new(); // the next container of the same Pod
            scenario.now.wall = wall;
            scenario.find(lease);
            scenario.look();
            let (record, _) = scenario.written(CallKind::Acquire);
            assert_ne!(record.renew_time, Some(stated), "wall clock {wall:?}");
            assert!(
                record.renew_time <= Some(last),
                "{stated:?} and wall clock {wall:?}: not to be written in RFC 3339"
            );
        }
    }
}

#[test]
fn an_acquisition_of_ones_own_record_is_a_change_whatever_the_wall_clock_says() {
    for step in [-HOUR, 0, HOUR] {
        let mut scenario = Scenario::overdue();
        scenario.now.wall.0 += step;
        let before = scenario.lease.clone().unwrap().record;
        scenario.work_stops();
        let (record, _) = scenario.written(CallKind::Acquire);
        assert!(record.acquire_time > before.renew_time && record.renew_time == record.acquire_time);
    }
}

#[test]
fn a_release_is_a_change_whatever_the_wall_clock_says() {
    let mut scenario = Scenario::stepping_down();
    scenario.now.wall.0 -= HOUR;
    let before = scenario.lease.clone().unwrap().record;
    scenario.work_stops();
    assert!(scenario.written(CallKind::Release).0.renew_time > before.renew_time);
}

#[test]
fn a_wall_clock_anywhere_neither_shortens_nor_prolongs_a_term() {
    for wall in [WallTime(0), WallTime(EPOCH.0 + 1_000 * HOUR), WallTime::LAST] {
        let mut scenario = Scenario::leading();
        let until = scenario.election.validity().unwrap().valid_until;
        scenario.now.wall = wall;
        scenario.input(Input::Timer);
        assert_eq!(scenario.election.validity().unwrap().valid_until, until);
        assert!(scenario.leads());
    }
}

#[test]
fn a_wall_clock_anywhere_neither_shortens_nor_prolongs_the_wait_for_a_rival() {
    for wall in [WallTime(0), WallTime(EPOCH.0 + 1_000 * HOUR), WallTime::LAST] {
        let mut scenario = Scenario::watching(held(RIVAL, 15));
        scenario.pass(secs(14));
        scenario.now.wall = wall;
        scenario.input(Input::Timer);
        assert!(scenario.pending.is_none());
        scenario.pass(secs(2));
        scenario.now.wall = wall;
        scenario.input(Input::Timer);
        scenario.expect(CallKind::Acquire);
    }
}

#[test]
fn two_writes_of_one_process_are_never_alike() {
    // With the record's time ahead of the wall clock, the time to write comes from the record: the same one each time.
    let mut scenario = Scenario::leading();
    scenario.now.wall.0 -= HOUR;
    scenario.run(secs(5), Network::Hangs);
    let (first, _) = scenario.written(CallKind::Renew);
    scenario.lose();
    scenario.run(secs(2), Network::Hangs);
    scenario.serve(); // the look: not applied
    let (second, _) = scenario.written(CallKind::Renew);
    assert!(second.renew_time > first.renew_time);
}

#[test]
fn a_record_without_times_is_acquired_and_renewed() {
    let mut scenario = Scenario::new();
    scenario.put(Record { acquire_time: None, renew_time: None, ..vacant() }, Annotations::default());
    scenario.run(secs(6), Network::Serves);
    assert_eq!((scenario.leads(), scenario.holder()), (true, Some(ME)));
    scenario.edit(|lease| lease.record.renew_time = None);
    scenario.see();
    scenario.run(secs(6), Network::Serves);
    assert!(scenario.leads() && scenario.lease.unwrap().record.renew_time.is_some());
}
