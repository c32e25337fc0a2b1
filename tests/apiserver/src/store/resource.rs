//! The table of resources: to serve another one, add a row.
//!
//! PURE.

use serde_json::{Map, Value, json};

use super::kinds;
use super::status::Cause;

/// The index of a row in `RESOURCES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(pub(crate) usize);

/// coordination.k8s.io/v1 leases.
pub const LEASES: ResourceId = ResourceId(0);
/// core v1 pods.
pub const PODS: ResourceId = ResourceId(1);
/// core v1 services.
pub const SERVICES: ResourceId = ResourceId(2);
/// core v1 events.
pub const EVENTS: ResourceId = ResourceId(3);

/// What a PUT to an absent object with a `metadata.uid` is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AbsentWithUid {
    /// 409: the precondition failed.
    Conflict,
    /// 404, as if the uid were not there.
    NotFound,
}

/// What a PUT without `metadata.resourceVersion` means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unversioned {
    /// Overwrite whatever is there.
    Overwrite,
    /// 422 by the storage layer, before anything else is looked at.
    RefusedByStorage,
    /// 422 by the validation of the Kind.
    RefusedByValidation,
}

pub(crate) type Object = Map<String, Value>;

/// One row: what differs between the Kinds.
pub(crate) struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    /// A PUT to an absent object creates it.
    pub create_on_update: bool,
    pub absent_with_uid: AbsentWithUid,
    pub unversioned: Unversioned,
    /// A DELETE is answered with the object instead of a Status.
    pub delete_returns_object: bool,
    /// Field selectors beside `metadata.name` and `metadata.namespace`, as JSON pointers.
    pub selectable: &'static [(&'static str, &'static str)],
    /// Whether a name is one this Kind may have; the error otherwise.
    pub check_name: fn(&str) -> Option<String>,
    /// What the Kind's Go type makes of the JSON: wrong types are an error, times are normalised, defaults are set.
    pub decode: fn(&mut Object, kinds::Fields) -> Result<(), String>,
    /// Sets what the server decides at creation (a cluster IP, a status).
    pub on_create: fn(&mut Object, seed: u64),
    /// Puts back what an update of the main resource cannot change (the status).
    pub on_update: fn(&mut Object, old: &Value),
    /// The Kind's own rules; `old` is absent at creation.
    pub validate: fn(&Object, old: Option<&Value>, kinds::Fields) -> Vec<Cause>,
}

pub(crate) static RESOURCES: [Resource; 4] = [
    Resource {
        group: "coordination.k8s.io",
        version: "v1",
        plural: "leases",
        kind: "Lease",
        create_on_update: true,
        absent_with_uid: AbsentWithUid::Conflict,
        unversioned: Unversioned::RefusedByStorage,
        delete_returns_object: false,
        selectable: &[],
        check_name: kinds::subdomain_name,
        decode: kinds::decode_lease,
        on_create: |_, _| {},
        on_update: |_, _| {},
        validate: kinds::validate_lease,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "pods",
        kind: "Pod",
        create_on_update: false,
        absent_with_uid: AbsentWithUid::Conflict,
        unversioned: Unversioned::Overwrite,
        delete_returns_object: true,
        selectable: &[("spec.nodeName", "/spec/nodeName"), ("status.phase", "/status/phase")],
        check_name: kinds::subdomain_name,
        decode: kinds::decode_pod,
        on_create: kinds::create_pod,
        on_update: kinds::keep_status,
        validate: kinds::validate_pod,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "services",
        kind: "Service",
        create_on_update: false,
        absent_with_uid: AbsentWithUid::NotFound,
        unversioned: Unversioned::RefusedByValidation,
        delete_returns_object: false,
        selectable: &[],
        check_name: kinds::label_name,
        decode: kinds::decode_service,
        on_create: kinds::create_service,
        on_update: kinds::keep_status,
        validate: kinds::validate_service,
    },
    Resource {
        group: "",
        version: "v1",
        plural: "events",
        kind: "Event",
        create_on_update: true,
        absent_with_uid: AbsentWithUid::Conflict,
        unversioned: Unversioned::Overwrite,
        delete_returns_object: false,
        selectable: &[
            ("involvedObject.kind", "/involvedObject/kind"),
            ("involvedObject.name", "/involvedObject/name"),
            ("involvedObject.uid", "/involvedObject/uid"),
            ("reason", "/reason"),
            ("type", "/type"),
        ],
        check_name: kinds::subdomain_name,
        decode: kinds::decode_event,
        on_create: |_, _| {},
        on_update: |_, _| {},
        validate: kinds::validate_event,
    },
];

impl ResourceId {
    pub(crate) fn row(self) -> &'static Resource {
        &RESOURCES[self.0]
    }

    /// The plural, as in paths and Roles: `leases`.
    pub fn plural(self) -> &'static str {
        self.row().plural
    }

    /// The Kind: `Lease`.
    pub fn kind(self) -> &'static str {
        self.row().kind
    }

    /// The API group; empty for core.
    pub fn group(self) -> &'static str {
        self.row().group
    }

    /// The path of a collection, or of one object: `/apis/coordination.k8s.io/v1/namespaces/ns/leases/a`.
    pub fn path(self, namespace: &str, name: &str) -> String {
        let row = self.row();
        let base = if row.group.is_empty() {
            format!("/api/{}", row.version)
        } else {
            format!("/apis/{}/{}", row.group, row.version)
        };
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        format!("{base}/namespaces/{namespace}/{}{name}", row.plural)
    }
}

impl Resource {
    /// `coordination.k8s.io/v1`, or `v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The JSON of a request as an object of this Kind, or why it is none.
    ///
    /// `kind` and `apiVersion` may be absent; metadata that the API does not know is dropped, as the server drops it.
    pub(crate) fn decode(&self, value: Value, fields: kinds::Fields) -> Result<Object, String> {
        let Value::Object(mut object) = value else {
            return Err(format!("{}: expected an object", self.kind));
        };
        let api_version = self.api_version();
        let given = |key: &str, own: &str| {
            object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or(own).to_owned()
        };
        let (kind, version) = (given("kind", self.kind), given("apiVersion", &api_version));
        if kind != self.kind || version != api_version {
            return Err(format!("no kind \"{kind}\" is registered for version \"{version}\""));
        }
        object.insert("kind".to_owned(), json!(kind));
        object.insert("apiVersion".to_owned(), json!(version));
        kinds::decode_metadata(&mut object)
            .map_err(|why| format!("{}.{}.ObjectMeta: {why}", self.version, self.kind))?;
        (self.decode)(&mut object, fields)?;
        Ok(object)
    }

    pub(crate) fn validate(&self, object: &Object, old: Option<&Value>, fields: kinds::Fields) -> Vec<Cause> {
        let mut causes = kinds::validate_metadata(object, old, self.check_name);
        causes.extend((self.validate)(object, old, fields));
        causes
    }
}
