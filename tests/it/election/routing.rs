//! The Pod's label, the Service's selector, and the fence.

use serde_json::json;

use super::leading::two;
use crate::process::{Pace, SERVICE, World, eventually};

const FENCE: &str = "leasehold.dev/fence";

pub(super) fn the_pod_is_labelled_and_the_service_follows(world: &World) {
    world.make_service();
    let before = world.service();
    let (leader, candidate) = two(world, Pace::Hours);
    let routed = world.wait_for_target("pod-a");
    assert_eq!(routed.selector, json!({ "app": "web", "pod": "pod-a" }), "the other keys stay");
    let lease = world.lease().expect("a Lease");
    let fence = routed.fence.expect("a fence");
    assert!(fence.ends_with(&format!("Z/{}/{}", lease.uid, leader.token())), "{fence}");
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
    leader.says(&format!("somebody pointed Service {SERVICE} at pod=pod-x"));
    let service = world.wait_for_target("pod-a");
    assert_eq!(service.selector, json!({ "app": "web", "pod": "pod-a", "tier": "front" }), "no more than its own key");
    world.patch_service(&json!({ "spec": { "selector": { "pod": null } } }));
    leader.says(&format!("somebody pointed Service {SERVICE} at pod=nothing"));
    world.wait_for_target("pod-a");
}

pub(super) fn a_service_with_a_greater_fence_is_left_alone(world: &World) {
    world.make_service();
    let later = "2999-12-31T23:59:59Z/later-lease/1";
    world.patch_service(
        &json!({ "metadata": { "annotations": { FENCE: later } }, "spec": { "selector": { "pod": "pod-x" } } }),
    );
    let leader = world.candidate("pod-a", Pace::Hours).start();
    leader.says("bears the fence of a later term (2999-12-31T23:59:59Z/later-lease/1): leaving it alone");
    assert!(leader.leads());
    // Time for whatever would be written to be written: another Pod is started and labelled.
    world.candidate("pod-b", Pace::Hours).start().says("updated pod label");
    world.patch_service(&json!({ "metadata": { "annotations": { FENCE: null } } }));
    world.wait_for_target("pod-a");
    let history = world.service_history();
    let written: Vec<_> = history.iter().map(|service| (service.target(), service.fence.as_deref())).collect();
    let by_the_operator = [(None, None), (Some("pod-x"), Some(later)), (Some("pod-x"), None)];
    assert_eq!(written[..3], by_the_operator, "nobody else has written before the fence was taken away");
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
