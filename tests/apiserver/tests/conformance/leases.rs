//! Leases: reading, creating, updating, patching, deleting, and every way to be refused.

use serde_json::{Value, json};

use crate::Expectation;
use crate::cluster::{Cluster, Expect, NO_NAMESPACE};
use crate::support::{JSON, MERGE_PATCH};

pub const ALL: &[(&str, Expectation)] = &[
    ("an absent Lease is 404 NotFound", absent_is_not_found),
    ("a created Lease has a uid, a version and a birth", created_has_metadata),
    ("creating twice is 409 AlreadyExists", creating_twice),
    ("an update needs the version last seen", update_needs_the_version),
    ("an update of another uid is 409 Conflict", update_of_another_uid),
    ("an update of an absent Lease creates it, unless it names a uid", create_on_update),
    ("an update that changes nothing writes nothing", identical_update),
    ("an update cannot change what the server decides", system_metadata),
    ("an update replaces labels and annotations", update_replaces),
    ("a MicroTime has six fraction digits and a zone", micro_time_forms),
    ("numbers and types are validated", validation),
    ("fields that no server knows are dropped", unknown_fields),
    ("null fields are absent fields", null_fields),
    ("a merge patch without a version is applied to whatever is there", patch_without_version),
    ("a merge patch with a version conflicts", patch_with_version),
    ("a merge patch with another uid is refused", patch_with_uid),
    ("a merge patch that makes no Lease is refused", patch_makes_no_lease),
    ("labels with a slash are set and removed by patches", label_with_slash),
    ("the name in the body must be the URL's", name_mismatch),
    ("a media type that is not JSON is 415", media_types),
    ("a body that is no Lease is 400", garbage_bodies),
    ("labels and names are validated", label_validation),
    ("a namespace that is not there is 404", missing_namespace),
    ("a deletion is answered with a Status, and takes preconditions", deletion),
    ("versions rise with every write, deletions included", versions_rise),
    ("methods that make no sense are 405", methods),
    ("paths that lead nowhere are 404", paths),
    ("lists select by name and label", lists),
    ("generateName makes a name", generate_name),
];

fn lease(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name }, "spec": spec })
}

fn versioned(name: &str, version: &str, spec: Value) -> Value {
    let mut lease = lease(name, spec);
    lease["metadata"]["resourceVersion"] = json!(version);
    lease
}

fn number(version: &str) -> u64 {
    version.parse().unwrap_or_else(|_| panic!("{version:?} is no version"))
}

/// A new Lease by this name; its version.
fn created(cluster: &Cluster, name: &str) -> String {
    let answer = cluster.session().post(&cluster.leases(), &lease(name, json!({ "holderIdentity": "x" })));
    answer.has(201, "");
    answer.version()
}

fn absent_is_not_found(cluster: &Cluster) {
    let body = cluster.session().get(&cluster.lease("absent")).says(
        404,
        "NotFound",
        r#"leases.coordination.k8s.io "absent" not found"#,
    );
    assert_eq!(body["details"], json!({ "name": "absent", "group": "coordination.k8s.io", "kind": "leases" }));
}

fn created_has_metadata(cluster: &Cluster) {
    let session = cluster.session();
    let spec = json!({
        "holderIdentity": "pod-a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": "2026-01-02T03:04:05.000006Z", "renewTime": "2026-01-02T03:04:05.000007Z",
    });
    let body = session.post(&cluster.leases(), &lease("created", spec.clone())).has(201, "");
    assert_eq!((&body["kind"], &body["apiVersion"]), (&json!("Lease"), &json!("coordination.k8s.io/v1")));
    assert_eq!(body["spec"], spec);
    let metadata = &body["metadata"];
    assert_eq!((&metadata["name"], &metadata["namespace"]), (&json!("created"), &json!(cluster.namespace)));
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));
    assert!(number(metadata["resourceVersion"].as_str().unwrap()) > 0);
    assert_eq!(metadata["creationTimestamp"].as_str().map(str::len), Some("2026-01-02T03:04:05Z".len()));
    let read = session.get(&cluster.lease("created")).has(200, "");
    assert_eq!((&read["spec"], &read["metadata"]["uid"]), (&body["spec"], &body["metadata"]["uid"]));
}

fn creating_twice(cluster: &Cluster) {
    created(cluster, "twice");
    let body = cluster.session().post(&cluster.leases(), &lease("twice", json!({}))).says(
        409,
        "AlreadyExists",
        r#"leases.coordination.k8s.io "twice" already exists"#,
    );
    assert_eq!(body["details"]["kind"], "leases");
}

fn update_needs_the_version(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("update"));
    let version = created(cluster, "update");
    let refused = session.put(&path, &lease("update", json!({})));
    let body = refused.has(422, "Invalid");
    assert!(refused.message().ends_with("must be specified for an update"), "{}", refused.message());
    assert_eq!(body["details"]["causes"][0]["field"], "metadata.resourceVersion");
    session.put(&path, &versioned("update", "0", json!({}))).has(422, "Invalid");

    let updated = session.put(&path, &versioned("update", &version, json!({ "holderIdentity": "y" })));
    assert_eq!(updated.has(200, "")["spec"], json!({ "holderIdentity": "y" }));
    assert!(number(&updated.version()) > number(&version));
    session.put(&path, &versioned("update", &version, json!({ "holderIdentity": "z" }))).says(
        409,
        "Conflict",
        r#"Operation cannot be fulfilled on leases.coordination.k8s.io "update": the object has been modified; please apply your changes to the latest version and try again"#,
    );
    session.put(&path, &versioned("update", "999999999", json!({}))).has(409, "Conflict");
    assert_eq!(session.get(&path).json()["spec"]["holderIdentity"], "y");
}

fn update_of_another_uid(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("other-uid"));
    let version = created(cluster, "other-uid");
    let mut body = versioned("other-uid", &version, json!({}));
    body["metadata"]["uid"] = json!("not-its-uid");
    let answer = session.put(&path, &body);
    answer.has(409, "Conflict");
    let uid = session.get(&path).json()["metadata"]["uid"].as_str().unwrap().to_owned();
    let expected = format!("Precondition failed: UID in precondition: not-its-uid, UID in object meta: {uid}");
    assert!(answer.message().contains(&expected), "{}", answer.message());
}

fn create_on_update(cluster: &Cluster) {
    let session = cluster.session();
    let version = created(cluster, "revived");
    session.delete(&cluster.lease("revived")).has(200, "");
    // A version alone does not protect: the deleted Lease rises again.
    let revived =
        session.put(&cluster.lease("revived"), &versioned("revived", &version, json!({ "holderIdentity": "old" })));
    assert_eq!(revived.has(201, "")["spec"]["holderIdentity"], "old");

    let mut body = versioned("stays-dead", &version, json!({}));
    body["metadata"]["uid"] = json!("the-dead-ones");
    let answer = session.put(&cluster.lease("stays-dead"), &body);
    answer.has(409, "Conflict");
    let expected = "Precondition failed: UID in precondition: the-dead-ones, UID in object meta: ";
    assert!(answer.message().contains(expected), "{}", answer.message());
    session.get(&cluster.lease("stays-dead")).has(404, "NotFound");
}

fn identical_update(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("identical"));
    let version = created(cluster, "identical");
    let read = session.get(&path).json();
    let again = session.put(&path, &read);
    again.has(200, "");
    assert_eq!(again.version(), version);
    let unchanged = session.patch(&path, &json!({ "spec": { "holderIdentity": "x" } }));
    unchanged.has(200, "");
    assert_eq!(unchanged.version(), version);
    // Time is compared as an instant, not as text.
    let timed = session.patch(&path, &json!({ "spec": { "renewTime": "2026-01-02T03:04:05.000000Z" } })).version();
    let shifted =
        session.patch(&path, &json!({ "spec": { "renewTime": "2026-01-02T04:04:05.000000+01:00" } })).version();
    assert_eq!(timed, shifted);
}

fn system_metadata(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("system"));
    let version = created(cluster, "system");
    let before = session.get(&path).json();
    let mut body = before.clone();
    body["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    body["metadata"]["generation"] = json!(7);
    if let Some(metadata) = body["metadata"].as_object_mut() {
        metadata.remove("uid");
    }
    let answer = session.put(&path, &body);
    let after = answer.has(200, "");
    assert_eq!(answer.version(), version, "nothing was changed");
    for key in ["uid", "creationTimestamp", "generation"] {
        assert_eq!(after["metadata"][key], before["metadata"][key], "{key}");
    }
}

fn update_replaces(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("replaced"));
    created(cluster, "replaced");
    let set = json!({ "metadata": { "labels": { "a": "1" }, "annotations": { "example.test/b": "2" } } });
    let version = session.patch(&path, &set).version();
    let body = session.put(&path, &versioned("replaced", &version, json!({ "holderIdentity": "x" }))).has(200, "");
    assert!(body["metadata"].get("labels").is_none() && body["metadata"].get("annotations").is_none(), "{body}");
}

fn micro_time_forms(cluster: &Cluster) {
    let session = cluster.session();
    let send = |time: Value| {
        let mut body = lease("", json!({ "renewTime": time }));
        body["metadata"] = json!({ "generateName": "time-" });
        session.post(&cluster.leases(), &body)
    };
    for (time, stored) in [
        ("2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T03:04:05.123456+02:00", "2026-01-02T01:04:05.123456Z"),
        ("2026-01-01T00:30:00.000001-00:45", "2026-01-01T01:15:00.000001Z"),
        ("1969-12-31T23:59:59.000000Z", "1969-12-31T23:59:59.000000Z"),
    ] {
        assert_eq!(send(json!(time)).has(201, "")["spec"]["renewTime"], stored);
    }
    for time in [
        json!("2026-01-02T03:04:05Z"),
        json!("2026-01-02T03:04:05.123Z"),
        json!("2026-01-02T03:04:05.123456789Z"),
        json!("2026-01-02T03:04:05.123456"),
        json!("2026-02-30T03:04:05.123456Z"),
        json!("2026-01-02T24:04:05.123456Z"),
        json!("soon"),
        json!(""),
        json!(5),
    ] {
        send(time).begins(400, "BadRequest", r#"Lease in version "v1" cannot be handled as a Lease: "#);
    }
}

fn validation(cluster: &Cluster) {
    let session = cluster.session();
    for (spec, field) in [
        (json!({ "leaseDurationSeconds": 0 }), "spec.leaseDurationSeconds"),
        (json!({ "leaseDurationSeconds": -5 }), "spec.leaseDurationSeconds"),
        (json!({ "leaseTransitions": -1 }), "spec.leaseTransitions"),
    ] {
        let answer = session.post(&cluster.leases(), &lease("invalid", spec));
        let prefix = r#"Lease.coordination.k8s.io "invalid" is invalid: spec."#;
        assert_eq!(answer.begins(422, "Invalid", prefix)["details"]["causes"][0]["field"], field);
    }
    let both = json!({ "leaseDurationSeconds": 0, "leaseTransitions": -1 });
    let body = session.post(&cluster.leases(), &lease("invalid", both)).has(422, "Invalid");
    assert_eq!(body["details"]["causes"].as_array().map(Vec::len), Some(2));
    for spec in [
        json!({ "leaseDurationSeconds": "15" }),
        json!({ "leaseDurationSeconds": 1.5 }),
        json!({ "leaseDurationSeconds": 99_999_999_999_u64 }),
        json!({ "holderIdentity": 5 }),
        json!([]),
        json!("x"),
    ] {
        let prefix = r#"Lease in version "v1" cannot be handled as a Lease: "#;
        session.post(&cluster.leases(), &lease("invalid", spec)).begins(400, "BadRequest", prefix);
    }
    let version = created(cluster, "valid");
    let path = cluster.lease("valid");
    session.put(&path, &versioned("valid", &version, json!({ "leaseDurationSeconds": 0 }))).has(422, "Invalid");
    session.put(&path, &versioned("valid", "1", json!({ "leaseDurationSeconds": 0 }))).has(409, "Conflict");
    session.patch(&path, &json!({ "spec": { "leaseTransitions": -1 } })).has(422, "Invalid");
    assert_eq!(session.get(&path).version(), version);
}

fn unknown_fields(cluster: &Cluster) {
    let body = json!({
        "metadata": { "name": "unknown", "unknownMetadata": 1 },
        "spec": { "holderIdentity": "x", "unknownSpec": { "y": 1 } },
        "unknownTop": true,
    });
    let stored = cluster.session().post(&cluster.leases(), &body).has(201, "");
    assert_eq!(stored["spec"], json!({ "holderIdentity": "x" }));
    assert!(stored.get("unknownTop").is_none() && stored["metadata"].get("unknownMetadata").is_none());
}

fn null_fields(cluster: &Cluster) {
    let spec = json!({ "holderIdentity": null, "leaseDurationSeconds": null, "renewTime": null });
    let session = cluster.session();
    assert_eq!(session.post(&cluster.leases(), &lease("nulls", spec)).has(201, "")["spec"], json!({}));
    assert_eq!(session.post(&cluster.leases(), &lease("null-spec", Value::Null)).has(201, "")["spec"], json!({}));
    let empty = session.post(&cluster.leases(), &lease("empty-holder", json!({ "holderIdentity": "" })));
    assert_eq!(empty.has(201, "")["spec"], json!({ "holderIdentity": "" }));
}

fn patch_without_version(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("patched"));
    let version = created(cluster, "patched");
    let answer = session.patch(&path, &json!({ "spec": { "leaseTransitions": 3 } }));
    assert_eq!(answer.has(200, "")["spec"], json!({ "holderIdentity": "x", "leaseTransitions": 3 }));
    assert!(number(&answer.version()) > number(&version));
    assert_eq!(session.patch(&path, &json!({ "spec": null })).has(200, "")["spec"], json!({}));
    session.patch(&cluster.lease("absent"), &json!({})).has(404, "NotFound");
}

fn patch_with_version(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("patch-version"));
    let version = created(cluster, "patch-version");
    let patch =
        |version: Value| json!({ "metadata": { "resourceVersion": version }, "spec": { "leaseTransitions": 1 } });
    session.patch(&path, &patch(json!("1"))).says(
        409,
        "Conflict",
        r#"Operation cannot be fulfilled on leases.coordination.k8s.io "patch-version": the object has been modified; please apply your changes to the latest version and try again"#,
    );
    session.patch(&path, &patch(json!(version))).has(200, "");
    session.patch(&path, &patch(json!(version))).has(409, "Conflict");
    session.patch(&path, &patch(Value::Null)).has(422, "Invalid");
}

fn patch_with_uid(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("patch-uid"));
    created(cluster, "patch-uid");
    let uid = session.get(&path).json()["metadata"]["uid"].clone();
    let patch = |uid: Value| json!({ "metadata": { "uid": uid, "labels": { "a": "b" } } });
    let body = session.patch(&path, &patch(json!("another"))).begins(
        422,
        "Invalid",
        r#"Lease.coordination.k8s.io "patch-uid" is invalid: metadata.uid: Invalid value: "another": field is immutable"#,
    );
    assert_eq!(body["details"]["causes"][0]["field"], "metadata.uid");
    session.patch(&path, &patch(uid)).has(200, "");
}

fn patch_makes_no_lease(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("patch-bad"));
    let version = created(cluster, "patch-bad");
    for patch in [
        json!({ "spec": { "renewTime": "2026-01-01T00:00:00Z" } }),
        json!({ "spec": [] }),
        json!({ "metadata": { "labels": { "a": 5 } } }),
        json!({ "kind": "Pod" }),
    ] {
        session.patch(&path, &patch).begins(422, "Invalid", r#" "" is invalid: patch: Invalid value: "#);
    }
    // Servers differ in how they call these; none of them takes one. Kubernetes 1.20: 422 Invalid, 1.36: 400 BadRequest.
    let list = session.patch(&path, &json!([]));
    assert!(matches!((list.status, list.reason().as_str()), (422, "Invalid") | (400, "BadRequest")), "{}", list.json());
    let garbage = session.send("PATCH", &path, MERGE_PATCH, "garbage").status;
    assert!(matches!(garbage, 400 | 500), "{garbage}");
    assert_eq!(session.get(&path).version(), version);
}

fn label_with_slash(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("labels"));
    created(cluster, "labels");
    let patch =
        |value: Value| json!({ "metadata": { "labels": { "statefulset.kubernetes.io/pod-name": value, "b": "1" } } });
    let labels = session.patch(&path, &patch(json!("p-0"))).json()["metadata"]["labels"].clone();
    assert_eq!(labels, json!({ "statefulset.kubernetes.io/pod-name": "p-0", "b": "1" }));
    let labels = session.patch(&path, &patch(Value::Null)).json()["metadata"]["labels"].clone();
    assert_eq!(labels, json!({ "b": "1" }));
    let metadata = session.patch(&path, &json!({ "metadata": { "labels": null } })).json()["metadata"].clone();
    assert!(metadata.get("labels").is_none(), "{metadata}");
}

fn name_mismatch(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("named"));
    let version = created(cluster, "named");
    session.put(&path, &versioned("other", &version, json!({}))).says(
        400,
        "BadRequest",
        "the name of the object (other) does not match the name on the URL (named)",
    );
    let mut elsewhere = versioned("named", &version, json!({}));
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    let answer = session.put(&path, &elsewhere);
    answer.has(400, "BadRequest");
    assert!(answer.message().contains("does not match"), "{}", answer.message());
    let answer = session.post(&cluster.leases(), &elsewhere);
    answer.has(400, "BadRequest");
    session.put(&path, &json!({ "metadata": {}, "spec": {} })).has(400, "BadRequest");
    session.patch(&path, &json!({ "metadata": { "name": "other" } })).has(400, "BadRequest");
}

fn media_types(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("media"));
    created(cluster, "media");
    let body = lease("media-2", json!({})).to_string();
    for media_type in ["text/plain", "application/x-www-form-urlencoded"] {
        session.send("POST", &cluster.leases(), media_type, &body).begins(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json",
        );
    }
    for media_type in ["application/json", "text/plain"] {
        session.send("PATCH", &path, media_type, "{}").has(415, "UnsupportedMediaType");
    }
    session.send("PATCH", &path, "application/merge-patch+json; charset=utf-8", "{}").has(200, "");
    session.send("POST", &cluster.leases(), "application/json; charset=utf-8", &body).has(201, "");
}

fn garbage_bodies(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("garbage"));
    created(cluster, "garbage");
    for body in ["garbage", "", "[]", "\"x\"", r#"{"metadata":{"name":"d""#] {
        let posted = session.send("POST", &cluster.leases(), JSON, body);
        let put = session.send("PUT", &path, JSON, body);
        for answer in [posted, put] {
            let start = "the object provided is unrecognized (must be of type Lease): couldn't get version/kind; json parse error: ";
            answer.begins(400, "BadRequest", start);
        }
    }
    for (kind, version) in [("Pod", "v1"), ("Lease", "coordination.k8s.io/v9"), ("Lease", "v1")] {
        let body = json!({ "kind": kind, "apiVersion": version, "metadata": { "name": "d" } });
        let short = version.rsplit('/').next().unwrap_or(version);
        let start = format!(r#"{kind} in version "{short}" cannot be handled as a Lease: "#);
        session.post(&cluster.leases(), &body).begins(400, "BadRequest", &start);
    }
    let start = r#"Lease in version "v1" cannot be handled as a Lease: "#;
    session.post(&cluster.leases(), &json!({ "metadata": [] })).begins(400, "BadRequest", start);
    session.post(&cluster.leases(), &json!({ "metadata": { "name": 5 } })).begins(400, "BadRequest", start);
}

fn label_validation(cluster: &Cluster) {
    let session = cluster.session();
    let send = |metadata: Value| session.post(&cluster.leases(), &json!({ "metadata": metadata }));
    let long = "a".repeat(64);
    for (metadata, field) in [
        (json!({ "name": "Bad_Name" }), "metadata.name"),
        (json!({}), "metadata.name"),
        (json!({ "name": "l", "labels": { "a/b/c": "x" } }), "metadata.labels"),
        (json!({ "name": "l", "labels": { "a b": "x" } }), "metadata.labels"),
        (json!({ "name": "l", "labels": { "ok": "bad value!" } }), "metadata.labels"),
        (json!({ "name": "l", "labels": { "ok": long } }), "metadata.labels"),
        (json!({ "name": "l", "annotations": { "Bad key": "x" } }), "metadata.annotations"),
    ] {
        let body = send(metadata.clone()).has(422, "Invalid");
        assert_eq!(body["details"]["causes"][0]["field"], field, "{metadata}");
    }
    let fine = json!({ "name": "fine.name", "labels": { "x.y/z": "a".repeat(63), "e": "" },
                       "annotations": { "leasehold.dev/yield-to": "any text at all!" } });
    send(fine).has(201, "");
}

fn missing_namespace(cluster: &Cluster) {
    let session = cluster.session();
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NO_NAMESPACE}/leases");
    let message = format!("namespaces \"{NO_NAMESPACE}\" not found");
    session.post(&leases, &lease("x", json!({}))).says(404, "NotFound", &message);
    session.put(&format!("{leases}/x"), &lease("x", json!({}))).says(404, "NotFound", &message);
    session.get(&format!("{leases}/x")).says(404, "NotFound", r#"leases.coordination.k8s.io "x" not found"#);
    let list = session.get(&leases).has(200, "");
    assert_eq!(list["items"], json!([]));
}

fn deletion(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("deleted"));
    created(cluster, "deleted");
    let uid = session.get(&path).json()["metadata"]["uid"].clone();
    for preconditions in [json!({ "uid": "another" }), json!({ "resourceVersion": "1" })] {
        let body = json!({ "preconditions": preconditions }).to_string();
        session.send("DELETE", &path, JSON, &body).has(409, "Conflict");
    }
    let body =
        session.send("DELETE", &path, JSON, &json!({ "preconditions": { "uid": uid } }).to_string()).has(200, "");
    assert_eq!((&body["kind"], &body["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(body["details"]["uid"], uid);
    session.delete(&path).has(404, "NotFound");
}

fn versions_rise(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("rise"));
    let first = number(&created(cluster, "rise"));
    let uid = session.get(&path).json()["metadata"]["uid"].clone();
    session.delete(&path).has(200, "");
    let second = number(&created(cluster, "rise"));
    assert!(second > first + 1, "the deletion in between has a version of its own: {first} {second}");
    assert_ne!(session.get(&path).json()["metadata"]["uid"], uid);
    let answer = session.post(&cluster.leases(), &versioned("rise-2", "5", json!({})));
    assert!(
        answer.message().contains("resourceVersion should not be set on objects to be created"),
        "{}",
        answer.message()
    );
}

fn methods(cluster: &Cluster) {
    let session = cluster.session();
    let message = "the server does not allow this method on the requested resource";
    session.put(&cluster.leases(), &lease("x", json!({}))).says(405, "MethodNotAllowed", message);
    session.patch(&cluster.leases(), &json!({})).says(405, "MethodNotAllowed", message);
    session.post(&cluster.lease("x"), &lease("x", json!({}))).says(405, "MethodNotAllowed", message);
}

fn paths(cluster: &Cluster) {
    let session = cluster.session();
    for path in [
        cluster.leases().replace("/v1/", "/v9/"),
        cluster.lease("x").replace("/leases/", "/leaseholds/"),
        cluster.core("leases/x"),
    ] {
        let message = "the server could not find the requested resource";
        session.get(&path).says(404, "NotFound", message);
    }
    assert_eq!(session.get("/nowhere").status, 404);
}

fn lists(cluster: &Cluster) {
    let session = cluster.session();
    created(cluster, "list-a");
    created(cluster, "list-b");
    session.patch(&cluster.lease("list-b"), &json!({ "metadata": { "labels": { "listed": "yes" } } })).has(200, "");
    let names = |query: &str| -> Vec<String> {
        let body = session.get(&format!("{}?{query}", cluster.leases())).has(200, "");
        assert_eq!((&body["kind"], &body["apiVersion"]), (&json!("LeaseList"), &json!("coordination.k8s.io/v1")));
        assert!(number(body["metadata"]["resourceVersion"].as_str().unwrap_or("")) > 0);
        let items = body["items"].as_array().cloned().unwrap_or_default();
        assert!(items.iter().all(|item| item.get("kind").is_none()), "items of a list do not say what they are");
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or("").to_owned()).collect()
    };
    assert_eq!(names("fieldSelector=metadata.name%3Dlist-a"), ["list-a"]);
    assert_eq!(names("fieldSelector=metadata.name%3D%3Dlist-a"), ["list-a"]);
    assert_eq!(names("fieldSelector=metadata.name%3Dnone"), [""; 0]);
    assert_eq!(names("labelSelector=listed%3Dyes"), ["list-b"]);
    assert_eq!(names("labelSelector=listed"), ["list-b"]);
    assert!(!names("fieldSelector=metadata.name%21%3Dlist-a").contains(&"list-a".to_owned()));
    assert!(names("").len() >= 2);
    let refused = session.get(&format!("{}?fieldSelector=spec.holderIdentity%3Dx", cluster.leases()));
    refused.begins(400, "BadRequest", r#""spec.holderIdentity" is not a known field selector"#);
    session.get(&format!("{}?fieldSelector=bogus", cluster.leases())).has(400, "BadRequest");
}

fn generate_name(cluster: &Cluster) {
    let body = json!({ "metadata": { "generateName": "made-" } });
    let stored = cluster.session().post(&cluster.leases(), &body).has(201, "");
    let name = stored["metadata"]["name"].as_str().unwrap_or("");
    assert!(name.starts_with("made-") && name.len() == "made-".len() + 5, "{name}");
}
