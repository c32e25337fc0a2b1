//! The JSON of a Service, as far as routing goes: where its selector points, and the fence of the term that set it.
//!
//! PURE. A Service can be large: only what is used is kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::election::{Term, Version, parse_version};
use crate::kube::object;

/// The annotation that holds the [`Fence`].
pub const FENCE: &str = "leasehold.dev/fence";

/// A Service as the API server stated it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    /// `metadata.resourceVersion`.
    pub version: Version,
    /// `metadata.uid`.
    pub uid: String,
    /// The fence of the term that last set the selector. `None`: there is none, or no readable one; any leader may set
    /// the selector.
    pub fence: Option<Fence>,
    /// The labels that it selects Pods by.
    pub selector: BTreeMap<String, String>,
}

impl Service {
    /// Reads a Service from an answer's body.
    pub fn parse(body: &[u8]) -> Result<Service, String> {
        Service::from_object(&object::parse(body)?)
    }

    /// Reads a Service from its JSON, as a watch delivers it.
    pub fn from_object(object: &Value) -> Result<Service, String> {
        let (uid, version) = object::identity(object, "Service")?;
        let fence = object.pointer("/metadata/annotations").and_then(|annotations| annotations.get(FENCE)?.as_str());
        let selector = object.pointer("/spec/selector").unwrap_or(&Value::Null);
        let selector = Option::deserialize(selector).map_err(|error| format!("spec.selector: {error}"))?;
        let (fence, selector) = (fence.and_then(Fence::parse), selector.unwrap_or_default());
        Ok(Service { version, uid, fence, selector })
    }

    /// What the selector demands of the label `key`.
    pub fn selector_value(&self, key: &str) -> Option<&str> {
        self.selector.get(key).map(String::as_str)
    }
}

/// A merge patch that points this version of the Service of this uid at the Pods with `key: value`, annotated with
/// `fence`. Without the version a merge patch would never conflict; without the uid it could hit another Service
/// of that name.
pub fn selector_patch(version: Version, uid: &str, key: &str, value: &str, fence: &Fence) -> Value {
    json!({
        "metadata": {
            "resourceVersion": version.to_string(),
            "uid": uid,
            "annotations": { FENCE: fence.to_string() },
        },
        "spec": { "selector": { key: value } },
    })
}

/// Who last pointed the selector: a term, by the Lease it was won on and its fencing token. Written `uid/token`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fence {
    /// The Lease's uid.
    pub lease_uid: String,
    /// The fencing token.
    pub token: Version,
}

impl Fence {
    /// The fence of a term.
    pub fn of(term: &Term) -> Fence {
        Fence { lease_uid: term.lease_uid.clone(), token: term.token }
    }

    /// Reads an annotation; `None`: it is no fence. Version 0.1.0 wrote `time/uid/token`.
    pub fn parse(text: &str) -> Option<Fence> {
        let parts: Vec<&str> = text.split('/').collect();
        let ([uid, token] | [_, uid, token]) = parts[..] else { return None };
        let lease_uid = Some(uid.to_owned()).filter(|uid| !uid.is_empty())?;
        Some(Fence { lease_uid, token: parse_version(token)? })
    }

    /// Whether a Service that bears this fence at `version` must not be patched by the term of `other`.
    ///
    /// Tokens are resourceVersions of Leases, and comparable whichever Lease they are from (KEP-5504): the greater
    /// token is the later term's. A token greater than the Service's own version was not written in this history: the
    /// Service is always patched after its Lease. It comes from before a restored backup, or from another cluster,
    /// and is void; else no later term of this history could ever take the Service over. That holds for the fences of
    /// one Lease too, as a restored Lease keeps its uid.
    pub fn outranks(&self, other: &Fence, version: Version) -> bool {
        self.token > other.token && self.token <= version
    }
}

impl fmt::Display for Fence {
    /// `7f0c…/8123`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.lease_uid, self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(uid: &str, token: Version) -> Fence {
        Fence { lease_uid: uid.to_owned(), token }
    }

    fn service(fence: &str) -> Vec<u8> {
        json!({
            "kind": "Service",
            "metadata": {
                "name": "web", "uid": "s-1", "resourceVersion": "77",
                "annotations": { FENCE: fence, "other": "kept" }, "managedFields": [{ "any": "thing" }],
            },
            "spec": { "selector": { "app": "web", "pod": "web-1" }, "ports": [{ "port": 80 }] },
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_service_is_read() {
        let service = Service::parse(&service("u-1/8123")).unwrap();
        assert_eq!((service.version, service.uid.as_str()), (77, "s-1"));
        assert_eq!((service.selector_value("pod"), service.selector_value("nope")), (Some("web-1"), None));
        assert_eq!(service.fence, Some(fence("u-1", 8123)));
    }

    #[test]
    fn absent_and_null_fields_are_no_error() {
        for body in [
            r#"{"metadata":{"uid":"s","resourceVersion":"7"}}"#,
            r#"{"metadata":{"uid":"s","resourceVersion":"7","annotations":null},"spec":null}"#,
            r#"{"kind":"Service","metadata":{"uid":"s","resourceVersion":"7"},"spec":{"selector":null}}"#,
        ] {
            let service = Service::parse(body.as_bytes()).unwrap();
            assert_eq!((service.selector_value("pod"), &service.fence), (None, &None), "{body}");
        }
    }

    #[test]
    fn what_is_no_service_is_refused() {
        for body in [
            "",
            "[]",
            r#"{"kind":"Status","metadata":{}}"#,
            r#"{"kind":"Pod","metadata":{"uid":"s","resourceVersion":"7"}}"#,
            r#"{"metadata":{"uid":"s"}}"#,
            r#"{"metadata":{"uid":"s","resourceVersion":"07"}}"#,
            r#"{"metadata":{"uid":"s","resourceVersion":"7"},"spec":{"selector":[]}}"#,
        ] {
            assert!(Service::parse(body.as_bytes()).is_err(), "{body}");
        }
        let whole = service("");
        for cut in 0..whole.len() {
            assert!(Service::parse(&whole[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_patch_changes_one_selector_key_of_one_version() {
        let service = Service::parse(&service("")).unwrap();
        let fence = fence("u-1", 8123);
        assert_eq!(
            selector_patch(service.version, &service.uid, "pod", "web-2", &fence),
            json!({
                "metadata": {
                    "resourceVersion": "77", "uid": "s-1",
                    "annotations": { "leasehold.dev/fence": "u-1/8123" },
                },
                "spec": { "selector": { "pod": "web-2" } },
            })
        );
    }

    #[test]
    fn a_fence_survives_its_text() {
        for original in [fence("u", 1), fence("7f0c-11", Version::MAX), fence("ü", 10)] {
            assert_eq!(Fence::parse(&original.to_string()), Some(original));
        }
    }

    #[test]
    fn a_fence_of_version_0_1_0_is_read() {
        assert_eq!(Fence::parse("2026-11-22T15:04:05Z/u-1/8123"), Some(fence("u-1", 8123)));
    }

    #[test]
    fn what_is_no_fence_does_not_lock_the_service() {
        let beyond = format!("u/{}0", Version::MAX);
        for text in
            ["", "8123", "/", "//", "/1", "t//1", "u/", "t/u/", "t/u/1/2", "u/+1", "u/01", "u/0", "u/x", &beyond]
        {
            assert_eq!(Fence::parse(text), None, "{text}");
            assert_eq!(Service::parse(&service(text)).unwrap().fence, None, "{text}");
        }
    }

    #[test]
    fn the_greater_token_outranks_unless_it_is_of_another_history() {
        let table = [
            ("the same Lease, a later term", fence("a", 2), fence("a", 1), 9, true),
            ("the same Lease, an earlier term", fence("a", 1), fence("a", 2), 9, false),
            ("the same term", fence("a", 1), fence("a", 1), 9, false),
            ("another Lease, a later term", fence("b", 2), fence("a", 1), 9, true),
            ("another Lease, an earlier term", fence("b", 1), fence("a", 2), 9, false),
            ("another Lease, from another cluster", fence("b", 10), fence("a", 2), 9, false),
            ("the same Lease, from before a restored backup", fence("a", 10), fence("a", 2), 9, false),
        ];
        for (what, theirs, mine, version, outranks) in table {
            assert_eq!(theirs.outranks(&mine, version), outranks, "{what}");
        }
    }
}
