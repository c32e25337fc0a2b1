//! `Status` bodies with the API server's own wording: clients read the reason, people the message.
//!
//! PURE.

use serde_json::{Value, json};

use super::Response;
use super::resource::Resource;

/// One line of `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub reason: &'static str,
    pub message: String,
    pub field: String,
}

impl Cause {
    pub(crate) fn invalid(field: &str, value: impl std::fmt::Display, why: &str) -> Cause {
        Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {why}"),
            field: field.to_owned(),
        }
    }

    pub(crate) fn required(field: &str, why: &str) -> Cause {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Cause { reason: "FieldValueRequired", message, field: field.to_owned() }
    }

    pub(crate) fn forbidden(field: &str, why: &str) -> Cause {
        Cause { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field: field.to_owned() }
    }
}

fn failure(status: u16, reason: &str, message: String, details: Option<Value>) -> Response {
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": status,
    });
    if !reason.is_empty() {
        body["reason"] = json!(reason);
    }
    if let Some(details) = details {
        body["details"] = details;
    }
    Response::json(status, body)
}

/// `details` of an error about one resource; a name that is not known is left out, as the server does.
fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut details = json!({ "kind": kind });
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}

impl Resource {
    /// `leases.coordination.k8s.io`, or `pods`.
    pub(crate) fn qualified(&self) -> String {
        qualify(self.plural, self.group)
    }

    fn qualified_kind(&self) -> String {
        qualify(self.kind, self.group)
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

pub(crate) fn not_found(resource: &Resource, name: &str) -> Response {
    let message = format!("{} \"{name}\" not found", resource.qualified());
    failure(404, "NotFound", message, Some(details(name, resource.group, resource.plural)))
}

pub(crate) fn namespace_not_found(namespace: &str) -> Response {
    let message = format!("namespaces \"{namespace}\" not found");
    failure(404, "NotFound", message, Some(details(namespace, "", "namespaces")))
}

pub(crate) fn namespace_terminating(resource: &Resource, name: &str, namespace: &str) -> Response {
    let message = format!(
        "{} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
        resource.qualified()
    );
    let mut about = details(name, resource.group, resource.plural);
    about["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    failure(403, "Forbidden", message, Some(about))
}

pub(crate) fn no_such_path() -> Response {
    failure(404, "NotFound", "the server could not find the requested resource".to_owned(), Some(json!({})))
}

pub(crate) fn method_not_allowed() -> Response {
    let message = "the server does not allow this method on the requested resource".to_owned();
    failure(405, "MethodNotAllowed", message, Some(json!({})))
}

pub(crate) fn already_exists(resource: &Resource, name: &str) -> Response {
    let message = format!("{} \"{name}\" already exists", resource.qualified());
    failure(409, "AlreadyExists", message, Some(details(name, resource.group, resource.plural)))
}

pub(crate) fn conflict(resource: &Resource, name: &str) -> Response {
    conflict_because(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )
}

/// A `metadata.uid` in the request that is not the stored object's.
pub(crate) fn uid_precondition(
    resource: &Resource,
    namespace: &str,
    name: &str,
    wanted: &str,
    found: &str,
) -> Response {
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}/{namespace}/{name}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}",
        resource.plural
    );
    conflict_because(resource, name, &why)
}

fn conflict_because(resource: &Resource, name: &str, why: &str) -> Response {
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
    failure(409, "Conflict", message, Some(details(name, resource.group, resource.plural)))
}

/// A precondition of `DeleteOptions` that does not hold; the server names the Kind here, not the resource.
pub(crate) fn delete_precondition(resource: &Resource, name: &str, why: &str) -> Response {
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified_kind());
    failure(409, "Conflict", message, Some(details(name, resource.group, resource.kind)))
}

pub(crate) fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Response {
    unprocessable(&resource.qualified_kind(), name, Some((resource.group, resource.kind)), causes)
}

/// A write without `metadata.resourceVersion`, which the storage layer refuses (and so names the resource).
pub(crate) fn version_required(resource: &Resource, name: &str) -> Response {
    let cause = Cause::invalid("metadata.resourceVersion", "0x0", "must be specified for an update");
    unprocessable(&resource.qualified(), name, Some((resource.group, resource.plural)), &[cause])
}

/// A patch whose outcome is no object of its Kind.
pub(crate) fn bad_patch(outcome: &Value, why: &str) -> Response {
    let cause = Cause::invalid("patch", json!(outcome.to_string()), why);
    unprocessable("", "", None, &[cause])
}

fn unprocessable(what: &str, name: &str, about: Option<(&str, &str)>, causes: &[Cause]) -> Response {
    let lines: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let all = if lines.len() == 1 { lines[0].clone() } else { format!("[{}]", lines.join(", ")) };
    let mut about = about.map_or_else(|| json!({}), |(group, kind)| details(name, group, kind));
    about["causes"] = causes
        .iter()
        .map(|cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field }))
        .collect();
    failure(422, "Invalid", format!("{what} \"{name}\" is invalid: {all}"), Some(about))
}

pub(crate) fn bad_request(message: impl Into<String>) -> Response {
    failure(400, "BadRequest", message.into(), None)
}

/// The server's answer to an unknown error inside it; it has no reason.
pub(crate) fn internal(message: impl Into<String>) -> Response {
    failure(500, "", message.into(), None)
}

pub(crate) fn unsupported_body() -> Response {
    let message = "the body of the request was in an unknown format - accepted media types include: \
                   application/json, application/yaml, application/vnd.kubernetes.protobuf";
    failure(415, "UnsupportedMediaType", message.to_owned(), None)
}

pub(crate) fn unsupported_patch() -> Response {
    failure(415, "UnsupportedMediaType", "415: Unsupported Media Type".to_owned(), Some(json!({})))
}

/// A GET of a version that has not come about yet.
pub(crate) fn version_too_large(wanted: u64, current: u64) -> Response {
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let about = json!({
        "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
        "retryAfterSeconds": 1,
    });
    failure(504, "Timeout", message, Some(about)).with_retry_after(1)
}

pub(crate) fn success(resource: &Resource, name: &str, uid: &str) -> Response {
    let mut about = details(name, resource.group, resource.plural);
    about["uid"] = json!(uid);
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": about });
    Response::json(200, body)
}

/// The object of an `ERROR` event (and body of a 410): the watch's version has been compacted away.
pub(crate) fn expired(wanted: u64, oldest: u64) -> Value {
    let message = format!("too old resource version: {wanted} ({oldest})");
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Expired", "code": 410,
    })
}

/// No credentials, or unknown ones.
pub fn unauthorized() -> Response {
    failure(401, "Unauthorized", "Unauthorized".to_owned(), None)
}

/// A request that RBAC does not allow. `what` is the whole sentence after "cannot".
pub(crate) fn forbidden(resource: Option<(&str, &str)>, name: &str, user: &str, what: &str) -> Response {
    let (subject, about) = match resource {
        Some((group, plural)) => {
            let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
            (format!("{}{named} is forbidden", qualify(plural, group)), details(name, group, plural))
        }
        None => ("forbidden".to_owned(), json!({})),
    };
    failure(403, "Forbidden", format!("{subject}: User \"{user}\" cannot {what}"), Some(about))
}

/// A `Status` of any code, as a proxy or an overloaded server gives it.
pub fn of_code(code: u16, message: &str) -> Response {
    let reason = match code {
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    failure(code, reason, message.to_owned(), None)
}
