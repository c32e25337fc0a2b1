//! The contract with whoever drives an election, under arbitrary inputs: the checks are [`Scenario::input`]'s.

use leasehold::election::{Annotations, Answer, CallFailure, Input, Jitter, LeaseRequest, Record, Snapshot};
use leasehold::time::WallTime;

use crate::scenario::{EPOCH, ME, Network, RIVAL, Scenario, held, millis, secs, vacant};

/// A random number below `bound`.
fn below(random: &mut Jitter, bound: u64) -> u64 {
    u64::try_from(random.up_to(std::time::Duration::from_nanos(bound - 1)).as_nanos()).unwrap()
}

fn any_snapshot(random: &mut Jitter, scenario: &Scenario) -> Snapshot {
    let near = scenario.lease.as_ref().map_or(100, |lease| lease.version);
    let time = |random: &mut Jitter| match below(random, 4) {
        0 => None,
        1 => Some(WallTime::LAST),
        n => Some(WallTime(EPOCH.0 + i64::try_from(n).unwrap() * 1_000_000)),
    };
    let name =
        |random: &mut Jitter| [None, Some(ME), Some(RIVAL), Some("")][usize::try_from(below(random, 4)).unwrap()];
    let own = scenario.lease.as_ref().and_then(|lease| lease.annotations.incarnation.clone());
    Snapshot {
        uid: format!("uid-{}", below(random, 3)),
        version: near.saturating_sub(3) + u128::from(below(random, 7)),
        record: Record {
            holder: name(random).filter(|name| !name.is_empty()).map(Into::into),
            lease_duration_seconds: [None, Some(1), Some(15), Some(600)][usize::try_from(below(random, 4)).unwrap()],
            acquire_time: time(random),
            renew_time: time(random),
            transitions: u32::try_from(below(random, 3)).unwrap(),
        },
        annotations: Annotations {
            incarnation: own.filter(|_| below(random, 2) == 0),
            token: name(random).map(Into::into),
            yield_to: name(random).filter(|_| below(random, 4) == 0).map(Into::into),
            yielded_to: name(random).map(Into::into),
            successor: name(random).map(Into::into),
            successor_revision: name(random).map(Into::into),
            holder_revision: name(random).map(Into::into),
        },
        coordinated: below(random, 20) == 0,
    }
}

fn any_failure(random: &mut Jitter) -> CallFailure {
    let retry_after = (below(random, 4) == 0).then(|| secs(below(random, 30)));
    match below(random, 3) {
        0 => CallFailure::Conflict,
        1 => CallFailure::Refused { retry_after },
        _ => CallFailure::Unknown { retry_after },
    }
}

/// Something that could happen, or could not: the contract holds all the same.
fn anything(random: &mut Jitter, scenario: &mut Scenario) {
    match below(random, 24) {
        0..4 => scenario.run(millis(below(random, 3_000)), Network::Hangs),
        4 => scenario.run(millis(below(random, 20_000)), Network::Serves),
        5 => scenario.pass(millis(below(random, 20_000))),
        6 => {
            scenario.now.wall = WallTime(EPOCH.0 + i64::try_from(below(random, 7_200_000_000)).unwrap() - 3_600_000_000)
        }
        7..10 if scenario.pending.is_some() => scenario.serve(),
        10..12 if scenario.pending.is_some() => {
            let failure = any_failure(random);
            scenario.fail(failure);
        }
        12 if scenario.pending.is_some() => {
            let request = scenario.pending.clone().unwrap().request;
            let _ = scenario.apply(&request);
        }
        13 if scenario.pending.is_some() => {
            let lease = any_snapshot(random, scenario);
            let look = scenario.pending.as_ref().is_some_and(|call| call.request == LeaseRequest::Get);
            let answer = match below(random, 4) {
                0 if look => Answer::Absent,
                _ if look => Answer::Found(lease),
                n => Answer::Written { lease, created: n == 0 },
            };
            scenario.reply(Ok(answer));
        }
        14 | 15 if scenario.work.is_some() => scenario.work_stops(),
        16 if scenario.lease.is_some() => scenario.see(),
        17 => {
            let lease = any_snapshot(random, scenario);
            scenario.input(Input::Seen(lease));
        }
        18 if scenario.lease.is_some() => scenario.delete_seen(),
        19 => scenario.held_by(RIVAL),
        20 => scenario.put(vacant(), Annotations::default()),
        21 => scenario.input(Input::Watching(below(random, 2) == 0)),
        22 => scenario.input(Input::Fit(below(random, 3) > 0)),
        23 if below(random, 20) == 0 && !scenario.done => scenario.input(Input::Shutdown),
        _ => scenario.input(Input::Timer),
    }
}

#[test]
fn whatever_comes_in_the_outputs_keep_their_order_and_no_wait_ends_in_nothing() {
    for seed in 0..1_500 {
        let random = &mut Jitter::new(seed);
        let mut scenario = Scenario::new();
        if below(random, 2) == 0 {
            scenario.put(held(RIVAL, 15), Annotations::default());
        }
        for _ in 0..150 {
            anything(random, &mut scenario);
        }
    }
}

#[test]
fn from_wherever_a_walk_ends_a_leader_follows_once_the_world_behaves() {
    for seed in 0..500 {
        let random = &mut Jitter::new(1_000_000 + seed);
        let mut scenario = Scenario::new();
        for _ in 0..100 {
            anything(random, &mut scenario);
        }
        if scenario.done {
            continue;
        }
        scenario.input(Input::Fit(true));
        scenario.put(vacant(), Annotations::default());
        scenario.input(Input::Watching(false));
        if scenario.work.is_some() && scenario.told_to_stop {
            scenario.work_stops();
        }
        // The longest wait that these inputs can have asked for is that of a vanished record, 600 s.
        for _ in 0..14 {
            scenario.run(secs(50), Network::Serves);
            if scenario.work.is_some() && scenario.told_to_stop {
                scenario.work_stops();
            }
        }
        assert!(scenario.leads() || scenario.done, "seed {seed}: {:?}", scenario.election);
    }
}

#[test]
fn an_early_timer_is_harmless_in_every_state() {
    for (name, mut scenario) in Scenario::all() {
        let before = (scenario.calls.len(), scenario.events.len(), scenario.wake);
        if name == "new" {
            continue; // it has done nothing yet: its first timer is due
        }
        for _ in 0..3 {
            scenario.input(Input::Timer);
        }
        assert_eq!((scenario.calls.len(), scenario.events.len(), scenario.wake), before, "{name}");
    }
}
