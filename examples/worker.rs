//! A job that runs every so often on one replica only, and a store that refuses what a former leader still writes.
//!
//! ```sh
//! cargo run --example worker
//! ```
//!
//! In a Pod (or beside `kubectl proxy`, with `KUBE_API_URL=http://127.0.0.1:8001`, LEASE_NAMESPACE and POD_NAME) it takes
//! part in the election on the Lease `worker` until SIGTERM. Without a cluster it rehearses: two replicas in this process, an
//! in-memory API server, an outage; it ends by itself.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use leasehold::kube::{ClientOptions, Credentials};
use leasehold::{Control, Elector, ElectorBuilder, Leadership};
use leasehold_apiserver::{Action, Fault, Options, Reply, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LEASE: &str = "worker";

fn main() -> ExitCode {
    let near_a_cluster = ["KUBERNETES_SERVICE_HOST", "KUBE_API_URL"].iter().any(|name| env::var_os(name).is_some());
    let outcome = if near_a_cluster { take_part() } else { rehearse() };
    if let Err(error) = outcome {
        eprintln!("worker: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

// ------------------------------------------------------------------------------------------------- the pattern

/// What the job writes to. A real one is a database, and `append` one conditional statement: the comparison and the
/// write must be one step where the data is, or a late write slips in between.
#[derive(Default)]
struct Store(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    newest_token: u128,
    reports: Vec<String>,
}

/// The write came from a term that a later one has followed.
#[derive(Debug)]
struct Refused {
    token: u128,
    newest: u128,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: token {} is older than {}", self.token, self.newest)
    }
}

impl Store {
    /// Appends, unless a later term has written already; the number of reports there are now.
    fn append(&self, token: u128, report: &str) -> std::result::Result<usize, Refused> {
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if token < contents.newest_token {
            return Err(Refused { token, newest: contents.newest_token });
        }
        contents.newest_token = token;
        contents.reports.push(report.to_owned());
        Ok(contents.reports.len())
    }
}

/// The work of one term. It asks before each job whether it still leads; the token is for what happens between the
/// question and the write.
fn work(leadership: &Leadership, store: &Store, every: Duration, told: impl Fn(String)) -> ControlFlow<Infallible> {
    while leadership.is_held() {
        let token = leadership.fencing_token();
        told(match store.append(token, "all is well") {
            Ok(number) => format!("wrote report {number} with token {token}"),
            Err(refused) => refused.to_string(),
        });
        leadership.wait_lost_for(every);
    }
    ControlFlow::Continue(())
}

/// In a cluster: until a signal.
fn take_part() -> Result<()> {
    let elector = Elector::in_cluster(LEASE)?
        .on_started(|leadership| println!("leading, with token {}", leadership.fencing_token()))
        .on_stopped(|how| println!("no longer leading: {how}"))
        .on_new_leader(|leader| println!("{} leads", leader.unwrap_or("nobody")))
        .build()?;
    let control = elector.control();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            control.shut_down();
        }
    });
    let store = Store::default();
    elector.run(|leadership| work(leadership, &store, Duration::from_secs(10), |what| println!("{what}")))?;
    Ok(())
}

// ----------------------------------------------------------------------------------------------- the rehearsal

/// Nothing here takes so long; it only keeps a broken rehearsal from lasting for ever.
const LIMIT: Duration = Duration::from_secs(60);

fn rehearse() -> Result<()> {
    let stage = Stage::new()?;
    println!("\n  No cluster here: two replicas rehearse in this process. Times are in seconds.\n");

    let a = stage.start("worker-a")?;
    let old_token = a.job()?;
    a.job()?;
    let b = stage.start("worker-b")?;

    stage.say("network", "worker-a is cut off from the API server");
    let outage = stage.server.faults().add(Fault::new(Action::Answer(Reply::status(503))).user("worker-a"));
    let new_token = b.job()?;
    assert!(new_token > old_token, "tokens only grow");
    match stage.store.append(old_token, "something out of date") {
        Err(refused) => stage.say("worker-a", &format!("a report that was on its way all the time: {refused}")),
        Ok(_) => return Err("the store took a report of a former leader".into()),
    }

    stage.server.faults().remove(outage);
    stage.say("network", "worker-a is back");
    stage.say("worker-b", "told to end: it releases the Lease");
    b.end()?;
    a.job_after(new_token)?;
    a.end()?;
    stage.say("store", "holds the reports of three terms, in order, and none out of date\n");
    Ok(())
}

/// A cluster, as far as two replicas need one.
struct Stage {
    server: Server,
    mounts: PathBuf,
    store: Arc<Store>,
    began: Instant,
}

impl Stage {
    fn new() -> Result<Stage> {
        let mounts = env::temp_dir().join(format!("leasehold-worker-{}", std::process::id()));
        Ok(Stage { server: Server::start(Options::default())?, mounts, store: Arc::default(), began: Instant::now() })
    }

    /// What [`Elector::in_cluster`] finds in a Pod, put together by hand.
    fn candidate(&self, name: &str) -> Result<ElectorBuilder> {
        let (mount, token) = (self.mounts.join(name), self.server.add_user(name));
        self.server.write_service_account(&mount, &token, "default")?;
        let mut api = ClientOptions::new(&self.server.url());
        api.credentials = Some(Arc::new(Credentials::open(&mount)?));
        Ok(Elector::builder(api, "default", LEASE, name)
            .lease_duration(Duration::from_secs(3))
            .renewal_deadline(Duration::from_secs(2))
            .retry_period(Duration::from_millis(500)))
    }

    fn start(&self, name: &'static str) -> Result<Replica> {
        self.say(name, "started");
        let began = self.began;
        let elector = self
            .candidate(name)?
            .on_stopped(move |how| say(began, name, &format!("stopped leading: {how}")))
            .build()?;
        let (control, store) = (elector.control(), Arc::clone(&self.store));
        let (tell, jobs): (Sender<u128>, _) = channel();
        let thread = thread::spawn(move || {
            let outcome = elector.run(|leadership| {
                work(leadership, &store, Duration::from_millis(300), |what| {
                    say(began, name, &what);
                    let _ = tell.send(leadership.fencing_token()); // Nobody may be counting any more.
                })
            });
            outcome.map(drop).map_err(|error| error.to_string())
        });
        Ok(Replica { control, jobs, thread })
    }

    fn say(&self, who: &str, what: &str) {
        say(self.began, who, what);
    }
}

fn say(began: Instant, who: &str, what: &str) {
    println!("  {:7.3}  {who:9} {what}", began.elapsed().as_secs_f64());
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.mounts);
    }
}

struct Replica {
    control: Control,
    jobs: Receiver<u128>,
    thread: JoinHandle<std::result::Result<(), String>>,
}

impl Replica {
    /// Waits for the next job; its token.
    fn job(&self) -> Result<u128> {
        Ok(self.jobs.recv_timeout(LIMIT)?)
    }

    /// Waits for a job of a term later than that of `token`.
    fn job_after(&self, token: u128) -> Result<()> {
        while self.job()? <= token {}
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.control.shut_down();
        Ok(self.thread.join().map_err(|_| "a replica panicked")??)
    }
}
