//! What the shipped Role grants: what the program says and does without each right, and that each variant of the manifests
//! grants what the program then uses, nothing more and nothing less. On both API servers.

pub(crate) mod missing;
pub(crate) mod variants;

use serde_json::json;

use crate::process::{Process, World, eventually};

/// It leaves in good order, so that its audit log is whole.
fn ends(process: &Process) {
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0, "{}", process.log.text());
}

fn wait_for_label(world: &World, pod: &str) {
    eventually("the Pod bears its label", || (world.pod_label(pod, "pod").as_deref() == Some(pod)).then_some(()));
}

/// Nobody has pointed the Service anywhere.
fn is_untouched(world: &World) -> bool {
    world.service()["spec"]["selector"] == json!({ "app": "web" })
}

/// The messages of the Events about the Lease.
fn told(world: &World) -> Vec<String> {
    world.events().iter().map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}
