//! Faults on demand: which requests they meet, what they do to them, and how often they have.
//!
//! PURE: a table. The server's threads act on it.

use std::time::Duration;

use serde_json::json;

use crate::store;

/// An answer that the API itself would not have given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// Headers beside `Content-Type` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, whatever it is.
    pub body: Vec<u8>,
}

impl Reply {
    /// A proper `Status` of this code.
    pub fn status(code: u16) -> Reply {
        let body = store::of_code(code, "a fault of the test").body;
        Reply::bytes(code, "application/json", body.to_string())
    }

    /// Any bytes under any media type: a proxy's HTML page, say.
    pub fn bytes(code: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: code, content_type: content_type.to_owned(), headers: Vec::new(), body: body.into() }
    }

    /// A 200 that claims to be JSON and is not.
    pub fn garbage() -> Reply {
        Reply::bytes(200, "application/json", b"\x00\xffnot json at all{{{".to_vec())
    }

    /// A 200 whose JSON begins like a Lease and goes on for `length` bytes.
    pub fn huge(length: usize) -> Reply {
        let head = r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":""#;
        let tail = r#""}}"#;
        let filler = "x".repeat(length.saturating_sub(head.len() + tail.len()));
        Reply::bytes(200, "application/json", format!("{head}{filler}{tail}"))
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with `Retry-After`, in seconds.
    pub fn retry_after(self, seconds: u32) -> Reply {
        self.header("Retry-After", &seconds.to_string())
    }

    /// What a kube-apiserver that is shutting down answers (`shutdown-send-retry-after`).
    pub fn shutting_down() -> Reply {
        Reply::status(429).retry_after(5).header("Connection", "close")
    }

    /// Whether the connection is closed after it.
    pub(crate) fn closes(&self) -> bool {
        self.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("connection") && value == "close")
    }

    pub(crate) fn from_response(response: &store::Response) -> Reply {
        let mut reply = Reply::bytes(response.status, "application/json", response.body.to_string());
        if *response.body == json!("ok") {
            reply = Reply::bytes(200, "text/plain; charset=utf-8", "ok");
        }
        match response.retry_after {
            Some(seconds) => reply.retry_after(seconds),
            None => reply,
        }
    }
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It waits this long, then is handled.
    DelayBefore(Duration),
    /// It is handled, and the answer waits this long.
    DelayAfter(Duration),
    /// It is held until the fault is removed, and handled then: a write that arrives late, if its sender has given up.
    HangBefore,
    /// It is handled, and the answer is held until the fault is removed.
    HangAfter,
    /// The connection is reset; the request is not handled.
    ResetBefore,
    /// It is handled, and the connection is closed instead of answering.
    DropReply,
    /// It is not handled; this is the answer.
    Answer(Reply),
    /// It is handled, and this is the answer all the same.
    AnswerAfter(Reply),
    /// It is handled; of the answer's body only so many bytes come, then the connection closes: a reply cut short.
    CutReply(usize),
    /// It is handled; the answer's body is only so many bytes, and says so: JSON that ends in the middle.
    TruncateBody(usize),
    /// It is handled; a watch ends at once and in good order.
    EndWatch,
    /// It is handled twice, as by a network that repeats; the first answer is given.
    Duplicate,
}

/// A fault: an action, and the requests it meets. Without conditions it meets every request, until it is removed.
#[derive(Clone, Debug)]
pub struct Fault {
    action: Action,
    user: Option<String>,
    verb: Option<String>,
    path: Option<String>,
    skip: u64,
    times: Option<u64>,
}

impl Fault {
    /// A fault that meets every request.
    pub fn new(action: Action) -> Fault {
        Fault { action, user: None, verb: None, path: None, skip: 0, times: None }
    }

    /// Only requests of this user (its whole name, as given to `add_user`).
    pub fn user(mut self, name: &str) -> Fault {
        self.user = Some(name.to_owned());
        self
    }

    /// Only this Kubernetes verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub fn verb(mut self, verb: &str) -> Fault {
        self.verb = Some(verb.to_owned());
        self
    }

    /// Only paths (with their query) that contain this text.
    pub fn path(mut self, part: &str) -> Fault {
        self.path = Some(part.to_owned());
        self
    }

    /// Lets the first `count` matching requests pass.
    pub fn after(mut self, count: u64) -> Fault {
        self.skip = count;
        self
    }

    /// Meets this many requests; later ones pass.
    pub fn times(mut self, count: u64) -> Fault {
        self.times = Some(count);
        self
    }

    fn matches(&self, user: &str, verb: &str, path: &str) -> bool {
        let spent = self.times == Some(0);
        !spent
            && self.user.as_deref().is_none_or(|wanted| wanted == user)
            && self.verb.as_deref().is_none_or(|wanted| wanted == verb)
            && self.path.as_deref().is_none_or(|part| path.contains(part))
    }
}

/// Names a fault that has been added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Entry {
    id: FaultId,
    fault: Fault,
    fired: u64,
}

/// The faults there are. Of several that match, the first one added acts.
#[derive(Debug, Default)]
pub struct FaultTable {
    entries: Vec<Entry>,
    removed: Vec<(FaultId, u64)>,
    last: u64,
}

impl FaultTable {
    /// Adds a fault.
    pub fn add(&mut self, fault: Fault) -> FaultId {
        self.last += 1;
        let id = FaultId(self.last);
        self.entries.push(Entry { id, fault, fired: 0 });
        id
    }

    /// Removes a fault and lets go whatever it holds; how often it had fired.
    pub fn remove(&mut self, id: FaultId) -> u64 {
        if let Some(at) = self.entries.iter().position(|entry| entry.id == id) {
            let entry = self.entries.remove(at);
            self.removed.push((entry.id, entry.fired));
        }
        self.fired(id)
    }

    /// Removes them all.
    pub fn clear(&mut self) {
        let gone = self.entries.drain(..).map(|entry| (entry.id, entry.fired));
        self.removed.extend(gone);
    }

    /// How often a fault has fired, removed or not.
    pub fn fired(&self, id: FaultId) -> u64 {
        let there = self.entries.iter().find(|entry| entry.id == id).map(|entry| entry.fired);
        let gone = || self.removed.iter().find(|(of, _)| *of == id).map(|(_, fired)| *fired);
        there.or_else(gone).unwrap_or(0)
    }

    /// Whether it is still there: what it holds stays held.
    pub fn holds(&self, id: FaultId) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// What is to happen to a request, if anything; it counts as fired.
    pub fn strike(&mut self, user: &str, verb: &str, path: &str) -> Option<(FaultId, Action)> {
        for entry in &mut self.entries {
            if !entry.fault.matches(user, verb, path) {
                continue;
            }
            if entry.fault.skip > 0 {
                entry.fault.skip -= 1;
                continue;
            }
            entry.fired += 1;
            entry.fault.times = entry.fault.times.map(|left| left - 1);
            return Some((entry.id, entry.fault.action.clone()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_skips_and_counts() {
        let mut table = FaultTable::default();
        let fault = Fault::new(Action::DropReply).user("u").verb("update").path("leases/a").after(1).times(2);
        let id = table.add(fault);
        for (user, verb, path) in
            [("v", "update", "/leases/a"), ("u", "get", "/leases/a"), ("u", "update", "/leases/b")]
        {
            assert_eq!(table.strike(user, verb, path), None);
        }
        let outcomes: Vec<bool> = (0..4).map(|_| table.strike("u", "update", "/leases/a?x=1").is_some()).collect();
        assert_eq!(outcomes, [false, true, true, false]);
        assert_eq!(table.fired(id), 2);
        assert!(table.holds(id), "a spent fault still holds what it has caught");
        assert_eq!(table.remove(id), 2);
        assert!(!table.holds(id));
        assert_eq!(table.fired(id), 2);
    }

    #[test]
    fn the_first_fault_that_matches_acts() {
        let mut table = FaultTable::default();
        let first = table.add(Fault::new(Action::ResetBefore).times(1));
        let second = table.add(Fault::new(Action::Answer(Reply::status(503).retry_after(1))));
        assert_eq!(table.strike("u", "get", "/").map(|(id, _)| id), Some(first));
        assert_eq!(table.strike("u", "get", "/").map(|(id, _)| id), Some(second));
        table.clear();
        assert_eq!(table.strike("u", "get", "/"), None);
    }

    #[test]
    fn a_huge_reply_is_json_of_that_length() {
        let reply = Reply::huge(10_000);
        assert_eq!(reply.body.len(), 10_000);
        serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap();
    }
}
