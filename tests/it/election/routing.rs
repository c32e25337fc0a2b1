//! The Pod's label, the Service's selector, and the fence.

use serde_json::json;

use super::leading::two;
use crate::manifests;
use crate::process::{LEASE, Pace, SERVICE, World, eventually};

const FENCE: &str = "leasehold.dev/fence";

pub(super) fn the_pod_is_labelled_and_the_service_follows(world: &World) {
    world.make_service();
    let before = world.service();
    let (leader, candidate) = two(world, Pace::Hours);
    let routed = world.wait_for_target("pod-a");
    assert_eq!(routed.selector, json!({ "app": "web", "pod": "pod-a" }), "the other keys stay");
    let lease = world.lease().expect("a Lease");
    let fence = routed.fence.expect("a fence");
    assert_eq!(fence, format!("{}/{}", lease.uid, leader.token()));
    let after = world.service();
    assert_eq!(after["spec"]["ports"], before["spec"]["ports"]);
    assert_eq!(after["metadata"]["annotations"]["note"], "kept");
    leader.says("updated pod label: pod=pod-a");
    candidate.says("updated pod label: pod=pod-b");
    leader.says(&format!("updated Service {SERVICE}"));
    assert_eq!(world.pod_label("pod-a", "pod").as_deref(), Some("pod-a"));
    assert_eq!(world.pod_label("pod-b", "pod").as_deref(), Some("pod-b"));
    assert_eq!(world.pod_label("pod-b", "app").as_deref(), Some("web"), "the other labels stay");
    assert_eq!(world.service_history().len(), 2, "as made, and routed once: a candidate leaves it alone");
}

pub(super) fn a_missing_service_is_reported_and_routed_once_it_is_there(world: &World) {
    let leader = world.candidate("pod-a", Pace::Hours).start();
    let token = leader.token();
    let missing = leader.says(&format!("there is no Service {SERVICE} in namespace {}", world.namespace));
    assert!(missing.contains("GET /api/v1/") && missing.contains("404 NotFound"), "{missing}");
    assert!(leader.leads(), "the election goes on without it");
    world.make_service();
    world.wait_for_target("pod-a");
    leader.says("updated Service");
    assert_eq!(leader.token(), token, "it is the same term still");
}

pub(super) fn a_selector_changed_by_hand_is_put_right(world: &World) {
    world.make_service();
    let leader = world.candidate("pod-a", Pace::Hours).start();
    leader.says("updated Service");
    world.patch_service(&json!({ "spec": { "selector": { "pod": "pod-x", "tier": "front" } } }));
    leader.says(&format!("Service {SERVICE} was changed to pod=pod-x while this process leads"));
    let service = world.wait_for_target("pod-a");
    assert_eq!(service.selector, json!({ "app": "web", "pod": "pod-a", "tier": "front" }), "no more than its own key");
    world.patch_service(&json!({ "spec": { "selector": { "pod": null } } }));
    leader.says(&format!("Service {SERVICE} was changed to pod=nothing while this process leads"));
    world.wait_for_target("pod-a");
}

pub(super) fn a_service_with_the_fence_of_a_later_term_is_left_alone(world: &World) {
    world.make_service();
    let leader = world.candidate("pod-a", Pace::Hours).start();
    leader.says("updated Service");
    // Any version given out since the leader's term began is greater than its token.
    let later = format!("later-lease/{}", world.service()["metadata"]["resourceVersion"].as_str().expect("a version"));
    world.patch_service(
        &json!({ "metadata": { "annotations": { FENCE: later } }, "spec": { "selector": { "pod": "pod-x" } } }),
    );
    let line = leader.says(&format!("Service {SERVICE} bears the fence of a later term ({later})"));
    let command = format!("kubectl annotate service {SERVICE} --namespace {} {FENCE}-", world.namespace);
    assert!(line.ends_with(&command), "{line}");
    assert!(leader.leads());
    // Time for whatever would be written to be written: another Pod is started and labelled.
    world.candidate("pod-b", Pace::Hours).start().says("updated pod label");
    world.patch_service(&json!({ "metadata": { "annotations": { FENCE: null } } }));
    world.wait_for_target("pod-a");
    let history = world.service_history();
    let written: Vec<_> = history.iter().map(|service| (service.target(), service.fence.as_deref())).skip(2).collect();
    let by_the_operator = [(Some("pod-x"), Some(later.as_str())), (Some("pod-x"), None)];
    assert_eq!(written[..2], by_the_operator, "nobody else has written before the fence was taken away");
}

pub(super) fn a_fence_of_another_history_is_void(world: &World) {
    for (pod, fence) in [("pod-a", "its-lease/9999999999999999"), ("pod-b", "2999-12-31T23:59:59Z/its-lease/1")] {
        if pod == "pod-a" {
            world.make_service();
        }
        let edit =
            json!({ "metadata": { "annotations": { FENCE: fence } }, "spec": { "selector": { "pod": "pod-x" } } });
        world.patch_service(&edit);
        let leader = world.candidate(pod, Pace::Hours).with("DRAIN_TIMEOUT", "0").start();
        leader.says("updated Service");
        world.wait_for_target(pod);
        leader.signal("TERM");
        assert_eq!(leader.exit_code(), 0);
    }
}

pub(super) fn a_lease_name_changed_and_changed_back_does_not_lock_the_service(world: &World) {
    world.make_service();
    let mut role = manifests::object("Role");
    for rule in role["rules"].as_array_mut().expect("rules") {
        if rule["resources"] == json!(["leases"]) && rule.get("resourceNames").is_some() {
            rule["resourceNames"] = json!([LEASE, "another"]);
        }
    }
    for (pod, lease) in [("pod-a", LEASE), ("pod-b", "another"), ("pod-c", LEASE)] {
        let program = world.candidate(pod, Pace::Hours).with("LEASE_NAME", lease).with("DRAIN_TIMEOUT", "0");
        world.grant(pod, &role);
        let leader = program.start();
        leader.says("updated Service");
        world.wait_for_target(pod);
        leader.signal("TERM");
        assert_eq!(leader.exit_code(), 0);
    }
}

pub(super) fn the_leader_stays_until_the_service_points_elsewhere(world: &World) {
    world.make_service();
    let leader = world.candidate("pod-a", Pace::Hours).with("DRAIN_TIMEOUT", "1h").start();
    leader.says("updated Service");
    leader.signal("TERM");
    leader.says("released the Lease");
    for path in ["/", "/leader"] {
        assert_eq!(leader.get(path).status, 200, "it still answers: the Service points here");
    }
    assert!(!leader.leads());
    let successor = world.candidate("pod-b", Pace::Hours).start();
    assert_eq!(leader.exit_code(), 0);
    let target = world.service()["spec"]["selector"]["pod"].clone();
    assert_eq!(target, "pod-b", "it went before the Service pointed elsewhere");
    eventually("it leads", || successor.leads().then_some(()));
}
