//! 403 on each verb: every rule of the shipped Role missing in turn.

use leasehold::kube::request::{RULES, Resource, Rule, Verb};
use leasehold_apiserver::Server;
use serde_json::{Value, json};

use super::{nothing_leaked, server, talkative, token_of};
use crate::manifests;
use crate::process::{LEASE, SERVICE, World};

/// The shipped Role without this one grant.
fn role_without(missing: &Rule) -> Value {
    let mut role = manifests::object("Role");
    for rule in role["rules"].as_array_mut().expect("rules") {
        let on_it = rule["resources"] == json!([missing.resource.plural()]);
        rule["verbs"].as_array_mut().expect("verbs").retain(|verb| !(on_it && *verb == missing.verb.as_str()));
    }
    let kept = role["rules"].as_array_mut().expect("rules");
    kept.retain(|rule| rule["verbs"] != json!([]));
    role
}

fn grant(server: &Server, world: &World, role: &Value) {
    let user = world.user("pod-a");
    let mut store = server.store();
    store.rbac().unbind(&user);
    store.rbac().bind(&user, &world.namespace, role).expect("a Role");
}

/// The rule in the words of a Role, as somebody must add it.
fn in_a_role(rule: &Rule) -> String {
    let name = match (rule.by_name, rule.resource) {
        (true, Resource::Lease) => format!(", resourceNames: [{LEASE}]"),
        (true, _) => format!(", resourceNames: [{SERVICE}]"),
        (false, _) => String::new(),
    };
    let (group, plural, verb) = (rule.resource.group(), rule.resource.plural(), rule.verb);
    format!("in namespace team-a lacks apiGroups: [{group:?}], resources: [{plural}]{name}, verbs: [{verb}]")
}

#[test]
fn each_rule_that_is_missing_is_named_and_missed_no_more_than_need_be() {
    for rule in RULES {
        let world = World::in_memory();
        let server = server(&world);
        world.make_service();
        if rule.verb != Verb::Create {
            world.make_lease(&json!({}));
        }
        let program = talkative(&world).with("SERVICE_NAME", SERVICE);
        let token = token_of(&world);
        grant(server, &world, &role_without(rule));
        let process = program.start();
        let (resource, verb) = (rule.resource, rule.verb);
        if (resource, verb) == (Resource::Event, Verb::Patch) {
            // Only who says the same thing again counts on an Event that is there.
            process.says("became leader");
            world.patch_lease(&json!({ "spec": { "holderIdentity": "" } }));
        }
        let said = process.says(&in_a_role(rule));
        assert!(said.contains("403 Forbidden") && said.contains(" /api"), "{said}");
        let without_it_never_leads = resource == Resource::Lease && !matches!(verb, Verb::Watch);
        if without_it_never_leads {
            assert!(!process.leads() && !process.said("became leader"), "{resource:?} {verb}");
            grant(server, &world, &manifests::object("Role"));
        }
        process.wait_until_it_leads();
        let without_it_never_routes =
            matches!((resource, verb), (Resource::Service, Verb::Get | Verb::Patch) | (Resource::Pod, Verb::Patch));
        if without_it_never_routes {
            assert_eq!(world.service()["spec"]["selector"], json!({ "app": "web" }), "{resource:?} {verb}");
            grant(server, &world, &manifests::object("Role"));
        }
        world.wait_for_target("pod-a");
        nothing_leaked(&process, server, &token);
    }
}
