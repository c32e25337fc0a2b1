//! What tests and operators do to a store from outside: settings, edits, looks, backups.
//!
//! PURE.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::kinds::Fields;
use super::resource::ResourceId;
use super::{Key, Namespace, Request, Response, Store, version_of};
use crate::rbac::Rbac;

/// A backup of all objects, cheap to take.
#[derive(Clone, Debug)]
pub struct Snapshot {
    objects: Vec<BTreeMap<Key, Arc<Value>>>,
    resource_version: u64,
}

impl Snapshot {
    /// The resourceVersion at which it was taken.
    pub fn resource_version(&self) -> u64 {
        self.resource_version
    }
}

impl Store {
    /// The last resourceVersion given out.
    pub fn resource_version(&self) -> u64 {
        self.resource_version
    }

    /// Lets the next write have the version after `version`. It never goes back: only [`Store::restore`] does that.
    pub fn advance_resource_version(&mut self, version: u64) {
        self.resource_version = self.resource_version.max(version);
    }

    /// From now on only these namespaces exist; a POST into another one is answered 404.
    pub fn set_namespaces(&mut self, names: &[&str]) {
        self.namespaces = Some(names.iter().map(|name| ((*name).to_owned(), Namespace::Active)).collect());
    }

    /// Adds a namespace to the list (which then is one), or changes its state.
    pub fn set_namespace(&mut self, name: &str, state: Namespace) {
        self.namespaces.get_or_insert_default().insert(name.to_owned(), state);
    }

    /// Which fields of a Lease's spec are kept.
    pub fn set_lease_fields(&mut self, fields: Fields) {
        self.fields = fields;
    }

    /// Who may do what.
    pub fn rbac(&mut self) -> &mut Rbac {
        &mut self.rbac
    }

    /// Lets an admission webhook remove these fields (JSON pointers: `/metadata/annotations/leasehold.dev~1fence`) from
    /// every object of this resource that is written, by operators too; an empty list removes the webhook.
    pub fn remove_on_admission(&mut self, resource: ResourceId, fields: &[&str]) {
        self.removed_fields[resource.0] = fields.iter().map(|field| (*field).to_owned()).collect();
    }

    /// How many changes are kept for watches; older versions are answered 410.
    pub fn set_history_limit(&mut self, changes: usize) {
        self.history_limit = changes;
    }

    /// Forgets all history, as etcd's compaction: a watch that has not read it all, or starts from before, gets 410.
    pub fn compact(&mut self) {
        self.log.clear();
        self.compacted = self.resource_version;
    }

    /// An object, if it is there.
    pub fn object(&self, resource: ResourceId, namespace: &str, name: &str) -> Option<&Value> {
        self.objects[resource.0].get(&(namespace.to_owned(), name.to_owned())).map(AsRef::as_ref)
    }

    /// All objects of a resource, by namespace and name.
    pub fn objects(&self, resource: ResourceId) -> impl Iterator<Item = &Value> {
        self.objects[resource.0].values().map(AsRef::as_ref)
    }

    /// An operator creates the object, or replaces it whatever its version; `metadata.name` and `metadata.namespace`
    /// must be there. Validation applies: the refusal is returned as it would be answered.
    pub fn put_object(&mut self, resource: ResourceId, object: &Value, now_wall_micros: i64) -> Response {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or("").to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let old = self.object(resource, &namespace, &name).map(|old| old["metadata"].clone());
        let mut object = object.clone();
        let Some(metadata) = object["metadata"].as_object_mut() else {
            return super::status::bad_request("an object has metadata");
        };
        let Some(old) = old else {
            metadata.remove("resourceVersion");
            let request = Request::new("POST", resource.path(&namespace, "")).with_json(&object);
            return self.handle(&request, now_wall_micros);
        };
        for key in ["uid", "resourceVersion"] {
            metadata.insert(key.to_owned(), old[key].clone());
        }
        let request = Request::new("PUT", resource.path(&namespace, &name)).with_json(&object);
        self.handle(&request, now_wall_micros)
    }

    /// An operator applies a merge patch, as `kubectl patch --type merge` does.
    pub fn patch_object(&mut self, resource: ResourceId, namespace: &str, name: &str, patch: &Value) -> Response {
        // A patch creates nothing, so no time is written.
        self.handle(&Request::new("PATCH", resource.path(namespace, name)).with_merge_patch(patch), 0)
    }

    /// An operator deletes the object.
    pub fn delete_object(&mut self, resource: ResourceId, namespace: &str, name: &str) -> Response {
        self.handle(&Request::new("DELETE", resource.path(namespace, name)), 0)
    }

    /// A backup of every object.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { objects: self.objects.clone(), resource_version: self.resource_version }
    }

    /// etcd restored from a backup: objects *and* the version counter are what they were. Versions given out since the
    /// backup will be given out again, for other contents. As on a real server, a watch that has read further than that
    /// stays open and silent, and one from such a version is accepted and silent, until the counter has passed it.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        self.objects.clone_from(&snapshot.objects);
        self.resource_version = snapshot.resource_version;
        self.log.clear();
        self.compacted = snapshot.resource_version;
    }

    /// One object put back from a backup, as backup tools do: the old content as a new version of the object that is
    /// there (whose uid it keeps), or as a new object; deleted, if the backup does not have it.
    pub fn restore_object(
        &mut self,
        snapshot: &Snapshot,
        resource: ResourceId,
        namespace: &str,
        name: &str,
        now_wall_micros: i64,
    ) -> Response {
        match snapshot.objects[resource.0].get(&(namespace.to_owned(), name.to_owned())) {
            Some(object) => self.put_object(resource, object, now_wall_micros),
            None => self.delete_object(resource, namespace, name),
        }
    }

    /// `metadata.resourceVersion` of an object, if it is there.
    pub fn object_version(&self, resource: ResourceId, namespace: &str, name: &str) -> Option<u64> {
        version_of(self.object(resource, namespace, name)?)
    }
}
