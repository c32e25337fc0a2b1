//! Between the election and the API: its requests become calls on the one Lease, what comes back becomes answers.
//!
//! PURE: also what the simulator runs. The election deals in versions and records; here are the whole objects, so
//! that a replacement leaves alone what it does not understand (P3).

use std::collections::VecDeque;

use serde_json::Value;

use crate::election::{Answer, CallFailure, CallKind, LeaseRequest, Snapshot};
use crate::kube::{CallError, Lease, Purpose, Reply, Request, Verb, request};

/// The election asks to replace the newest version it knows; an event that overtook it may have brought a newer one.
const KEPT: usize = 3;

/// One Lease's newest versions, and where it is.
#[derive(Clone, Debug)]
pub struct LeaseStore {
    namespace: String,
    name: String,
    newest: VecDeque<Lease>,
}

impl LeaseStore {
    /// For the Lease `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> LeaseStore {
        LeaseStore { namespace: namespace.to_owned(), name: name.to_owned(), newest: VecDeque::new() }
    }

    /// The call that does what the election asks. `None`: the version to be replaced is not at hand, which is a
    /// conflict found out without asking.
    pub fn request(&self, asked: &LeaseRequest, kind: CallKind) -> Option<Request> {
        let (namespace, name, purpose) = (self.namespace.as_str(), self.name.as_str(), purpose(kind));
        Some(match asked {
            LeaseRequest::Get => request::get_lease(namespace, name, purpose),
            LeaseRequest::Create(content) => {
                request::create_lease(namespace, name, &Lease::new_object(namespace, name, content), purpose)
            }
            LeaseRequest::Replace { version, content } => {
                let read = self.newest.iter().find(|lease| lease.snapshot.version == *version)?;
                request::replace_lease(namespace, name, &read.with(content), purpose)
            }
        })
    }

    /// The Lease in the answer to a call.
    ///
    /// # Errors
    ///
    /// That of the call, or that its answer makes no sense; [`failure`] says what it means to the election.
    pub fn read(&mut self, call: &Request, result: Result<Reply, CallError>) -> Result<Answer, CallError> {
        let reply = result?;
        let lease = self.keep(reply.parse(call, Lease::parse)?);
        let created = reply.status == 201;
        Ok(if call.verb.writes() { Answer::Written { lease, created } } else { Answer::Found(lease) })
    }

    /// A version of the Lease that the watch delivered.
    ///
    /// # Errors
    ///
    /// It is no Lease.
    pub fn seen(&mut self, object: Value) -> Result<Snapshot, String> {
        Ok(self.keep(Lease::from_object(object)?))
    }

    fn keep(&mut self, lease: Lease) -> Snapshot {
        let snapshot = lease.snapshot.clone();
        self.newest.retain(|kept| kept.snapshot.version != lease.snapshot.version);
        self.newest.push_front(lease);
        self.newest.truncate(KEPT);
        snapshot
    }
}

fn purpose(kind: CallKind) -> Purpose {
    match kind {
        CallKind::Observe => Purpose::Observe,
        CallKind::Acquire => Purpose::Acquire,
        CallKind::Renew => Purpose::Renew,
        CallKind::Release => Purpose::Release,
        CallKind::Announce => Purpose::Announce,
    }
}

/// What a call that failed means to the election: some failures are answers.
///
/// # Errors
///
/// All others.
pub fn failure(error: &CallError) -> Result<Answer, CallFailure> {
    let retry_after = error.retry_after;
    match (error.verb, error.status) {
        (Verb::Get, Some(404)) => Ok(Answer::Absent),
        // A replacement carries a uid: the Lease it was read from is gone.
        (Verb::Update, Some(404)) => Err(CallFailure::Conflict),
        (_, Some(409)) => Err(CallFailure::Conflict),
        _ if error.may_have_been_applied() => Err(CallFailure::Unknown { retry_after }),
        _ => Err(CallFailure::Refused { retry_after }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{Content, Record};
    use crate::kube::TransportKind;
    use serde_json::json;

    fn lease(version: u64) -> Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "web", "namespace": "ns", "uid": "u", "resourceVersion": version.to_string(),
                         "creationTimestamp": "2026-11-22T15:00:00Z", "labels": {"team": "blue"}},
            "spec": {"holderIdentity": "pod-b", "leaseDurationSeconds": 15, "unknown": {"kept": true}},
        })
    }

    fn reply(status: u16, object: &Value) -> Result<Reply, CallError> {
        Ok(Reply { status, body: object.to_string().into_bytes() })
    }

    fn answer(store: &mut LeaseStore, call: &Request, result: Result<Reply, CallError>) -> Result<Answer, CallFailure> {
        store.read(call, result).or_else(|error| failure(&error))
    }

    fn content() -> Content {
        let record = Record { holder: Some("pod-a".into()), transitions: 4, ..Default::default() };
        Content { record, annotations: Default::default() }
    }

    #[test]
    fn a_replacement_is_the_object_of_that_very_version() {
        let mut store = LeaseStore::new("ns", "web");
        let get = store.request(&LeaseRequest::Get, CallKind::Observe).unwrap();
        answer(&mut store, &get, reply(200, &lease(7))).unwrap();
        store.seen(lease(9)).unwrap();
        assert_eq!(store.newest.front().map(|lease| lease.snapshot.version), Some(9));
        for version in [7, 9] {
            let asked = LeaseRequest::Replace { version, content: content() };
            let put = store.request(&asked, CallKind::Acquire).unwrap();
            let body: Value = serde_json::from_str(put.body.as_deref().unwrap()).unwrap();
            assert_eq!(body["metadata"]["resourceVersion"], version.to_string());
            assert_eq!(body["metadata"]["uid"], "u");
            assert_eq!(body["metadata"]["labels"]["team"], "blue");
            assert_eq!(body["spec"]["unknown"]["kept"], true);
            assert_eq!(body["spec"]["holderIdentity"], "pod-a");
        }
        let asked = LeaseRequest::Replace { version: 8, content: content() };
        assert!(store.request(&asked, CallKind::Acquire).is_none(), "never seen, so never replaced");
    }

    #[test]
    fn failures_are_told_in_the_elections_terms() {
        let mut store = LeaseStore::new("ns", "web");
        store.seen(lease(7)).unwrap();
        let get = store.request(&LeaseRequest::Get, CallKind::Observe).unwrap();
        let create = store.request(&LeaseRequest::Create(content()), CallKind::Acquire).unwrap();
        let replace = LeaseRequest::Replace { version: 7, content: content() };
        let replace = store.request(&replace, CallKind::Renew).unwrap();
        let refused = Err(CallFailure::Refused { retry_after: None });
        let unknown = Err(CallFailure::Unknown { retry_after: None });
        let conflict = Err(CallFailure::Conflict);
        let table = [
            (404, [Ok(Answer::Absent), refused.clone(), conflict.clone()]),
            (409, [conflict.clone(), conflict.clone(), conflict.clone()]),
            (403, [refused.clone(), refused.clone(), refused.clone()]),
            (500, [refused.clone(), unknown.clone(), unknown.clone()]),
        ];
        for (status, expected) in table {
            for (call, expected) in [&get, &create, &replace].into_iter().zip(expected) {
                let error = CallError::from_answer(call, status, None, b"");
                assert_eq!(answer(&mut store, call, Err(error)), expected, "{status} to {:?}", call.verb);
            }
        }
        let error = CallError::transport(&replace, TransportKind::Timeout, true, "");
        assert_eq!(answer(&mut store, &replace, Err(error)), unknown);
        let garbage = Ok(Reply { status: 200, body: b"{".to_vec() });
        assert_eq!(answer(&mut store, &replace, garbage), unknown, "applied, for all we know");
    }

    #[test]
    fn a_201_is_told_apart_from_a_200() {
        let mut store = LeaseStore::new("ns", "web");
        store.seen(lease(7)).unwrap();
        let asked = LeaseRequest::Replace { version: 7, content: content() };
        let put = store.request(&asked, CallKind::Renew).unwrap();
        for (status, expected) in [(200, false), (201, true)] {
            let answer = answer(&mut store, &put, reply(status, &lease(8))).unwrap();
            assert!(matches!(answer, Answer::Written { created, .. } if created == expected));
        }
    }
}
