//! The API server restarts, or compacts, and forgets versions that objects still have: a watch that begins at one ends
//! at once. Nobody may answer that by asking again without a pause, nor miss what happens meanwhile.

use std::process::Command;

use leasehold_apiserver::{Options, Server};
use serde_json::json;

use crate::process::{Process, eventually};

const NAMESPACE: &str = "team-a";

/// As behind `kubectl proxy`. The Lease is renewed each second and cannot run out; the Service keeps its version.
fn run(server: &Server, pod: &str, arguments: &[&str]) -> Process {
    let mut program = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    let program = program.args(arguments).env_clear().env("KUBE_API_URL", server.url());
    let program = program.env("LEASE_NAMESPACE", NAMESPACE).env("LEASE_NAME", "web").env("SERVICE_NAME", "web");
    let program = program
        .env("LEASE_DURATION", "3h")
        .env("RENEWAL_DEADLINE", "2h")
        .env("RETRY_PERIOD", "500ms")
        .env("RENEW_INTERVAL", "1s");
    Process::spawn(program.env("POD_NAME", pod).env("PORT", "0"))
}

fn watches_and_looks(server: &Server, from: usize) -> (usize, usize) {
    let requests = server.requests();
    let reads: Vec<_> = requests.iter().skip(from).filter(|request| request.method == "GET").collect();
    let watches = reads.iter().filter(|request| request.verb == "watch").count();
    (watches, reads.len() - watches)
}

#[test]
fn a_forgotten_version_is_not_asked_for_in_a_loop_and_nothing_is_missed() {
    let server = Server::start(Options { plain_http: true, ..Options::default() }).expect("a server in memory");
    server.create_service(NAMESPACE, "web", &json!({ "app": "web" }));
    for pod in ["pod-a", "pod-b"] {
        server.create_pod(NAMESPACE, pod, &json!({}));
    }
    let leader = run(&server, "pod-a", &[]);
    leader.says("updated Service web");
    let candidate = run(&server, "pod-b", &[]);
    candidate.says("new leader pod-a");
    let status = run(&server, "pod-b", &["status", "--watch"]);
    status.stdout.line_with("Service web points at pod-a");
    eventually("the watches: leader 2, candidate 1, status 2", || (server.watches().count() >= 5).then_some(()));

    server.create_pod(NAMESPACE, "another", &json!({}));
    server.change_store(|store| store.compact());
    let before = server.requests().len();
    server.close_connections();
    // Long enough to tell a loop from a pace: this many looks, however long they take.
    eventually("looks", || (watches_and_looks(&server, before).1 >= 30).then_some(()));
    let (watches, looks) = watches_and_looks(&server, before);
    assert!(watches < looks * 4, "{watches} watches were begun beside {looks} looks");

    assert_eq!(run(&server, "pod-a", &["yield", "--to", "pod-b"]).exit_code(), 0);
    status.stdout.line_with("pod-b leads (transitions: 1)");
    status.stdout.line_with("Service web points at pod-b");
}
