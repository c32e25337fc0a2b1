//! What this process knows of its election at this moment, for HTTP, probes and metrics.
//!
//! IO: reads the boot clock. The election's thread writes it, and waits here only while a few values are copied.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::election::{Snapshot, Timing, Version};
use crate::program::config::Config;
use crate::program::metrics::Metrics;
use crate::runtime::Leadership;
use crate::sys;
use crate::time::{BootTime, WallTime};

/// Changes of holder that are remembered.
pub(crate) const HISTORY: usize = 8;

/// What a process knows of its election at one moment.
#[derive(Clone, Debug, Default)]
pub struct StateView {
    /// The Lease, as `namespace/name`.
    pub lease: String,
    /// This pod: its identity in the Lease.
    pub pod: String,
    /// The holder, if there is one.
    pub leader: Option<String>,
    /// Whether this process leads.
    pub is_leader: bool,
    /// The Lease's `leaseTransitions`.
    pub transitions: u32,
    /// The term's fencing token, where it is known.
    pub fencing_token: Option<Version>,
    /// How much longer this process may lead without another renewal; zero when it does not lead.
    pub valid_for: Duration,
    /// Since this process's last acknowledged write was sent, while it leads.
    pub renewal_age: Option<Duration>,
    /// How long this process's term has lasted, while it leads.
    pub term: Option<Duration>,
    /// The candidate that is next in line, where the Lease names one.
    pub successor: Option<String>,
    /// When the leader acquired the Lease, by the clock it wrote.
    pub leader_since: Option<WallTime>,
    /// Changes of holder that this process has seen, the earliest first: when each was seen, and the holder since then.
    pub history: Vec<(WallTime, Option<String>)>,
    /// The Service that follows the leader, if one does.
    pub service: Option<String>,
    /// The pod that the Service's selector names, where that is known.
    pub service_target: Option<String>,
    /// Whether the API server has ever answered.
    pub ready: bool,
    /// Why the process should be restarted, if it should.
    pub unhealthy: Option<String>,
}

/// Shared between the election's thread and those that answer HTTP.
pub(crate) struct SharedState {
    timing: Timing,
    pub(crate) metrics: Arc<Metrics>,
    known: Mutex<Known>,
}

pub(crate) struct Known {
    /// What is known without a look at the clock.
    pub(crate) view: StateView,
    /// This process's term, and when it began.
    pub(crate) term: Option<(Leadership, BootTime)>,
    /// By when the election's thread must turn again. Before the election begins (the credentials may come late)
    /// nothing is due.
    pub(crate) due: Option<BootTime>,
}

impl SharedState {
    pub(crate) fn new(config: &Config) -> SharedState {
        let view = StateView {
            lease: config.access.lease(),
            pod: config.identity.clone(),
            service: config.service.as_ref().map(|service| service.name.clone()),
            ..StateView::default()
        };
        SharedState {
            timing: config.timing,
            metrics: Arc::new(Metrics::new(&config.access.lease_name)),
            known: Mutex::new(Known { view, term: None, due: None }),
        }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        sys::lock(&self.known)
    }

    pub(crate) fn lease(&self, lease: Option<&Snapshot>, token: Option<Version>) {
        let view = &mut self.known().view;
        let record = lease.map(|lease| lease.record.clone()).unwrap_or_default();
        view.transitions = record.transitions;
        view.leader_since = record.acquire_time.filter(|_| record.holder.is_some());
        view.leader = record.holder;
        view.successor = lease.and_then(Snapshot::successor).map(str::to_owned);
        view.fencing_token = token;
    }

    pub(crate) fn leader_changed(&self, leader: Option<&str>, now: WallTime) {
        let history = &mut self.known().view.history;
        // A vacancy is no transition yet, and the first holder seen has replaced nobody.
        let transition = leader.is_some() && history.iter().any(|(_, earlier)| earlier.is_some());
        if history.len() == HISTORY {
            history.remove(0);
        }
        history.push((now, leader.map(str::to_owned)));
        self.metrics.counts().transitions += u64::from(transition);
    }

    /// What is known at this moment.
    pub(crate) fn view(&self) -> StateView {
        let known = self.known();
        let mut view = known.view.clone();
        view.unhealthy = self.unhealthy(&known);
        if let Some((term, began)) = &known.term
            && let valid_for = term.remaining()
            && !valid_for.is_zero()
        {
            // Who leads says so of itself with its own token, also in the moment before the Lease is seen to say the same.
            view.leader = Some(view.pod.clone());
            view.is_leader = true;
            view.fencing_token = Some(term.fencing_token());
            view.valid_for = valid_for;
            view.renewal_age = Some(self.timing.renewal_deadline().saturating_sub(valid_for));
            view.term = Some(sys::boot_time().since(*began));
        }
        view
    }

    /// A thread is stuck whose timer, or call, is overdue by a whole lease. So no leader's term has run out for as long,
    /// unnoticed: its deadline is an instant to wake at.
    fn unhealthy(&self, known: &Known) -> Option<String> {
        let overdue = sys::boot_time().since(known.due?);
        let stalled = overdue > self.timing.lease_duration();
        stalled.then(|| format!("the election has stalled for {} s", overdue.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{Annotations, Record, Term, Validity};
    use crate::program::config::{self, Invocation};

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
        state.known().term = Some((leadership(sys::boot_time() + Duration::from_secs(3600)), sys::boot_time()));
        let view = state.view();
        assert!(view.is_leader && !view.valid_for.is_zero());
        assert_eq!((view.leader.as_deref(), view.fencing_token), (Some("pod-a"), Some(8123)));
    }

    #[test]
    fn a_term_that_has_run_out_is_nobodys() {
        let state = state();
        state.known().term = Some((leadership(BootTime(0)), BootTime(0)));
        let view = state.view();
        assert!(!view.is_leader && view.valid_for.is_zero());
        assert_eq!((view.leader, view.fencing_token), (None, None));
    }

    #[test]
    fn a_transition_is_a_holder_after_another_and_counts_once() {
        let state = state();
        let changes = [None, Some("a"), None, Some("b"), Some("c"), None, Some("c"), None];
        let counted = changes.map(|leader| {
            state.leader_changed(leader, WallTime(0));
            state.metrics.counts().transitions
        });
        assert_eq!(counted, [0, 0, 0, 1, 2, 2, 3, 3]);
        assert_eq!(state.view().history.len(), changes.len(), "the page shows each of them");
    }

    #[test]
    fn the_successor_is_shown_and_is_this_process_only_where_it_is_named() {
        for (name, value) in [("pod-a", 1), ("pod-b", 0)] {
            let state = state();
            let annotations = Annotations { successor: Some(name.into()), ..Annotations::default() };
            let record = Record { holder: Some("pod-c".into()), ..Record::default() };
            let lease = Snapshot { uid: "u".into(), version: 1, record, annotations, coordinated: false };
            state.lease(Some(&lease), None);
            assert_eq!(state.view().successor.as_deref(), Some(name));
            assert!(
                state.metrics.text(&state.view()).contains(&format!("\nleasehold_is_successor {value}\n")),
                "{name}"
            );
        }
    }
}
