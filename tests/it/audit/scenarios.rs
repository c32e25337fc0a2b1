//! What calls are made in situations that the election's behaviours do not come to. Each ends its processes in good
//! order, so that their audit logs are whole.

use std::fs;
use std::time::{Duration, Instant};

use leasehold::kube::{Purpose, Watch, WatchEvent, WatchStop, request};
use serde_json::json;

use super::{Entry, runs};
use crate::process::{LEASE, LIMIT, Lease, Pace, Process, Program, World, eventually};

/// It leaves at once, whether another follows it or not.
fn candidate(world: &World, pod: &str) -> Program {
    world.candidate(pod, Pace::Hours).with("DRAIN_TIMEOUT", "0")
}

fn ends(process: &Process) {
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);
}

/// All calls of all processes.
fn calls(world: &World) -> Vec<Entry> {
    runs(world).into_iter().flat_map(|run| run.lines).collect()
}

fn count(calls: &[Entry], verb: &str, resource: &str) -> usize {
    calls.iter().filter(|call| call.verb == verb && call.resource == resource).count()
}

pub(super) fn a_lease_made_beforehand_is_taken_and_none_is_created(world: &World) {
    world.make_lease(&json!({}));
    let leader = candidate(world, "pod-a").start();
    leader.wait_until_it_leads();
    ends(&leader);
    let calls = calls(world);
    assert_eq!((count(&calls, "create", "leases"), count(&calls, "update", "leases")), (0, 2), "{calls:#?}");
}

pub(super) fn events_off_writes_none(world: &World) {
    let leader = candidate(world, "pod-a").with("EVENTS", "off").start();
    leader.wait_until_it_leads();
    ends(&leader);
    assert!(world.events().is_empty() && calls(world).iter().all(|call| call.resource != "events"));
}

pub(super) fn a_refused_token_is_read_again(world: &World) {
    let program = candidate(world, "pod-a").without("SERVICE_NAME");
    let token = world.file("account-of-pod-a").join("token");
    let good = fs::read_to_string(&token).expect("a token");
    fs::write(&token, "nobody-has-this").expect("a file");
    let leader = program.start();
    let refused = leader.says("401 Unauthorized");
    fs::write(&token, &good).expect("a file");
    leader.wait_until_it_leads();
    ends(&leader);
    let calls = calls(world);
    let statuses: Vec<_> = calls.iter().map(|call| call.status.unwrap_or_default()).collect();
    let in_order = |pair: &[u64]| statuses.windows(2).any(|two| two == pair);
    assert!(in_order(&[401, 401]) && in_order(&[401, 404]), "refused, read again, tried again: {statuses:?}");
    assert!(!refused.contains("nobody-has-this"), "{refused}");
}

pub(super) fn status_and_yield_look_and_ask_and_no_more(world: &World) {
    world.make_service();
    let first = candidate(world, "pod-a").start();
    first.says("updated Service");
    let others = ["pod-b", "pod-c"].map(|pod| candidate(world, pod).start());
    others.iter().for_each(|other| drop(other.says("new leader pod-a")));
    let told = |words: &[&str]| world.stranger("pod-a").args(words).start();
    let follows = told(&["status", "--watch"]);
    follows.stdout.line_with("pod-a leads");
    for words in [&["status"][..], &["status", "--json"]] {
        let status = told(words);
        assert_eq!(status.exit_code(), 0, "{}", status.log.text());
        status.stdout.line_with("pod-a");
    }
    assert_eq!(told(&["yield", "--to", "pod-b"]).exit_code(), 0);
    follows.stdout.line_with("pod-b leads");
    others[0].wait_until_it_leads();
    // pod-a stands back for three hours.
    assert_eq!(told(&["yield"]).exit_code(), 0);
    follows.stdout.line_with("pod-c leads");
    follows.signal("TERM");
    follows.wait_for_end();
    ends(&first);
    others.iter().for_each(ends);
    for run in runs(world).iter().filter(|run| run.name.contains(' ')) {
        let writes = run.lines.iter().filter(|call| !matches!(call.verb.as_str(), "get" | "watch")).count();
        assert_eq!(writes, usize::from(run.name.ends_with("yield")), "{}: {:#?}", run.name, run.lines);
        assert!(run.lines.iter().all(|call| ["leases", "services"].contains(&call.resource.as_str())), "{}", run.name);
    }
}

pub(super) fn a_watch_ends_in_good_order_when_its_time_is_up_and_the_next_goes_on_from_there(world: &World) {
    const LASTING: Duration = Duration::from_secs(1);
    world.make_lease(&json!({}));
    let (client, audit) = world.client("pod-a");
    let mut from = world.lease().expect("a Lease").version;
    // What came of it but bookmarks. Only the server ends it: the client would wait for as long as for a hang.
    let mut watch = || -> Vec<Lease> {
        let (request, begun) =
            (request::watch_lease(&world.namespace, LEASE, from, LASTING, Purpose::Observe), Instant::now());
        let watch = Watch::open(&client, &request, LIMIT, &WatchStop::default()).expect("it is opened");
        let mut changes = Vec::new();
        for event in watch {
            match event.expect("no failure") {
                WatchEvent::Modified(_, object) => changes.push(Lease::of(&object)),
                WatchEvent::Bookmark(version) => from = version,
                other => panic!("what did not happen: {other:?}"),
            }
            from = changes.last().map_or(from, |lease| from.max(lease.version));
        }
        assert!(begun.elapsed() >= LASTING, "it was ended before its time");
        changes
    };
    assert_eq!(watch(), [], "nothing happened");
    // While none watches; and the next watch may be over before the server reports it.
    let changed = Lease::of(&world.patch_lease(&json!({ "metadata": { "annotations": { "note": "changed" } } })));
    let told = eventually("the change is told", || Some(watch()).filter(|changes| !changes.is_empty()));
    assert_eq!(told, [changed], "once, and nothing that was told before");
    assert_eq!(watch(), [], "nothing more");
    audit.flush(LIMIT);
    assert!(calls(world).iter().all(|call| call.verb == "watch" && call.status == Some(200)));
}
