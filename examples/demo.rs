//! The main job, to watch: three real `leasehold` processes on an in-memory API server. An election, the Service
//! following it, a crash and the take-over, a clean stop and the hand-over.
//!
//! ```sh
//! cargo run --example demo
//! ```
//!
//! Needs nothing but Rust; listens on loopback addresses only; ends by itself and leaves nothing running.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use leasehold_apiserver::{Options, Server};
use serde_json::{Value, json};

const NAMESPACE: &str = "default";
const LEASE: &str = "web";
const SERVICE: &str = "web";
const LEASE_DURATION: Duration = Duration::from_secs(3);
/// Only a broken demo takes this long.
const LIMIT: Duration = Duration::from_secs(20);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let program = build_leasehold()?;
    let stage = Stage::new(&program)?;
    println!("\n  Three candidates, one Lease ({LEASE_DURATION:?}), one Service. Times are in seconds.\n");

    let mut pods = BTreeMap::new();
    for name in ["pod-a", "pod-b", "pod-c"] {
        pods.insert(name.to_owned(), stage.start(name)?);
        stage.say(name, "started");
    }

    let first = stage.await_leader(None)?;
    let elected = stage.await_service(&first)?;
    stage.answers(&first, &pods[&first])?;

    stage.say(&first, "is killed (kill -9): the Lease has to expire");
    let crashed_at = stage.elapsed();
    pods.remove(&first).ok_or("the leader is one of ours")?.kill();
    let second = stage.await_leader(Some(&first))?;
    let crash = stage.await_service(&second)? - crashed_at;
    stage.answers(&second, &pods[&second])?;

    stage.say(&second, "is asked to stop (SIGTERM): it stops its work, then releases the Lease");
    let stopped_at = stage.elapsed();
    let leaving = pods.remove(&second).ok_or("the leader is one of ours")?;
    leaving.terminate()?;
    let third = stage.await_leader(Some(&second))?;
    let handover = stage.await_service(&third)? - stopped_at;
    stage.answers(&third, &pods[&third])?;
    let code = leaving.wait()?;
    stage.say(
        &second,
        &format!("has ended with exit code {code}, having answered HTTP until the Service pointed elsewhere"),
    );

    stage.summary(elected, crash, handover);
    Ok(())
}

/// The program itself, built the way the demo was.
fn build_leasehold() -> Result<PathBuf> {
    let demo = std::env::current_exe()?;
    let directory = demo.parent().and_then(Path::parent).ok_or("the demo lies in target/…/examples")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--bin", "leasehold", "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    if !cargo.status()?.success() {
        return Err("the program could not be built".into());
    }
    Ok(directory.join("leasehold"))
}

/// The cluster, as far as the demo needs one.
struct Stage<'a> {
    program: &'a Path,
    server: Server,
    mounts: PathBuf,
    began: Instant,
}

impl<'a> Stage<'a> {
    fn new(program: &'a Path) -> Result<Stage<'a>> {
        let server = Server::start(Options::default())?;
        server.create_service(NAMESPACE, SERVICE, &json!({ "app": "web" }));
        let mounts = std::env::temp_dir().join(format!("leasehold-demo-{}", std::process::id()));
        Ok(Stage { program, server, mounts, began: Instant::now() })
    }

    /// A Pod with a leasehold in it, set up as the kubelet would.
    fn start(&self, pod: &str) -> Result<Candidate> {
        self.server.create_pod(NAMESPACE, pod, &json!({ "app": "web" }));
        let token = self.server.add_user(&format!("system:serviceaccount:{NAMESPACE}:{pod}"));
        let mount = self.mounts.join(pod);
        self.server.write_service_account(&mount, &token, NAMESPACE)?;
        let address = self.server.addr();
        let child = Command::new(self.program)
            .env_clear()
            .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", address.port().to_string())
            .env("SERVICE_ACCOUNT_DIR", &mount)
            .env("LEASE_NAME", LEASE)
            .env("LEASE_DURATION", format!("{}s", LEASE_DURATION.as_secs()))
            .env("RENEWAL_DEADLINE", "2s")
            .env("RETRY_PERIOD", "500ms")
            .env("SERVICE_NAME", SERVICE)
            .env("POD_NAME", pod)
            .env("POD_UID", format!("uid-of-{pod}-{}", std::process::id()))
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Candidate::new(child)
    }

    fn await_leader(&self, previous: Option<&str>) -> Result<String> {
        let held = |lease: &Value| {
            let holder = lease.pointer("/spec/holderIdentity")?.as_str()?.to_owned();
            (!holder.is_empty() && Some(holder.as_str()) != previous).then(|| (holder, lease.clone()))
        };
        let leases = leasehold_apiserver::store::LEASES;
        let found = self.server.wait_for(LIMIT, |now| held(now.store.object(leases, NAMESPACE, LEASE)?));
        let (leader, lease) = found.ok_or("nobody leads")?;
        let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_u64).unwrap_or_default();
        self.say(&leader, &format!("holds the Lease (transitions: {transitions})"));
        Ok(leader)
    }

    fn await_service(&self, leader: &str) -> Result<Duration> {
        let points = |service: Option<&Value>| {
            service.and_then(|service| service.pointer("/spec/selector/pod")).and_then(Value::as_str) == Some(leader)
        };
        let services = leasehold_apiserver::store::SERVICES;
        if !self.server.wait_until(LIMIT, |now| points(now.store.object(services, NAMESPACE, SERVICE))) {
            return Err(format!("the Service does not follow to {leader}").into());
        }
        self.say("Service", &format!("points at {leader}"));
        Ok(self.elapsed())
    }

    fn answers(&self, pod: &str, candidate: &Candidate) -> Result<()> {
        let body = ureq::get(&format!("http://127.0.0.1:{}/", candidate.port)).call()?.into_body().read_to_string()?;
        self.say(pod, &format!("answers GET / with {body}"));
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn say(&self, who: &str, what: &str) {
        println!("  {:7.3}  {who:8} {what}", self.elapsed().as_secs_f64());
    }

    fn summary(&self, elected: Duration, crash: Duration, handover: Duration) {
        println!("\n  from nothing to a leader with the Service behind it   {:7.3} s", elected.as_secs_f64());
        println!(
            "  from kill -9 to the next one ({:?} of it: the Lease)   {:7.3} s",
            LEASE_DURATION,
            crash.as_secs_f64()
        );
        println!("  from SIGTERM to the next one                          {:7.3} s", handover.as_secs_f64());
        println!("  calls that the API server answered                    {:7}\n", self.server.requests().len());
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.mounts);
    }
}

/// One process. It does not outlive the demo.
struct Candidate {
    child: Child,
    port: u16,
}

impl Candidate {
    /// Waits until it says on which port it answers, and keeps reading its log so that it never blocks.
    fn new(mut child: Child) -> Result<Candidate> {
        let mut log = BufReader::new(child.stderr.take().ok_or("its log is piped")?);
        let mut port = None;
        let mut line = String::new();
        while port.is_none() && log.read_line(&mut line)? > 0 {
            port = line.trim().rsplit_once("HTTP on port ").and_then(|(_, port)| port.parse().ok());
            if port.is_none() && line.contains("ERROR") {
                return Err(line.into());
            }
            line.clear();
        }
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Candidate { child, port: port.ok_or("it ended before it said its port")? })
    }

    fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn terminate(&self) -> Result<()> {
        let status = Command::new("kill").arg(self.child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err("kill failed".into()) }
    }

    fn wait(mut self) -> Result<i32> {
        Ok(self.child.wait()?.code().unwrap_or(-1))
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
