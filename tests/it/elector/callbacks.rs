//! What the callbacks are told: every edge once, in order, whatever ended the term.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};

use leasehold::ElectorBuilder;
use leasehold::election::Ending;

use super::{LONG, Running, World};

#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    Started(u128),
    Stopped(u128, Ending),
    Leader(Option<String>),
}

fn leader(name: &str) -> Told {
    Told::Leader(Some(name.to_owned()))
}

fn telling(builder: ElectorBuilder, told: &Sender<Told>) -> ElectorBuilder {
    let (started, stopped, changed) = (told.clone(), told.clone(), told.clone());
    // The test may have ended by then, and its receiver with it.
    builder
        .on_started(move |leadership| drop(started.send(Told::Started(leadership.fencing_token()))))
        .on_stopped(move |how| drop(stopped.send(Told::Stopped(how.fencing_token, how.why.clone()))))
        .on_new_leader(move |name| drop(changed.send(Told::Leader(name.map(str::to_owned)))))
}

/// Everything up to and with the first that fits.
fn until(told: &Receiver<Told>, fits: impl Fn(&Told) -> bool) -> Vec<Told> {
    let mut all = Vec::new();
    loop {
        all.push(told.recv_timeout(LONG).unwrap_or_else(|_| panic!("after {all:?} nothing more")));
        if all.last().is_some_and(&fits) {
            return all;
        }
    }
}

fn a_term_began(told: &Told) -> bool {
    matches!(told, Told::Started(_))
}

#[test]
fn each_edge_once_and_in_order_over_several_terms() {
    let world = World::new();
    let (tell, told) = channel();
    let running = Running::start(telling(world.candidate("a"), &tell));

    let first = running.leads().fencing_token();
    assert_eq!(until(&told, a_term_began), [leader("a"), Told::Started(first)]);

    world.delete_lease();
    let second = running.leads().fencing_token();
    assert_eq!(
        until(&told, a_term_began),
        [Told::Leader(None), Told::Stopped(first, Ending::Deleted), leader("a"), Told::Started(second)]
    );

    world.give_to_intruder();
    let third = running.leads().fencing_token();
    let lost = Told::Stopped(second, Ending::Superseded("intruder".into()));
    assert_eq!(until(&told, a_term_began), [leader("intruder"), lost, leader("a"), Told::Started(third)]);

    running.end();
    let rest: Vec<Told> = told.try_iter().collect();
    assert_eq!(rest, [Told::Stopped(third, Ending::Shutdown), Told::Leader(None)]);
    assert!(first < second && second < third);
    assert_eq!(world.tokens(), [first, second, third]);
}

/// Cut off, it learns nothing; the lease is still its own when it is back.
#[test]
fn a_leader_that_is_cut_off_is_told_of_its_end_and_then_of_a_new_term() {
    let world = World::new();
    let (tell, told) = channel();
    let running = Running::start(telling(world.short_lived("a"), &tell));
    until(&told, a_term_began);
    let outage = world.cut_off("a");
    // On a slow machine it may have lost terms before: each edge is told once, and in order, all the same.
    let cut_off = world.tokens().len();
    let lost = until(&told, |told| matches!(told, Told::Stopped(token, _) if world.tokens()[cut_off - 1] == *token));
    assert_eq!(lost.last(), Some(&Told::Stopped(world.tokens()[cut_off - 1], Ending::DeadlinePassed)));
    assert_eq!(world.tokens().len(), cut_off, "nothing is won while it is cut off");
    world.restore("a", outage);
    let again = until(&told, a_term_began);
    let [Told::Started(token)] = again[..] else { panic!("the Lease has named a all the time: {again:?}") };
    assert_eq!(world.tokens().get(cut_off), Some(&token));
    running.end();
}

#[test]
fn a_watching_candidate_is_told_of_every_leader() {
    let world = World::new();
    let (tell, told) = channel();
    let a = Running::start(world.candidate("a"));
    a.leads();
    let b = Running::start(telling(world.candidate("b"), &tell));
    assert_eq!(until(&told, |_| true), [leader("a")]);
    world.delete_lease();
    // Who wins is open. Nobody is told twice, and nobody is left out.
    let again = until(&told, |told| matches!(told, Told::Leader(Some(_))));
    assert_eq!(again[0], Told::Leader(None));
    assert_eq!(again.len(), 2, "{again:?}");
    let _ = (b.end(), a.end());
}

/// Were it called on the election's thread, there would be no renewal for it to wait for.
#[test]
fn a_callback_that_takes_its_time_delays_no_renewal() {
    let world = std::sync::Arc::new(World::new());
    let (watched, candidate) = (std::sync::Arc::clone(&world), world.candidate("a"));
    let slow = candidate.on_started(move |leadership| {
        let renewed = watched.server.wait_until(LONG, |now| {
            now.requests.iter().filter(|r| r.verb == "update" && r.status == Some(200)).count() >= 3
        });
        assert!(renewed && leadership.is_held());
    });
    let running = Running::start(slow);
    assert!(running.leads().is_held());
    running.end();
}

#[test]
fn a_term_that_ended_while_it_was_announced_is_not_worked_in() {
    let world = World::new();
    let (tell, told) = channel();
    let telling = telling(world.candidate("a"), &tell);
    let mut first = true;
    let running = Running::start(telling.on_started(move |leadership| {
        if std::mem::take(&mut first) {
            tell.send(Told::Started(leadership.fencing_token())).unwrap();
            leadership.wait_lost();
        }
    }));
    until(&told, a_term_began);
    world.delete_lease();
    let worked = running.leads();
    assert_eq!(world.tokens()[1..], [worked.fencing_token()], "the second term is the first that is worked in");
    running.end();
}

#[test]
fn a_callback_that_panics_ends_the_election_and_releases() {
    let world = World::new();
    let elector = world.candidate("a").on_started(|_| panic!("in a callback")).build().unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        elector.run(|_| -> ControlFlow<()> { unreachable!("the term was never announced") })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"in a callback"));
    assert_eq!(world.holder(), None);
    assert_eq!(world.tokens().len(), 1, "it did lead");
}

#[test]
fn a_panic_in_the_observer_of_calls_ends_no_election() {
    let world = World::new();
    let observer = std::sync::Arc::new(|_: &leasehold::kube::ObservedCall| panic!("an observer's own mistake"));
    let elector = world.observed("a", Some(observer)).build().unwrap();
    let (tell, done) = channel();
    std::thread::spawn(move || {
        let outcome = elector.run(|leadership| {
            assert!(leadership.is_held());
            ControlFlow::Break(7)
        });
        tell.send(outcome)
    });
    assert_eq!(done.recv_timeout(LONG).expect("the election ends").unwrap(), Some(7));
    assert_eq!(world.holder(), None, "it was released");
}
