//! A line of a watch → an event.
//!
//! PURE. The server sends one JSON object a line.

use serde::Deserialize;
use serde_json::Value;

use crate::election::Version;
use crate::kube::object::version;
use crate::kube::request::Request;
use crate::kube::status::CallError;

/// One event of a watch.
#[derive(Clone, PartialEq, Debug)]
pub enum WatchEvent {
    /// The object was made or changed, and is now so.
    Modified(Version, Value),
    /// The object was deleted. The version is that of the deletion.
    Deleted(Version),
    /// Nothing happened up to this version. It is no sign of life.
    Bookmark(Version),
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Value,
}

impl WatchEvent {
    /// Reads one line of the watch that `request` opened.
    ///
    /// # Errors
    ///
    /// The watch broke, and ends here. Status 410: the version asked for is forgotten; read the object, then watch from
    /// there.
    pub fn parse(request: &Request, line: &[u8]) -> Result<WatchEvent, CallError> {
        let malformed = |problem: String| CallError::malformed(request, 200, &format!("in a watch: {problem}"));
        let Line { r#type, object } = serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
        if r#type == "ERROR" {
            return Err(CallError::in_watch(request, &object));
        }
        let version = version(&object).map_err(malformed)?;
        match r#type.as_str() {
            "ADDED" | "MODIFIED" => Ok(WatchEvent::Modified(version, object)),
            "DELETED" => Ok(WatchEvent::Deleted(version)),
            "BOOKMARK" => Ok(WatchEvent::Bookmark(version)),
            other => Err(malformed(format!("an event of the unknown type {other:.40?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::request::{Purpose, watch_lease};
    use serde_json::json;
    use std::time::Duration;

    fn parse(line: &[u8]) -> Result<WatchEvent, CallError> {
        WatchEvent::parse(&watch_lease("ns", "web", 7, Duration::from_secs(300), Purpose::Observe), line)
    }

    fn malformed(line: &[u8]) -> bool {
        let error = parse(line).expect_err("no event");
        (error.status, error.transport) == (Some(200), None) && error.message.starts_with("in a watch: ")
    }

    #[test]
    fn each_type_is_its_event() {
        let object = json!({ "kind": "Lease", "metadata": { "resourceVersion": "12" } });
        let parse =
            |kind: &str, object: &Value| parse(json!({ "type": kind, "object": object }).to_string().as_bytes());
        assert_eq!(parse("ADDED", &object), Ok(WatchEvent::Modified(12, object.clone())));
        assert_eq!(parse("MODIFIED", &object), Ok(WatchEvent::Modified(12, object.clone())));
        assert_eq!(parse("DELETED", &object), Ok(WatchEvent::Deleted(12)));
        assert_eq!(parse("BOOKMARK", &object), Ok(WatchEvent::Bookmark(12)));
        let details = json!({ "retryAfterSeconds": 7 });
        for (code, reason, pause) in [(410, "Expired", json!({})), (504, "Timeout", details)] {
            let status =
                json!({ "kind": "Status", "code": code, "reason": reason, "message": "words", "details": pause });
            let error = parse("ERROR", &status).unwrap_err();
            assert_eq!((error.status, &*error.reason, &*error.message), (Some(code), reason, "words"));
            assert_eq!(error.retry_after.map(|pause| pause.as_secs()), (code == 504).then_some(7));
        }
    }

    #[test]
    fn nonsense_is_malformed() {
        let line = br#"{"type":"MODIFIED","object":{"metadata":{"resourceVersion":"12"}}}"#;
        for cut in 0..line.len() {
            assert!(malformed(&line[..cut]), "{cut}");
        }
        for line in [
            &b"null"[..],
            b"[]",
            b"{}",
            b"\xff",
            br#"{"type":"BOOKMARK","object":{}}"#,
            br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"x"}}}"#,
            br#"{"type":"MODIFIED","object":{}}"#,
            br#"{"type":"NEWS","object":{"metadata":{"resourceVersion":"12"}}}"#,
            br#"{"type":"MODIFIED"}"#,
            br#"{"type":7,"object":{}}"#,
        ] {
            assert!(malformed(line), "{line:?}");
        }
        // An ERROR whose Status says nothing is still an error.
        assert!(parse(br#"{"type":"ERROR","object":{}}"#).is_err());
    }
}
