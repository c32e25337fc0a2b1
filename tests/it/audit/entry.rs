//! One call to the API server, as the program's audit log tells it, as kube-apiserver's does, and as the in-memory server
//! remembers it: three spellings of the same.

use std::collections::BTreeMap;
use std::path::Path;

use leasehold_apiserver::{Recorded, Server};
use serde_json::Value;

/// What both sides say of a call. What a side does not know is empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry {
    /// By which the two sides are joined: the API server makes it up and returns it with the answer.
    pub(crate) id: String,
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    /// The program has none.
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// With its query.
    pub(crate) path: String,
    /// None: no answer came.
    pub(crate) status: Option<u64>,
    pub(crate) reason: String,
    /// The `resourceVersion` that was sent.
    pub(crate) version: String,
    /// Whose call it is.
    pub(crate) pod: String,
    /// When the server had it: text that sorts as the time does.
    pub(crate) received: String,
}

impl Entry {
    /// What people call it.
    pub(crate) fn told(&self) -> String {
        let Entry { verb, resource, path, .. } = self;
        let status = self.status.map_or("no answer".to_owned(), |status| status.to_string());
        format!("{verb} {resource} ({path}): {status}")
    }

    /// Calls that are made one after the other, as one thread makes them. None for watches, of which one may end while
    /// the next begins.
    pub(super) fn sequence(&self) -> Option<&'static str> {
        match (self.verb.as_str(), self.resource.as_str()) {
            ("watch", _) => None,
            (_, "leases") => Some("the Lease's calls"),
            _ => Some("the errands"),
        }
    }

    /// A line of the program's, in a process that runs in this Pod.
    pub(super) fn of_program(line: &Value, pod: &str) -> Entry {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        Entry {
            id: text("auditID"),
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: String::new(),
            namespace: text("namespace"),
            name: text("name"),
            path: text("path"),
            status: line["status"].as_u64(),
            reason: text("reason"),
            version: text("sentVersion"),
            pod: pod.to_owned(),
            received: String::new(),
        }
    }

    /// A line of kube-apiserver's. Its user is known by the Pod that its token is bound to.
    pub(super) fn of_apiserver(line: &Value) -> Entry {
        let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Entry {
            id: text("/auditID"),
            verb: text("/verb"),
            group: text("/objectRef/apiGroup"),
            resource: text("/objectRef/resource"),
            subresource: text("/objectRef/subresource"),
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            path: text("/requestURI"),
            status: line.pointer("/responseStatus/code").and_then(Value::as_u64),
            reason: text("/responseStatus/reason"),
            version: text("/objectRef/resourceVersion"),
            pod: text("/user/extra/authentication.kubernetes.io~1pod-name/0"),
            received: text("/requestReceivedTimestamp"),
        }
    }

    fn of_recorded(call: &Recorded) -> Entry {
        let body = call.json();
        let in_body = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let parts: Vec<&str> = call.path.split('/').skip(1).collect();
        let (group, rest) = if parts[0] == "apis" { (parts[1], &parts[3..]) } else { ("", &parts[2..]) };
        let selected = call.query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
        let name = rest.get(3).copied().or(selected).map_or_else(|| in_body("/metadata/name"), str::to_owned);
        let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        Entry {
            id: call.audit_id.clone(),
            verb: call.verb.clone(),
            group: group.to_owned(),
            resource: rest[2].to_owned(),
            subresource: rest.get(4).copied().unwrap_or_default().to_owned(),
            namespace: rest[1].to_owned(),
            name,
            path: format!("{}{query}", call.path),
            status: call.status.map(u64::from),
            reason: String::new(),
            version: call.request_version.clone().unwrap_or_default(),
            pod: call.user.rsplit(':').next().unwrap_or_default().to_owned(),
            received: format!("{:020}", call.received_ns),
        }
    }
}

/// What the in-memory server remembers of the program's calls.
pub(super) fn remembered(server: &Server) -> Vec<Entry> {
    let requests = server.requests();
    requests.iter().filter(|call| call.header("user-agent").is_some_and(is_ours)).map(Entry::of_recorded).collect()
}

/// What kube-apiserver has written down of the program's calls, by namespace. A watch has two lines, one when it begins
/// and one when it ends: one call.
pub(super) fn written(log: &Path) -> BTreeMap<String, Vec<Entry>> {
    let text = std::fs::read_to_string(log).expect("the API server's audit log");
    // What it is writing just now may be half a line.
    entries(text.lines().filter_map(|line| serde_json::from_str(line).ok()))
}

pub(super) fn entries(lines: impl Iterator<Item = Value>) -> BTreeMap<String, Vec<Entry>> {
    let mut found: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for line in lines.filter(is_of_a_candidate) {
        let entry = Entry::of_apiserver(&line);
        let entries = found.entry(entry.namespace.clone()).or_default();
        let ends_a_watch = entry.verb == "watch" && line["stage"] == "ResponseComplete";
        let begun = entries.iter_mut().filter(|_| ends_a_watch).find(|known| known.id == entry.id);
        match begun {
            Some(begun) => *begun = entry,
            None => entries.push(entry),
        }
    }
    found
}

/// Whatever uses a candidate's token counts as the candidate's, under any name; so does who is refused under ours.
fn is_of_a_candidate(line: &Value) -> bool {
    let user = line["user"]["username"].as_str().unwrap_or_default();
    user.starts_with("system:serviceaccount:") || line["userAgent"].as_str().is_some_and(is_ours)
}

fn is_ours(agent: &str) -> bool {
    agent.starts_with("leasehold/")
}
