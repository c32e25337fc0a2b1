//! **The audit file**: every call that leasehold can make to the Kubernetes API, one function each.
//!
//! PURE: builds values. Nothing else in the program puts a method or a path together, so this file
//! shows all that a cluster will ever be asked. What is granted is in `manifests/base/rbac.yaml`; a test holds it
//! against these functions. What was asked in fact is in the audit log (`AUDIT_LOG`).
//!
//! In short: leasehold reads, creates and replaces **one Lease**, watches it; with SERVICE_NAME set it labels
//! **its own Pod** and patches the selector of **one Service**; with EVENTS on it writes Events about its Lease.
//! It lists nothing, deletes nothing, and reads no Secret.
//!
//! All writes say `fieldManager=leasehold`: so `kubectl get --show-managed-fields` tells who set what. Writes that
//! could undo another's carry `metadata.resourceVersion`, and are refused with 409 if anything changed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::election::Version;

/// Looks at the Lease: at the start, after a conflict, after a write whose reply was lost, and in polls where the
/// watch does not work.
///
/// ```text
/// GET /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}
/// ```
///
/// RBAC: `get` on `leases`, by name. Without it: no election at all.
pub fn get_lease(namespace: &str, name: &str, purpose: Purpose) -> Request {
    Request::new(Verb::Get, Resource::Lease, namespace, name, purpose)
}

/// Makes the Lease when there is none, with this process as its holder.
///
/// ```text
/// POST /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases?fieldManager=leasehold
/// ```
///
/// RBAC: `create` on `leases`, which cannot be given by name. Without it: an operator must create the Lease
/// (`kubectl create` an empty one is enough).
pub fn create_lease(namespace: &str, name: &str, object: &Value, purpose: Purpose) -> Request {
    Request::new(Verb::Create, Resource::Lease, namespace, name, purpose).with_body(object)
}

/// Acquires, renews or releases the Lease, or asks its holder to yield: the object as read, with the election
/// fields changed. It carries the `resourceVersion` and uid that were read, so it fails with 409 if anything was written
/// in between.
///
/// ```text
/// PUT /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}?fieldManager=leasehold
/// ```
///
/// RBAC: `update` on `leases`, by name. Without it: never leads (where it makes the Lease itself: once, until
/// RENEWAL_DEADLINE).
pub fn replace_lease(namespace: &str, name: &str, object: &Value, purpose: Purpose) -> Request {
    Request::new(Verb::Update, Resource::Lease, namespace, name, purpose).with_body(object)
}

/// Waits for changes of this one Lease after version `from`, for `lasting` at most. `from` 0: the server has forgotten
/// the version that is known, and begins with the Lease as it is. `purpose` tells the election from `leasehold status`.
///
/// ```text
/// GET /apis/coordination.k8s.io/v1/namespaces/{namespace}/leases?watch=true
///     &fieldSelector=metadata.name%3D{name}&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds={lasting}
/// ```
///
/// RBAC: `watch` on `leases`, by name (the field selector makes that possible). Without it: a candidate polls with
/// [`get_lease`], and a hand-over takes up to a retry period instead of milliseconds; a leader sees an edit when it
/// renews next.
pub fn watch_lease(namespace: &str, name: &str, from: Version, lasting: Duration, purpose: Purpose) -> Request {
    Request::new(Verb::Watch, Resource::Lease, namespace, name, purpose).starting_at(from, lasting)
}

/// Looks at the own Pod's labels.
///
/// ```text
/// GET /api/v1/namespaces/{namespace}/pods/{name}
/// ```
///
/// RBAC: `get` on `pods`. Without it: the label is patched without looking first.
pub fn get_pod(namespace: &str, name: &str) -> Request {
    Request::new(Verb::Get, Resource::Pod, namespace, name, Purpose::Label)
}

/// Gives the own Pod the one label that the Service's selector will name. Needs no `resourceVersion`: it sets one
/// key that nobody else sets, always to the same value.
///
/// ```text
/// PATCH /api/v1/namespaces/{namespace}/pods/{name}?fieldManager=leasehold
/// Content-Type: application/merge-patch+json
///
/// {"metadata":{"labels":{"{key}":"{value}"}}}
/// ```
///
/// RBAC: `patch` on `pods`. Without it: the Service can only be routed by a label that the Pod already bears
/// (a StatefulSet's `statefulset.kubernetes.io/pod-name`).
pub fn label_pod(namespace: &str, name: &str, key: &str, value: &str) -> Request {
    Request::new(Verb::Patch, Resource::Pod, namespace, name, Purpose::Label)
        .with_body(&json!({ "metadata": { "labels": { key: value } } }))
}

/// Reads the Service: where its selector points, and the fence of the term that set it. `purpose` tells routing from draining.
///
/// ```text
/// GET /api/v1/namespaces/{namespace}/services/{name}
/// ```
///
/// RBAC: `get` on `services`, by name. Without it: the Service does not follow the leader.
pub fn get_service(namespace: &str, name: &str, purpose: Purpose) -> Request {
    Request::new(Verb::Get, Resource::Service, namespace, name, purpose)
}

/// Points the Service at this Pod and annotates it with the fence (see [`selector_patch`]). It carries the
/// `resourceVersion` that was read, so it fails with 409 if anything was written in between.
///
/// ```text
/// PATCH /api/v1/namespaces/{namespace}/services/{name}?fieldManager=leasehold
/// Content-Type: application/merge-patch+json
///
/// {"metadata":{"annotations":{"leasehold.dev/fence":"…"},"resourceVersion":"…","uid":"…"},
///  "spec":{"selector":{"{key}":"{value}"}}}
/// ```
///
/// RBAC: `patch` on `services`, by name. Without it: the Service does not follow the leader.
///
/// [`selector_patch`]: crate::kube::service::selector_patch
pub fn patch_service(namespace: &str, name: &str, patch: &Value) -> Request {
    Request::new(Verb::Patch, Resource::Service, namespace, name, Purpose::Route).with_body(patch)
}

/// Waits for changes of this one Service after version `from`, for `lasting` at most; `from` 0 as for the Lease. `purpose`
/// tells routing (put the selector right again, and at the end leave when it points elsewhere) from `leasehold status`.
///
/// ```text
/// GET /api/v1/namespaces/{namespace}/services?watch=true
///     &fieldSelector=metadata.name%3D{name}&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds={lasting}
/// ```
///
/// RBAC: `watch` on `services`, by name. Without it: polls with [`get_service`].
pub fn watch_service(namespace: &str, name: &str, from: Version, lasting: Duration, purpose: Purpose) -> Request {
    Request::new(Verb::Watch, Resource::Service, namespace, name, purpose).starting_at(from, lasting)
}

/// Tells the Lease's story: "became leader", "stopped leading".
///
/// ```text
/// POST /api/v1/namespaces/{namespace}/events?fieldManager=leasehold
/// ```
///
/// RBAC: `create` on `events`. Without it: no Events; said once, nothing else suffers.
pub fn create_event(namespace: &str, name: &str, object: &Value) -> Request {
    Request::new(Verb::Create, Resource::Event, namespace, name, Purpose::Event).with_body(object)
}

/// One call, complete but for the host and the bearer token.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is done, as RBAC names it.
    pub verb: Verb,
    /// What it is done to.
    pub resource: Resource,
    /// In which namespace.
    pub namespace: String,
    /// To which object.
    pub name: String,
    /// Path and query.
    pub path: String,
    /// The JSON sent. Never logged.
    pub body: Option<String>,
    /// What the body is.
    pub content_type: Option<&'static str>,
    /// For what purpose.
    pub purpose: Purpose,
    /// The `resourceVersion` that the call carries: the version it replaces, or the one a watch starts from.
    pub sent_version: Option<String>,
    /// How long the server is asked to keep a watch open.
    pub lasting: Option<Duration>,
}

/// What is done, as RBAC and the API server's audit log name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Follow one object's changes.
    Watch,
    /// Make an object.
    Create,
    /// Replace an object.
    Update,
    /// Change some fields of an object.
    Patch,
}

impl Verb {
    /// The HTTP method.
    pub fn method(self) -> &'static str {
        match self {
            Verb::Get | Verb::Watch => "GET",
            Verb::Create => "POST",
            Verb::Update => "PUT",
            Verb::Patch => "PATCH",
        }
    }

    /// Whether it changes anything.
    pub fn writes(self) -> bool {
        !matches!(self, Verb::Get | Verb::Watch)
    }

    /// As RBAC spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
        }
    }
}

/// What leasehold touches. There is nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resource {
    /// `leases.coordination.k8s.io`
    Lease,
    /// `pods`
    Pod,
    /// `services`
    Service,
    /// `events`
    Event,
}

impl Resource {
    /// The API group, as RBAC writes it: empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Resource::Lease => "coordination.k8s.io",
            Resource::Pod | Resource::Service | Resource::Event => "",
        }
    }

    /// The resource's name in paths and in RBAC.
    pub fn plural(self) -> &'static str {
        match self {
            Resource::Lease => "leases",
            Resource::Pod => "pods",
            Resource::Service => "services",
            Resource::Event => "events",
        }
    }
}

/// For what purpose a call is made: the audit log states it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To see who leads.
    Observe,
    /// To become leader.
    Acquire,
    /// To stay leader.
    Renew,
    /// To stop being leader.
    Release,
    /// To name oneself the leader's successor, or to withdraw the name.
    Announce,
    /// To hand over, or to ask for it.
    Yield,
    /// To label the own Pod.
    Label,
    /// To point the Service at the leader.
    Route,
    /// To see at shutdown whether the Service points elsewhere by now.
    Drain,
    /// To tell the story in Events.
    Event,
    /// To answer `leasehold status`.
    Status,
}

impl Request {
    fn new(verb: Verb, resource: Resource, namespace: &str, name: &str, purpose: Purpose) -> Request {
        let api = match resource.group() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        let mut path = format!("{api}/namespaces/{}/{}", escape(namespace), resource.plural());
        // `create` and `watch` address the collection; the name is in the body or in the field selector.
        if !matches!(verb, Verb::Create | Verb::Watch) {
            path.push('/');
            path.push_str(&escape(name));
        }
        if verb.writes() {
            path.push_str("?fieldManager=leasehold");
        }
        Request {
            verb,
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path,
            body: None,
            content_type: None,
            purpose,
            sent_version: None,
            lasting: None,
        }
    }

    fn starting_at(mut self, from: Version, lasting: Duration) -> Request {
        // Zero would mean the server's own default, half an hour and more.
        let (name, seconds) = (escape(&self.name), lasting.as_secs().max(1));
        self.path.push_str(&format!(
            "?watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion={from}&allowWatchBookmarks=true\
             &timeoutSeconds={seconds}"
        ));
        Request { sent_version: Some(from.to_string()), lasting: Some(lasting), ..self }
    }

    fn with_body(self, body: &Value) -> Request {
        let patches = self.verb == Verb::Patch;
        let content_type = if patches { "application/merge-patch+json" } else { "application/json" };
        let sent_version = body.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
        Request { body: Some(body.to_string()), content_type: Some(content_type), sent_version, ..self }
    }

    /// The grant whose absence a 403 to this call means, in words to be put into a Role.
    pub fn missing_rule(&self) -> String {
        let Request { verb, resource, name, namespace, .. } = self;
        let name = match (resource, verb) {
            // RBAC cannot restrict `create` by name, and a Deployment's Pod names are not known beforehand.
            (_, Verb::Create) | (Resource::Pod | Resource::Event, _) => String::new(),
            (Resource::Lease | Resource::Service, _) => format!(", resourceNames: [{name}]"),
        };
        format!(
            "the ServiceAccount's Role in namespace {namespace} lacks apiGroups: [{:?}], resources: [{}]{name}, verbs: \
             [{}]",
            resource.group(),
            resource.plural(),
            verb.as_str()
        )
    }
}

impl fmt::Debug for Request {
    /// Verb, path and size: a body never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.body.as_ref().map_or(0, String::len);
        write!(f, "{} {} ({:?}, {sent} bytes)", self.verb.method(), self.path, self.purpose)
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters. Kubernetes names hold no others, but they come from
/// the environment: a name like `x/../../secrets` must stay a (bad) name.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTING: Duration = Duration::from_secs(290);

    fn object() -> Value {
        json!({ "metadata": { "name": "web", "resourceVersion": "41", "uid": "u-1" }, "spec": {} })
    }

    /// Every builder, with the exact request it makes.
    fn all() -> Vec<(Request, &'static str, Option<&'static str>, Option<&'static str>)> {
        let written = Some(r#"{"metadata":{"name":"web","resourceVersion":"41","uid":"u-1"},"spec":{}}"#);
        vec![
            (
                get_lease("ns", "web", Purpose::Observe),
                "GET /apis/coordination.k8s.io/v1/namespaces/ns/leases/web",
                None,
                None,
            ),
            (
                create_lease("ns", "web", &json!({ "kind": "Lease" }), Purpose::Acquire),
                "POST /apis/coordination.k8s.io/v1/namespaces/ns/leases?fieldManager=leasehold",
                Some(r#"{"kind":"Lease"}"#),
                None,
            ),
            (
                replace_lease("ns", "web", &object(), Purpose::Renew),
                "PUT /apis/coordination.k8s.io/v1/namespaces/ns/leases/web?fieldManager=leasehold",
                written,
                Some("41"),
            ),
            (
                watch_lease("ns", "web", 41, LASTING, Purpose::Observe),
                "GET /apis/coordination.k8s.io/v1/namespaces/ns/leases?watch=true&fieldSelector=metadata.name%3Dweb\
                 &resourceVersion=41&allowWatchBookmarks=true&timeoutSeconds=290",
                None,
                Some("41"),
            ),
            (get_pod("ns", "web-0"), "GET /api/v1/namespaces/ns/pods/web-0", None, None),
            (
                label_pod("ns", "web-0", "example.com/pod", "web-0"),
                "PATCH /api/v1/namespaces/ns/pods/web-0?fieldManager=leasehold",
                Some(r#"{"metadata":{"labels":{"example.com/pod":"web-0"}}}"#),
                None,
            ),
            (get_service("ns", "web", Purpose::Route), "GET /api/v1/namespaces/ns/services/web", None, None),
            (
                patch_service("ns", "web", &object()),
                "PATCH /api/v1/namespaces/ns/services/web?fieldManager=leasehold",
                written,
                Some("41"),
            ),
            (
                watch_service("ns", "web", 7, LASTING, Purpose::Route),
                "GET /api/v1/namespaces/ns/services?watch=true&fieldSelector=metadata.name%3Dweb&resourceVersion=7\
                 &allowWatchBookmarks=true&timeoutSeconds=290",
                None,
                Some("7"),
            ),
            (
                create_event("ns", "web.1", &json!({ "kind": "Event" })),
                "POST /api/v1/namespaces/ns/events?fieldManager=leasehold",
                Some(r#"{"kind":"Event"}"#),
                None,
            ),
        ]
    }

    #[test]
    fn every_call_is_exactly_this() {
        for (request, line, body, sent_version) in all() {
            assert_eq!(format!("{} {}", request.verb.method(), request.path), line);
            assert_eq!(request.body.as_deref(), body, "{line}");
            assert_eq!(request.sent_version.as_deref(), sent_version, "{line}");
            let content_type = match request.verb {
                Verb::Get | Verb::Watch => None,
                Verb::Create | Verb::Update => Some("application/json"),
                Verb::Patch => Some("application/merge-patch+json"),
            };
            assert_eq!(request.content_type, content_type, "{line}");
            assert_eq!(request.path.contains("fieldManager=leasehold"), request.verb.writes(), "{line}");
            assert_eq!(request.namespace, "ns");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        let request = get_lease("../kube-system", "x/../../secrets?watch=1&y=#é", Purpose::Observe);
        assert_eq!(
            request.path,
            "/apis/coordination.k8s.io/v1/namespaces/..%2Fkube-system/leases/x%2F..%2F..%2Fsecrets%3Fwatch%3D1%26y%3D%23%C3%A9"
        );
        let request = watch_lease("ns", "a,b=c&watch=false", 1, Duration::ZERO, Purpose::Observe);
        assert!(request.path.contains("metadata.name%3Da%2Cb%3Dc%26watch%3Dfalse&resourceVersion=1&"), "{request:?}");
        assert!(request.path.ends_with("timeoutSeconds=1"), "zero would be the server's default: {request:?}");
    }

    #[test]
    fn debug_output_has_no_body() {
        let secret = json!({ "spec": { "holderIdentity": "pod-a" } });
        let shown = format!("{:?}", replace_lease("ns", "web", &secret, Purpose::Renew));
        assert!(!shown.contains("pod-a") && shown.contains("PUT") && shown.contains("bytes"), "{shown}");
    }

    #[test]
    fn a_missing_rule_is_named_with_all_that_is_needed_to_grant_it() {
        assert_eq!(
            replace_lease("ns", "web", &object(), Purpose::Renew).missing_rule(),
            "the ServiceAccount's Role in namespace ns lacks apiGroups: [\"coordination.k8s.io\"], resources: [leases], \
             resourceNames: [web], verbs: [update]"
        );
        assert_eq!(
            create_event("ns", "web.1", &object()).missing_rule(),
            "the ServiceAccount's Role in namespace ns lacks apiGroups: [\"\"], resources: [events], verbs: [create]"
        );
    }
}
