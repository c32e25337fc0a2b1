//! What ends a term: somebody's hand on the Lease, a request, a workload that fails.

use serde_json::json;

use super::leading::two;
use crate::process::{Lease, Pace, Workload, World, eventually};

const YIELD_TO: &str = "leasehold.dev/yield-to";

pub(super) fn a_deleted_lease_ends_the_term(world: &World) {
    let (leader, rival) = two(world, Pace::Hours);
    let before = leader.token();
    let uid = world.lease().expect("a Lease").uid;
    world.delete_lease();
    leader.says("pod-a stopped being leader: the Lease was deleted");
    // Its own record need not be waited out; the rival's view of it stands for three hours.
    leader.log.lines_with("pod-a became leader", 2);
    let after = leader.token();
    assert!(after > before, "a new term has a new token: {before}, then {after}");
    let lease = world.lease().expect("a Lease");
    assert!(lease.uid != uid && lease.holder == "pod-a" && lease.transitions == 0, "{lease:?}");
    assert!(!rival.said("became leader"), "a deletion is no release");
}

pub(super) fn a_lease_given_to_somebody_else_by_hand_ends_the_term(world: &World) {
    let leader = world.candidate("pod-a", Pace::Hours).start();
    let before = leader.token();
    world.patch_lease(&json!({ "spec": { "holderIdentity": "pod-x" } }));
    leader.says("pod-a stopped being leader: pod-x holds the Lease now");
    leader.says("stopped leader loop");
    assert!(!leader.leads());
    assert_eq!(leader.get("/leader").json()["leader"], "pod-x");
    let given = world.lease().expect("a Lease");
    assert_eq!(given.holder, "pod-x", "and it is left alone");
    world.patch_lease(&json!({ "spec": { "holderIdentity": "" } }));
    let lease = world.wait_for_holder("pod-a");
    assert!(leader.token() > before && lease.transitions == given.transitions + 1, "{lease:?}");
}

pub(super) fn a_cleared_holder_ends_the_term(world: &World) {
    let leader = world.candidate("pod-a", Pace::Hours).start();
    let before = leader.token();
    let cleared = world.patch_lease(&json!({ "spec": { "holderIdentity": null } }));
    leader.says("pod-a stopped being leader: the holder was cleared by hand");
    leader.log.lines_with("pod-a became leader", 2);
    let after = leader.token();
    assert!(after > before && after > Lease::of(&cleared).version, "{before}, then {after}");
}

pub(super) fn a_leader_that_is_asked_to_yield_hands_over(world: &World) {
    let (leader, other) = two(world, Pace::Hours);
    let chosen = world.candidate("pod-c", Pace::Hours).start();
    chosen.says("new leader pod-a");
    world.patch_lease(&json!({ "metadata": { "annotations": { YIELD_TO: "pod-c" } } }));
    leader.says("pod-a stopped being leader: asked to hand over to pod-c");
    chosen.wait_until_it_leads();
    let lease = world.wait_for_holder("pod-c");
    assert_eq!(lease.annotations[YIELD_TO], json!(null), "the request is done with");
    let holders: Vec<_> = world.lease_history().into_iter().map(|lease| lease.holder).collect();
    assert_eq!(holders, ["pod-a", "", "pod-c"]);
    assert!(!leader.leads() && !other.said("became leader"));
}

pub(super) fn only_a_healthy_workload_leads(world: &World) {
    let (sick, well) = (Workload::new(false), Workload::new(true));
    let gated = |pod: &str, workload: &Workload| {
        let program = world.candidate(pod, Pace::Hours).with("HEALTH_URL", workload.url());
        program.with("HEALTH_INTERVAL", "50ms").with("HEALTH_FAILURES", "2").start()
    };
    let first = gated("pod-a", &sick);
    // It has looked at the Lease, and at its workload more than once, and does not campaign.
    eventually("it has looked", || (first.get("/readyz").status == 200 && sick.asked() > 2).then_some(()));
    assert_eq!(world.lease(), None);
    let second = gated("pod-b", &well);
    second.wait_until_it_leads();
    sick.set(true);
    first.says("is healthy: campaigning");
    well.set(false);
    second.says("pod-b stopped being leader: the workload fails its health check");
    first.wait_until_it_leads();
    let holders: Vec<_> = world.lease_history().into_iter().map(|lease| lease.holder).collect();
    assert_eq!(holders, ["pod-b", "", "pod-a"]);
}

pub(super) fn events_tell_the_story(world: &World) {
    let leader = world.candidate("pod-a", Pace::Hours).without("SERVICE_NAME").start();
    leader.wait_until_it_leads();
    let uid = world.lease().expect("a Lease").uid;
    leader.signal("TERM");
    assert_eq!(leader.exit_code(), 0);
    let events = world.events();
    let told: Vec<_> = events.iter().map(|event| event["message"].as_str().unwrap_or_default()).collect();
    for message in ["pod-a became leader", "pod-a stopped leading: shutting down"] {
        assert!(told.contains(&message), "{told:?}");
    }
    for event in &events {
        assert_eq!(event["involvedObject"]["uid"], uid.as_str(), "kubectl describe finds it by this");
        assert_eq!((&event["involvedObject"]["kind"], &event["reason"]), (&json!("Lease"), &json!("LeaderElection")));
    }
}
