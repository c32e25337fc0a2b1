//! Pods, Services and Events, as far as an elector touches them.

use serde_json::{Value, json};

use crate::Expectation;
use crate::cluster::{Cluster, Expect, Session};

pub const ALL: &[(&str, Expectation)] = &[
    ("a Pod's label is set by a merge patch", pod_label),
    ("a Pod's label value is validated", pod_label_value),
    ("a Pod is created by POST alone", pod_put_absent),
    ("a Pod's spec stays as it is", pod_spec),
    ("a Service's selector is patched key by key", service_selector),
    ("a Service's patch with an old version conflicts", service_conflict),
    ("a Service's selector is validated", service_validation),
    ("a PUT brings back no Service that is gone", service_put_absent),
    ("an Event is stored as it is sent", event),
    ("an Event of another namespace's object is refused", event_namespace),
    ("a new Event needs its reporter", event_reporter),
    ("every answer but a watch's names its entry in the audit log", audit_id),
];

fn pod(cluster: &Cluster, name: &str) -> Value {
    let body = json!({
        "metadata": { "name": name, "labels": { "app": "x" } },
        "spec": { "containers": [{ "name": "c", "image": "example.test/i" }] },
    });
    cluster.session().post(&cluster.core("pods"), &body).has(201, "")
}

fn service(cluster: &Cluster, name: &str) -> Value {
    let body =
        json!({ "metadata": { "name": name }, "spec": { "selector": { "app": "x" }, "ports": [{ "port": 80 }] } });
    cluster.session().post(&cluster.core("services"), &body).has(201, "")
}

fn pod_label(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.core("pods/labelled"));
    session.get(&path).says(404, "NotFound", r#"pods "labelled" not found"#);
    session.patch(&path, &json!({})).has(404, "NotFound");
    let made = pod(cluster, "labelled");
    assert_eq!(made["status"]["phase"], "Pending");
    let patch = json!({ "metadata": { "uid": made["metadata"]["uid"], "labels": { "pod": "labelled" } } });
    let patched = session.patch(&path, &patch);
    assert_eq!(patched.has(200, "")["metadata"]["labels"], json!({ "app": "x", "pod": "labelled" }));
    assert_eq!(session.patch(&path, &patch).version(), patched.version(), "a label that is there is no change");
    let another = json!({ "metadata": { "uid": "another", "labels": { "pod": "y" } } });
    session.patch(&path, &another).has(422, "Invalid");
    let gone = session.delete(&path).has(200, "");
    assert_eq!(gone["kind"], "Pod", "a Pod's deletion is answered with the Pod");
}

fn pod_label_value(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.core("pods/values"));
    pod(cluster, "values");
    let label = |value: &str| session.patch(&path, &json!({ "metadata": { "labels": { "pod": value } } }));
    label(&"a".repeat(63)).has(200, "");
    for value in ["has space", &"a".repeat(64), "-x", "x/y"] {
        let body = label(value).begins(422, "Invalid", r#"Pod "values" is invalid: metadata.labels: Invalid value: "#);
        assert_eq!(body["details"]["causes"][0]["field"], "metadata.labels");
    }
}

fn pod_put_absent(cluster: &Cluster) {
    let spec = json!({ "containers": [{ "name": "c", "image": "example.test/i" }] });
    let body = json!({ "metadata": { "name": "put-pod" }, "spec": spec });
    cluster.session().put(&cluster.core("pods/put-pod"), &body).has(404, "NotFound");
    let none = json!({ "metadata": { "name": "put-pod" }, "spec": {} });
    let refused = cluster.session().post(&cluster.core("pods"), &none).has(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.containers");
}

fn pod_spec(cluster: &Cluster) {
    pod(cluster, "fixed");
    let patch = json!({ "spec": { "hostname": "other" } });
    cluster.session().patch(&cluster.core("pods/fixed"), &patch).begins(
        422,
        "Invalid",
        r#"Pod "fixed" is invalid: spec: Forbidden: pod updates may not change fields other than "#,
    );
    let status = json!({ "status": { "phase": "Running" } });
    let body = cluster.session().patch(&cluster.core("pods/fixed"), &status).has(200, "");
    assert_eq!(body["status"]["phase"], "Pending", "the status has a door of its own");
}

fn service_selector(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.core("services/routed"));
    session.get(&path).says(404, "NotFound", r#"services "routed" not found"#);
    let made = service(cluster, "routed");
    assert_eq!(made["spec"]["selector"], json!({ "app": "x" }));
    assert_eq!(made["spec"]["ports"][0], json!({ "port": 80, "protocol": "TCP", "targetPort": 80 }));
    let patch = json!({
        "metadata": { "resourceVersion": made["metadata"]["resourceVersion"],
                      "annotations": { "leasehold.dev/fence": "uid/17" } },
        "spec": { "selector": { "statefulset.kubernetes.io/pod-name": "p-1" } },
    });
    let patched = session.patch(&path, &patch).has(200, "");
    assert_eq!(patched["spec"]["selector"], json!({ "app": "x", "statefulset.kubernetes.io/pod-name": "p-1" }));
    assert_eq!(patched["metadata"]["annotations"]["leasehold.dev/fence"], "uid/17");
    assert_eq!(patched["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    let cleared = session.patch(&path, &json!({ "spec": { "selector": null } })).has(200, "");
    assert!(cleared["spec"].get("selector").is_none(), "{cleared}");
}

fn service_conflict(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.core("services/contested"));
    let version = service(cluster, "contested")["metadata"]["resourceVersion"].clone();
    let patch = |version: &Value, pod: &str| json!({ "metadata": { "resourceVersion": version }, "spec": { "selector": { "pod": pod } } });
    session.patch(&path, &patch(&version, "first")).has(200, "");
    session.patch(&path, &patch(&version, "late")).says(
        409,
        "Conflict",
        r#"Operation cannot be fulfilled on services "contested": the object has been modified; please apply your changes to the latest version and try again"#,
    );
    assert_eq!(session.get(&path).json()["spec"]["selector"]["pod"], "first");
}

fn service_validation(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.core("services/validated"));
    service(cluster, "validated");
    for selector in [json!({ "bad key!": "x" }), json!({ "pod": "bad value!" })] {
        let prefix = r#"Service "validated" is invalid: spec.selector: Invalid value: "#;
        session.patch(&path, &json!({ "spec": { "selector": selector } })).begins(422, "Invalid", prefix);
    }
    let typed = json!({ "spec": { "selector": { "pod": 5 } } });
    session.patch(&path, &typed).begins(422, "Invalid", r#" "" is invalid: patch: Invalid value: "#);
    let portless = json!({ "metadata": { "name": "portless" }, "spec": { "selector": { "app": "x" } } });
    session.post(&cluster.core("services"), &portless).has(422, "Invalid");
    let headless =
        json!({ "metadata": { "name": "headless" }, "spec": { "clusterIP": "None", "selector": { "app": "x" } } });
    assert_eq!(session.post(&cluster.core("services"), &headless).has(201, "")["spec"]["clusterIP"], "None");
    let digit = json!({ "metadata": { "name": "Upper" }, "spec": { "ports": [{ "port": 80 }] } });
    session.post(&cluster.core("services"), &digit).has(422, "Invalid");
}

fn service_put_absent(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.core("services/put-service"));
    let mut body = json!({ "metadata": { "name": "put-service" }, "spec": { "ports": [{ "port": 80 }] } });
    // Kubernetes 1.20 refuses, 1.36 creates it; with the uid of a Service that is gone none of them does.
    let status = session.put(&path, &body).status;
    assert!(matches!(status, 404 | 201), "{status}");
    session.delete(&path);
    body["metadata"]["uid"] = json!("2f6e5a1c-0000-4000-8000-000000000000");
    let status = session.put(&path, &body).status;
    assert!(matches!(status, 404 | 409), "{status}");
    session.get(&path).has(404, "NotFound");
}

fn an_event(cluster: &Cluster, name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "involvedObject": {
            "kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "namespace": cluster.namespace, "name": "a",
        },
        "reason": "LeaderElection", "message": "pod-a became leader", "type": "Normal", "count": 1,
        "source": { "component": "leasehold" },
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    })
}

fn event(cluster: &Cluster) {
    let (session, events) = (cluster.session(), cluster.core("events"));
    let sent = an_event(cluster, "stored");
    let stored = session.post(&events, &sent).has(201, "");
    for key in ["involvedObject", "reason", "message", "type", "count", "source", "firstTimestamp", "lastTimestamp"] {
        assert_eq!(stored[key], sent[key], "{key}");
    }
    assert_eq!((&stored["eventTime"], &stored["reportingComponent"]), (&Value::Null, &json!("")));
    let again = json!({ "count": 2, "lastTimestamp": "2026-01-02T00:00:00.5Z" });
    let patched = session.patch(&cluster.core("events/stored"), &again).has(200, "");
    assert_eq!((&patched["count"], &patched["lastTimestamp"]), (&json!(2), &json!("2026-01-02T00:00:00Z")));
    let listed = session.get(&format!("{events}?fieldSelector=involvedObject.name%3Da,involvedObject.kind%3DLease"));
    assert_eq!(listed.has(200, "")["items"].as_array().map(Vec::len), Some(1));
    session.get(&format!("{events}?fieldSelector=bogus%3Dx")).says(
        400,
        "BadRequest",
        "field label not supported: bogus",
    );
}

fn event_namespace(cluster: &Cluster) {
    let mut elsewhere = an_event(cluster, "elsewhere");
    elsewhere["involvedObject"]["namespace"] = json!("other");
    let body = cluster.session().post(&cluster.core("events"), &elsewhere).has(422, "Invalid");
    assert_eq!(body["details"]["causes"][0]["field"], "involvedObject.namespace");
}

fn event_reporter(cluster: &Cluster) {
    let mut new_style = an_event(cluster, "new-style");
    new_style["eventTime"] = json!("2026-01-01T00:00:00.000000Z");
    let session = cluster.session();
    session.post(&cluster.core("events"), &new_style).has(422, "Invalid");
    for (key, value) in
        [("action", "Elect"), ("reportingComponent", "leasehold.dev/leasehold"), ("reportingInstance", "pod-a")]
    {
        new_style[key] = json!(value);
    }
    for key in ["count", "source", "firstTimestamp", "lastTimestamp"] {
        new_style.as_object_mut().unwrap().remove(key);
    }
    session.post(&cluster.core("events"), &new_style).has(201, "");
}

fn audit_id(cluster: &Cluster) {
    let session = cluster.session();
    let made = session.post(&cluster.core("services"), &json!({ "metadata": { "name": "audited" }, "spec": {} }));
    let answers = [
        made,
        session.get(&cluster.core("services/audited-not")),
        Session::new(&cluster.nobody).get(&cluster.core("services")),
        Session::new(&cluster.nobody.clone().with_token("nobody-has-this")).get(&cluster.core("services")),
    ];
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [422, 404, 403, 401]);
    let mut ids: Vec<_> = answers.iter().map(|it| it.header("Audit-Id").expect("a name").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "a name of its own for each: {ids:?}");
}
