//! The API server restarts, or compacts, and forgets versions that objects still have: a watch that begins at one ends
//! at once. Nobody may answer that by asking again without a pause, nor miss what happens meanwhile.

use std::process::Command;

use leasehold_apiserver::{Options, Recorded, Server};
use serde_json::json;

use crate::process::{Process, eventually, program};

const NAMESPACE: &str = "team-a";

/// As behind `kubectl proxy`. The Lease is renewed all the time and cannot run out; the Service keeps its version.
fn run(server: &Server, pod: &str, arguments: &[&str]) -> Process {
    let mut program = Command::new(program());
    let program = program.args(arguments).env_clear().env("KUBE_API_URL", server.url());
    let program = program.env("LEASE_NAMESPACE", NAMESPACE).env("LEASE_NAME", "web").env("SERVICE_NAME", "web");
    let program = program
        .env("LEASE_DURATION", "3h")
        .env("RENEWAL_DEADLINE", "2h")
        .env("RETRY_PERIOD", "100ms")
        .env("RENEW_INTERVAL", "200ms");
    Process::spawn(program.env("POD_NAME", pod).env("PORT", "0"))
}

/// How many requests since then are such.
fn count(server: &Server, since: usize, is: impl Fn(&Recorded) -> bool) -> usize {
    server.requests().iter().skip(since).filter(|request| is(request)).count()
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
    let since = server.requests().len();
    server.close_connections();
    let is_watch = |request: &Recorded| request.verb == "watch";
    let of_service =
        |request: &Recorded| request.path.ends_with("/services") || request.path.ends_with("/services/web");
    let begins_anywhere =
        |request: &Recorded| is_watch(request) && of_service(request) && request.query.contains("resourceVersion=0&");
    eventually("both watches of the Service begin without its version", || {
        (count(&server, since, begins_anywhere) >= 2 && server.watches().count() >= 5).then_some(())
    });
    // As long as that takes, however long: who looked each RETRY_PERIOD would have looked twice for each renewal.
    let renewals = |request: &Recorded| request.verb == "update" && request.status == Some(200);
    eventually("renewals", || (count(&server, since, renewals) >= 30).then_some(()));
    let (watches, looks) =
        (count(&server, since, is_watch), count(&server, since, |it| it.verb == "get" && of_service(it)));
    assert!(looks < 15, "the Service was looked at {looks} times though it is watched");
    assert!(watches < 30, "{watches} watches were begun");

    assert_eq!(run(&server, "pod-a", &["yield", "--to", "pod-b"]).exit_code(), 0);
    status.stdout.line_with("pod-b leads (transitions: 1)");
    status.stdout.line_with("Service web points at pod-b");
}
