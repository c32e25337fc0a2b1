//! Several electors in one process: never two that lead, whatever ends their terms.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use leasehold::{ElectorBuilder, Leadership};
use leasehold_apiserver::store::LEASES;

use super::{Running, World};

/// Every term there has been, asked without a pause whether it is held.
#[derive(Default)]
struct Observer {
    terms: Mutex<Vec<Leadership>>,
    wrong: Mutex<Vec<String>>,
    questions: AtomicU64,
    enough: AtomicBool,
}

impl Observer {
    fn observed(self: &Arc<Observer>, builder: ElectorBuilder) -> ElectorBuilder {
        let observer = Arc::clone(self);
        builder.on_started(move |leadership| observer.note(leadership))
    }

    /// A term has begun, so all before it are over, and have smaller tokens.
    fn note(&self, leadership: &Leadership) {
        let mut terms = self.terms.lock().unwrap();
        for earlier in terms.iter() {
            if earlier.is_held() || earlier.fencing_token() >= leadership.fencing_token() {
                self.wrong.lock().unwrap().push(format!("{earlier:?} beside {leadership:?}"));
            }
        }
        terms.push(leadership.clone());
    }

    /// Until it has asked so many times more.
    fn wait_for_questions(&self, more: u64) {
        let until = self.questions.load(Ordering::Relaxed) + more;
        while self.questions.load(Ordering::Relaxed) < until {
            thread::yield_now();
        }
    }

    /// A term is held without interruption: if it is before and after another is, both were at that instant.
    fn ask(&self) {
        while !self.enough.load(Ordering::SeqCst) {
            let terms = self.terms.lock().unwrap().clone();
            let [.., one, other] = terms.as_slice() else { continue };
            let answers = [one.is_held(), other.is_held(), one.is_held()];
            self.questions.fetch_add(1, Ordering::Relaxed);
            if answers == [true; 3] || answers == [false, false, true] || answers == [false, true, true] {
                self.wrong.lock().unwrap().push(format!("{one:?} {other:?}: {answers:?}"));
            }
        }
    }
}

#[test]
fn two_electors_in_one_process_never_both_lead() {
    let world = World::new();
    let observer = Arc::<Observer>::default();
    let asking = thread::spawn({
        let observer = Arc::clone(&observer);
        move || observer.ask()
    });
    let a = Running::start(observer.observed(world.candidate("a")));
    a.leads();
    let b = Running::start(observer.observed(world.candidate("b")));

    // Handed over, back and forth.
    for (from, to) in [(&a, &b), (&b, &a), (&a, &b), (&b, &a)] {
        from.control.set_fit(false);
        let term = to.leads();
        assert_eq!(world.tokens().last(), Some(&term.fencing_token()));
        observer.wait_for_questions(200);
        from.control.set_fit(true);
    }
    observer.enough.store(true, Ordering::SeqCst);
    asking.join().unwrap();
    assert_eq!(*observer.wrong.lock().unwrap(), [""; 0]);
    assert_eq!(observer.terms.lock().unwrap().len(), 5);
    let _ = (b.end(), a.end());
    assert_eq!(world.holder(), None);
}

/// The rival waits for the lost term to run out.
#[test]
fn two_electors_in_one_process_never_both_lead_when_one_is_cut_off() {
    let world = World::new();
    let observer = Arc::<Observer>::default();
    let asking = thread::spawn({
        let observer = Arc::clone(&observer);
        move || observer.ask()
    });
    let a = Running::start(observer.observed(world.short_lived("a")));
    a.leads();
    let b = Running::start(observer.observed(world.short_lived("b")));
    for (cut_off, other) in [("a", "b"), ("b", "a"), ("a", "b")] {
        let outage = world.cut_off(cut_off);
        let holds = |now: leasehold_apiserver::View| {
            let lease = now.store.object(LEASES, "ns", "web");
            lease.is_some_and(|lease| lease["spec"]["holderIdentity"] == other)
        };
        assert!(world.server.wait_until(super::LONG, holds), "{other} takes over");
        world.restore(cut_off, outage);
        observer.wait_for_questions(200);
    }
    observer.enough.store(true, Ordering::SeqCst);
    asking.join().unwrap();
    assert_eq!(*observer.wrong.lock().unwrap(), [""; 0]);
    let _ = (b.end(), a.end());
    assert_eq!(world.holder(), None);
}

/// Two containers of one Pod, as far as the Lease can tell: same name, same uid.
#[test]
fn one_pod_uid_twice_in_one_process_is_one_leader_at_a_time() {
    let world = World::new();
    let observer = Arc::<Observer>::default();
    let uid = format!("uid-{}-{:?}", std::process::id(), thread::current().id());
    let twin = || observer.observed(world.candidate("a").pod_uid(uid.as_str()));
    let first = Running::start(twin());
    let held = first.leads();
    let second = Running::start(twin());
    // Two looks by the second, and a renewal since: it has had every chance to take what looks like its own.
    let connections = |now: &leasehold_apiserver::View| {
        let mut used: Vec<u64> = now.requests.iter().filter(|r| r.verb == "get").map(|r| r.connection).collect();
        used.dedup();
        used.len()
    };
    assert!(world.server.wait_until(super::LONG, |now| {
        let renewals = now.requests.iter().filter(|r| r.verb == "update" && r.status == Some(200)).count();
        connections(&now) >= 2 && renewals >= 2
    }));
    assert!(held.is_held() && second.has_not_led());
    assert_eq!(world.tokens(), [held.fencing_token()]);
    first.end();
    assert!(second.leads().fencing_token() > held.fencing_token());
    second.end();
    assert_eq!(*observer.wrong.lock().unwrap(), [""; 0]);
}

/// No global state: elections on other Leases have nothing to do with each other.
#[test]
fn electors_for_several_leases_lead_side_by_side() {
    let world = World::new();
    let other = World::new();
    let (a, b) = (Running::start(world.candidate("a")), Running::start(other.candidate("a")));
    let (here, there) = (a.leads(), b.leads());
    assert!(here.is_held() && there.is_held());
    a.end();
    assert!(!here.is_held() && there.is_held());
    b.end();
}
