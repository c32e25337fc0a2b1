//! Says what goes wrong once, not at each retry.
//!
//! IO: writes to the log.

use log::{debug, info, warn};

use crate::kube::{CallError, Request, Resource, Verb};

/// So many different errors are told apart from new ones. In an outage a few kinds of call fail by turns.
const REMEMBERED: usize = 8;

/// What was complained about and has not worked since, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    /// By what was done to what: a look that succeeds says nothing of the write that fails.
    open: Vec<(Verb, Resource, String)>,
}

impl ErrorLog {
    /// A call failed. What belongs to an election is no complaint: a conflict, a Lease that is not there yet.
    pub(crate) fn about(&mut self, request: &Request, error: &CallError) {
        let Request { verb, resource, name, namespace, .. } = request;
        match (error.status, verb, resource) {
            (Some(409), ..) | (Some(404), Verb::Get, Resource::Lease) => self.settled(request),
            (Some(404), ..) => {
                self.complain(request, format!("{error}; there is no {resource:?} {name} in namespace {namespace}"));
            }
            (Some(403), ..) => self.complain(request, format!("{error}; {}", request.missing_rule())),
            _ => self.complain(request, error.to_string()),
        }
    }

    /// What is wrong with a call, in words.
    pub(crate) fn complain(&mut self, request: &Request, text: String) {
        if self.open.iter().any(|(.., known)| *known == text) {
            return debug!("still: {text}");
        }
        warn!("{text}; trying again");
        if self.open.len() == REMEMBERED {
            self.open.remove(0);
        }
        self.open.push((request.verb, request.resource, text));
    }

    /// A call succeeded.
    pub(crate) fn settled(&mut self, request: &Request) {
        let settled =
            |complaint: &mut (Verb, Resource, String)| (complaint.0, complaint.1) == (request.verb, request.resource);
        if let Some((.., last)) = self.open.extract_if(.., settled).last() {
            info!("works again: {last}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::{Purpose, TransportKind, request};

    fn timed_out(request: &Request) -> CallError {
        CallError::transport(request, TransportKind::Timeout, true, "")
    }

    #[test]
    fn calls_that_fail_by_turns_are_each_complained_about_once_until_they_succeed() {
        let get = request::get_lease("ns", "web", Purpose::Observe);
        let other = request::get_service("ns", "web", Purpose::Observe);
        let mut errors = ErrorLog::default();
        for _ in 0..3 {
            for call in [&get, &other] {
                errors.about(call, &timed_out(call));
                errors.about(call, &CallError::from_answer(call, 500, None, b""));
            }
        }
        assert_eq!(errors.open.len(), 4, "{:?}", errors.open);
        errors.settled(&get);
        assert!(errors.open.iter().all(|(_, resource, _)| *resource == Resource::Service));
        errors.settled(&other);
        assert!(errors.open.is_empty());
    }

    #[test]
    fn an_answer_that_an_election_expects_settles_a_complaint() {
        let get = request::get_lease("ns", "web", Purpose::Observe);
        let mut errors = ErrorLog::default();
        errors.about(&get, &timed_out(&get));
        errors.about(&get, &CallError::from_answer(&get, 404, None, b""));
        assert!(errors.open.is_empty(), "{:?}", errors.open);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut errors = ErrorLog::default();
        for number in 0..100 {
            let call = request::get_lease("ns", &format!("web-{number}"), Purpose::Observe);
            errors.about(&call, &timed_out(&call));
        }
        assert_eq!(errors.open.len(), REMEMBERED);
    }
}
