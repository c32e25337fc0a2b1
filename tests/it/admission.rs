//! `manifests/components/admission-policy` as text: its names are those of the Role and the environment, and what it speaks of
//! is what the program writes. `tests/cluster/admission.py` evaluates its expressions.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::manifests::{documents, object};
use crate::recipes::{environment, named, pod_name, render};

const FOLDER: &str = "manifests/components/admission-policy";

/// The objects of the base with these components.
fn variant(components: &[&str]) -> Vec<Value> {
    render::with_components(Path::new("manifests"), components)
}

fn policies(objects: &[Value]) -> Vec<&Value> {
    objects.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy").collect()
}

fn variable<'a>(policy: &'a Value, name: &str) -> &'a str {
    let variables = policy["spec"]["variables"].as_array().expect("variables");
    let found = variables.iter().find(|variable| variable["name"] == name).unwrap_or_else(|| panic!("variable {name}"));
    found["expression"].as_str().expect("an expression")
}

/// Every expression of a policy, as one text.
fn expressions(policy: &Value) -> String {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_str() {
                Some(text) if key == "expression" || key == "messageExpression" => into.push(text.to_owned()),
                _ => collect(value, into),
            }),
            Value::Array(list) => list.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(policy, &mut found);
    found.join("\n")
}

#[test]
fn every_policy_is_bound_denies_and_fails_closed() {
    let objects = variant(&["admission-policy"]);
    let namespace = &object("Namespace")["metadata"]["name"];
    let files = std::fs::read_dir(FOLDER).expect("a folder").count() - 1;
    assert_eq!(policies(&objects).len(), files, "one policy for each file beside kustomization.yaml");
    for policy in policies(&objects) {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let binding = named(&objects, "ValidatingAdmissionPolicyBinding", &policy["metadata"]["name"]);
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
        let selected = json!([{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}]);
        assert_eq!(binding["spec"]["matchResources"], json!({"namespaceSelector": {"matchExpressions": selected}}));
    }
}

/// Every right to write, Events apart, has a policy; and a policy is about nothing else.
#[test]
fn the_policies_cover_the_writes_that_the_role_grants() {
    let (mut granted, mut covered) = (BTreeSet::new(), BTreeSet::new());
    for rule in object("Role")["rules"].as_array().expect("rules") {
        for verb in rule["verbs"].as_array().expect("verbs") {
            let operation = match verb.as_str().expect("a verb") {
                "create" => "CREATE",
                "update" | "patch" => "UPDATE",
                _ => continue,
            };
            if rule["resources"][0] != "events" {
                granted.insert((rule["apiGroups"].to_string(), rule["resources"].to_string(), operation.to_owned()));
            }
        }
    }
    for policy in policies(&variant(&["admission-policy"])) {
        let rules = policy["spec"]["matchConstraints"]["resourceRules"].as_array().expect("rules");
        for (rule, operation) in rules.iter().flat_map(|rule| {
            rule["operations"].as_array().expect("operations").iter().map(move |operation| (rule, operation))
        }) {
            let operation = operation.as_str().expect("an operation").to_owned();
            assert!(
                covered.insert((rule["apiGroups"].to_string(), rule["resources"].to_string(), operation)),
                "{rule} twice"
            );
        }
    }
    assert_eq!(covered, granted);
}

#[test]
fn the_names_are_those_of_the_role_the_account_and_the_environment() {
    let objects = variant(&["admission-policy"]);
    let (role, account) = (object("Role"), object("ServiceAccount"));
    let given = environment(&objects, &pod_name(&objects));
    let policy = |name: &str| named(&objects, "ValidatingAdmissionPolicy", &json!(name));
    let (lease, pod, service) = (policy("leasehold-lease"), policy("leasehold-pod"), policy("leasehold-service"));

    for policy in policies(&objects) {
        let account = account["metadata"]["name"].as_str().expect("a name");
        let condition =
            format!("request.userInfo.username == 'system:serviceaccount:' + request.namespace + ':{account}'");
        assert_eq!(policy["spec"]["matchConditions"], json!([{"name": "leasehold", "expression": condition}]));
    }
    let lease_name = role["rules"][0]["resourceNames"][0].as_str().expect("a name");
    assert_eq!(variable(lease, "lease"), format!("'{lease_name}'"));
    let binding = named(&objects, "ValidatingAdmissionPolicyBinding", &json!("leasehold-service"));
    assert_eq!(binding["spec"]["paramRef"], json!({"name": lease_name, "parameterNotFoundAction": "Deny"}));
    let services = &service["spec"]["matchConstraints"]["resourceRules"][0]["resourceNames"];
    assert_eq!(services, &role["rules"][2]["resourceNames"]);
    for policy in [pod, service] {
        assert_eq!(variable(policy, "key"), format!("'{}'", given.get("ROUTE_LABEL").map_or("pod", String::as_str)));
    }
    let longest: u32 = variable(lease, "longest").parse().expect("seconds");
    assert!(longest >= given["LEASE_DURATION"].parse().expect("seconds"));
}

#[test]
fn a_statefulset_is_routed_by_its_own_label_there_too() {
    let objects = variant(&["admission-policy", "statefulset"]);
    let service = named(&objects, "ValidatingAdmissionPolicy", &json!("leasehold-service"));
    let given = environment(&objects, &pod_name(&objects));
    assert_eq!(variable(service, "key"), format!("'{}'", given["ROUTE_LABEL"]));
}

#[test]
fn the_annotations_are_those_that_the_program_writes() {
    let annotations = |text: &str| -> BTreeSet<String> {
        let words = text.split(['"', '\'', '`']);
        words.filter(|word| word.starts_with("leasehold.dev/") && !word.contains(' ')).map(str::to_owned).collect()
    };
    let objects = variant(&["admission-policy"]);
    for (name, source) in [("leasehold-lease", "src/kube/lease.rs"), ("leasehold-service", "src/kube/service.rs")] {
        let policy = named(&objects, "ValidatingAdmissionPolicy", &json!(name));
        let source = std::fs::read_to_string(source).expect("source");
        let constants = source.lines().filter(|line| line.starts_with("pub const ")).collect::<Vec<_>>().join("\n");
        assert_eq!(annotations(&expressions(policy)), annotations(&constants), "{name}");
    }
}

/// One line on when to take each, in the page and in the component.
#[test]
fn every_component_is_on_the_page() {
    let page = std::fs::read_to_string("manifests/README.md").expect("the page");
    for entry in std::fs::read_dir("manifests/components").expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        assert_eq!(page.matches(&format!("\n| `{name}` | ")).count(), 1, "{name}");
        let component =
            std::fs::read_to_string(format!("manifests/components/{name}/kustomization.yaml")).expect("text");
        assert!(component.starts_with("# "), "{name} does not say when to take it");
        assert_eq!(documents(format!("manifests/components/{name}/kustomization.yaml"))[0]["kind"], "Component");
    }
}

#[test]
fn the_small_components_change_what_they_say() {
    let of = |components: &[&str], kind: &str, pointer: &str| {
        named(&variant(components), kind, &json!("leasehold")).pointer(pointer).cloned()
    };
    let pod = "/spec/template/spec";
    let context = format!("{pod}/securityContext");
    assert_eq!(
        of(&["openshift"], "Deployment", &context),
        Some(json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}))
    );
    let limits = format!("{pod}/containers/0/resources/limits");
    assert_eq!(of(&["memory-16mi"], "Deployment", &limits), Some(json!({"memory": "16Mi"})));
    let both = of(&["statefulset", "memory-16mi", "openshift"], "StatefulSet", &limits);
    assert_eq!(both, Some(json!({"memory": "16Mi"})));
    let egress = of(&["egress-any-port"], "NetworkPolicy", "/spec/egress");
    assert_eq!(egress, Some(json!([{"ports": [{"protocol": "TCP"}]}])));
}
