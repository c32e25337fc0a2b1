//! The variants of the manifests: under each one's Role a candidate, with the environment that it gives, leads and routes,
//! is refused nothing, and uses every right that it grants.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::{ends, told};
use crate::audit::{self, Run};
use crate::process::{Pace, World, eventually};
use crate::recipes::{environment, named, pod_name, render};

/// The components that change the Role, alone and together; `no-routing` comes last.
pub(crate) const VARIANTS: [&[&str]; 7] = [
    &[],
    &["lease-precreated"],
    &["statefulset"],
    &["no-routing"],
    &["lease-precreated", "statefulset"],
    &["lease-precreated", "no-routing"],
    &["lease-precreated", "statefulset", "no-routing"],
];

pub(crate) fn title(components: &[&str]) -> String {
    if components.is_empty() { "manifests/base".to_owned() } else { components.join(" + ") }
}

/// Takes part in an election as the variant would have it, in all that needs a right.
pub(crate) fn uses_what_its_role_grants(world: &World, components: &[&str]) {
    let objects = render::with_components(Path::new("manifests"), components);
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind);
    let (pod, role) = (pod_name(&objects), named(&objects, "Role", &json!("leasehold")));
    if let Some(lease) = of_kind("Lease") {
        world.make_lease(&lease["spec"]);
    }
    let mut program = world.candidate(&pod, Pace::Hours).without("SERVICE_NAME").with("DRAIN_TIMEOUT", "0");
    let given = environment(&objects, &pod);
    for name in ["LEASE_NAME", "SERVICE_NAME", "ROUTE_LABEL", "POD_NAME"] {
        if let Some(value) = given.get(name) {
            program = program.with(name, value);
        }
    }
    let service = of_kind("Service").is_some();
    assert_eq!(service, given.contains_key("SERVICE_NAME"));
    if service {
        world.make_service();
    }
    if of_kind("StatefulSet").is_some() {
        world.label_pod(&pod, "statefulset.kubernetes.io/pod-name", &pod);
    }
    world.grant(&pod, role);
    let process = program.start();
    process.wait_until_it_leads();
    if service {
        process.says("updated Service leasehold");
    }
    // An operator clears the holder, so it becomes leader once more.
    world.patch_lease(&json!({ "spec": { "holderIdentity": "" } }));
    let again = format!("{pod} became leader");
    eventually("it is told", || (told(world).iter().filter(|message| **message == again).count() == 2).then_some(()));
    if service {
        let key = given.get("ROUTE_LABEL").map_or("pod", String::as_str);
        let is_ours = || world.service()["spec"]["selector"][key] == json!(pod);
        process.log.lines_with("updated Service leasehold", 2); // Signed with the new term's fence, too.
        assert!(is_ours());
        world.patch_service(&json!({ "spec": { "selector": { (key): "another" } } }));
        process.says(&format!("Service leasehold was changed to {key}=another"));
        eventually("the Service points here again", || is_ours().then_some(()));
    }
    ends(&process);
    assert_eq!(used(&audit::runs(world)), granted(role), "what is used (left) and what is granted (right)");
}

fn used(runs: &[Run]) -> BTreeSet<(String, String)> {
    let calls = runs.iter().flat_map(|run| &run.lines);
    calls.map(|call| (call.resource.clone(), call.verb.clone())).collect()
}

fn granted(role: &Value) -> BTreeSet<(String, String)> {
    let words = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let rules = role["rules"].as_array().expect("rules");
    let pairs = rules.iter().flat_map(|rule| {
        words(&rule["resources"])
            .into_iter()
            .flat_map(move |resource| words(&rule["verbs"]).into_iter().map(move |verb| (resource.clone(), verb)))
    });
    pairs.collect()
}

#[test]
fn each_variant_uses_what_its_role_grants_and_no_more() {
    for components in VARIANTS {
        audit::in_memory(|world| uses_what_its_role_grants(world, components));
    }
}

#[test]
fn what_is_granted_and_not_used_is_found_out() {
    let objects = render::with_components(Path::new("manifests"), &["no-routing"]);
    let role = named(&objects, "Role", &json!("leasehold"));
    let all = granted(role);
    assert_eq!(all.len(), 5, "{all:?}");
    let mut wider = role.clone();
    wider["rules"][0]["verbs"] = json!(["get", "update", "watch", "delete"]);
    assert_ne!(granted(&wider), all);
}
