//! Who leads, and who leads next.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::process::{LEASE, Lease, Pace, Process, Program, World, eventually};

pub(super) fn one_candidate_on_an_absent_lease_leads(world: &World) {
    let candidate = world.candidate("pod-a", Pace::Hours).start();
    let leader = candidate.wait_until_it_leads();
    candidate.says(&format!("pod-a became leader of {LEASE}"));
    candidate.says("Performing leader tasks...");
    let lease = world.wait_for_holder("pod-a");
    let first = &world.lease_history()[0];
    assert_eq!((first.duration, first.transitions), (3 * 3600, 0));
    assert!(first.acquired.is_some() && first.acquired == first.renewed, "{first:?}");
    assert_eq!(leader["fencingToken"], first.version.to_string(), "the token is the winning write's version");
    assert_eq!((&leader["leader"], &leader["transitions"]), (&json!("pod-a"), &json!(0)));
    assert_eq!(leader["lease"], format!("{}/{LEASE}", world.namespace));
    assert_eq!(lease.uid, first.uid);
    for (path, status) in [("/", 200), ("/healthz", 200), ("/readyz", 200), ("/nowhere", 404)] {
        assert_eq!(candidate.get(path).status, status, "{path}");
    }
    assert_eq!(candidate.get("/").json(), json!({ "hostname": "pod-a" }));
}

pub(super) fn of_three_candidates_exactly_one_leads(world: &World) {
    let names = ["pod-a", "pod-b", "pod-c"];
    let candidates = names.map(|name| world.candidate(name, Pace::Hours)).map(|program| program.start());
    let holder = world.wait_for_lease("somebody holds the Lease", |lease| !lease.holder.is_empty()).holder;
    for candidate in &candidates {
        eventually("everybody knows the leader", || {
            (candidate.get("/leader").json()["leader"] == holder.as_str()).then_some(())
        });
    }
    let leading: Vec<_> = names.iter().zip(&candidates).filter(|(_, it)| it.leads()).map(|(name, _)| *name).collect();
    assert_eq!(leading, [holder.as_str()]);
    let performing: Vec<_> = names.iter().zip(&candidates).filter(|(_, it)| it.said("became leader")).collect();
    assert_eq!(performing.len(), 1, "only one ever led");
    assert_eq!(world.lease_history().len(), 1, "nobody else has written");
}

pub(super) fn sigterm_hands_over(world: &World) {
    world.make_service();
    let (first, second) = two(world, Pace::Hours);
    first.says("updated Service");
    first.signal("TERM");
    second.wait_until_it_leads();
    assert_eq!(first.exit_code(), 0);
    let history: Vec<_> = world.lease_history();
    let shape: Vec<_> = history.iter().map(|lease| (lease.holder.as_str(), lease.transitions)).collect();
    assert_eq!(shape, [("pod-a", 0), ("", 0), ("pod-b", 1)], "released before it was taken");
    assert_eq!(history[1].duration, 1);
    in_this_order(&first, &["SIGTERM: shutting down", "stopped leader loop", "released the Lease"]);
    assert!(second.said("new leader pod-b") && second.said("pod-b became leader"));
}

pub(super) fn sigint_ends_it_as_sigterm_does(world: &World) {
    let candidate = world.candidate("pod-a", Pace::Hours).without("SERVICE_NAME").start();
    candidate.wait_until_it_leads();
    candidate.signal("INT");
    assert_eq!(candidate.exit_code(), 0);
    assert_eq!(world.lease().expect("the Lease stays").holder, "");
    in_this_order(&candidate, &["SIGINT: shutting down", "stopped leader loop", "released the Lease"]);
}

pub(super) fn a_second_signal_ends_it_at_once(world: &World) {
    // Left to itself the term would end when this has stopped: after an hour, by SIGKILL.
    let stubborn = "trap '' TERM; echo runs; while :; do sleep 1; done";
    let candidate = world.candidate("pod-a", Pace::Hours).args(["--", "sh", "-c", stubborn]).start();
    candidate.stdout.line_with("runs");
    candidate.signal("TERM");
    candidate.says("SIGTERM: shutting down");
    candidate.signal("TERM");
    assert_eq!(candidate.exit_code(), 128 + 15);
    assert_eq!(world.lease().expect("the Lease stays").holder, "pod-a", "not released: the work was not stopped");
}

pub(super) fn a_killed_leader_is_succeeded_when_its_lease_has_run_out(world: &World) {
    let (first, second) = two(world, Pace::Seconds);
    first.kill();
    second.wait_until_it_leads();
    let history = world.lease_history();
    let changes: Vec<(&Lease, &Lease)> = history
        .iter()
        .zip(&history[1..])
        .filter(|(before, after)| before.holder == "pod-a" && after.holder == "pod-b")
        .collect();
    assert!(!changes.is_empty(), "{history:#?}");
    for (last, taken) in changes {
        // Both times were read before the write was sent, on this machine's one clock; and who took over had seen the
        // last renewal only after it was sent.
        let waited = taken.acquired.expect("a time").0 - last.renewed.expect("a time").0;
        assert!(waited >= 3_000_000, "taken over {waited} µs after the last renewal");
        assert_eq!(taken.transitions, last.transitions + 1);
    }
}

pub(super) fn a_paused_leader_never_leads_again_on_its_old_term(world: &World) {
    world.make_service();
    let (first, second) = two(world, Pace::Seconds);
    first.says("updated Service");
    let old = world.lease_history().iter().rfind(|lease| lease.holder == "pod-a").expect("it has led").clone();
    let old_tokens = tokens_of(world, "pod-a");
    first.signal("STOP");
    let taken = world.wait_for_holder("pod-b");
    // The kernel takes the connection; the process answers when it runs again, and then from the clock.
    let asked: Vec<_> = (0..3).map(|_| first.ask("/leading").expect("a connection")).collect();
    world.wait_for_target("pod-b");
    let resumed_at = world.memory().map(|server| server.requests().len());
    first.signal("CONT");
    for question in asked {
        assert_eq!(question.answer().expect("an answer").status, 503, "it leads on its old term");
    }
    first.says("stopped being leader");
    first.says("stopped leader loop");
    if let (Some(server), Some(resumed_at)) = (world.memory(), resumed_at) {
        let user = world.user("pod-a");
        let reacquired = world
            .lease_history()
            .iter()
            .find(|it| it.holder == "pod-a" && it.version > taken.version)
            .map(|it| it.version);
        for request in server.requests().into_iter().skip(resumed_at).filter(|request| request.user == user) {
            let writes =
                matches!(request.method.as_str(), "PUT" | "PATCH" | "POST") && !request.path.contains("/events");
            let applied = request.status.is_some_and(|status| status < 300);
            let new_term =
                request.response_version.zip(reacquired).is_some_and(|(version, from)| u128::from(version) >= from);
            assert!(!(writes && applied) || new_term, "written on the old term: {request:?}");
        }
    }
    second.signal("TERM");
    first.says("new leader pod-b");
    world.wait_for_lease("pod-a leads anew", |lease| lease.holder == "pod-a" && lease.version > taken.version);
    let token = first.token();
    assert!(old_tokens.iter().all(|old| *old < token), "{token} is a new term's: {old_tokens:?}");
    world.wait_for_target("pod-a");
    let later = world.lease_history().into_iter().filter(|lease| lease.version >= taken.version);
    let revived: Vec<_> = later.filter(|lease| lease.holder == "pod-a" && lease.acquired == old.acquired).collect();
    assert!(revived.is_empty(), "the old term was renewed after its end: {revived:?}");
    let fences: Vec<_> = world.service_history().iter().filter_map(|service| service.token()).collect();
    assert!(fences.is_sorted(), "the Service's fence never falls: {fences:?}");
}

pub(super) fn a_restarted_container_takes_its_lease_back_at_once(world: &World) {
    let uid = format!("uid-of-{}", world.namespace);
    let uid = format!("{uid}-{}", world.operator.url.rsplit(':').next().unwrap_or_default());
    let program = world.candidate("pod-a", Pace::Hours).with("POD_UID", uid);
    let killed = program.start();
    let before = killed.token();
    killed.kill();
    assert_eq!(killed.wait_for_end().signal(), Some(9));
    let restarted = program.start();
    let after = restarted.token(); // The record stands for three hours.
    assert!(after > before, "a new term has a new token: {before}, then {after}");
    let holders: Vec<_> = world.lease_history().into_iter().map(|lease| (lease.holder, lease.transitions)).collect();
    assert_eq!(holders, [("pod-a".to_owned(), 0), ("pod-a".to_owned(), 0)], "the holder has not changed");
}

pub(super) fn a_second_process_with_the_same_identity_waits_and_says_so(world: &World) {
    let program = world.candidate("pod-a", Pace::Hours);
    let first = program.clone().with("RENEW_INTERVAL", "200ms").start();
    first.wait_until_it_leads();
    let acquired = world.lease().expect("a Lease").acquired;
    let second = program.start();
    let warning = second.says("another process holds the Lease");
    assert!(warning.contains("POD_NAME must be unique to each candidate"), "{warning}");
    assert!(!second.leads() && first.leads());
    assert_eq!(world.lease().expect("a Lease").acquired, acquired, "nobody has acquired it since");
    first.signal("TERM");
    second.wait_until_it_leads();
    assert_eq!(first.exit_code(), 0);
}

pub(super) fn a_log_that_nobody_reads_costs_no_term(world: &World) {
    leads_unheard(world, world.candidate("pod-a", Pace::Hours));
}

pub(super) fn leads_unheard(world: &World, program: Program) {
    let program = program.without("SERVICE_NAME");
    let (leader, listen) = program.with("RENEW_INTERVAL", "50ms").with("TASK_INTERVAL", "50ms").start_unheard();
    // Its first line finds no room and is late; the many that it would write meanwhile are dropped.
    world.leases.wait("it leads and renews", |versions| (versions.len() > 20).then_some(()));
    drop(listen);
    leader.says("Performing leader tasks...");
    leader.signal("TERM");
    assert_eq!(leader.exit_code(), 0);
    let history = world.lease_history();
    let (released, term) = history.split_last().expect("a history");
    let first = &term[0];
    let same = |lease: &&Lease| (&lease.holder, lease.acquired) == (&first.holder, first.acquired);
    assert_eq!((term.iter().filter(same).count(), released.holder.as_str()), (term.len(), ""), "{history:?}");
    let lines = leader.log.to_the_end();
    let not_ours = |line: &str| line.is_empty() || line.starts_with(['.', '{']);
    let heard: Vec<_> = lines.iter().filter(|line| !not_ours(line)).collect();
    assert!(
        heard[1].contains(" WARN  dropped ") && heard[1].contains(" log lines: standard error is blocked"),
        "{heard:?}"
    );
    assert!(!leader.said("became leader") && leader.said("stopped leader loop"), "{heard:?}");
}

/// pod-a leads, pod-b knows it.
pub(super) fn two(world: &World, pace: Pace) -> (Process, Process) {
    let first = world.candidate("pod-a", pace).start();
    first.wait_until_it_leads();
    let second = world.candidate("pod-b", pace).start();
    second.says("new leader pod-a");
    (first, second)
}

/// The tokens of the terms that this holder has had.
fn tokens_of(world: &World, holder: &str) -> Vec<u128> {
    let mut acquired = None;
    let mut tokens = Vec::new();
    for lease in world.lease_history() {
        if lease.holder == holder && lease.acquired != acquired {
            tokens.push(lease.version);
        }
        acquired = lease.acquired;
    }
    tokens
}

#[track_caller]
pub(super) fn in_this_order(process: &Process, said: &[&str]) {
    let lines = process.log.to_the_end();
    let mut at = 0;
    for text in said {
        let found = lines[at..].iter().position(|line| line.contains(text));
        at += 1 + found
            .unwrap_or_else(|| panic!("{text:?} does not come in this order {said:?} in:\n{}", lines.join("\n")));
    }
}
