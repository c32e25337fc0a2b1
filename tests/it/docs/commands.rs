//! Every command in the documents is run: here, or where the table says. A command that is in no table fails the test,
//! as does an entry whose command has gone from the documents.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use leasehold_apiserver::{Options, Server};
use serde_json::json;

use super::{blocks, documents, text};
use crate::process::Process;

/// What a test of this file runs as it stands, but for the ports.
const RUN_HERE: &[&str] = &[COMMAND, ASK_LEADER, ASK_LEADING, WATCH, YIELD_TO];
const COMMAND: &str = "leasehold -- my-program --its-flag";
const ASK_LEADER: &str = "curl --silent http://127.0.0.1:8080/leader";
const ASK_LEADING: &str = "curl --fail --silent --output /dev/null http://127.0.0.1:8080/leading";
const WATCH: &str =
    "KUBE_API_URL=http://127.0.0.1:8001 LEASE_NAMESPACE=leasehold LEASE_NAME=leasehold leasehold status --watch";
const YIELD_TO: &str = "KUBE_API_URL=http://127.0.0.1:8001 LEASE_NAMESPACE=leasehold LEASE_NAME=leasehold leasehold yield --to leasehold-1";

/// What others run: the command, their file, and the words there that run it.
const RUN_ELSEWHERE: &[(&str, &str, &str)] = &[
    ("cargo run --example demo", ".ci/suites.sh", "cargo run --locked --example demo"),
    ("cargo test", ".ci/suites.sh", "cargo test --locked"),
    (
        "cargo bench --bench footprint -- target/x86_64-unknown-linux-gnu/release/leasehold",
        ".ci/suites.sh",
        "cargo bench --locked --bench footprint -- \"$binary\"",
    ),
    ("docker build -t leasehold:0.1.0 .", ".github/workflows/ci.yml", "docker build -t leasehold:0.1.0 ."),
    ("kubectl apply -k manifests/", ".github/workflows/ci.yml", "kubectl apply -k manifests/"),
    // These need a cluster with a kubelet.
    (
        "kubectl get lease leasehold --namespace leasehold",
        "tests/cluster/commands.py",
        "kubectl get lease leasehold --namespace leasehold",
    ),
    (
        "kubectl exec deploy/leasehold --namespace leasehold -- /leasehold status",
        "tests/cluster/commands.py",
        "kubectl exec deploy/leasehold --namespace leasehold -- /leasehold status",
    ),
    (
        "kubectl exec deploy/leasehold --namespace leasehold -- /leasehold yield",
        "tests/cluster/commands.py",
        "kubectl exec deploy/leasehold --namespace leasehold -- /leasehold yield",
    ),
    ("kubectl proxy --port=8001 &", "tests/cluster/commands.py", "kubectl proxy --port=8001"),
    (
        "kubectl annotate lease leasehold --namespace leasehold leasehold.dev/yield-to=leasehold-1",
        "tests/cluster/commands.py",
        "kubectl annotate lease leasehold --namespace leasehold leasehold.dev/yield-to=leasehold-1",
    ),
    // The simulation, in the lengths that its own test reads from the environment.
    ("cargo test --test simulation -- --nocapture", ".ci/suites.sh", "cargo test --locked"),
    ("cargo test --release --test simulation -- --nocapture", "tests/simulation/main.rs", "debug_assertions"),
    (
        "SIMULATION_SCHEDULES=1000000 cargo test --release --test simulation schedule -- --nocapture",
        "tests/simulation/main.rs",
        "SIMULATION_SCHEDULES",
    ),
    (
        "SIMULATION_SEED=85 cargo test --test simulation schedule -- --nocapture",
        "tests/simulation/main.rs",
        "SIMULATION_SEED",
    ),
];

/// The commands of a document: the lines of its `sh` blocks, and of its `console` blocks what follows a prompt.
fn commands(document: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for (language, lines) in blocks(document) {
        let mut lines = lines.iter().map(String::as_str);
        while let Some(line) = lines.next() {
            let command = match language.as_str() {
                "sh" | "bash" => Some(line),
                "console" => line.trim_start().strip_prefix("$ "),
                _ => None,
            };
            let Some(command) = command else { continue };
            let mut command = command.to_owned();
            while command.ends_with('\\') {
                command.pop();
                command.push_str(lines.next().unwrap_or_default().trim_start());
            }
            let command = command.split(" #").next().unwrap_or_default().trim();
            if !command.is_empty() && !command.starts_with('#') {
                commands.push(command.to_owned());
            }
        }
    }
    commands
}

#[test]
fn every_command_is_run_or_listed() {
    let listed: BTreeSet<&str> =
        RUN_HERE.iter().copied().chain(RUN_ELSEWHERE.iter().map(|(command, ..)| *command)).collect();
    let mut shown = BTreeSet::new();
    for document in documents() {
        for command in commands(&document) {
            if document == "docs/audit.md" {
                continue; // Its greps are for a reader of the source.
            }
            assert!(
                listed.contains(command.as_str()),
                "{document} shows a command that no table here knows: {command}"
            );
            shown.insert(command);
        }
    }
    for command in listed {
        assert!(shown.contains(command), "listed here, and in no document: {command}");
    }
}

#[test]
fn those_who_run_a_command_do() {
    for (command, file, words) in RUN_ELSEWHERE {
        assert!(text(file).contains(words), "{command:?} is said to be run by {file}, which does not say {words:?}");
    }
}

// --------------------------------------------------------------------------------------------- the commands

/// An API server as behind `kubectl proxy`, and two candidates as in a StatefulSet.
struct Cluster {
    server: Server,
    folder: PathBuf,
}

impl Cluster {
    fn new(name: &str) -> Cluster {
        let server = Server::start(Options { plain_http: true, ..Options::default() }).expect("a server in memory");
        let folder = std::env::temp_dir().join(format!("leasehold-docs-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        Cluster { server, folder }
    }

    fn candidate(&self, pod: &str) -> Process {
        self.server.create_pod("leasehold", pod, &json!({}));
        let mut program = Command::new(crate::process::program());
        Process::spawn(program.env_clear().envs(self.settings(pod)))
    }

    fn settings(&self, pod: &str) -> [(&'static str, String); 5] {
        let (namespace, lease) = ("leasehold".to_owned(), "leasehold".to_owned());
        [
            ("KUBE_API_URL", self.server.url()),
            ("LEASE_NAMESPACE", namespace),
            ("LEASE_NAME", lease),
            ("POD_NAME", pod.to_owned()),
            ("PORT", "0".to_owned()),
        ]
    }

    /// Where the documents' shell finds the program, and what they call `my-program`.
    fn path(&self) -> String {
        let program = crate::process::program();
        let program = program.parent().expect("it lies in a folder").display();
        let inherited = std::env::var("PATH").unwrap_or_default();
        format!("{}:{program}:{inherited}", self.folder.display())
    }

    /// The command as it stands in the document, with the ports of this test. The shell makes way for it, so that it
    /// ends when the test ends it.
    fn shell(&self, command: &str, http: u16) -> Command {
        let server = self.server.addr().port();
        let command = command.replace("127.0.0.1:8001", &format!("127.0.0.1:{server}"));
        let command = command.replace("127.0.0.1:8080", &format!("127.0.0.1:{http}"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec env {command}")).env_clear().env("PATH", self.path());
        shell
    }

    fn run(&self, command: &str, http: u16) -> Process {
        Process::spawn(&mut self.shell(command, http))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn the_watch_follows_the_hand_over_that_the_guide_asks_for() {
    let cluster = Cluster::new("watch");
    let first = cluster.candidate("leasehold-0");
    first.wait_until_it_leads();
    let second = cluster.candidate("leasehold-1");
    second.says("new leader leasehold-0");

    let watch = cluster.run(WATCH, 0);
    watch.stdout.line_with("leasehold-0 leads");
    let asked = cluster.run(YIELD_TO, 0);
    asked.stdout.line_with("asked leasehold-0 to hand over to leasehold-1");
    asked.stdout.line_with("leasehold-1 leads, after");
    assert_eq!(asked.exit_code(), 0);
    watch.stdout.line_with("the leader is asked to hand over to leasehold-1");
    watch.stdout.line_with("leasehold-1 leads (transitions: 1)");
    second.wait_until_it_leads();
    // Not SIGINT: a shell that started the tests in the background has them ignore it, and what they start.
    watch.signal("TERM");
    assert_eq!(watch.wait_for_end().signal(), Some(15), "nothing blocks the signals that end a program");
}

#[test]
fn the_questions_of_the_guide_are_answered() {
    let cluster = Cluster::new("ask");
    let leader = cluster.candidate("leasehold-0");
    leader.wait_until_it_leads();
    let candidate = cluster.candidate("leasehold-1");
    candidate.says("new leader leasehold-0");
    let curl = Command::new("curl").arg("--version").output().is_ok();
    if !curl {
        assert!(std::env::var_os("LEASEHOLD_REQUIRE_REAL").is_none(), "there is no curl");
        eprintln!("skipped: there is no curl on this machine");
        return;
    }
    let answer = cluster.run(ASK_LEADER, candidate.port());
    answer.stdout.line_with(r#""leader":"leasehold-0","isLeader":false"#);
    assert_eq!(answer.exit_code(), 0);
    assert_eq!(cluster.run(ASK_LEADING, leader.port()).exit_code(), 0);
    assert_eq!(cluster.run(ASK_LEADING, candidate.port()).exit_code(), 22, "curl's code for a 503");
}

#[test]
fn the_command_of_the_guide_runs_with_what_it_is_promised() {
    let cluster = Cluster::new("command");
    let script = cluster.folder.join("my-program");
    fs::write(
        &script,
        "#!/bin/sh\necho \"$1 $LEASEHOLD_LEASE $LEASEHOLD_IDENTITY $LEASEHOLD_FENCING_TOKEN\"\nexit 3\n",
    )
    .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
    .expect("a script can be written");
    cluster.server.create_pod("leasehold", "leasehold-0", &json!({}));
    let run = Process::spawn(cluster.shell(COMMAND, 0).envs(cluster.settings("leasehold-0")));
    let line = run.stdout.line_with("--its-flag leasehold/leasehold leasehold-0 ");
    let token = line.rsplit(' ').next().and_then(|token| token.parse::<u64>().ok());
    assert!(token.is_some_and(|token| token > 0), "{line}");
    assert_eq!(run.exit_code(), 3);
    run.says("released the Lease leasehold");
}
