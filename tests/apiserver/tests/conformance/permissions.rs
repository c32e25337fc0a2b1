//! Who may do what: unknown callers, missing rules, rules that name their objects.

use serde_json::{Value, json};

use crate::Expectation;
use crate::cluster::{Cluster, Expect, Session};
use crate::support::{JSON, MERGE_PATCH};

pub const ALL: &[(&str, Expectation)] = &[
    ("a token that nobody has is 401", unknown_token),
    ("no credentials at all are system:anonymous", anonymous),
    ("each verb is refused by its own name", each_verb_is_named),
    ("a rule with resourceNames lists and watches that name only", resource_names),
    ("create cannot be limited to a name", create_has_no_name),
    ("what is refused is not looked up", refused_before_found),
    ("a rule holds in its namespace only", other_namespaces),
];

const USER: &str = "system:serviceaccount:conformance:sa";

fn rule(verbs: &[&str], names: &[&str]) -> Value {
    json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": names, "verbs": verbs })
}

fn sentence(cluster: &Cluster, user: &str, verb: &str, resource: &str, group: &str) -> String {
    let namespace = &cluster.namespace;
    format!(
        r#"User "{user}" cannot {verb} resource "{resource}" in API group "{group}" in the namespace "{namespace}""#
    )
}

fn unknown_token(cluster: &Cluster) {
    let session = Session::new(&cluster.nobody.clone().with_token("nobody-has-this"));
    session.get(&cluster.lease("x")).says(401, "Unauthorized", "Unauthorized");
    assert_eq!(session.get("/healthz").status, 401);
}

fn anonymous(cluster: &Cluster) {
    let message = format!(
        r#"leases.coordination.k8s.io "x" is forbidden: {}"#,
        sentence(cluster, "system:anonymous", "get", "leases", "coordination.k8s.io")
    );
    Session::new(&cluster.nobody).get(&cluster.lease("x")).says(403, "Forbidden", &message);
}

fn each_verb_is_named(cluster: &Cluster) {
    let session = cluster.session_of(USER);
    let (named, all) = (cluster.lease("x"), cluster.leases());
    let selected = format!("{all}?fieldSelector=metadata.name%3Dx");
    for (verb, method, path, name) in [
        ("get", "GET", named.clone(), " \"x\""),
        ("update", "PUT", named.clone(), " \"x\""),
        ("patch", "PATCH", named.clone(), " \"x\""),
        ("delete", "DELETE", named, " \"x\""),
        ("list", "GET", all.clone(), ""),
        ("list", "GET", selected.clone(), " \"x\""),
        ("watch", "GET", format!("{all}?watch=true"), ""),
        ("watch", "GET", format!("{selected}&watch=1"), " \"x\""),
        ("create", "POST", all, ""),
    ] {
        let media_type = if method == "PATCH" { MERGE_PATCH } else { JSON };
        let body = session.send(method, &path, media_type, "{}").says(
            403,
            "Forbidden",
            &format!(
                "leases.coordination.k8s.io{name} is forbidden: {}",
                sentence(cluster, USER, verb, "leases", "coordination.k8s.io")
            ),
        );
        assert_eq!(
            (&body["details"]["group"], &body["details"]["kind"]),
            (&json!("coordination.k8s.io"), &json!("leases"))
        );
    }
    for (verb, method, resource, rest, name) in [
        ("get", "GET", "services", "services/x", " \"x\""),
        ("patch", "PATCH", "pods", "pods/x", " \"x\""),
        ("create", "POST", "events", "events", ""),
    ] {
        let media_type = if method == "PATCH" { MERGE_PATCH } else { JSON };
        let message = format!("{resource}{name} is forbidden: {}", sentence(cluster, USER, verb, resource, ""));
        session.send(method, &cluster.core(rest), media_type, "{}").says(403, "Forbidden", &message);
    }
    let message = format!(r#"forbidden: User "{USER}" cannot get path "/nowhere""#);
    session.get("/nowhere").says(403, "Forbidden", &message);
    let message =
        format!(r#"pods is forbidden: User "{USER}" cannot list resource "pods" in API group "" at the cluster scope"#);
    session.get("/api/v1/pods").says(403, "Forbidden", &message);
}

fn resource_names(cluster: &Cluster) {
    let user = "conformance-names";
    let mine = cluster.lease("mine");
    cluster.session().post(&cluster.leases(), &json!({ "metadata": { "name": "mine" } })).has(201, "");
    cluster.grant(user, "names", &json!([rule(&["get", "list", "watch", "update"], &["mine"])]), &mine);
    let session = cluster.session_of(user);
    let all = cluster.leases();
    let version = session.get(&mine).version();
    let body = json!({ "metadata": { "name": "mine", "resourceVersion": version }, "spec": { "holderIdentity": "x" } });
    session.put(&mine, &body).has(200, "");
    session.patch(&mine, &json!({})).has(403, "Forbidden");
    session.get(&cluster.lease("other")).has(403, "Forbidden");
    session.get(&format!("{all}?fieldSelector=metadata.name%3Dmine")).has(200, "");
    session.get(&format!("{all}?fieldSelector=metadata.name%3Dother")).has(403, "Forbidden");
    session.get(&all).has(403, "Forbidden");
    session.get(&format!("{all}?watch=true")).has(403, "Forbidden");
    let watch =
        format!("{all}?watch=true&fieldSelector=metadata.name%3Dmine&resourceVersion={version}&timeoutSeconds=1");
    let mut watching = session.watch(&watch);
    assert_eq!(watching.next().unwrap().unwrap()["type"], "MODIFIED");
}

fn create_has_no_name(cluster: &Cluster) {
    let user = "conformance-create";
    let probe = cluster.lease("limited");
    let rules = json!([rule(&["get", "create"], &["limited"])]);
    cluster.grant(user, "create", &rules, &probe);
    let limited = cluster.session_of(user);
    limited.post(&cluster.leases(), &json!({ "metadata": { "name": "limited" } })).has(403, "Forbidden");
    let free = json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get"] });
    cluster.grant("conformance-create-2", "create-2", &json!([free]), &probe);
    let session = cluster.session_of("conformance-create-2");
    session.post(&cluster.leases(), &json!({ "metadata": { "name": "limited" } })).has(201, "");
}

fn refused_before_found(cluster: &Cluster) {
    let session = cluster.session_of(USER);
    session.get(&cluster.lease("surely-absent")).has(403, "Forbidden");
    session.send("PUT", &cluster.lease("x"), JSON, "garbage").has(403, "Forbidden");
    session.get(&cluster.core("pods/x/status")).has(403, "Forbidden");
}

fn other_namespaces(cluster: &Cluster) {
    let user = "conformance-namespace";
    let wide = json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list"] });
    cluster.grant(user, "namespace", &json!([wide]), &cluster.leases());
    let session = cluster.session_of(user);
    session.get(&cluster.leases()).has(200, "");
    session.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases").has(403, "Forbidden");
    session.get("/apis/coordination.k8s.io/v1/leases").has(403, "Forbidden");
}
