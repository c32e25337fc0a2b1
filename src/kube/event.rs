//! Kubernetes Events about the Lease, so that `kubectl describe lease` tells the story.
//!
//! PURE.

use serde_json::{Value, json};

use crate::time::WallTime;

/// The longest name that an object may have.
const NAME_LIMIT: usize = 253;

/// The Lease that Events are about, and the candidate that reports them.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The Lease's namespace, and the Events'.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid: `kubectl describe` finds Events by it.
    pub uid: &'a str,
    /// The candidate's identity.
    pub identity: &'a str,
}

/// An Event's name and object. `what` the candidate did (people search for client-go's words: "became leader", "stopped
/// leading"). `unique` makes the name: a random number.
pub fn event(subject: &Subject<'_>, what: &str, at: WallTime, unique: u64) -> (String, Value) {
    let Subject { namespace, name: lease, uid, identity } = subject;
    let name = event_name(lease, unique);
    let object = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "namespace": namespace, "name": lease, "uid": uid,
        },
        "type": "Normal",
        "reason": "LeaderElection",
        "message": format!("{identity} {what}"),
        "source": { "component": "leasehold" },
        "reportingComponent": "leasehold",
        "reportingInstance": identity,
        "count": 1,
        "firstTimestamp": seconds(at),
        "lastTimestamp": seconds(at),
    });
    (name, object)
}

fn event_name(lease: &str, unique: u64) -> String {
    let suffix = format!(".{unique:016x}");
    let start: String = lease.chars().take(NAME_LIMIT - suffix.len()).collect();
    format!("{}{suffix}", start.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// A `Time`, unlike a `MicroTime`, has whole seconds.
fn seconds(time: WallTime) -> String {
    let text = time.to_string();
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_exactly_this() {
        let subject = Subject { namespace: "ns", name: "web", uid: "u-1", identity: "web-0" };
        let at = WallTime(1_795_359_845_999_999);
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": "web.000000000000beef", "namespace": "ns" },
            "involvedObject": {
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "namespace": "ns", "name": "web", "uid": "u-1",
            },
            "type": "Normal",
            "reason": "LeaderElection",
            "message": "web-0 became leader",
            "source": { "component": "leasehold" },
            "reportingComponent": "leasehold",
            "reportingInstance": "web-0",
            "count": 1,
            "firstTimestamp": "2026-11-22T15:04:05Z",
            "lastTimestamp": "2026-11-22T15:04:05Z",
        });
        let made = event(&subject, "became leader", at, 0xbeef);
        assert_eq!(made, ("web.000000000000beef".to_owned(), expected));
    }

    #[test]
    fn the_name_fits_and_is_valid_for_any_lease() {
        let dots = format!("a{}", ".".repeat(252));
        for lease in ["web", &"x".repeat(253), &dots] {
            let name = event_name(lease, u64::MAX);
            assert!(name.len() <= NAME_LIMIT && !name.contains(".."), "{name}");
        }
    }
}
