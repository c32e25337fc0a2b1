//! What the program does with what the election reports: work, routing, Events, metrics, the shared state, the log.
//!
//! IO: writes to the log. Called on the election's thread, so everything here returns at once.

use std::sync::Arc;

use ::log::{debug, info, warn};

use super::config::Config;
use super::leader_loop::Work;
use super::metrics::TryResult;
use super::routing::worker::{RoutingMessage, RoutingWorker};
use super::state::SharedState;
use crate::election::{Ending, Event, Snapshot, Version};
use crate::kube::{CallError, Purpose};
use crate::runtime::{Leadership, Observer, describe};
use crate::sys::{self, Signal};
use crate::time::BootTime;

/// What the election reports to.
pub(super) struct ProgramObserver<'a> {
    pub(super) config: &'a Config,
    pub(super) work: Work,
    pub(super) routing: Option<RoutingWorker>,
    pub(super) state: Arc<SharedState>,
    /// Whether the Service may ever have pointed here.
    pub(super) has_led: bool,
}

impl Observer for ProgramObserver<'_> {
    fn start_work(&mut self, leadership: Leadership) {
        self.has_led = true;
        self.state.known().term = Some((leadership.clone(), sys::boot_time()));
        self.route(RoutingMessage::Lead(leadership.clone()));
        self.work.start(leadership);
    }

    fn stop_work(&mut self) {
        self.work.stop(Signal::TERMINATE);
    }

    fn event(&mut self, event: &Event) {
        let (me, lease) = (&self.config.identity, &self.config.access.lease_name);
        match event {
            Event::LeaderChanged(leader) => self.leader_changed(leader.as_deref()),
            Event::StartedLeading(token) => info!("{me} became leader of {lease} (fencing token {token})"),
            Event::StoppedLeading { why, .. } => self.stopped_leading(why),
            Event::Renewed => debug!("renewed"),
            Event::Released => info!("released the Lease {lease}"),
            Event::ReleaseFailed => warn!("the Lease {lease} could not be released: others must wait until it expires"),
            Event::AcquiredTooLate => warn!("the Lease {lease} was acquired too late to lead: releasing it"),
            Event::AcquiredUnwanted => {
                info!("the Lease {lease} was acquired while shutting down or unfit to lead: releasing it");
            }
            Event::SuccessorChanged(Some(name)) if name == me => info!("{me} is next in line for the Lease {lease}"),
            Event::SuccessorChanged(Some(name)) => debug!("{name} is next in line for the Lease {lease}"),
            Event::SuccessorChanged(None) => debug!("no successor is named on the Lease {lease}"),
            Event::HeldByPredecessor => {
                info!("the Lease {lease} is still held by an earlier process named {me}: waiting until it expires");
            }
            Event::WriteUndone(field) => warn!(
                "the API server answered 200 to a write of the Lease {lease}, but {field} is not as written: an \
                 admission webhook or policy may undo it; trying again at RETRY_PERIOD"
            ),
            Event::RepeatedConflicts(number) => warn!(
                "{number} writes of the Lease {lease} in a row met a conflict: something else keeps writing it; trying \
                 again at RETRY_PERIOD"
            ),
            Event::DuplicateIdentity => warn!(
                "another process holds the Lease {lease} with this one's identity {me}: POD_NAME must be unique to each \
                 candidate; waiting as for any rival"
            ),
            Event::Coordinated => warn!(
                "the Lease {lease} has spec.strategy set, so coordinated leader election names its holders: not \
                 campaigning; use another LEASE_NAME, or remove spec.strategy and spec.preferredHolder together"
            ),
        }
    }

    fn lease(&mut self, lease: Option<&Snapshot>, token: Option<Version>) {
        self.state.lease(lease, token);
    }

    fn called(&mut self, purpose: Purpose, error: Option<&CallError>) {
        if error.is_none_or(|error| error.status.is_some()) {
            self.state.known().view.ready = true;
        }
        let result = match error.map(|error| error.status) {
            None => TryResult::Ok,
            Some(Some(409)) => TryResult::Conflict,
            Some(_) => TryResult::Failed,
        };
        let leads = self.state.known().term.is_some();
        let mut counts = self.state.metrics.counts();
        counts.conflicts += u64::from(result == TryResult::Conflict);
        match purpose {
            Purpose::Renew => counts.renewals[result as usize] += 1,
            Purpose::Observe if leads => counts.slow_paths += 1,
            _ => {}
        }
    }

    fn watch_ended(&mut self) {
        self.state.metrics.counts().watch_restarts += 1;
    }

    fn due(&mut self, at: Option<BootTime>) {
        self.state.known().due = at;
    }
}

impl ProgramObserver<'_> {
    fn leader_changed(&self, leader: Option<&str>) {
        self.state.leader_changed(leader, sys::now().wall);
        match leader {
            Some(leader) => info!("new leader {leader}"),
            None => info!("nobody leads"),
        }
    }

    fn stopped_leading(&self, why: &Ending) {
        let why = describe(why);
        info!("{} stopped being leader: {why}", self.config.identity);
        self.state.known().term = None;
        self.route(RoutingMessage::Lost { why });
    }

    fn route(&self, message: RoutingMessage) {
        if let Some(routing) = &self.routing {
            routing.inbox.post(message);
        }
    }
}
