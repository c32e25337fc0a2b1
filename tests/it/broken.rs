//! A watch that fails: logged once, and once when it works again; its ordinary ends are not logged.

use std::process::Command;

use leasehold_apiserver::{Options, Server};

use crate::process::{Process, eventually, program};

fn run(server: &Server, pod: &str) -> Process {
    let mut program = Command::new(program());
    let program = program.env_clear().env("KUBE_API_URL", server.url()).env("LEASE_NAMESPACE", "team-a");
    let program = program.env("LEASE_NAME", "web").env("LEASE_DURATION", "3h").env("RENEWAL_DEADLINE", "2h");
    Process::spawn(program.env("RETRY_PERIOD", "200ms").env("POD_NAME", pod).env("PORT", "0"))
}

/// Does something to the watches of both, and waits until both have asked for another and it stands.
fn renewed(server: &Server, what: &str, done: impl FnOnce()) {
    let asked = || server.requests().iter().filter(|request| request.verb == "watch").count();
    let before = asked();
    done();
    eventually(what, || (asked() >= before + 2 && server.watches().count() == 2).then_some(()));
}

#[test]
fn a_watch_that_fails_is_logged_once_and_so_is_that_it_works_again() {
    let server = Server::start(Options { plain_http: true, ..Options::default() }).expect("a server in memory");
    let leader = run(&server, "pod-a");
    leader.says("became leader");
    let candidate = run(&server, "pod-b");
    candidate.says("new leader pod-a");
    eventually("both watch", || (server.watches().count() == 2).then_some(()));
    let broken = "the watch on Lease team-a/web failed, polling until it works again: GET /apis/";

    let opened = server.now_ns();
    eventually("the watches have lasted a while", || (server.now_ns() > opened + 1_500_000_000).then_some(()));
    renewed(&server, "a watch after one that has come to its end", || server.watches().end());
    renewed(&server, "a watch after one whose version is forgotten", || server.watches().expire());
    assert!(
        !candidate.said("the watch on Lease team-a/web failed") && !leader.said("the watch on Lease team-a/web failed"),
        "{}",
        candidate.log.text()
    );

    for _ in 0..3 {
        renewed(&server, "a watch after one that was cut", || server.watches().cut());
    }
    for process in [&leader, &candidate] {
        assert!(process.says(broken).contains(": cut: "), "{}", process.log.text());
        process.says("the watch on Lease team-a/web works again");
    }
    // What it says of its term comes after all that it had to say of the watches.
    leader.signal("TERM");
    candidate.says("became leader");
    assert_eq!(leader.exit_code(), 0);
    for process in [&leader, &candidate] {
        for said in ["the watch on Lease team-a/web failed", "the watch on Lease team-a/web works again"] {
            let count = process.log.lines().iter().filter(|line| line.contains(said)).count();
            assert_eq!(count, 1, "{said}: {}", process.log.text());
        }
    }
}
