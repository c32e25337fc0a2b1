//! Watches: what comes, in which shape, and how it ends.

use serde_json::{Value, json};

use crate::Expectation;
use crate::cluster::{Cluster, Expect, Session};
use crate::support::Watching;

pub const ALL: &[(&str, Expectation)] = &[
    ("a watch from a version tells every change since", from_a_version),
    ("a watch without a version begins with what there is", from_now),
    ("a watch of one name says nothing of others", one_name),
    ("a watch by label tells what comes and goes", by_label),
    ("a write that changes nothing is no event", no_change_no_event),
    ("a watch ends after its timeout", timeout),
    ("a bookmark carries a version and nothing else", bookmark),
    ("parameters that make no sense are refused", bad_parameters),
    ("a watch from a version that is not reached yet is silent", from_the_future),
    ("a version that is gone is an ERROR event with 410", expired),
];

fn made(cluster: &Cluster, name: &str) -> String {
    let body = json!({ "metadata": { "name": name }, "spec": { "holderIdentity": "x" } });
    let answer = cluster.session().post(&cluster.leases(), &body);
    answer.has(201, "");
    answer.version()
}

fn hold(cluster: &Cluster, name: &str, holder: &str) -> String {
    let answer = cluster.session().patch(&cluster.lease(name), &json!({ "spec": { "holderIdentity": holder } }));
    answer.has(200, "");
    answer.version()
}

fn watch(session: &Session, cluster: &Cluster, query: &str) -> Watching {
    let watching = session.watch(&format!("{}?watch=true&{query}", cluster.leases()));
    assert_eq!(watching.status, 200);
    let media_type = watching.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    assert_eq!(media_type.map(|(_, value)| value.as_str()), Some("application/json"));
    watching
}

fn next(watching: &mut Watching) -> Value {
    watching.next().unwrap().expect("the stream goes on")
}

/// The event's type, and the object's name, version and holder.
fn brief(event: &Value) -> (String, String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let object = &event["object"];
    let metadata = &object["metadata"];
    (
        text(&event["type"]),
        text(&metadata["name"]),
        text(&metadata["resourceVersion"]),
        text(&object["spec"]["holderIdentity"]),
    )
}

fn expected(kind: &str, name: &str, version: &str, holder: &str) -> (String, String, String, String) {
    (kind.to_owned(), name.to_owned(), version.to_owned(), holder.to_owned())
}

fn from_a_version(cluster: &Cluster) {
    let session = cluster.session();
    let first = made(cluster, "watched");
    let second = hold(cluster, "watched", "y");
    let query = format!("fieldSelector=metadata.name%3Dwatched&resourceVersion={first}");
    let mut watching = watch(&session, cluster, &query);
    let event = next(&mut watching);
    assert_eq!(brief(&event), expected("MODIFIED", "watched", &second, "y"));
    assert_eq!(
        (&event["object"]["kind"], &event["object"]["apiVersion"]),
        (&json!("Lease"), &json!("coordination.k8s.io/v1"))
    );

    let third = hold(cluster, "watched", "z");
    assert_eq!(brief(&next(&mut watching)), expected("MODIFIED", "watched", &third, "z"));
    session.delete(&cluster.lease("watched")).has(200, "");
    let gone = brief(&next(&mut watching));
    assert_eq!((gone.0.as_str(), gone.3.as_str()), ("DELETED", "z"));
    let version = |text: &str| text.parse::<u64>().unwrap();
    assert!(version(&gone.2) > version(&third), "the last state, under the deletion's version");
    let again = made(cluster, "watched");
    assert_eq!(brief(&next(&mut watching)), expected("ADDED", "watched", &again, "x"));
}

fn from_now(cluster: &Cluster) {
    let version = made(cluster, "present");
    for query in ["", "&resourceVersion=0"] {
        let mut watching = watch(&cluster.session(), cluster, &format!("fieldSelector=metadata.name%3Dpresent{query}"));
        assert_eq!(brief(&next(&mut watching)), expected("ADDED", "present", &version, "x"));
    }
}

fn one_name(cluster: &Cluster) {
    let from = made(cluster, "quiet");
    let mut watching =
        watch(&cluster.session(), cluster, &format!("fieldSelector=metadata.name%3Dquiet&resourceVersion={from}"));
    made(cluster, "noisy");
    hold(cluster, "noisy", "y");
    let version = hold(cluster, "quiet", "z");
    assert_eq!(brief(&next(&mut watching)), expected("MODIFIED", "quiet", &version, "z"));
}

fn by_label(cluster: &Cluster) {
    let from = made(cluster, "tagged");
    let mut watching = watch(&cluster.session(), cluster, &format!("labelSelector=tag%3Don&resourceVersion={from}"));
    let tag = |value: &str| {
        let patch = json!({ "metadata": { "labels": { "tag": value } } });
        cluster.session().patch(&cluster.lease("tagged"), &patch).has(200, "");
    };
    tag("on");
    assert_eq!(next(&mut watching)["type"], "ADDED");
    hold(cluster, "tagged", "y");
    assert_eq!(next(&mut watching)["type"], "MODIFIED");
    tag("off");
    assert_eq!(next(&mut watching)["type"], "DELETED");
}

fn no_change_no_event(cluster: &Cluster) {
    let (session, path) = (cluster.session(), cluster.lease("same"));
    let from = made(cluster, "same");
    let mut watching = watch(&session, cluster, &format!("fieldSelector=metadata.name%3Dsame&resourceVersion={from}"));
    let read = session.get(&path).json();
    session.put(&path, &read).has(200, "");
    hold(cluster, "same", "x");
    let version = hold(cluster, "same", "y");
    assert_eq!(brief(&next(&mut watching)), expected("MODIFIED", "same", &version, "y"));
}

fn timeout(cluster: &Cluster) {
    let from = made(cluster, "ends");
    let query = format!("fieldSelector=metadata.name%3Dends&resourceVersion={from}&timeoutSeconds=1");
    let mut watching = watch(&cluster.session(), cluster, &query);
    assert_eq!(watching.next().unwrap(), None);
    let answer = watching.client.request("GET", &cluster.lease("ends"), "", b"").unwrap();
    assert_eq!(answer.status, 200, "the connection lives on");
}

/// One comes about two seconds before the end, if there has been a change that the cache has seen.
fn bookmark(cluster: &Cluster) {
    let from = made(cluster, "marked");
    let query = format!(
        "fieldSelector=metadata.name%3Dmarked&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=5"
    );
    let mut watching = watch(&cluster.session(), cluster, &query);
    hold(cluster, "marked", "y");
    assert_eq!(next(&mut watching)["type"], "MODIFIED");
    let event = next(&mut watching);
    assert_eq!(event["type"], "BOOKMARK");
    let object = &event["object"];
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("Lease"), &json!("coordination.k8s.io/v1")));
    assert!(object["metadata"]["resourceVersion"].as_str().is_some_and(|version| version.parse::<u64>().is_ok()));
    assert!(object["metadata"].get("name").is_none() && object["spec"].get("holderIdentity").is_none(), "{object}");
}

fn bad_parameters(cluster: &Cluster) {
    let session = cluster.session();
    let path = |query: &str| format!("{}?watch=true&{query}", cluster.leases());
    session.get(&path("timeoutSeconds=soon")).has(400, "BadRequest");
    session.get(&path("fieldSelector=spec.holderIdentity%3Dx")).has(400, "BadRequest");
    let status = session.get(&path("resourceVersion=yesterday")).status;
    assert!(matches!(status, 400 | 500), "{status}");
    session.get(&format!("{}?resourceVersion=99999999", cluster.lease("x"))).has(504, "Timeout");
}

fn from_the_future(cluster: &Cluster) {
    let query = "resourceVersion=99999999&allowWatchBookmarks=true&timeoutSeconds=1";
    let mut watching = watch(&cluster.session(), cluster, query);
    made(cluster, "not-seen");
    assert_eq!(watching.next().unwrap(), None);
}

fn expired(cluster: &Cluster) {
    if !cluster.forgets_history() {
        return println!("skipped: this API server still knows version 1, so nothing is gone");
    }
    let mut watching = watch(&cluster.session(), cluster, "resourceVersion=1&timeoutSeconds=5");
    let event = next(&mut watching);
    let status = &event["object"];
    assert_eq!((&event["type"], &status["kind"], &status["code"]), (&json!("ERROR"), &json!("Status"), &json!(410)));
    assert!(matches!(status["reason"].as_str(), Some("Expired" | "Gone")), "{status}");
    assert!(status["message"].as_str().is_some_and(|m| m.starts_with("too old resource version: 1 (")), "{status}");
    assert_eq!(watching.next().unwrap(), None);
}
