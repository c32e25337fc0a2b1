//! Kubernetes Events about the Lease, so that `kubectl describe lease` tells the story.
//!
//! PURE: decides what to send; knows nothing of sending. The same message again within a while becomes a count on
//! the Event that is there, as client-go's correlator does it, so that a struggling leader does not flood etcd.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::time::{BootTime, Now, WallTime};

/// Same message, same holder: one Event, if the last was no longer ago than this.
const AGGREGATED_WITHIN: Duration = Duration::from_secs(600);
/// How many different messages are remembered.
const REMEMBERED: usize = 8;
/// What an object's name may hold at most.
const NAME_LIMIT: usize = 253;

/// The Lease that Events are about, and who tells them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The Lease's namespace, and the Events'.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: `kubectl describe` finds Events by it.
    pub uid: String,
    /// The identity of the candidate that tells.
    pub identity: String,
}

/// What is to be sent.
#[derive(Clone, PartialEq, Debug)]
pub enum Post {
    /// A new Event: [`create_event`](crate::kube::request::create_event).
    Create {
        /// Its name.
        name: String,
        /// The whole object.
        object: Value,
    },
    /// One more of the same: [`patch_event`](crate::kube::request::patch_event). Answered 404 (Events live for an
    /// hour): [`Events::forget`] it and ask again.
    Patch {
        /// The Event's name.
        name: String,
        /// The merge patch.
        patch: Value,
    },
}

/// The Events told so far.
#[derive(Clone, Debug, Default)]
pub struct Events {
    told: VecDeque<Told>,
}

#[derive(Clone, Debug)]
struct Told {
    subject: Subject,
    message: String,
    name: String,
    count: u32,
    last: BootTime,
}

/// The message of an acquisition, in the words that client-go uses: people search for them.
pub fn became_leader(identity: &str) -> String {
    format!("{identity} became leader")
}

/// The message of a term's end, and why it ended.
pub fn stopped_leading(identity: &str, why: &str) -> String {
    if why.is_empty() { format!("{identity} stopped leading") } else { format!("{identity} stopped leading: {why}") }
}

impl Events {
    /// What to send to tell `message` about `subject`. `unique` makes the name of a new Event: a random number.
    pub fn tell(&mut self, subject: &Subject, message: &str, now: Now, unique: u64) -> Post {
        self.told.retain(|told| now.boot.since(told.last) <= AGGREGATED_WITHIN);
        if let Some(told) = self.told.iter_mut().find(|told| told.subject == *subject && told.message == message) {
            told.count += 1;
            told.last = now.boot;
            let patch = json!({ "count": told.count, "lastTimestamp": seconds(now.wall) });
            return Post::Patch { name: told.name.clone(), patch };
        }
        let name = event_name(&subject.name, unique);
        let object = event(subject, &name, message, now.wall);
        if self.told.len() == REMEMBERED {
            self.told.pop_front();
        }
        let told = Told { subject: subject.clone(), message: message.to_owned(), name, count: 1, last: now.boot };
        let name = told.name.clone();
        self.told.push_back(told);
        Post::Create { name, object }
    }

    /// The Event of that name is gone, or never came to be: the next of its kind is a new one.
    pub fn forget(&mut self, name: &str) {
        self.told.retain(|told| told.name != name);
    }
}

fn event(subject: &Subject, name: &str, message: &str, at: WallTime) -> Value {
    let Subject { namespace, name: lease, uid, identity } = subject;
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "namespace": namespace, "name": lease, "uid": uid,
        },
        "type": "Normal",
        "reason": "LeaderElection",
        "message": message,
        "source": { "component": "leasehold" },
        "reportingComponent": "leasehold",
        "reportingInstance": identity,
        "count": 1,
        "firstTimestamp": seconds(at),
        "lastTimestamp": seconds(at),
    })
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

    fn subject() -> Subject {
        Subject { namespace: "ns".into(), name: "web".into(), uid: "u-1".into(), identity: "web-0".into() }
    }

    fn at(seconds: u64) -> Now {
        let wall = WallTime(1_795_359_845_999_999 + 1_000_000 * i64::try_from(seconds).unwrap());
        Now { boot: BootTime(seconds * 1_000_000_000), wall }
    }

    #[test]
    fn an_event_is_exactly_this() {
        let post = Events::default().tell(&subject(), &became_leader("web-0"), at(0), 0xbeef);
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
        assert_eq!(post, Post::Create { name: "web.000000000000beef".into(), object: expected });
    }

    #[test]
    fn the_same_again_within_a_while_is_counted() {
        let mut events = Events::default();
        events.tell(&subject(), "x", at(0), 1);
        let patch = json!({ "count": 2, "lastTimestamp": "2026-11-22T15:04:15Z" });
        assert_eq!(events.tell(&subject(), "x", at(10), 2), Post::Patch { name: "web.0000000000000001".into(), patch });
        let Post::Patch { patch, .. } = events.tell(&subject(), "x", at(610), 3) else { panic!("still within") };
        assert_eq!(patch["count"], 3);
        assert!(matches!(events.tell(&subject(), "x", at(1211), 4), Post::Create { .. }), "too long ago");
    }

    #[test]
    fn another_message_lease_or_teller_is_another_event() {
        let mut events = Events::default();
        events.tell(&subject(), "x", at(0), 1);
        let others = [
            (subject(), "y"),
            (Subject { uid: "u-2".into(), ..subject() }, "x"),
            (Subject { identity: "web-1".into(), ..subject() }, "x"),
        ];
        for (subject, message) in others {
            assert!(matches!(events.tell(&subject, message, at(1), 2), Post::Create { .. }), "{subject:?} {message}");
        }
    }

    #[test]
    fn a_forgotten_event_is_made_anew() {
        let mut events = Events::default();
        events.tell(&subject(), "x", at(0), 1);
        events.forget("web.0000000000000001");
        assert!(matches!(events.tell(&subject(), "x", at(1), 2), Post::Create { .. }));
    }

    #[test]
    fn memory_is_bounded() {
        let mut events = Events::default();
        for n in 0..100 {
            events.tell(&subject(), &n.to_string(), at(0), n);
        }
        assert_eq!(events.told.len(), REMEMBERED);
        assert!(matches!(events.tell(&subject(), "99", at(0), 200), Post::Patch { .. }), "the latest are kept");
    }

    #[test]
    fn the_name_fits_and_is_valid_for_any_lease() {
        let dots = format!("a{}", ".".repeat(252));
        for lease in ["web", &"x".repeat(253), &dots] {
            let name = event_name(lease, u64::MAX);
            assert!(name.len() <= NAME_LIMIT && !name.contains(".."), "{name}");
        }
    }

    #[test]
    fn a_terms_end_says_why() {
        assert_eq!(stopped_leading("web-0", "the lease expired"), "web-0 stopped leading: the lease expired");
        assert_eq!(stopped_leading("web-0", ""), "web-0 stopped leading");
    }
}
