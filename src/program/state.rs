//! What this process knows of its election at this moment, for HTTP, probes and metrics.
//!
//! IO: reads the boot clock. The election's thread writes it, and waits here only while a few values are copied.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use crate::election::{Snapshot, Version};
use crate::program::config::Config;
use crate::program::http::{LeadershipView, ServiceView, TransitionView, View};
use crate::program::metrics::Metrics;
use crate::runtime::Leadership;
use crate::sys;
use crate::time::{BootTime, Now};

/// Changes of holder that are remembered.
const HISTORY: usize = 20;

/// Shared between the election's thread and those that answer HTTP.
pub(crate) struct SharedState {
    config: Config,
    pub(crate) metrics: Metrics,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Whether the API server has ever answered.
    answered: bool,
    lease: Option<Snapshot>,
    token: Option<Version>,
    history: VecDeque<TransitionView>,
    term: Option<(Leadership, BootTime)>,
    /// By when the election's thread must turn again. Before the election begins (the credentials may come late)
    /// nothing is due.
    due: Option<BootTime>,
    target: Option<String>,
}

impl SharedState {
    pub(crate) fn new(config: &Config) -> SharedState {
        SharedState {
            config: config.clone(),
            metrics: Metrics::new(&config.access.lease_name),
            known: Mutex::default(),
        }
    }

    pub(crate) fn answered(&self) {
        self.known().answered = true;
    }

    pub(crate) fn lease(&self, lease: Option<&Snapshot>, token: Option<Version>) {
        let mut known = self.known();
        known.lease = lease.cloned();
        known.token = token;
    }

    /// Whether this is a transition: a vacancy is none yet, and the first holder seen has replaced nobody.
    pub(crate) fn leader_changed(&self, leader: Option<&str>, now: Now) -> bool {
        let mut known = self.known();
        let transition = leader.is_some() && known.history.iter().any(|earlier| earlier.leader.is_some());
        if known.history.len() == HISTORY {
            known.history.pop_front();
        }
        known.history.push_back(TransitionView { at: now.wall, leader: leader.map(str::to_owned) });
        transition
    }

    pub(crate) fn term_began(&self, leadership: Leadership) {
        self.known().term = Some((leadership, sys::boot_time()));
    }

    pub(crate) fn term_ended(&self) {
        self.known().term = None;
    }

    pub(crate) fn due(&self, at: Option<BootTime>) {
        self.known().due = at;
    }

    pub(crate) fn service_points_at(&self, target: Option<String>) {
        self.known().target = target;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        sys::lock(&self.known)
    }
}

impl View for SharedState {
    fn leadership(&self) -> LeadershipView {
        let (config, known) = (&self.config, self.known());
        let record = known.lease.as_ref().map(|lease| &lease.record);
        let term = known.term.as_ref().filter(|(term, _)| !term.remaining().is_zero());
        let valid_for = term.map(|(term, _)| term.remaining());
        // Who leads says so of itself with its own token, also in the moment before the Lease is seen to say the same.
        let leader = term.map(|_| config.identity.clone()).or_else(|| record.and_then(|record| record.holder.clone()));
        LeadershipView {
            lease: config.access.lease(),
            pod: config.identity.clone(),
            leader,
            is_leader: term.is_some(),
            transitions: record.map_or(0, |record| record.transitions),
            fencing_token: term.map(|(term, _)| term.fencing_token()).or(known.token),
            valid_for: valid_for.unwrap_or_default(),
            renewal_age: valid_for.map(|left| config.timing.renewal_deadline().saturating_sub(left)),
            term: term.map(|(_, began)| sys::boot_time().since(*began)),
            leader_since: record.filter(|record| record.holder.is_some()).and_then(|record| record.acquire_time),
            successor: known.lease.as_ref().and_then(Snapshot::successor).map(str::to_owned),
            history: known.history.iter().cloned().collect(),
            service: config
                .service
                .as_ref()
                .map(|service| ServiceView { name: service.name.clone(), target: known.target.clone() }),
        }
    }

    /// A leader whose term has run out and whose thread has not noticed is stuck; so is one whose timer, or call, is
    /// overdue by a whole lease.
    fn health(&self) -> Result<(), String> {
        let lease_duration = self.config.timing.lease_duration();
        let known = self.known();
        let late =
            |(term, _): &(Leadership, _)| !term.is_stopping() && term.valid_until() + lease_duration < sys::boot_time();
        if known.term.as_ref().is_some_and(late) {
            return Err("the lease is held past its expiry".to_owned());
        }
        let overdue = known.due.map(|due| sys::boot_time().since(due)).unwrap_or_default();
        if overdue > lease_duration {
            return Err(format!("the election has stalled for {} s", overdue.as_secs()));
        }
        Ok(())
    }

    fn ready(&self) -> bool {
        self.known().answered
    }

    fn metrics(&self) -> String {
        self.metrics.text(&self.leadership())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::election::{Annotations, Record, Term, Validity};
    use crate::program::config::{self, Invocation};
    use crate::time::WallTime;

    fn state() -> SharedState {
        let variables = [("LEASE_NAME", "web"), ("POD_NAME", "pod-a"), ("KUBE_API_URL", "http://127.0.0.1:8001")];
        let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let Ok(Invocation::Run(config)) = config::parse(&[], &env, &|_| Ok("ns".into())) else {
            panic!("the configuration is right")
        };
        SharedState::new(&config)
    }

    fn leadership(valid_until: BootTime) -> Leadership {
        let term = Term { token: 8123, lease_uid: "u".into(), acquire_time: WallTime(0) };
        Leadership::new(term, "ns/web".into(), Validity { valid_until, kill_at: valid_until })
    }

    #[test]
    fn a_leader_shows_its_own_name_and_token_before_the_lease_was_seen() {
        let state = state();
        state.term_began(leadership(sys::boot_time() + Duration::from_secs(3600)));
        let view = state.leadership();
        assert!(view.is_leader && !view.valid_for.is_zero());
        assert_eq!((view.leader.as_deref(), view.fencing_token), (Some("pod-a"), Some(8123)));
    }

    #[test]
    fn a_term_that_has_run_out_is_nobodys() {
        let state = state();
        state.term_began(leadership(BootTime(0)));
        let view = state.leadership();
        assert!(!view.is_leader && view.valid_for.is_zero());
        assert_eq!((view.leader, view.fencing_token), (None, None));
    }

    #[test]
    fn a_transition_is_a_holder_after_another_and_counts_once() {
        let state = state();
        let changes = [None, Some("a"), None, Some("b"), Some("c"), None, Some("c"), None];
        let counted = changes.map(|leader| state.leader_changed(leader, sys::now()));
        assert_eq!(counted, [false, false, false, true, true, false, true, false]);
        assert_eq!(state.leadership().history.len(), changes.len(), "the page shows each of them");
    }

    #[test]
    fn the_successor_is_shown_and_is_this_process_only_where_it_is_named() {
        for (name, value) in [("pod-a", 1), ("pod-b", 0)] {
            let state = state();
            let annotations = Annotations { successor: Some(name.into()), ..Annotations::default() };
            let record = Record { holder: Some("pod-c".into()), ..Record::default() };
            let lease = Snapshot { uid: "u".into(), version: 1, record, annotations, coordinated: false };
            state.lease(Some(&lease), None);
            assert_eq!(state.leadership().successor.as_deref(), Some(name));
            assert!(state.metrics().contains(&format!("\nleasehold_is_successor {value}\n")), "{name}");
        }
    }
}
