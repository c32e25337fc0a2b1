//! P20 in routing: whatever is answered, patches are not repeated without a pause. And what goes before what.
//!
//! Only against the server in memory, which misbehaves on demand and knows when each request came.

use std::time::Duration;

use crate::process::{LIMIT, Pace, Process, World, eventually};
use leasehold_apiserver::store::{PODS, SERVICES};
use leasehold_apiserver::{Action, Fault, Recorded, Reply};

/// The RETRY_PERIOD of [`Pace::Hours`], but for what the threads of the server may be late to note a request.
const RETRY_PERIOD: Duration = Duration::from_millis(450);

fn requests(world: &World, verb: &str, path: &str) -> Vec<Recorded> {
    let all = world.memory().expect("a server in memory").requests();
    all.into_iter().filter(|request| request.verb == verb && request.path.contains(path)).collect()
}

/// Waits for eight patches: after the first `quick` ones there is a pause before each.
fn are_paced(world: &World, path: &str, quick: usize) {
    let patches = eventually("eight patches", || Some(requests(world, "patch", path)).filter(|all| all.len() >= 8));
    for pair in patches[quick - 1..].windows(2) {
        let pause = Duration::from_nanos(pair[1].received_ns - pair[0].received_ns);
        assert!(pause >= RETRY_PERIOD, "{pause:?} between patches {} and {}", pair[0].number, pair[1].number);
    }
}

/// How many updates of the Service ended so, by the metrics.
fn updates(candidate: &Process, result: &str) -> u64 {
    let metrics = candidate.get("/metrics").body;
    let sample = format!("leasehold_route_updates_total{{result=\"{result}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&sample));
    line.unwrap_or_else(|| panic!("{sample} is not in\n{metrics}")).parse().expect("a number")
}

/// A webhook removes this field of what is patched; then the webhook is gone.
fn is_said_and_paced(field: &str, path: &str, lacks: &str) {
    let world = World::in_memory();
    world.make_service();
    let server = world.memory().expect("a server in memory");
    let resource = if path.contains("pods") { PODS } else { SERVICES };
    server.store().remove_on_admission(resource, &[field]);
    let candidate = world.candidate("pod-a", Pace::Hours).start();
    let said = candidate.says(&format!("the answer lacks {lacks}"));
    are_paced(&world, path, 1);
    server.store().remove_on_admission(resource, &[]);
    candidate.says("works again: PATCH");
    world.wait_for_target("pod-a");
    let warnings = candidate.log.lines().into_iter().filter(|line| line.contains("WARN"));
    assert_eq!(warnings.collect::<Vec<_>>(), [said], "said once, and nothing else is wrong");
    let counted = updates(&candidate, "failed") > 0;
    assert_eq!(counted, resource == SERVICES, "what is not made of the Service is counted");
}

#[test]
fn a_label_that_admission_removes_is_not_patched_in_a_loop() {
    is_said_and_paced("/metadata/labels/pod", "/pods/", "the label pod=pod-a");
}

#[test]
fn a_fence_that_admission_removes_is_not_patched_in_a_loop() {
    is_said_and_paced(
        "/metadata/annotations/leasehold.dev~1fence",
        "/services/",
        "the annotation leasehold.dev/fence=",
    );
}

#[test]
fn a_selector_that_admission_removes_is_not_patched_in_a_loop() {
    is_said_and_paced("/spec/selector/pod", "/services/", "the selector pod=pod-a");
}

#[test]
fn a_service_patch_that_is_always_a_conflict_is_not_repeated_in_a_loop() {
    let world = World::in_memory();
    world.make_service();
    let server = world.memory().expect("a server in memory");
    let conflict = Fault::new(Action::Answer(Reply::status(409))).verb("patch").path("/services/");
    let fault = server.faults().add(conflict);
    let leader = world.candidate("pod-a", Pace::Hours).start();
    leader.says("3 patches of Service leasehold in a row were answered 409 Conflict");
    are_paced(&world, "/services/", 3);
    server.faults().remove(fault);
    leader.says("updated Service leasehold");
    world.wait_for_target("pod-a");
    assert!(updates(&leader, "conflict") >= 8 && updates(&leader, "failed") == 0, "it is counted");
    assert_eq!(updates(&leader, "ok"), 1);
}

#[test]
fn the_service_is_routed_before_an_event_is_sent() {
    let world = World::in_memory();
    world.make_service();
    let server = world.memory().expect("a server in memory");
    // A look at the Service that takes its time: an Event would overtake it.
    let slow = server.faults().add(Fault::new(Action::HangBefore).verb("get").path("/services/"));
    let leader = world.candidate("pod-a", Pace::Hours).start();
    assert!(server.faults().wait_fired(slow, 1, LIMIT), "it looks at the Service");
    server.faults().remove(slow);
    world.wait_for_target("pod-a");
    let (events, patches) = (|| requests(&world, "create", "/events"), || requests(&world, "patch", "/services/"));
    let became = eventually("an Event", || events().pop());
    assert!(patches()[0].number < became.number, "routed first, then the Event");

    leader.signal("TERM");
    leader.says("released the Lease");
    let _successor = world.candidate("pod-b", Pace::Hours).start();
    assert_eq!(leader.exit_code(), 0);
    let stopped = events().into_iter().rfind(|event| event.user == world.user("pod-a")).expect("an Event");
    assert_ne!(stopped.number, became.number, "the Event of the end of its term");
    assert!(patches()[1].number < stopped.number, "pointed elsewhere first, then the Event");
}
