//! The JSON of a Lease: what an election reads in it, and what it writes into it.
//!
//! PURE. The object is kept as it was read, so that a PUT changes the election fields and nothing else (P3):
//! unknown fields, labels, ownerReferences, `strategy` and `preferredHolder` survive.

use serde_json::{Value, json};

use crate::election::{Annotations, Content, Record, Snapshot};
use crate::kube::object;
use crate::time::WallTime;

/// Which life of which process holds the Lease (P11).
pub const INCARNATION: &str = "leasehold.dev/incarnation";
/// The term's fencing token (P10), for people and for candidates that came later.
pub const FENCING_TOKEN: &str = "leasehold.dev/fencing-token";
/// A request to hand over: to the candidate it names or, when empty, to anyone else (P17).
pub const YIELD_TO: &str = "leasehold.dev/yield-to";
/// For whom the leader that handed over made room (P17).
pub const YIELDED_TO: &str = "leasehold.dev/yielded-to";

/// The candidate that is next in line (P13).
pub const SUCCESSOR: &str = "leasehold.dev/successor";
/// The revision of the workload that the successor belongs to (P19).
pub const SUCCESSOR_REVISION: &str = "leasehold.dev/successor-revision";
/// The same of the holder (P19).
pub const HOLDER_REVISION: &str = "leasehold.dev/holder-revision";

/// A Lease as the API server stated it.
#[derive(Clone, PartialEq, Debug)]
pub struct Lease {
    object: Value,
    /// What an election needs to know of it.
    pub snapshot: Snapshot,
}

impl Lease {
    /// Reads a Lease from an answer's body.
    pub fn parse(body: &[u8]) -> Result<Lease, String> {
        Lease::from_object(object::parse(body)?)
    }

    /// Reads a Lease from its JSON, as a watch delivers it.
    pub fn from_object(object: Value) -> Result<Lease, String> {
        let (uid, version) = object::identity(&object, "Lease")?;
        let annotations = object.pointer("/metadata/annotations");
        let mark = |key: &str| Some(annotations?.get(key)?.as_str()?.to_owned());
        let snapshot = Snapshot {
            uid,
            version,
            record: record(object.get("spec").unwrap_or(&Value::Null)),
            annotations: Annotations {
                incarnation: mark(INCARNATION),
                token: mark(FENCING_TOKEN),
                yield_to: mark(YIELD_TO),
                yielded_to: mark(YIELDED_TO),
                successor: mark(SUCCESSOR),
                successor_revision: mark(SUCCESSOR_REVISION),
                holder_revision: mark(HOLDER_REVISION),
            },
            coordinated: match object.pointer("/spec/strategy") {
                None | Some(Value::Null) => false,
                Some(strategy) => strategy != "",
            },
        };
        Ok(Lease { object, snapshot })
    }

    /// A Lease that does not exist yet.
    pub fn new_object(namespace: &str, name: &str, content: &Content) -> Value {
        let mut object = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name, "namespace": namespace },
        });
        put(&mut object, content);
        object
    }

    /// The object as read, with its election fields and leasehold's annotations replaced by `content`'s. Its
    /// `resourceVersion` and uid are those that were read: only the API server judges whether they still hold (P2).
    pub fn with(&self, content: &Content) -> Value {
        let mut object = self.object.clone();
        if content.record == self.snapshot.record {
            put_annotations(&mut object, &content.annotations); // The spec stays as it was spelt: no sign of life (P5).
        } else {
            put(&mut object, content);
        }
        object
    }
}

/// Reads the election fields; what is absent, null or nonsense is as if it were absent (P4).
fn record(spec: &Value) -> Record {
    let text = |key: &str| spec.get(key).and_then(Value::as_str);
    let number = |key: &str| spec.get(key).and_then(Value::as_i64).map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX));
    Record {
        holder: text("holderIdentity").filter(|holder| !holder.is_empty()).map(str::to_owned),
        lease_duration_seconds: number("leaseDurationSeconds").filter(|seconds| *seconds > 0),
        acquire_time: text("acquireTime").and_then(WallTime::parse),
        renew_time: text("renewTime").and_then(WallTime::parse),
        transitions: number("leaseTransitions").unwrap_or(0),
    }
}

fn put(object: &mut Value, Content { record, annotations }: &Content) {
    put_annotations(object, annotations);
    let time = |time: Option<WallTime>| time.map(|time| time.to_string());
    let spec = json!({
        // A vacant Lease says "", as client-go writes it: other clients stumble over null.
        "holderIdentity": record.holder.as_deref().unwrap_or_default(),
        "leaseTransitions": record.transitions,
        "leaseDurationSeconds": record.lease_duration_seconds,
        "acquireTime": time(record.acquire_time),
        "renewTime": time(record.renew_time),
    });
    merge(object, json!({ "spec": spec }));
}

fn put_annotations(object: &mut Value, annotations: &Annotations) {
    let annotations = json!({
        INCARNATION: annotations.incarnation,
        FENCING_TOKEN: annotations.token,
        YIELD_TO: annotations.yield_to,
        YIELDED_TO: annotations.yielded_to,
        SUCCESSOR: annotations.successor,
        SUCCESSOR_REVISION: annotations.successor_revision,
        HOLDER_REVISION: annotations.holder_revision,
    });
    merge(object, json!({ "metadata": { "annotations": annotations } }));
}

/// A JSON merge patch (RFC 7396): null removes. What would be made only to be empty is not made.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *target = patch };
    for (key, value) in patch {
        let removes = value.is_null();
        let mut child = target.get_mut(&key).map(Value::take).unwrap_or_default();
        merge(&mut child, value);
        match target.as_object_mut() {
            Some(target) if removes => drop(target.remove(&key)),
            Some(target) if !child.is_null() => drop(target.insert(key, child)),
            None if !child.is_null() => *target = json!({ key: child }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `kubectl get lease -o json` shows one that client-go holds, with fields that leasehold does not know.
    fn held() -> Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": "web", "namespace": "ns", "uid": "u-1", "resourceVersion": "8123",
                "creationTimestamp": "2026-11-22T15:00:00Z",
                "labels": { "team": "a" },
                "annotations": { "note": "kept", INCARNATION: "pod-uid-a", YIELD_TO: "" },
                "ownerReferences": [{ "kind": "Deployment", "uid": "d-1" }],
                "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }],
            },
            "spec": {
                "holderIdentity": "web-0", "leaseDurationSeconds": 15, "leaseTransitions": 3,
                "acquireTime": "2026-11-22T15:00:00.000001Z", "renewTime": "2026-11-22T16:04:05.12+01:00",
                "preferredHolder": "web-1", "unknown": { "deep": [1, 2.5, null] },
            },
        })
    }

    fn lease(object: &Value) -> Lease {
        Lease::parse(object.to_string().as_bytes()).unwrap()
    }

    fn changed(path: &str, value: Value) -> Value {
        let mut object = held();
        *object.pointer_mut(path).unwrap() = value;
        object
    }

    fn content() -> Content {
        Content {
            record: Record {
                holder: Some("web-1".into()),
                lease_duration_seconds: Some(30),
                acquire_time: WallTime::parse("2026-11-22T16:00:00Z"),
                renew_time: WallTime::parse("2026-11-22T16:00:00.5Z"),
                transitions: 4,
            },
            annotations: Annotations {
                incarnation: Some("pod-uid-b".into()),
                yielded_to: Some("web-1".into()),
                ..Annotations::default()
            },
        }
    }

    #[test]
    fn a_held_lease_is_read() {
        let expected = Snapshot {
            uid: "u-1".into(),
            version: 8123,
            record: Record {
                holder: Some("web-0".into()),
                lease_duration_seconds: Some(15),
                acquire_time: WallTime::parse("2026-11-22T15:00:00.000001Z"),
                renew_time: WallTime::parse("2026-11-22T15:04:05.12Z"),
                transitions: 3,
            },
            annotations: Annotations {
                incarnation: Some("pod-uid-a".into()),
                yield_to: Some(String::new()),
                ..Annotations::default()
            },
            coordinated: false,
        };
        assert_eq!(lease(&held()).snapshot, expected);
        assert_eq!(Lease::from_object(held()).unwrap().snapshot, expected);
    }

    #[test]
    fn absent_null_and_nonsense_fields_are_as_if_absent() {
        for spec in [
            json!(null),
            json!({}),
            json!([]),
            json!({ "holderIdentity": null, "leaseDurationSeconds": null, "acquireTime": null, "renewTime": null }),
            json!({ "holderIdentity": "", "leaseDurationSeconds": 0, "leaseTransitions": -1, "renewTime": "soon" }),
            json!({ "holderIdentity": 7, "leaseDurationSeconds": "15", "acquireTime": 0, "leaseTransitions": "3" }),
            json!({ "leaseDurationSeconds": -15, "strategy": null }),
            json!({ "leaseDurationSeconds": 1.5, "strategy": "" }),
        ] {
            let snapshot = lease(&changed("/spec", spec.clone())).snapshot;
            assert_eq!((snapshot.record, snapshot.coordinated), (Record::default(), false), "{spec}");
        }
        for annotations in [json!(null), json!([]), json!({ INCARNATION: 7 })] {
            let snapshot = lease(&changed("/metadata/annotations", annotations.clone())).snapshot;
            assert_eq!(snapshot.annotations, Annotations::default(), "{annotations}");
        }
    }

    #[test]
    fn numbers_beyond_their_type_do_not_wrap() {
        let huge = json!({ "leaseDurationSeconds": i64::MAX, "leaseTransitions": u64::from(u32::MAX) + 1 });
        let record = lease(&changed("/spec", huge)).snapshot.record;
        assert_eq!((record.lease_duration_seconds, record.transitions), (Some(u32::MAX), u32::MAX));
    }

    #[test]
    fn a_strategy_means_coordinated() {
        for strategy in [json!("OldestEmulationVersion"), json!("x"), json!(1), json!({})] {
            assert!(lease(&changed("/spec", json!({ "strategy": strategy }))).snapshot.coordinated);
        }
    }

    #[test]
    fn a_version_that_is_no_fencing_token_is_refused() {
        for version in [
            "",
            "0",
            "012",
            "+1",
            "-1",
            "1.5",
            "1e3",
            "0x1",
            " 1",
            "1 ",
            "abc",
            "340282366920938463463374607431768211456",
        ] {
            let error = Lease::from_object(changed("/metadata/resourceVersion", json!(version))).unwrap_err();
            assert!(error.contains("resourceVersion"), "{version}: {error}");
        }
        for version in [json!(8123), json!(null)] {
            assert!(Lease::from_object(changed("/metadata/resourceVersion", version)).is_err());
        }
        let largest = changed("/metadata/resourceVersion", json!("340282366920938463463374607431768211455"));
        assert_eq!(lease(&largest).snapshot.version, u128::MAX);
    }

    #[test]
    fn what_is_no_lease_is_refused() {
        for body in
            ["", "null", "[]", "7", "{}", "<html>", r#"{"metadata":null}"#, r#"{"metadata":{"resourceVersion":"1"}}"#]
        {
            assert!(Lease::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Lease::from_object(changed("/metadata/uid", json!(""))).is_err());
        assert!(Lease::from_object(changed("/kind", json!("Status"))).is_err());
        assert!(Lease::parse("[".repeat(100_000).as_bytes()).is_err(), "no stack overflow");
        let whole = held().to_string();
        for cut in 0..whole.len() {
            assert!(Lease::parse(&whole.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_write_changes_the_election_fields_and_nothing_else() {
        let mut expected = held();
        expected["spec"]["holderIdentity"] = json!("web-1");
        expected["spec"]["leaseDurationSeconds"] = json!(30);
        expected["spec"]["leaseTransitions"] = json!(4);
        expected["spec"]["acquireTime"] = json!("2026-11-22T16:00:00.000000Z");
        expected["spec"]["renewTime"] = json!("2026-11-22T16:00:00.500000Z");
        expected["metadata"]["annotations"] = json!({ "note": "kept", INCARNATION: "pod-uid-b", YIELDED_TO: "web-1" });
        assert_eq!(lease(&held()).with(&content()), expected);
    }

    #[test]
    fn what_was_read_is_written_back_as_the_same() {
        let lease = lease(&held());
        let Snapshot { record, annotations, .. } = lease.snapshot.clone();
        let written = Lease::from_object(lease.with(&Content { record, annotations })).unwrap();
        assert_eq!(written.snapshot, lease.snapshot);
    }

    #[test]
    fn a_release_leaves_an_empty_holder() {
        let mut vacant = content();
        vacant.record.holder = None;
        assert_eq!(lease(&held()).with(&vacant)["spec"]["holderIdentity"], json!(""));
    }

    #[test]
    fn a_lease_without_spec_or_annotations_can_be_written() {
        for bare in [changed("/spec", json!(null)), changed("/metadata/annotations", json!(null))] {
            let written = Lease::from_object(lease(&bare).with(&content())).unwrap().snapshot;
            assert_eq!((written.record, written.annotations), (content().record, content().annotations));
        }
        let mut unmarked = content();
        unmarked.annotations = Annotations::default();
        let written = lease(&changed("/metadata/annotations", json!(null))).with(&unmarked);
        assert_eq!(written["metadata"]["annotations"], json!(null), "not made for nothing");
    }

    #[test]
    fn a_new_lease_is_exactly_this() {
        assert_eq!(
            Lease::new_object("ns", "web", &content()),
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": "web", "namespace": "ns",
                    "annotations": { INCARNATION: "pod-uid-b", YIELDED_TO: "web-1" },
                },
                "spec": {
                    "holderIdentity": "web-1", "leaseDurationSeconds": 30, "leaseTransitions": 4,
                    "acquireTime": "2026-11-22T16:00:00.000000Z", "renewTime": "2026-11-22T16:00:00.500000Z",
                },
            })
        );
    }
}
