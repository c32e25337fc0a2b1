//! What each Kind's Go type and validation make of an object, as far as an elector can see it.
//!
//! PURE. The messages are those that kube-apiserver 1.20 gave; the suite `tests/conformance` compares.

use serde_json::{Value, json};

use super::resource::Object;
use super::status::Cause;
use super::wall;

/// Which fields of a Lease's spec the served API version knows; the others are dropped, as a real server drops them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fields {
    /// The five that every server knows.
    #[default]
    Election,
    /// These and `strategy` and `preferredHolder`, of servers with coordinated leader election.
    Coordinated,
    /// Everything, known or not: a server newer than this table.
    All,
}

const METADATA_STRINGS: [&str; 6] = ["name", "namespace", "generateName", "uid", "resourceVersion", "selfLink"];
const METADATA_MAPS: [&str; 2] = ["labels", "annotations"];
const METADATA_REST: [&str; 8] = [
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "clusterName",
];

pub(crate) fn decode_metadata(object: &mut Object) -> Result<(), String> {
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    let metadata = metadata.as_object_mut().ok_or("expect { or n")?;
    metadata.retain(|key, value| {
        let known = METADATA_STRINGS.contains(&key.as_str())
            || METADATA_MAPS.contains(&key.as_str())
            || METADATA_REST.contains(&key.as_str());
        known && !value.is_null()
    });
    for key in METADATA_STRINGS {
        match metadata.get(key) {
            Some(Value::String(text)) if text.is_empty() => drop(metadata.remove(key)),
            Some(Value::String(_)) | None => {}
            Some(other) => return Err(format!("{key}: ReadString: expects \" or n, but found {other}")),
        }
    }
    for key in METADATA_MAPS {
        if check_string_map(metadata.get(key)).map_err(|why| format!("{key}: {why}"))? == 0 {
            metadata.remove(key);
        }
    }
    Ok(())
}

/// The number of entries of a `map[string]string`.
fn check_string_map(value: Option<&Value>) -> Result<usize, String> {
    let Some(value) = value else { return Ok(0) };
    let map = value.as_object().ok_or_else(|| format!("expect {{ or n, but found {value}"))?;
    match map.values().find(|v| !v.is_string()) {
        Some(other) => Err(format!("ReadString: expects \" or n, but found {other}")),
        None => Ok(map.len()),
    }
}

/// The object under `key`, put there if it is absent or null.
fn section<'a>(object: &'a mut Object, key: &str, type_name: &str) -> Result<&'a mut Object, String> {
    let value = object.entry(key).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| format!("{type_name}: readObjectStart: expect {{ or n"))
}

pub(crate) fn decode_lease(object: &mut Object, fields: Fields) -> Result<(), String> {
    if fields != Fields::All {
        object.retain(|key, _| matches!(key.as_str(), "kind" | "apiVersion" | "metadata" | "spec"));
    }
    let spec = section(object, "spec", "v1.Lease.Spec")?;
    spec.retain(|key, value| {
        let known = match key.as_str() {
            "holderIdentity" | "leaseDurationSeconds" | "acquireTime" | "renewTime" | "leaseTransitions" => true,
            "strategy" | "preferredHolder" => fields != Fields::Election,
            _ => fields == Fields::All,
        };
        known && !value.is_null()
    });
    for key in ["holderIdentity", "strategy", "preferredHolder"] {
        if let Some(other) = spec.get(key).filter(|v| !v.is_string()) {
            return Err(format!("v1.Lease.Spec: v1.LeaseSpec.{key}: ReadString: expects \" or n, but found {other}"));
        }
    }
    for key in ["leaseDurationSeconds", "leaseTransitions"] {
        let fits = |v: &Value| v.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
        if let Some(other) = spec.get(key).filter(|v| !fits(v)) {
            return Err(format!("v1.Lease.Spec: v1.LeaseSpec.{key}: can not decode {other} as int32"));
        }
    }
    for key in ["acquireTime", "renewTime"] {
        normalise_micro_time(spec, key).map_err(|why| format!("v1.Lease.Spec: v1.LeaseSpec.{key}: {why}"))?;
    }
    Ok(())
}

fn normalise_micro_time(object: &mut Object, key: &str) -> Result<(), String> {
    let Some(value) = object.get_mut(key) else { return Ok(()) };
    let text = value.as_str().ok_or("json: cannot unmarshal into Go value of type string")?;
    let micros = wall::parse_micro_time(text)
        .ok_or_else(|| format!("parsing time \"{text}\" as \"2006-01-02T15:04:05.000000Z07:00\""))?;
    if text.len() != "2006-01-02T15:04:05.000000Z".len() {
        *value = json!(wall::micros_text(micros));
    }
    Ok(())
}

fn normalise_time(object: &mut Object, key: &str) -> Result<(), String> {
    let Some(value) = object.get_mut(key).filter(|v| !v.is_null()) else { return Ok(()) };
    let text = value.as_str().ok_or("json: cannot unmarshal into Go value of type string")?;
    let micros =
        wall::parse_time(text).ok_or_else(|| format!("parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\""))?;
    *value = json!(wall::seconds_text(micros));
    Ok(())
}

pub(crate) fn decode_pod(object: &mut Object, _: Fields) -> Result<(), String> {
    let spec = section(object, "spec", "v1.Pod.Spec")?;
    match spec.get("containers") {
        None | Some(Value::Null | Value::Array(_)) => Ok(()),
        Some(_) => Err("v1.Pod.Spec: v1.PodSpec.Containers: decode slice: expect [ or n".to_owned()),
    }
}

pub(crate) fn decode_service(object: &mut Object, _: Fields) -> Result<(), String> {
    let spec = section(object, "spec", "v1.Service.Spec")?;
    spec.retain(|_, value| !value.is_null());
    if check_string_map(spec.get("selector"))
        .map_err(|why| format!("v1.Service.Spec: v1.ServiceSpec.Selector: {why}"))?
        == 0
    {
        spec.remove("selector");
    }
    for (key, default) in [("type", "ClusterIP"), ("sessionAffinity", "None")] {
        spec.entry(key).or_insert_with(|| json!(default));
    }
    let ports = spec.get_mut("ports").map(|ports| ports.as_array_mut().ok_or("v1.ServiceSpec.Ports: expect [ or n"));
    for port in ports.transpose()?.into_iter().flatten() {
        let port = port.as_object_mut().ok_or("v1.ServicePort: expect { or n")?;
        port.entry("protocol").or_insert_with(|| json!("TCP"));
        if let Some(number) = port.get("port").cloned() {
            port.entry("targetPort").or_insert(number);
        }
    }
    Ok(())
}

pub(crate) fn decode_event(object: &mut Object, _: Fields) -> Result<(), String> {
    section(object, "involvedObject", "v1.Event.InvolvedObject")?;
    section(object, "source", "v1.Event.Source")?;
    for key in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        object.entry(key).or_insert(Value::Null);
    }
    for key in ["reportingComponent", "reportingInstance"] {
        object.entry(key).or_insert_with(|| json!(""));
    }
    for key in ["firstTimestamp", "lastTimestamp"] {
        normalise_time(object, key).map_err(|why| format!("v1.Event.{key}: {why}"))?;
    }
    if !object["eventTime"].is_null() {
        normalise_micro_time(object, "eventTime").map_err(|why| format!("v1.Event.EventTime: {why}"))?;
    }
    match object.get("count") {
        Some(count) if !count.is_i64() && !count.is_u64() => Err(format!("v1.Event.Count: can not decode {count}")),
        _ => Ok(()),
    }
}

pub(crate) fn create_pod(object: &mut Object, _: u64) {
    object.insert("status".to_owned(), json!({ "phase": "Pending", "qosClass": "BestEffort" }));
}

/// Gives the Service a cluster IP, made from `seed`, unless it is headless or names one.
pub(crate) fn create_service(object: &mut Object, seed: u64) {
    object.insert("status".to_owned(), json!({ "loadBalancer": {} }));
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let ip = match spec.get("clusterIP").and_then(Value::as_str) {
        Some(given) if !given.is_empty() => given.to_owned(),
        _ => format!("10.96.{}.{}", seed >> 8 & 0xff, 2 + seed % 250),
    };
    spec.insert("clusterIPs".to_owned(), json!([ip]));
    spec.insert("clusterIP".to_owned(), json!(ip));
}

pub(crate) fn keep_status(object: &mut Object, old: &Value) {
    match old.get("status") {
        Some(status) => object.insert("status".to_owned(), status.clone()),
        None => object.remove("status"),
    };
}

pub(crate) fn validate_lease(object: &Object, _: Option<&Value>, fields: Fields) -> Vec<Cause> {
    let spec = &object["spec"];
    let mut causes = Vec::new();
    let number = |key: &str| spec.get(key).and_then(Value::as_i64);
    if let Some(seconds) = number("leaseDurationSeconds").filter(|n| *n <= 0) {
        causes.push(Cause::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(transitions) = number("leaseTransitions").filter(|n| *n < 0) {
        causes.push(Cause::invalid("spec.leaseTransitions", transitions, "must to greater or equal than 0"));
    }
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("");
    if fields != Fields::Election && !text("preferredHolder").is_empty() && text("strategy").is_empty() {
        causes.push(Cause::forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"));
    }
    causes
}

pub(crate) fn validate_pod(object: &Object, old: Option<&Value>, _: Fields) -> Vec<Cause> {
    let mut causes = Vec::new();
    let containers = object["spec"].get("containers").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    if containers.is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    for (index, container) in containers.iter().enumerate() {
        for key in ["name", "image"] {
            if container.get(key).and_then(Value::as_str).unwrap_or("").is_empty() {
                causes.push(Cause::required(&format!("spec.containers[{index}].{key}"), ""));
            }
        }
    }
    if old.is_some_and(|old| immutable_part(&old["spec"]) != immutable_part(&object["spec"])) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`, \
                   `spec.initContainers[*].image`, `spec.activeDeadlineSeconds` or `spec.tolerations` \
                   (only additions to existing tolerations)";
        causes.push(Cause::forbidden("spec", why));
    }
    causes
}

fn immutable_part(pod_spec: &Value) -> Value {
    let mut rest = pod_spec.clone();
    if let Some(spec) = rest.as_object_mut() {
        spec.retain(|key, value| !value.is_null() && key != "activeDeadlineSeconds" && key != "tolerations");
        for key in ["containers", "initContainers"] {
            let containers = spec.get_mut(key).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.remove("image");
            }
        }
    }
    rest
}

pub(crate) fn validate_service(object: &Object, _: Option<&Value>, _: Fields) -> Vec<Cause> {
    let spec = &object["spec"];
    let mut causes = Vec::new();
    let headless = spec.get("clusterIP").is_some_and(|ip| ip == "None") || spec["type"] == "ExternalName";
    if !headless && spec.get("ports").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        causes.push(Cause::required("spec.ports", ""));
    }
    validate_labels("spec.selector", spec.get("selector"), &mut causes);
    causes
}

pub(crate) fn validate_event(object: &Object, _: Option<&Value>, _: Fields) -> Vec<Cause> {
    let mut causes = Vec::new();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    let own = text(object["metadata"].get("namespace"));
    let involved = text(object["involvedObject"].get("namespace"));
    let agrees = involved == own || (involved.is_empty() && own == "default");
    if !agrees {
        let value = format!("\"{involved}\"");
        causes.push(Cause::invalid("involvedObject.namespace", value, "does not match event.namespace"));
    }
    if !object["eventTime"].is_null() {
        let needed = [
            ("reportingController", "reportingComponent"),
            ("reportingInstance", "reportingInstance"),
            ("action", "action"),
        ];
        let missing = needed.into_iter().filter(|(_, key)| text(object.get(*key)).is_empty());
        causes.extend(missing.map(|(field, _)| Cause::required(field, "")));
    }
    causes
}

pub(crate) fn validate_metadata(
    object: &Object,
    old: Option<&Value>,
    check_name: fn(&str) -> Option<String>,
) -> Vec<Cause> {
    let metadata = &object["metadata"];
    let mut causes = Vec::new();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let name = text(metadata, "name");
    match old {
        None if name.is_empty() => causes.push(Cause::required("metadata.name", "name or generateName is required")),
        None => causes.extend(check_name(&name).map(|why| Cause::invalid("metadata.name", json!(name), &why))),
        Some(old) => {
            let uid = text(metadata, "uid");
            if uid != text(&old["metadata"], "uid") {
                causes.push(Cause::invalid("metadata.uid", json!(uid), "field is immutable"));
            }
        }
    }
    validate_labels("metadata.labels", metadata.get("labels"), &mut causes);
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    for key in annotations.into_iter().flat_map(|map| map.keys()) {
        causes
            .extend(check_key(&key.to_lowercase()).map(|why| Cause::invalid("metadata.annotations", json!(key), &why)));
    }
    causes
}

fn validate_labels(field: &str, labels: Option<&Value>, causes: &mut Vec<Cause>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        causes.extend(check_key(key).map(|why| Cause::invalid(field, json!(key), &why)));
        let value = value.as_str().unwrap_or("");
        causes.extend(check_label_value(value).map(|why| Cause::invalid(field, json!(value), &why)));
    }
}

const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A qualified name: `name` or `prefix.example/name`.
fn check_key(key: &str) -> Option<String> {
    let mut parts = key.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            return Some(format!(
                "a qualified name {NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    if prefix == Some("") {
        return Some("prefix part must be non-empty".to_owned());
    }
    if let Some(why) = prefix.and_then(subdomain_name) {
        return Some(format!("prefix part {why}"));
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".to_owned());
    }
    (!is_name_part(name)).then(|| format!("name part {NAME_PART}"))
}

fn check_label_value(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!value.is_empty() && !is_name_part(value)).then(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .to_owned()
    })
}

fn is_name_part(text: &str) -> bool {
    let alphanumeric_ends =
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    alphanumeric_ends && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS subdomain: most objects' names.
pub(crate) fn subdomain_name(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some("must be no more than 253 characters".to_owned());
    }
    (!name.split('.').all(is_dns_label)).then(|| {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .to_owned()
    })
}

/// A DNS-1035 label: a Service's name.
pub(crate) fn label_name(name: &str) -> Option<String> {
    if name.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!is_dns_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase())).then(|| {
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
         character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
         is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            .to_owned()
    })
}

fn is_dns_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
