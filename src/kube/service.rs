//! The JSON of a Service, as far as routing goes: where its selector points, and the fence that says by whose leave.
//!
//! PURE. A Service can be large and most of it is none of our business: only what is used is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::election::{Term, Version};
use crate::kube::lease::version;
use crate::kube::status::Malformed;
use crate::time::WallTime;

/// The annotation that holds the [`Fence`].
pub const FENCE: &str = "leasehold.dev/fence";

/// A Service as the API server stated it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    version: Version,
    uid: String,
    fence: Option<Fence>,
    selector: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Object {
    kind: Option<String>,
    metadata: Metadata,
    spec: Option<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Spec {
    selector: Option<BTreeMap<String, String>>,
}

impl Service {
    /// Reads a Service from an answer's body.
    pub fn parse(body: &[u8]) -> Result<Service, Malformed> {
        Service::from_parts(serde_json::from_slice(body))
    }

    /// Reads a Service from its JSON, as a watch delivers it.
    pub fn from_object(object: Value) -> Result<Service, Malformed> {
        Service::from_parts(serde_json::from_value(object))
    }

    fn from_parts(object: serde_json::Result<Object>) -> Result<Service, Malformed> {
        let Object { kind, metadata, spec } = object.map_err(|error| Malformed(error.to_string()))?;
        match kind {
            Some(kind) if kind != "Service" => {
                return Err(Malformed(format!("a Service was expected, not a {kind:.40}")));
            }
            _ => {}
        }
        let fence = metadata.annotations.as_ref().and_then(|annotations| annotations.get(FENCE));
        Ok(Service {
            version: version(Some(&metadata.resource_version))?,
            fence: fence.and_then(|text| text.parse().ok()),
            uid: metadata.uid,
            selector: spec.and_then(|spec| spec.selector).unwrap_or_default(),
        })
    }

    /// `metadata.resourceVersion`.
    pub fn version(&self) -> Version {
        self.version
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// What the selector demands of the label `key`.
    pub fn selector_value(&self, key: &str) -> Option<&str> {
        self.selector.get(key).map(String::as_str)
    }

    /// By whose leave the selector points where it does. `None`: nobody's (or what is written there is no fence),
    /// and any leader may set it.
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }
}

/// A merge patch that points this version of the Service of this uid at the Pods with `key: value`, signed with
/// `fence`. Without the version a merge patch would never conflict; without the uid it could hit a successor of the
/// name.
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

/// A fencing token together with the Lease that it belongs to, so that it can be compared across Leases.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Fence {
    /// When the Lease was created. Kubernetes states it in whole seconds, and no more is compared.
    pub lease_created: WallTime,
    /// Its uid.
    pub lease_uid: String,
    /// The fencing token.
    pub token: Version,
}

impl Fence {
    /// The fence of a term.
    pub fn of(term: &Term) -> Fence {
        Fence { lease_created: term.lease_created, lease_uid: term.lease_uid.clone(), token: term.token }
    }

    /// Whether a Service that bears this one must not be overwritten by the bearer of `other`.
    ///
    /// Tokens of one Lease are ordered. Those of two are not (a cluster restored from a backup counts anew), so of
    /// two Leases the younger one's is the greater.
    pub fn is_greater_than(&self, other: &Fence) -> bool {
        let (created, others) = (self.lease_created.seconds(), other.lease_created.seconds());
        if self.lease_uid == other.lease_uid || created == others { self.token > other.token } else { created > others }
    }
}

impl fmt::Display for Fence {
    /// `2026-11-22T15:04:05Z/7f0c…/8123`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let created = self.lease_created.to_string();
        write!(f, "{}Z/{}/{}", created.split('.').next().unwrap_or_default(), self.lease_uid, self.token)
    }
}

/// The text of an annotation that is no fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoFence;

impl fmt::Display for NoFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not of the form <time>/<uid>/<token>")
    }
}

impl std::error::Error for NoFence {}

impl FromStr for Fence {
    type Err = NoFence;

    fn from_str(text: &str) -> Result<Fence, NoFence> {
        let mut parts = text.split('/');
        let (Some(created), Some(uid), Some(token), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoFence);
        };
        if uid.is_empty() {
            return Err(NoFence);
        }
        Ok(Fence {
            lease_created: WallTime::parse(created).ok_or(NoFence)?,
            lease_uid: uid.to_owned(),
            token: version(Some(token)).map_err(|_| NoFence)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(created: i64, uid: &str, token: Version) -> Fence {
        Fence { lease_created: WallTime(created * 1_000_000), lease_uid: uid.to_owned(), token }
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
        let service = Service::parse(&service("2026-11-22T15:04:05Z/u-1/8123")).unwrap();
        assert_eq!((service.version(), service.uid()), (77, "s-1"));
        assert_eq!((service.selector_value("pod"), service.selector_value("nope")), (Some("web-1"), None));
        assert_eq!(service.fence(), Some(&fence(1_795_359_845, "u-1", 8123)));
    }

    #[test]
    fn absent_and_null_fields_are_no_error() {
        for body in [
            r#"{"metadata":{"uid":"s","resourceVersion":"7"}}"#,
            r#"{"metadata":{"uid":"s","resourceVersion":"7","annotations":null},"spec":null}"#,
            r#"{"kind":"Service","metadata":{"uid":"s","resourceVersion":"7"},"spec":{"selector":null}}"#,
        ] {
            let service = Service::parse(body.as_bytes()).unwrap();
            assert_eq!((service.selector_value("pod"), service.fence()), (None, None), "{body}");
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
        let fence = fence(1_795_359_845, "u-1", 8123);
        assert_eq!(
            selector_patch(service.version(), service.uid(), "pod", "web-2", &fence),
            json!({
                "metadata": {
                    "resourceVersion": "77", "uid": "s-1",
                    "annotations": { "leasehold.dev/fence": "2026-11-22T15:04:05Z/u-1/8123" },
                },
                "spec": { "selector": { "pod": "web-2" } },
            })
        );
    }

    #[test]
    fn a_fence_survives_its_text() {
        for original in [fence(0, "u", 1), fence(1_795_359_845, "7f0c-11", u128::MAX), fence(-1, "ü", 10)] {
            assert_eq!(original.to_string().parse(), Ok(original));
        }
    }

    #[test]
    fn what_is_no_fence_does_not_lock_the_service() {
        for text in [
            "",
            "8123",
            "//",
            "2026-11-22T15:04:05Z//1",
            "2026-11-22T15:04:05Z/u",
            "2026-11-22T15:04:05Z/u/",
            "2026-11-22T15:04:05Z/u/1/2",
            "2026-11-22T15:04:05Z/u/+1",
            "2026-11-22T15:04:05Z/u/01",
            "2026-11-22T15:04:05Z/u/0",
            "2026-11-22T15:04:05Z/u/340282366920938463463374607431768211456",
            "yesterday/u/1",
        ] {
            assert_eq!(text.parse::<Fence>(), Err(NoFence), "{text}");
            assert_eq!(Service::parse(&service(text)).unwrap().fence(), None, "{text}");
        }
    }

    #[test]
    fn of_two_fences_one_is_greater() {
        let table = [
            // One Lease: by token.
            (fence(10, "a", 2), fence(10, "a", 1), true),
            (fence(10, "a", 1), fence(10, "a", 2), false),
            (fence(10, "a", 1), fence(10, "a", 1), false),
            // Two Leases: the younger one's, however small its token (a restored cluster counts anew).
            (fence(11, "b", 1), fence(10, "a", 999_999), true),
            (fence(10, "a", 999_999), fence(11, "b", 1), false),
            // Two Leases of one second: by token.
            (fence(10, "b", 2), fence(10, "a", 1), true),
            (fence(10, "b", 1), fence(10, "a", 2), false),
        ];
        for (a, b, greater) in table {
            assert_eq!(a.is_greater_than(&b), greater, "{a} > {b}");
        }
    }
}
