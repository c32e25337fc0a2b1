//! The requests on objects: get, list, watch, create, update, patch, delete.
//!
//! PURE. The order of the checks is kube-apiserver's: a request that is wrong in two ways gets the same answer here.

use std::sync::Arc;

use serde_json::{Value, json};

use super::path::{Object as Target, Query};
use super::resource::{AbsentWithUid, Object, Unversioned};
use super::select::Selector;
use super::status::{self, Cause};
use super::watch::Watch;
use super::{Answer, Key, Namespace, Request, Response, Store, version_of, wall};

impl Store {
    pub(super) fn get(&self, target: &Target, query: &Query) -> Answer {
        if let Some(wanted) = query.get("resourceVersion").and_then(|v| v.parse::<u64>().ok())
            && wanted > self.resource_version
        {
            return Err(status::version_too_large(wanted, self.resource_version).into());
        }
        Ok(Response::shared(200, Arc::clone(self.find(target)?)))
    }

    pub(super) fn list(&self, target: &Target, selector: &Selector) -> Answer {
        let row = target.resource.row();
        let items: Vec<Value> = self.select(target, selector).map(|object| list_item(object)).collect();
        let body = json!({
            "kind": format!("{}List", row.kind),
            "apiVersion": row.api_version(),
            "metadata": { "resourceVersion": self.resource_version.to_string() },
            "items": items,
        });
        Ok(Response::json(200, body))
    }

    pub(super) fn watch(&self, target: &Target, query: &Query, selector: Selector) -> Answer {
        let timeout_seconds =
            match query.get("timeoutSeconds") {
                None | Some("") => None,
                Some(text) => Some(text.parse().map_err(|_| {
                    status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
                })?),
            };
        let from = match query.get("resourceVersion").unwrap_or("") {
            "" | "0" => None,
            text => Some(text.parse::<u64>().map_err(|_| {
                let why = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
                status::internal(format!("resourceVersion: Invalid value: \"{text}\": {why}"))
            })?),
        };
        let initial = match from {
            None => self.select(target, &selector).cloned().collect(),
            Some(_) => Vec::new(),
        };
        let cursor = from.unwrap_or(self.resource_version);
        let mut watch = Watch::new(target.resource, &target.namespace, selector, cursor)
            .with_options(query.flag("allowWatchBookmarks"), timeout_seconds);
        watch.initial = initial;
        Ok(Response { watch: Some(watch), ..Response::shared(200, Arc::new(Value::Null)) })
    }

    pub(super) fn create(&mut self, target: &Target, request: &Request, now: i64) -> Answer {
        let row = target.resource.row();
        let object = self.decode_body(target, request)?;
        let namespace = metadata_text(&object, "namespace");
        if !namespace.is_empty() && namespace != target.namespace {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(status::bad_request(message).into());
        }
        self.check_namespace(target, metadata_text(&object, "name"))?;
        let versioned = !metadata_text(&object, "resourceVersion").is_empty();
        let (name, object) = self.complete(target, object, now)?;
        if versioned {
            return Err(status::internal("resourceVersion should not be set on objects to be created").into());
        }
        let key = (target.namespace.clone(), name);
        if self.objects[target.resource.0].contains_key(&key) {
            return Err(status::already_exists(row, &key.1).into());
        }
        Ok(Response::shared(201, self.commit(target.resource, key, object)))
    }

    pub(super) fn update(&mut self, target: &Target, request: &Request, now: i64) -> Answer {
        let row = target.resource.row();
        let mut object = self.decode_body(target, request)?;
        check_identity(target, &object)?;
        let uid = metadata_text(&object, "uid").to_owned();
        let Some(old) = self.objects[target.resource.0].get(&key_of(target)).cloned() else {
            return self.update_absent(target, object, &uid, now);
        };
        let old_uid = old["metadata"]["uid"].as_str().unwrap_or("");
        if !uid.is_empty() && uid != old_uid {
            return Err(status::uid_precondition(row, &target.namespace, &target.name, &uid, old_uid).into());
        }
        if row.unversioned == Unversioned::Overwrite && wanted_version(&object)? == 0 {
            super::set_version(&mut object, version_of(&old).unwrap_or(0));
        }
        self.replace(target, object, &old)
    }

    fn update_absent(&mut self, target: &Target, object: Object, uid: &str, now: i64) -> Answer {
        let row = target.resource.row();
        if !uid.is_empty() && row.absent_with_uid == AbsentWithUid::Conflict {
            return Err(status::uid_precondition(row, &target.namespace, &target.name, uid, "").into());
        }
        if !row.create_on_update {
            return Err(status::not_found(row, &target.name).into());
        }
        self.check_namespace(target, &target.name)?;
        let (name, object) = self.complete(target, object, now)?;
        Ok(Response::shared(201, self.commit(target.resource, (target.namespace.clone(), name), object)))
    }

    pub(super) fn patch(&mut self, target: &Target, request: &Request) -> Answer {
        let row = target.resource.row();
        if media_type(&request.content_type) != "application/merge-patch+json" {
            return Err(status::unsupported_patch().into());
        }
        let old = Arc::clone(self.find(target)?);
        let patch: Value = serde_json::from_slice(&request.body).map_err(|_| status::internal("Invalid JSON Patch"))?;
        if !patch.is_object() && !patch.is_array() {
            return Err(status::internal("Invalid JSON Patch").into());
        }
        let mut patched = old.as_ref().clone();
        merge(&mut patched, &patch);
        // The outcome is quoted in the refusal, so it is kept until it has been read.
        let object = row.decode(patched.clone(), self.fields).map_err(|why| status::bad_patch(&patched, &why))?;
        check_identity(target, &object)?;
        self.replace(target, object, &old)
    }

    pub(super) fn delete(&mut self, target: &Target, request: &Request) -> Answer {
        let row = target.resource.row();
        let old = self.find(target)?;
        let uid = old["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        let version = version_of(old).unwrap_or(0).to_string();
        if !request.body.is_empty() {
            let options: Value = serde_json::from_slice(&request.body)
                .map_err(|why| status::internal(format!("couldn't get version/kind; json parse error: {why}")))?;
            check_preconditions(target, &options["preconditions"], &uid, &version)?;
        }
        match self.remove(target.resource, &key_of(target)) {
            Some(last) if row.delete_returns_object => Ok(Response::shared(200, last)),
            _ => Ok(status::success(row, &target.name, &uid)),
        }
    }

    /// The second half of an update and of a patch: versions, immutable parts, validation, and the no-op.
    fn replace(&mut self, target: &Target, mut object: Object, old: &Arc<Value>) -> Answer {
        let row = target.resource.row();
        match wanted_version(&object)? {
            0 if row.unversioned == Unversioned::RefusedByValidation => {
                let cause = Cause::invalid("metadata.resourceVersion", "\"\"", "must be specified for an update");
                return Err(status::invalid(row, &target.name, &[cause]).into());
            }
            0 => return Err(status::version_required(row, &target.name).into()),
            wanted if Some(wanted) != version_of(old) => return Err(status::conflict(row, &target.name).into()),
            _ => {}
        }
        keep_system_metadata(&mut object, old);
        self.admit(target, &mut object);
        (row.on_update)(&mut object, old);
        let causes = row.validate(&object, Some(old), self.fields);
        if !causes.is_empty() {
            return Err(status::invalid(row, &target.name, &causes).into());
        }
        // Nothing is written that would change nothing: same version, no event.
        if old.as_object() == Some(&object) {
            return Ok(Response::shared(200, Arc::clone(old)));
        }
        Ok(Response::shared(200, self.commit(target.resource, key_of(target), object)))
    }

    /// What a mutating admission webhook does.
    fn admit(&self, target: &Target, object: &mut Object) {
        for field in &self.removed_fields[target.resource.0] {
            let (parent, key) = field.rsplit_once('/').unwrap_or(("", field));
            let mut steps = parent.split('/').skip(1).map(unescape);
            let found = steps.try_fold(&mut *object, |map, step| map.get_mut(&step)?.as_object_mut());
            found.map(|map| map.remove(&unescape(key)));
        }
    }

    fn find(&self, target: &Target) -> Result<&Arc<Value>, Box<Response>> {
        let found = self.objects[target.resource.0].get(&key_of(target));
        found.ok_or_else(|| status::not_found(target.resource.row(), &target.name).into())
    }

    fn select(&self, target: &Target, selector: &Selector) -> impl Iterator<Item = &Arc<Value>> {
        let namespace = target.namespace.clone();
        self.objects[target.resource.0]
            .iter()
            .filter(move |((of, _), object)| (namespace.is_empty() || namespace == *of) && selector.matches(object))
            .map(|(_, object)| object)
    }

    fn check_namespace(&self, target: &Target, name: &str) -> Result<(), Box<Response>> {
        let Some(namespaces) = &self.namespaces else { return Ok(()) };
        match namespaces.get(&target.namespace) {
            Some(Namespace::Active) => Ok(()),
            Some(Namespace::Terminating) => {
                Err(status::namespace_terminating(target.resource.row(), name, &target.namespace).into())
            }
            None => Err(status::namespace_not_found(&target.namespace).into()),
        }
    }

    /// Makes a decoded object a new one: its name, uid and birth; refused if it is not valid.
    fn complete(&mut self, target: &Target, mut object: Object, now: i64) -> Result<(String, Object), Box<Response>> {
        let row = target.resource.row();
        let (uid, suffix, seed) = (self.new_uid(), self.name_suffix(), self.next_random());
        let mut name = metadata_text(&object, "name").to_owned();
        let prefix = metadata_text(&object, "generateName");
        if name.is_empty() && !prefix.is_empty() {
            name = format!("{prefix}{suffix}");
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
            {
                metadata.remove(key);
            }
            if !name.is_empty() {
                metadata.insert("name".to_owned(), json!(name));
            }
            metadata.insert("namespace".to_owned(), json!(target.namespace));
            metadata.insert("uid".to_owned(), json!(uid));
            metadata.insert("creationTimestamp".to_owned(), json!(wall::seconds_text(now)));
        }
        self.admit(target, &mut object);
        (row.on_create)(&mut object, seed);
        let causes = row.validate(&object, None, self.fields);
        if causes.is_empty() { Ok((name, object)) } else { Err(status::invalid(row, &name, &causes).into()) }
    }

    /// Five letters and digits, without those that make words or are mistaken for another.
    fn name_suffix(&mut self) -> String {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut random = self.next_random();
        let mut letter = || {
            let index = usize::try_from(random % 27).unwrap_or(0);
            random /= 27;
            char::from(LETTERS[index])
        };
        (0..5).map(|_| letter()).collect()
    }

    /// The body of a POST or PUT as an object of the target's Kind.
    fn decode_body(&self, target: &Target, request: &Request) -> Result<Object, Box<Response>> {
        let row = target.resource.row();
        if !matches!(media_type(&request.content_type), "" | "application/json") {
            return Err(status::unsupported_body().into());
        }
        let unrecognized = |why: &str| {
            let shown = String::from_utf8_lossy(&request.body);
            let shown = if shown.is_empty() { "<empty>".into() } else { shown };
            status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; \
                 json parse error: {why} ({shown})",
                row.kind
            ))
        };
        let value: Value = serde_json::from_slice(&request.body).map_err(|why| unrecognized(&why.to_string()))?;
        let map =
            value.as_object().ok_or_else(|| unrecognized("json: cannot unmarshal into Go value of type struct"))?;
        let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let (kind, api_version) = (text("kind"), text("apiVersion"));
        let kind = if kind.is_empty() { row.kind.to_owned() } else { kind };
        let version = api_version.rsplit('/').next().filter(|version| !version.is_empty()).unwrap_or(row.version);
        row.decode(value, self.fields).map_err(|why| {
            let message = format!("{kind} in version \"{version}\" cannot be handled as a {}: {why}", row.kind);
            status::bad_request(message).into()
        })
    }
}

fn key_of(target: &Target) -> Key {
    (target.namespace.clone(), target.name.clone())
}

/// `application/json; charset=utf-8` without its parameters.
fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim()
}

fn metadata_text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Value::as_str).unwrap_or("")
}

/// The resourceVersion in a write: 0 if there is none.
fn wanted_version(object: &Object) -> Result<u64, Box<Response>> {
    match metadata_text(object, "resourceVersion") {
        "" => Ok(0),
        text => text
            .parse()
            .map_err(|_| status::internal(format!("strconv.ParseUint: parsing \"{text}\": invalid syntax")).into()),
    }
}

/// The name and namespace in an update must be the URL's.
fn check_identity(target: &Target, object: &Object) -> Result<(), Box<Response>> {
    let (name, namespace) = (metadata_text(object, "name"), metadata_text(object, "namespace"));
    let message = if name.is_empty() {
        format!("the name of the object ({} based on URL) was undeterminable: name must be provided", target.name)
    } else if name != target.name {
        format!("the name of the object ({name}) does not match the name on the URL ({})", target.name)
    } else if !namespace.is_empty() && namespace != target.namespace {
        format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            target.namespace
        )
    } else {
        return Ok(());
    };
    Err(status::bad_request(message).into())
}

fn check_preconditions(target: &Target, wanted: &Value, uid: &str, version: &str) -> Result<(), Box<Response>> {
    let row = target.resource.row();
    if let Some(wanted) = wanted["uid"].as_str().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        );
        return Err(status::delete_precondition(row, &target.name, &why).into());
    }
    if let Some(wanted) = wanted["resourceVersion"].as_str().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        );
        return Err(status::delete_precondition(row, &target.name, &why).into());
    }
    Ok(())
}

/// What only the server decides stays as it was, whatever an update says.
fn keep_system_metadata(object: &mut Object, old: &Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let before = &old["metadata"];
    for key in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"] {
        match before.get(key) {
            Some(value) => drop(metadata.insert(key.to_owned(), value.clone())),
            None => drop(metadata.remove(key)),
        }
    }
    for key in ["namespace", "uid", "managedFields"] {
        if let (None, Some(value)) = (metadata.get(key), before.get(key)) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Items of a list carry no `kind` and `apiVersion` of their own.
fn list_item(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(map) = item.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    item
}

/// One step of a JSON pointer (RFC 6901).
fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}
