//! Answers that a program could repeat itself on without end: whatever the API server says to a watch, it is paced (P20).

use std::process::Command;

use leasehold_apiserver::{Action, Fault, Options, Reply, Server};
use serde_json::json;

use crate::process::{Process, eventually};

const RETRY_MILLIS: u64 = 200;

fn candidate(server: &Server, pod: &str) -> Process {
    let mut program = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    let program = program.env_clear().env("KUBE_API_URL", server.url()).env("LEASE_NAMESPACE", "team-a");
    let program = program.env("LEASE_NAME", "web").env("SERVICE_NAME", "web").env("LEASE_DURATION", "3h");
    let program = program.env("RENEWAL_DEADLINE", "2h").env("RETRY_PERIOD", format!("{RETRY_MILLIS}ms"));
    Process::spawn(program.env("RENEW_INTERVAL", "100ms").env("POD_NAME", pod).env("PORT", "0"))
}

/// How many watches a leader with routing opens in the time of 30 renewals, and how many a pace allows.
fn watches_under(action: Action) -> (usize, usize, Process) {
    let server = Server::start(Options { plain_http: true, ..Options::default() }).expect("a server in memory");
    server.create_service("team-a", "web", &json!({ "app": "web" }));
    server.create_pod("team-a", "pod-a", &json!({}));
    server.faults().add(Fault::new(action).verb("watch"));
    let begun = server.now_ns();
    let leader = candidate(&server, "pod-a");
    let count = |verb: &str| server.requests().iter().filter(|request| request.verb == verb).count();
    eventually("30 renewals", || (count("update") >= 30).then_some(()));
    let millis = (server.now_ns() - begun) / 1_000_000;
    // One of the Lease and one of the Service in each retry period.
    let allowed = 2 * (2 + usize::try_from(millis / RETRY_MILLIS).expect("a small number"));
    (count("watch"), allowed, leader)
}

#[test]
fn a_watch_that_ends_at_once_in_good_order_is_paced_and_logged_once() {
    let (watches, allowed, leader) = watches_under(Action::EndWatch);
    assert!(watches <= allowed, "{watches} watches, at most {allowed} are paced");
    let line = "the watch on Lease team-a/web failed, polling until it works again: ";
    assert!(leader.says(line).contains(": the server ended it after "));
    assert_eq!(leader.log.lines().iter().filter(|said| said.contains(line)).count(), 1, "{}", leader.log.text());
}

#[test]
fn every_other_answer_to_a_watch_is_paced_too() {
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#;
    for reply in [
        Reply::status(410),
        Reply::bytes(200, "application/json", gone),
        Reply::bytes(200, "application/json", "{}"),
        Reply::status(403),
        Reply::status(429),
        Reply::status(500),
        Reply::shutting_down(),
    ] {
        let (watches, allowed, _leader) = watches_under(Action::Answer(reply.clone()));
        assert!(watches <= allowed, "{reply:?}: {watches} watches, at most {allowed} are paced");
    }
}
