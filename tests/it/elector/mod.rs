//! The library in use, against the in-memory API server: several electors in this one process.

mod callbacks;
mod restored;
mod rivals;
mod work;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use leasehold::kube::{CallObserver, ClientOptions, Credentials};
use leasehold::{Control, Elector, ElectorBuilder, ElectorError, Leadership};
use leasehold_apiserver::store::LEASES;
use leasehold_apiserver::{Action, Fault, FaultId, Options, Reply, Server};
use serde_json::{Value, json};

/// Ends a hang; decides nothing.
const LONG: Duration = Duration::from_secs(120);
/// More than any test lasts.
const HOURS: Duration = Duration::from_secs(3 * 3600);

/// A cluster with one Lease to elect through.
struct World {
    server: Server,
    mounts: PathBuf,
}

impl World {
    fn new() -> World {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mounts = std::env::temp_dir().join(format!("leasehold-elector-{}-{number}", std::process::id()));
        World { server: Server::start(Options::default()).expect("a server"), mounts }
    }

    /// A candidate of this name, with a service account of its own. No term of its runs out within a test, however slow
    /// the machine is.
    fn candidate(&self, name: &str) -> ElectorBuilder {
        self.observed(name, None)
    }

    /// The same with an observer of its calls.
    fn observed(&self, name: &str, observer: Option<CallObserver>) -> ElectorBuilder {
        let mount = self.mounts.join(name);
        let token = self.server.add_user(name);
        self.server.write_service_account(&mount, &token, "ns").expect("a mount");
        let mut api = ClientOptions::new(&self.server.url());
        api.credentials = Some(Arc::new(Credentials::open(&mount).expect("credentials")));
        api.observer = observer;
        Elector::builder(api, "ns", "web", name)
            .lease_duration(HOURS * 2)
            .renewal_deadline(HOURS)
            .renew_interval(Duration::from_secs(1))
            .retry_period(Duration::from_millis(200))
    }

    /// One whose terms run out as soon as a test can wait for. It may lose them on a slow machine.
    fn short_lived(&self, name: &str) -> ElectorBuilder {
        self.candidate(name)
            .lease_duration(Duration::from_secs(3))
            .renewal_deadline(Duration::from_secs(2))
            .renew_interval(Duration::from_millis(500))
    }

    fn lease(&self) -> Option<Value> {
        self.server.lease("ns", "web")
    }

    fn holder(&self) -> Option<String> {
        self.server.holder("ns", "web")
    }

    /// An operator changes the Lease, with merge patch.
    fn edit(&self, patch: &Value) {
        let answer = self.server.change_store(|store| store.patch_object(LEASES, "ns", "web", patch));
        assert_eq!(answer.status, 200);
    }

    /// Gives the Lease to somebody who will never renew it.
    fn give_to_intruder(&self) {
        self.edit(&json!({ "spec": { "holderIdentity": "intruder", "leaseDurationSeconds": 1 } }));
    }

    fn delete_lease(&self) {
        let answer = self.server.change_store(|store| store.delete_object(LEASES, "ns", "web"));
        assert_eq!(answer.status, 200);
    }

    /// From now on this candidate's calls fail; what it watches says nothing more.
    fn cut_off(&self, name: &str) -> FaultId {
        self.server.watches().of(name).silence(true);
        self.server.faults().add(Fault::new(Action::Answer(Reply::status(500))).user(name))
    }

    fn restore(&self, name: &str, fault: FaultId) {
        self.server.faults().remove(fault);
        self.server.watches().of(name).cut();
    }

    /// What the acquisitions that were granted returned, in order: the fencing tokens as they must be.
    fn tokens(&self) -> Vec<u128> {
        let mut last_acquired = None;
        let mut tokens = Vec::new();
        for request in self.server.requests() {
            let body = request.json();
            let holder = body["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
            let acquired = body["spec"]["acquireTime"].as_str().map(str::to_owned);
            let granted = request.applied && request.status.is_some_and(|status| status < 300);
            if granted && holder.is_some() && acquired != last_acquired {
                tokens.extend(request.response_version.map(u128::from));
                last_acquired = acquired;
            }
        }
        tokens
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.mounts);
    }
}

/// An elector being run on a thread, whose work waits for the end of its term and tells of it.
struct Running {
    control: Control,
    terms: Receiver<Leadership>,
    thread: JoinHandle<Result<Option<()>, ElectorError>>,
}

impl Running {
    fn start(builder: ElectorBuilder) -> Running {
        Running::start_with(builder, |leadership, terms| {
            let _ = terms.send(leadership.clone());
            leadership.wait_lost();
            ControlFlow::Continue(())
        })
    }

    fn start_with(
        builder: ElectorBuilder,
        work: impl Fn(&Leadership, &Sender<Leadership>) -> ControlFlow<()> + Send + 'static,
    ) -> Running {
        let elector = builder.build().expect("an elector");
        let control = elector.control();
        let (begun, terms) = channel();
        let thread = thread::spawn(move || elector.run(|leadership| work(leadership, &begun)));
        Running { control, terms, thread }
    }

    /// The next term.
    fn leads(&self) -> Leadership {
        self.terms.recv_timeout(LONG).expect("a term begins")
    }

    fn has_not_led(&self) -> bool {
        self.terms.try_recv().is_err()
    }

    fn end(self) -> Option<()> {
        self.control.shut_down();
        self.thread.join().expect("the election ends in good order").expect("it could be begun")
    }
}

#[test]
fn one_candidate_leads_and_releases_on_break() {
    let world = World::new();
    let elector = world.candidate("a").build().unwrap();
    let led = elector.run(|leadership| {
        assert!(leadership.is_held() && leadership.remaining() <= HOURS);
        assert_eq!(leadership.lease(), "ns/web");
        assert_eq!(world.holder().as_deref(), Some("a"));
        ControlFlow::Break(leadership.clone())
    });
    let leadership = led.unwrap().expect("what was broken with");
    assert!(!leadership.is_held());
    leadership.wait_lost();
    assert_eq!(world.holder(), None, "released before run returned");
    assert_eq!(world.lease().unwrap()["spec"]["leaseTransitions"], 0);
    assert_eq!([leadership.fencing_token()], *world.tokens());
}

#[test]
fn shutdown_from_another_thread_waits_for_the_work_and_then_releases() {
    let world = Arc::new(World::new());
    let (seen, while_working) = channel();
    let (watched, report) = (Arc::clone(&world), seen);
    let running = Running::start_with(world.candidate("a"), move |leadership, terms| {
        terms.send(leadership.clone()).unwrap();
        leadership.wait_lost();
        report.send((leadership.is_held(), watched.holder())).unwrap();
        ControlFlow::Continue(())
    });
    let leadership = running.leads();
    assert_eq!(running.end(), None);
    assert_eq!(while_working.recv().unwrap(), (false, Some("a".to_owned())), "not released under the work");
    assert!(!leadership.is_held());
    assert_eq!(world.holder(), None);
}

#[test]
fn what_is_said_before_it_runs_is_heeded() {
    let world = World::new();
    let elector = world.candidate("a").build().unwrap();
    let control = elector.control();
    control.shut_down();
    control.shut_down();
    let outcome = elector.run(|_| -> ControlFlow<()> { panic!("it was told not to") });
    assert_eq!(outcome.unwrap(), None);
    assert_eq!(world.lease(), None, "nothing was written");
    control.shut_down();
}

#[test]
fn a_candidate_can_leave_without_having_led() {
    let world = World::new();
    let (a, b) = (Running::start(world.candidate("a")), world.candidate("b"));
    let leadership = a.leads();
    let b = Running::start(b);
    assert!(world.server.wait_until(LONG, |now| now.requests.iter().any(|r| r.user == "b" && r.status.is_some())));
    assert_eq!(b.end(), None);
    assert!(leadership.is_held());
    assert_eq!(world.holder().as_deref(), Some("a"));
    a.end();
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let world = World::new();
    let error = world
        .short_lived("")
        .pod_uid("two words")
        .lease_duration(Duration::from_millis(1500))
        .renew_interval(Duration::ZERO)
        .build()
        .unwrap_err();
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    let expected = [
        "identity=\"\": must be 1 to 253",
        "pod_uid=\"two words\": must be 1 to 253",
        "LEASE_DURATION=\"1.5s\": must be whole seconds",
        "LEASE_DURATION=\"1.5s\": must be more than RENEWAL_DEADLINE (2s)",
        "RENEW_INTERVAL=\"0ns\": must be more than zero",
    ];
    assert_eq!(lines.len(), expected.len(), "{error}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
    assert!(matches!(error, ElectorError::Settings(_)));
}

#[test]
fn an_api_server_that_cannot_be_one_is_refused() {
    let error = Elector::builder(ClientOptions::new("https://kubernetes.default.svc"), "ns", "web", "a").build();
    assert!(matches!(&error, Err(ElectorError::Api(why)) if why.contains("kubernetes.default.svc")), "{error:?}");
}

#[test]
fn the_renew_interval_follows_the_deadline_unless_it_is_set() {
    let shorter = |builder: ElectorBuilder| builder.renewal_deadline(Duration::from_secs(4)).build();
    let world = World::new();
    assert!(shorter(world.candidate("a").timing(leasehold::election::Timing::default())).is_ok());
    let error =
        shorter(world.candidate("a").lease_duration(Duration::from_secs(9)).renew_interval(Duration::from_secs(3)))
            .unwrap_err();
    assert!(error.to_string().contains("RENEW_INTERVAL=\"3s\": must be"), "{error}");
}
