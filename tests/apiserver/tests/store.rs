//! The store on its own, as a simulator drives it: deterministic, restorable, with a history that can run out.

use leasehold_apiserver::store::{
    EVENTS, EventType, Fields, LEASES, Namespace, PODS, SERVICES, Watch, micros_text, seconds_text, version_of,
};
use leasehold_apiserver::{Request, Response, Store, User};
use serde_json::{Value, json};

const NOW: i64 = 1_792_681_445_000_006;
const LEASES_PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";

fn lease(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": name }, "spec": spec })
}

fn put(store: &mut Store, name: &str, holder: &str) -> Response {
    store.put_object(LEASES, &lease(name, json!({ "holderIdentity": holder })), NOW)
}

fn watch(store: &mut Store, query: &str) -> Watch {
    let answer = store.handle(&Request::new("GET", format!("{LEASES_PATH}?watch=true&{query}")), NOW);
    assert_eq!((answer.status, answer.body.is_null()), (200, true));
    answer.watch.expect("an accepted watch comes with a cursor")
}

fn types(store: &Store, watch: &mut Watch) -> Vec<EventType> {
    store.read_watch(watch).iter().map(|event| event.event).collect()
}

#[test]
fn the_same_requests_give_the_same_answers() {
    let run = |seed: u64| {
        let mut store = Store::new(seed);
        let mut bodies = Vec::new();
        for body in [json!({ "metadata": { "name": "a" } }), json!({ "metadata": { "generateName": "g-" } })] {
            bodies.push(store.handle(&Request::new("POST", LEASES_PATH).with_json(&body), NOW).body.to_string());
        }
        bodies
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8), "another seed, other uids");
    assert!(run(7)[0].contains(&seconds_text(NOW)), "the birth is the time that was given");
}

#[test]
fn uids_are_uuids_and_never_repeat() {
    let mut store = Store::new(1);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..200 {
        let body = put(&mut store, &format!("l-{round}"), "x").body;
        let uid = body["metadata"]["uid"].as_str().unwrap().to_owned();
        let shape: String = uid.chars().map(|c| if c == '-' { '-' } else { 'x' }).collect();
        assert_eq!((shape.as_str(), &uid[14..15]), ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "4"));
        assert!(seen.insert(uid));
    }
}

#[test]
fn a_version_can_start_anywhere_and_counts_every_resource() {
    let mut store = Store::new(1);
    store.advance_resource_version(4_000_000_000);
    assert_eq!(put(&mut store, "a", "x").resource_version(), Some(4_000_000_001));
    let pod = json!({ "metadata": { "namespace": "ns", "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    assert_eq!(store.put_object(PODS, &pod, NOW).resource_version(), Some(4_000_000_002));
    store.advance_resource_version(5);
    assert_eq!(put(&mut store, "a", "y").resource_version(), Some(4_000_000_003), "it never goes back");
    assert_eq!(version_of(store.object(LEASES, "ns", "a").unwrap()), Some(4_000_000_003));
}

#[test]
fn a_watch_reads_each_change_once() {
    let mut store = Store::new(1);
    put(&mut store, "a", "x");
    let mut all = watch(&mut store, "");
    let mut one = watch(&mut store, "fieldSelector=metadata.name%3Db");
    assert_eq!(types(&store, &mut all), [EventType::Added]);
    assert_eq!(types(&store, &mut one), []);
    put(&mut store, "a", "y");
    put(&mut store, "b", "y");
    store.delete_object(LEASES, "ns", "b");
    assert_eq!(types(&store, &mut all), [EventType::Modified, EventType::Added, EventType::Deleted]);
    assert_eq!(types(&store, &mut one), [EventType::Added, EventType::Deleted]);
    assert_eq!(types(&store, &mut all), []);
    assert_eq!(all.position(), store.resource_version());
    assert!(!all.wants_bookmarks());
    let marked = watch(&mut store, "allowWatchBookmarks=true&timeoutSeconds=300");
    assert_eq!((marked.wants_bookmarks(), marked.timeout_seconds()), (true, Some(300)));
    let line = store.bookmark(&marked).unwrap().line();
    assert!(line.ends_with(b"\n") && line.starts_with(br#"{"type":"BOOKMARK","object":{"#));
}

#[test]
fn history_runs_out() {
    let mut store = Store::new(1);
    store.set_history_limit(2);
    let from = put(&mut store, "a", "0").resource_version().unwrap();
    let mut current = watch(&mut store, &format!("resourceVersion={from}"));
    for holder in ["1", "2"] {
        put(&mut store, "a", holder);
    }
    assert_eq!(types(&store, &mut current), [EventType::Modified; 2]);
    let mut late = watch(&mut store, &format!("resourceVersion={}", from - 1));
    assert_eq!(types(&store, &mut late), [EventType::Error]);
    assert!(late.is_over());
    assert_eq!(types(&store, &mut late), [], "an ended watch says nothing more");

    put(&mut store, "a", "3");
    assert_eq!(types(&store, &mut current), [EventType::Modified], "who keeps up loses nothing");
    store.compact();
    assert_eq!(types(&store, &mut current), []);
    put(&mut store, "a", "4");
    assert_eq!(types(&store, &mut current), [EventType::Modified]);
}

#[test]
fn a_restore_takes_back_objects_and_versions_and_silences_watches() {
    let mut store = Store::new(1);
    let version = put(&mut store, "a", "x").resource_version().unwrap();
    let backup = store.snapshot();
    assert_eq!(backup.resource_version(), version);
    let mut watching = watch(&mut store, &format!("resourceVersion={version}"));
    put(&mut store, "a", "y");
    put(&mut store, "b", "y");
    assert_eq!(types(&store, &mut watching), [EventType::Modified, EventType::Added]);
    store.restore(&backup);
    assert_eq!(store.object(LEASES, "ns", "a").unwrap()["spec"]["holderIdentity"], "x");
    assert!(store.object(LEASES, "ns", "b").is_none());
    assert_eq!(types(&store, &mut watching), []);
    let mut ahead = watch(&mut store, &format!("allowWatchBookmarks=true&resourceVersion={}", version + 2));
    assert_eq!(put(&mut store, "a", "z").resource_version(), Some(version + 1), "versions are given out again");
    for silent in [&mut watching, &mut ahead] {
        assert_eq!(types(&store, silent), [], "the version is from the future");
        assert!(!silent.is_over() && store.bookmark(silent).is_none());
    }
    store.restore_object(&backup, LEASES, "ns", "b", NOW);
    assert!(store.object(LEASES, "ns", "b").is_none());
}

#[test]
fn namespaces_can_be_missing_or_on_their_way_out() {
    let mut store = Store::new(1);
    assert_eq!(put(&mut store, "a", "x").status, 201, "every namespace exists until some are named");
    store.set_namespaces(&["other"]);
    let refused = put(&mut store, "b", "x");
    assert_eq!((refused.status, refused.reason()), (404, "NotFound"));
    store.set_namespace("ns", Namespace::Terminating);
    let refused = put(&mut store, "b", "x");
    assert_eq!((refused.status, refused.reason()), (403, "Forbidden"));
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    assert_eq!(put(&mut store, "a", "y").status, 200, "what is there can still be changed");
    store.set_namespace("ns", Namespace::Active);
    assert_eq!(put(&mut store, "b", "x").status, 201);
}

#[test]
fn newer_servers_know_more_fields_of_a_lease() {
    let spec =
        json!({ "holderIdentity": "x", "strategy": "OldestEmulationVersion", "preferredHolder": "y", "new": [1] });
    let kept = |fields: Fields| {
        let mut store = Store::new(1);
        store.set_lease_fields(fields);
        store.put_object(LEASES, &lease("a", spec.clone()), NOW).body["spec"].clone()
    };
    assert_eq!(kept(Fields::Election), json!({ "holderIdentity": "x" }));
    let coordinated = json!({ "holderIdentity": "x", "strategy": "OldestEmulationVersion", "preferredHolder": "y" });
    assert_eq!(kept(Fields::Coordinated), coordinated);
    assert_eq!(kept(Fields::All), spec);
    let mut store = Store::new(1);
    store.set_lease_fields(Fields::Coordinated);
    let refused = store.put_object(LEASES, &lease("a", json!({ "preferredHolder": "y" })), NOW);
    assert_eq!(refused.status, 422, "{}", refused.body);
}

#[test]
fn users_are_told_apart_from_operators() {
    let mut store = Store::new(1);
    let get = Request::new("GET", format!("{LEASES_PATH}/a"));
    let ask = |store: &mut Store, user: User| store.handle(&get.clone().by(user), NOW).status;
    assert_eq!(ask(&mut store, User::named("u")), 404, "without a Role everybody may do everything");
    assert_eq!(ask(&mut store, User::Anonymous), 401);
    store.rbac().enforce();
    assert_eq!(ask(&mut store, User::named("u")), 403);
    assert_eq!(ask(&mut store, User::Anonymous), 403);
    assert_eq!(ask(&mut store, User::Admin), 404);
}

#[test]
fn requests_know_their_verbs() {
    for (method, path, verb) in [
        ("GET", "/a", "get"),
        ("GET", "", "list"),
        ("GET", "?watch=true", "watch"),
        ("GET", "?watch=false", "list"),
        ("POST", "", "create"),
        ("PUT", "/a", "update"),
        ("PATCH", "/a", "patch"),
        ("DELETE", "/a", "delete"),
    ] {
        assert_eq!(Request::new(method, format!("{LEASES_PATH}{path}")).verb(), verb, "{method} {path}");
    }
    assert_eq!(LEASES.path("ns", "a"), format!("{LEASES_PATH}/a"));
    assert_eq!(EVENTS.path("ns", ""), "/api/v1/namespaces/ns/events");
    assert_eq!((SERVICES.plural(), SERVICES.kind(), SERVICES.group()), ("services", "Service", ""));
}

#[test]
fn any_bytes_get_an_answer() {
    let mut store = Store::new(1);
    put(&mut store, "a", "x");
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap_or(0) % below
    };
    let pieces = [
        "/api",
        "/apis",
        "/v1",
        "/namespaces",
        "/ns",
        "/leases",
        "/pods",
        "/a",
        "//",
        "%",
        "%zz",
        "%2f",
        "?",
        "&",
        "=",
        "watch",
        "coordination.k8s.io",
        "fieldSelector",
        "metadata.name",
        "é",
        "resourceVersion",
        "18446744073709551616",
    ];
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "{\"metadata\":null}",
        "{\"metadata\":{\"name\":\"a\",\"labels\":[]}}",
        "{\"spec\":7}",
        "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"-1\"}}",
        "{\"metadata\":{\"name\":\"a\"},\"spec\":{\"renewTime\":\"é\"}}",
    ];
    let media_types = ["", "application/json", "application/merge-patch+json", "x"];
    for _ in 0..20_000 {
        let path: String = (0..next(8)).map(|_| pieces[next(pieces.len())]).collect();
        let path = if next(3) == 0 { format!("{LEASES_PATH}/a{path}") } else { path };
        let request = Request {
            method: ["GET", "POST", "PUT", "PATCH", "DELETE", "BREW"][next(6)].to_owned(),
            path,
            content_type: media_types[next(media_types.len())].to_owned(),
            body: bodies[next(bodies.len())].as_bytes().to_vec(),
            user: User::Admin,
        };
        let answer = store.handle(&request, NOW);
        assert!((200..600).contains(&answer.status));
        let bare = answer.watch.is_some() || *answer.body == json!("ok");
        assert!(bare || answer.body.is_object(), "{request:?}: {}", answer.body);
    }
}

#[test]
fn times_are_written_as_the_api_writes_them() {
    assert_eq!(micros_text(NOW), "2026-10-22T15:04:05.000006Z");
    assert_eq!(seconds_text(NOW), "2026-10-22T15:04:05Z");
}

#[test]
fn admission_removes_fields_of_what_is_written() {
    let mut store = Store::new(1);
    let version = put(&mut store, "a", "x").resource_version();
    store.remove_on_admission(LEASES, &["/spec/holderIdentity", "/metadata/annotations/leasehold.dev~1x", "/no/such"]);
    let patch = json!({ "metadata": { "annotations": { "leasehold.dev/x": "1", "y": "2" } } });
    assert!(store.patch_object(LEASES, "ns", "a", &patch).resource_version() > version);
    let lease = store.object(LEASES, "ns", "a").unwrap();
    assert_eq!((&lease["metadata"]["annotations"], &lease["spec"]), (&json!({ "y": "2" }), &json!({})));
    let version = put(&mut store, "a", "x").resource_version();
    put(&mut store, "a", "x");
    assert_eq!(Some(store.resource_version()), version, "nothing is left that would change anything");
    store.remove_on_admission(LEASES, &[]);
    put(&mut store, "a", "x");
    assert_eq!(store.object(LEASES, "ns", "a").unwrap()["spec"]["holderIdentity"], "x");
}
