//! What the work does to the election, and the election to the work.

use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use leasehold::election::Ending;

use super::{LONG, Running, World};

#[test]
fn a_panic_in_the_work_releases_the_lease_and_is_passed_on() {
    let world = World::new();
    let elector = world.candidate("a").build().unwrap();
    let panic = panic::catch_unwind(AssertUnwindSafe(|| elector.run(|_| -> ControlFlow<()> { panic!("at work") })));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"at work"));
    assert_eq!(world.holder(), None);
    assert_eq!(world.tokens().len(), 1, "it did lead");
}

#[test]
fn work_that_ends_early_lets_the_others_have_a_turn() {
    let world = World::new();
    let (tell, told) = channel();
    let (go_on, when_to_go_on) = channel();
    let when_to_go_on = Mutex::new(when_to_go_on);
    let a = world.candidate("a").on_stopped(move |how| tell.send(how.clone()).unwrap());
    let a = Running::start_with(a, move |leadership, terms| {
        let _ = terms.send(leadership.clone());
        when_to_go_on.lock().unwrap().recv().unwrap();
        ControlFlow::Continue(())
    });
    let term = a.leads();
    let b = Running::start(world.candidate("b"));
    assert!(world.server.wait_until(LONG, |now| now.watches == 2), "b watches");
    go_on.send(()).unwrap();
    let stopped = told.recv_timeout(LONG).unwrap();
    assert_eq!((stopped.fencing_token, &stopped.why), (term.fencing_token(), &Ending::WorkEnded));
    assert_eq!(stopped.to_string(), "the work has ended by itself");
    assert!(!term.is_held(), "a term that its own work has ended is over");
    // Whoever wins next, somebody does, and the other follows when that one leaves.
    drop(go_on);
    b.leads();
    b.end();
    a.control.shut_down();
}

#[test]
fn a_process_unfit_to_lead_steps_down_and_stays_away_until_it_is_fit() {
    let world = World::new();
    let (tell, told) = channel();
    let a = Running::start(world.candidate("a").on_stopped(move |how| tell.send(how.why.clone()).unwrap()));
    let first = a.leads();
    a.control.set_fit(false);
    assert_eq!(told.recv_timeout(LONG).unwrap(), Ending::Unfit);
    // Vacant, and somebody else's, and vacant again: a lets all of it pass.
    let b = world.candidate("b").build().unwrap();
    let in_between = b.run(|leadership| ControlFlow::Break(leadership.fencing_token())).unwrap();
    assert_eq!(world.holder(), None);
    assert!(a.has_not_led());
    a.control.set_fit(true);
    let second = a.leads();
    assert_eq!(world.tokens(), [first.fencing_token(), in_between.unwrap(), second.fencing_token()]);
    a.end();
}

/// As `run` says: a term that was lost waits for nobody, and until its work has returned there is no other.
#[test]
fn work_that_returns_late_runs_beside_the_next_leader_without_a_leadership() {
    let world = World::new();
    let (go_on, when_to_go_on) = channel();
    let when_to_go_on = Mutex::new(when_to_go_on);
    let a = Running::start_with(world.candidate("a"), move |leadership, terms| {
        let _ = terms.send(leadership.clone());
        when_to_go_on.lock().unwrap().recv().unwrap(); // Deaf to its leadership.
        ControlFlow::Continue(())
    });
    let late = a.leads();
    world.give_to_intruder();
    let b = Running::start(world.candidate("b"));
    let next = b.leads();
    assert!(!late.is_held() && next.is_held());
    assert!(late.fencing_token() < next.fencing_token(), "a store that compares tokens refuses the late one");
    b.end();
    // Vacant; yet only who has no work left over takes it.
    let c = world.candidate("c").build().unwrap();
    c.run(|_| ControlFlow::Break(())).unwrap();
    assert!(a.has_not_led());
    go_on.send(()).unwrap();
    let again = a.leads();
    assert!(again.is_held() && again.fencing_token() > next.fencing_token());
    assert!(!late.is_held(), "a term is never resumed");
    go_on.send(()).unwrap();
    a.control.shut_down();
    drop(go_on);
}
