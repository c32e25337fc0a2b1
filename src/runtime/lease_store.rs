//! Between the election and the API: its requests become calls on the one Lease, what comes back becomes answers.
//!
//! PURE: also what the simulator runs. The election deals in versions and records; here are the whole objects, so
//! that a replacement leaves alone what it does not understand (P3).

use std::collections::VecDeque;

use serde_json::Value;

#[cfg(feature = "mutants")]
use crate::election::Mutant;
use crate::election::{self, Answer, CallFailure, CallKind, Snapshot, Version};
use crate::kube::{CallError, Failure, Lease, Malformed, Purpose, Reply, Request, request};

/// The election asks to replace the newest version it knows; an event that overtook it may have brought a newer one.
const KEPT: usize = 3;

/// One Lease's newest versions, and where it is.
#[derive(Clone, Debug)]
pub struct LeaseStore {
    namespace: String,
    name: String,
    newest: VecDeque<Lease>,
    #[cfg(feature = "mutants")]
    mistake: Option<Mutant>,
}

impl LeaseStore {
    /// For the Lease `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> LeaseStore {
        LeaseStore {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            newest: VecDeque::new(),
            #[cfg(feature = "mutants")]
            mistake: None,
        }
    }

    /// Builds a known mistake in. For the simulator, which must catch it.
    #[cfg(feature = "mutants")]
    pub fn with_mistake(mut self, mistake: Option<Mutant>) -> LeaseStore {
        self.mistake = mistake;
        self
    }

    /// The call that does what the election asks. `None`: the version to be replaced is not at hand, which is a
    /// conflict found out without asking.
    pub fn request(&self, asked: &election::LeaseRequest, purpose: CallKind) -> Option<Request> {
        let (namespace, name, why) = (self.namespace.as_str(), self.name.as_str(), why(purpose));
        Some(match asked {
            election::LeaseRequest::Get => request::get_lease(namespace, name, why),
            election::LeaseRequest::Create(content) => {
                request::create_lease(namespace, name, &Lease::new_object(namespace, name, content), why)
            }
            election::LeaseRequest::Replace { version, content } => {
                let read = self.newest.iter().find(|lease| lease.version() == *version)?;
                let object = read.with(content);
                #[cfg(feature = "mutants")]
                let object = self.mutant_without_version(object);
                request::replace_lease(namespace, name, &object, why)
            }
        })
    }

    /// What the answer to a call means to the election.
    pub fn answer(&mut self, call: &Request, result: Result<Reply, CallError>) -> Result<Answer, CallFailure> {
        self.take(call, read(call, result))
    }

    /// The same of an answer that was read already.
    pub fn take(&mut self, call: &Request, read: Result<(u16, Lease), CallError>) -> Result<Answer, CallFailure> {
        match read {
            Ok((status, lease)) => {
                let snapshot = self.keep(lease);
                Ok(if call.verb.writes() {
                    Answer::Written { lease: snapshot, created: status == 201 }
                } else {
                    Answer::Found(snapshot)
                })
            }
            Err(error) => failure(call, &error),
        }
    }

    /// A version of the Lease that the watch delivered.
    ///
    /// # Errors
    ///
    /// It is no Lease.
    pub fn seen(&mut self, object: Value) -> Result<Snapshot, Malformed> {
        Ok(self.keep(Lease::from_object(object)?))
    }

    /// The newest version at hand.
    pub fn newest(&self) -> Option<Version> {
        self.newest.front().map(Lease::version)
    }

    fn keep(&mut self, lease: Lease) -> Snapshot {
        let snapshot = lease.snapshot();
        self.newest.retain(|kept| kept.version() != lease.version());
        self.newest.push_front(lease);
        self.newest.truncate(KEPT);
        snapshot
    }

    #[cfg(feature = "mutants")]
    fn mutant_without_version(&self, mut object: Value) -> Value {
        if self.mistake == Some(Mutant::WriteWithoutVersion)
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("resourceVersion");
            metadata.remove("uid");
        }
        object
    }
}

/// The Lease in an answer, and the answer's status. What is no Lease is an error.
///
/// # Errors
///
/// That of the call; or that its answer makes no sense.
pub fn read(call: &Request, result: Result<Reply, CallError>) -> Result<(u16, Lease), CallError> {
    result.and_then(|reply| Ok((reply.status, reply.parse(call, Lease::parse)?)))
}

fn why(purpose: CallKind) -> Purpose {
    match purpose {
        CallKind::Observe => Purpose::Observe,
        CallKind::Acquire => Purpose::Acquire,
        CallKind::Renew => Purpose::Renew,
        CallKind::Release => Purpose::Release,
        CallKind::Announce => Purpose::Announce,
    }
}

fn failure(call: &Request, error: &CallError) -> Result<Answer, CallFailure> {
    use crate::kube::Verb;
    let retry_after = error.failure.retry_after();
    match (call.verb, &error.failure) {
        (Verb::Get, Failure::NotFound) => Ok(Answer::Absent),
        // A replacement carries a uid: the Lease it was read from is gone.
        (Verb::Update, Failure::NotFound) => Err(CallFailure::Conflict),
        (_, Failure::Conflict | Failure::AlreadyExists) => Err(CallFailure::Conflict),
        _ if error.may_have_been_applied() => Err(CallFailure::Unknown { retry_after }),
        _ => Err(CallFailure::Refused { retry_after }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::{Transport, TransportKind};
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

    fn content() -> election::Content {
        let record = election::Record { holder: Some("pod-a".into()), transitions: 4, ..Default::default() };
        election::Content { record, annotations: Default::default() }
    }

    #[test]
    fn a_replacement_is_the_object_of_that_very_version() {
        let mut exchange = LeaseStore::new("ns", "web");
        let get = exchange.request(&election::LeaseRequest::Get, CallKind::Observe).unwrap();
        exchange.answer(&get, reply(200, &lease(7))).unwrap();
        exchange.seen(lease(9)).unwrap();
        assert_eq!(exchange.newest(), Some(9));
        for version in [7, 9] {
            let asked = election::LeaseRequest::Replace { version, content: content() };
            let put = exchange.request(&asked, CallKind::Acquire).unwrap();
            let body: Value = serde_json::from_str(put.body.as_deref().unwrap()).unwrap();
            assert_eq!(body["metadata"]["resourceVersion"], version.to_string());
            assert_eq!(body["metadata"]["uid"], "u");
            assert_eq!(body["metadata"]["labels"]["team"], "blue");
            assert_eq!(body["spec"]["unknown"]["kept"], true);
            assert_eq!(body["spec"]["holderIdentity"], "pod-a");
        }
        let asked = election::LeaseRequest::Replace { version: 8, content: content() };
        assert!(exchange.request(&asked, CallKind::Acquire).is_none(), "never seen, so never replaced");
    }

    #[test]
    fn failures_are_told_in_the_elections_terms() {
        let mut exchange = LeaseStore::new("ns", "web");
        exchange.seen(lease(7)).unwrap();
        let get = exchange.request(&election::LeaseRequest::Get, CallKind::Observe).unwrap();
        let create = exchange.request(&election::LeaseRequest::Create(content()), CallKind::Acquire).unwrap();
        let replace = election::LeaseRequest::Replace { version: 7, content: content() };
        let replace = exchange.request(&replace, CallKind::Renew).unwrap();
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
                assert_eq!(exchange.answer(call, Err(error)), expected, "{status} to {}", call.verb);
            }
        }
        let timeout = Transport { kind: TransportKind::Timeout, sent: true, text: String::new() };
        let error = CallError::new(&replace, Failure::Transport(timeout));
        assert_eq!(exchange.answer(&replace, Err(error)), unknown);
        let garbage = Ok(Reply { status: 200, body: b"{".to_vec() });
        assert_eq!(exchange.answer(&replace, garbage), unknown, "applied, for all we know");
    }

    #[test]
    fn a_201_is_told_apart_from_a_200() {
        let mut exchange = LeaseStore::new("ns", "web");
        exchange.seen(lease(7)).unwrap();
        let asked = election::LeaseRequest::Replace { version: 7, content: content() };
        let put = exchange.request(&asked, CallKind::Renew).unwrap();
        for (status, expected) in [(200, false), (201, true)] {
            let answer = exchange.answer(&put, reply(status, &lease(8))).unwrap();
            assert!(matches!(answer, Answer::Written { created, .. } if created == expected));
        }
    }
}
