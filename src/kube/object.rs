//! What the JSON of all objects has.
//!
//! PURE.

use serde_json::Value;

use crate::election::{Version, parse_version};

/// The JSON of an answer's body.
pub(super) fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// The uid and version of an object that must be of this kind.
pub(super) fn identity(object: &Value, kind: &str) -> Result<(String, Version), String> {
    let stated = object.get("kind").and_then(Value::as_str).unwrap_or(kind);
    if stated != kind {
        return Err(format!("a {kind} was expected, not a {stated:.40}"));
    }
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str).filter(|uid| !uid.is_empty());
    let uid = uid.ok_or_else(|| format!("a {kind} without metadata.uid"))?;
    Ok((uid.to_owned(), version(object)?))
}

/// A version that is not a number (KEP-5504), or exceeds 128 bits, cannot be a fencing token: it is refused.
pub(super) fn version(object: &Value) -> Result<Version, String> {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    let text = text.ok_or("no metadata.resourceVersion")?;
    parse_version(text).ok_or_else(|| {
        format!(
            "metadata.resourceVersion {text:.50?} is not a decimal number of at most 128 bits without a sign or a \
             leading zero, as Kubernetes promises (KEP-5504) and fencing tokens need"
        )
    })
}
