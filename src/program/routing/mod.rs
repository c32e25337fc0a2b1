//! Routing: the own Pod's label and the Service's selector, sans-IO.
//!
//! PURE: it is handed the time and answers with calls to make. The worker makes them on a connection of its own, so
//! nothing here can delay a renewal.
//!
//! A Service selects Pods by label. Each Pod bears a label of its own; the leader points the selector at its own
//! Pod's label and annotates the Service with the fence of its term. Three things keep a stale leader from stealing
//! the traffic, however late its patch arrives:
//!
//! - the patch carries the `resourceVersion` that was read, so it fails if anybody wrote since;
//! - the Service that was read must not bear the fence of a later term ([`Fence::outranks`]);
//! - the worker asks the clock whether the term is still valid right before it sends ([`RouteOutput::Call`]).
//!
//! The selector is only patched once the Pod is known to bear the label: else it would select nothing.

mod events;
mod messages;
#[cfg(test)]
mod tests;
pub(crate) mod worker;

use std::collections::VecDeque;
use std::time::Duration;

#[cfg(feature = "mutants")]
use crate::election::Mutant;
use crate::election::{Version, mutant};
use crate::kube::{Fence, Service};
use crate::time::BootTime;

pub use messages::{RouteEvent, RouteFailure, RouteInput, RouteOutput, RouteReply, RouteRequest};

/// While draining without a watch, the Service is read this often. DRAIN_TIMEOUT bounds how many times.
const DRAIN_POLL: Duration = Duration::from_millis(250);

/// A leader reads the Service this often although it watches it: a watch can die silently.
const LOOK_PERIOD: Duration = Duration::from_secs(60);

/// A leader that steps back reports it again after this long.
const REPORT_AGAIN: Duration = Duration::from_secs(300);

/// After so many conflicts in a row the next try waits for RETRY_PERIOD (P20).
const CONFLICTS_IN_A_ROW: u32 = 3;

/// The routing of one Service to one Pod. See the module's documentation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Routing {
    /// The key of label and selector, and its value.
    key: String,
    target: String,
    retry_period: Duration,
    pod: PodLabel,
    /// Not before this is the next call about the Pod.
    pod_at: BootTime,
    /// The current term's fence.
    fence: Option<Fence>,
    service: Option<Service>,
    /// What is known of the Service may be old: read it before it is patched.
    stale: bool,
    /// Not before this is the next call about the Service.
    service_at: BootTime,
    /// In this term the Service has pointed here.
    settled: bool,
    /// When it was last reported that the Service bears the fence of a later term.
    stepped_back: Option<BootTime>,
    /// Patches in a row that were conflicts.
    conflicts: u32,
    patched_at: Option<BootTime>,
    watching: bool,
    drain_until: Option<BootTime>,
    /// The call under way, and the version of the Service that was known when it was made.
    call: Option<(RouteRequest, Option<Version>)>,
    outputs: VecDeque<RouteOutput>,
    #[cfg(feature = "mutants")]
    mistake: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum PodLabel {
    Unknown,
    Missing,
    Present,
}

impl Routing {
    /// `key`, `target`: the Pod's label and its value, as in the Service's selector. `retry_period`: between tries that
    /// failed, and between reads of the Service where it cannot be watched.
    pub fn new(key: String, target: String, retry_period: Duration) -> Routing {
        Routing {
            key,
            target,
            retry_period,
            pod: PodLabel::Unknown,
            pod_at: BootTime(0),
            fence: None,
            service: None,
            stale: true,
            service_at: BootTime(0),
            settled: false,
            stepped_back: None,
            conflicts: 0,
            patched_at: None,
            watching: false,
            drain_until: None,
            call: None,
            outputs: VecDeque::new(),
            #[cfg(feature = "mutants")]
            mistake: None,
        }
    }

    /// Builds a known mistake in. For the simulator, which must catch it.
    #[cfg(feature = "mutants")]
    pub fn with_mistake(mut self, mistake: Option<Mutant>) -> Routing {
        self.mistake = mistake;
        self
    }

    /// From which version the Service should be watched; `None`: it need not be.
    pub fn watch_from(&self) -> Option<Version> {
        let wanted = self.fence.is_some() || self.drain_until.is_some();
        self.service.as_ref().filter(|_| wanted).map(|service| service.version)
    }

    /// The value that the Service's selector has for the key, as far as is known.
    pub fn selected(&self) -> Option<&str> {
        self.service.as_ref()?.selector_value(&self.key)
    }

    /// Whether the Service has yet to be pointed at the leader, by this process or, after its term, by the next.
    pub fn is_unsettled(&self) -> bool {
        match self.fence {
            Some(_) => !self.settled && self.stepped_back.is_none(),
            None => self.points_here(),
        }
    }

    /// Takes one input. Drain [`Routing::poll`] afterwards.
    pub fn handle(&mut self, now: BootTime, input: RouteInput) {
        match input {
            RouteInput::Timer => {}
            RouteInput::Lead(fence) => {
                self.fence = Some(fence);
                (self.settled, self.stepped_back) = (false, None);
                (self.conflicts, self.patched_at) = (0, None);
                // What is known is from an earlier term, if anything is.
                (self.stale, self.service_at) = (true, now);
            }
            RouteInput::Lost => self.fence = None,
            RouteInput::Reply(result) => self.on_reply(now, result),
            RouteInput::Seen(service) => {
                if self.service.as_ref().is_none_or(|known| known.version < service.version) {
                    self.learn(now, service);
                }
            }
            RouteInput::Deleted => {
                (self.service, self.stale) = (None, true);
                self.service_at = self.next_patch(now);
            }
            RouteInput::Watching(watching) => {
                let lost = std::mem::replace(&mut self.watching, watching) && !watching;
                if lost {
                    (self.stale, self.service_at) = (true, self.service_at.min(now + self.pace()));
                } else if watching && self.service.is_some() && self.patch().is_none() {
                    // It began at a version that was known, so nothing was missed.
                    (self.stale, self.service_at) = (false, now + self.look_period());
                }
            }
            RouteInput::Drain { until } => {
                self.drain_until = Some(until);
                self.service_at = if self.watching { now + self.look_period() } else { now };
            }
        }
        self.advance(now);
    }

    /// The next thing to do. [`RouteOutput::WaitUntil`] means: nothing more for now.
    pub fn poll(&mut self) -> RouteOutput {
        self.outputs.pop_front().unwrap_or_else(|| RouteOutput::WaitUntil(self.next_wake()))
    }

    fn points_here(&self) -> bool {
        self.selected() == Some(self.target.as_str())
    }

    fn advance(&mut self, now: BootTime) {
        if let Some(until) = self.drain_until {
            let elsewhere = !self.points_here();
            if elsewhere || now >= until {
                self.drain_until = None;
                self.outputs.push_back(RouteOutput::Drained { elsewhere });
            }
        }
        if self.call.is_some() {
            return;
        }
        if self.pod != PodLabel::Present && now >= self.pod_at {
            let known = self.pod == PodLabel::Missing;
            self.start(if known { RouteRequest::LabelPod } else { RouteRequest::GetPod });
        } else if self.service_matters() && now >= self.service_at {
            match self.patch() {
                Some(patch) if !self.stale => {
                    self.patched_at = Some(now);
                    self.start(patch);
                }
                _ => self.start(RouteRequest::GetService),
            }
        }
    }

    /// Whether calls about the Service are made at all: the next is due at `service_at`.
    fn service_matters(&self) -> bool {
        self.drain_until.is_some() || (self.fence.is_some() && self.pod == PodLabel::Present)
    }

    /// The fence of a later term, if the Service bears one.
    fn outranked_by(&self) -> Option<&Fence> {
        let (fence, service) = (self.fence.as_ref()?, self.service.as_ref()?);
        let theirs = service.fence.as_ref()?;
        let outranks = if mutant!(self, FenceByLeaseAge) {
            theirs.lease_uid > fence.lease_uid // The simulated uids are in the order of creation.
        } else if mutant!(self, VoidFenceObeyed) {
            theirs.token > fence.token
        } else {
            theirs.outranks(fence, service.version) && !mutant!(self, UnfencedRoute)
        };
        Some(theirs).filter(|_| outranks)
    }

    /// The patch that the Service needs, if any.
    fn patch(&self) -> Option<RouteRequest> {
        let (fence, service) = (self.fence.as_ref()?, self.service.as_ref()?);
        let done = self.points_here() && service.fence.as_ref() == Some(fence);
        if done || self.outranked_by().is_some() {
            return None;
        }
        Some(RouteRequest::PatchService { version: service.version, uid: service.uid.clone(), fence: fence.clone() })
    }

    fn next_wake(&self) -> Option<BootTime> {
        let idle = self.call.is_none();
        let pod = (idle && self.pod != PodLabel::Present).then_some(self.pod_at);
        let service = (idle && self.service_matters()).then_some(self.service_at);
        [pod, service, self.drain_until].into_iter().flatten().min()
    }

    fn start(&mut self, request: RouteRequest) {
        self.call = Some((request.clone(), self.service.as_ref().map(|service| service.version)));
        self.outputs.push_back(RouteOutput::Call(request));
    }

    /// Until the Service is read again, where nothing is wrong.
    fn look_period(&self) -> Duration {
        match (self.drain_until.is_some(), self.watching) {
            (true, false) => DRAIN_POLL,
            (false, true) if mutant!(self, RouteByWatchAlone) => Duration::MAX,
            (false, true) => LOOK_PERIOD,
            (true, true) | (false, false) => self.retry_period,
        }
    }

    /// When to patch a Service that has changed: at once, but not in a loop with one who changes it again and again.
    fn next_patch(&self, now: BootTime) -> BootTime {
        self.patched_at.map_or(now, |at| at + self.pace())
    }

    /// Until the next try after one that failed.
    fn pace(&self) -> Duration {
        if mutant!(self, UnpacedRoute) { Duration::ZERO } else { self.look_period().min(self.retry_period) }
    }

    fn on_reply(&mut self, now: BootTime, result: Result<RouteReply, RouteFailure>) {
        let Some((request, known)) = self.call.take() else { return };
        match (request, result) {
            // Not allowed to read it: it may be allowed to patch it.
            (RouteRequest::GetPod, Ok(RouteReply::Pod { labelled: false }) | Err(RouteFailure::Forbidden)) => {
                self.pod = PodLabel::Missing;
            }
            (request, Ok(RouteReply::Pod { labelled: true })) => {
                self.pod = PodLabel::Present;
                let patched = request == RouteRequest::LabelPod;
                self.outputs.push_back(RouteOutput::Report(RouteEvent::PodLabelled { patched }));
            }
            // An answer that lacks the label was changed on the way, by an admission webhook for example.
            (RouteRequest::LabelPod, Ok(RouteReply::Pod { labelled: false }))
            | (RouteRequest::GetPod | RouteRequest::LabelPod, Err(_)) => {
                (self.pod, self.pod_at) = (PodLabel::Unknown, now + self.pace());
            }
            (request, Ok(RouteReply::Service(service))) => self.on_service(now, request, known, service),
            (_, Err(failure)) => self.on_service_failure(now, failure),
            (_, Ok(RouteReply::Pod { .. })) => debug_assert!(false, "an answer to another question"),
        }
    }

    fn on_service(&mut self, now: BootTime, request: RouteRequest, known: Option<Version>, service: Service) {
        // Authoritative even where its version is smaller: that is what a restored backup looks like. A watch event
        // that came in the meantime is newer only if its version says so.
        let seen = self.service.as_ref().map(|service| service.version);
        let newer_seen = seen != known && seen > Some(service.version);
        if !newer_seen {
            self.stale = false;
            self.learn(now, service);
        }
        if self.patch().is_none() {
            (self.stale, self.service_at) = (!self.watching, now + self.look_period());
        } else if request != RouteRequest::GetService {
            // The answer lacks what was patched: an admission webhook has removed it, for example.
            (self.stale, self.service_at) = (true, now + self.pace());
        }
    }

    fn on_service_failure(&mut self, now: BootTime, failure: RouteFailure) {
        let mut pace = self.pace();
        match failure {
            RouteFailure::NotFound => self.service = None,
            RouteFailure::Conflict => {
                self.conflicts += 1;
                if self.conflicts < CONFLICTS_IN_A_ROW {
                    pace = Duration::ZERO;
                } else if self.conflicts == CONFLICTS_IN_A_ROW {
                    self.outputs.push_back(RouteOutput::Report(RouteEvent::Conflicts));
                }
            }
            RouteFailure::Forbidden | RouteFailure::Failed => {}
        }
        (self.stale, self.service_at) = (true, now + pace);
    }

    /// Takes note of the Service as it is, and reports what that means for this term.
    fn learn(&mut self, now: BootTime, service: Service) {
        self.service = Some(service);
        if self.fence.is_none() {
            return;
        }
        let event = if let Some(theirs) = self.outranked_by().cloned() {
            if self.stepped_back.is_some_and(|at| now.since(at) < REPORT_AGAIN) {
                return;
            }
            (self.settled, self.stepped_back) = (false, Some(now));
            RouteEvent::SteppedBack { theirs }
        } else if self.patch().is_none() {
            self.conflicts = 0;
            self.stepped_back = None;
            if std::mem::replace(&mut self.settled, true) {
                return;
            }
            RouteEvent::ServiceUpdated
        } else if self.settled || self.stepped_back.is_some() {
            self.service_at = self.next_patch(now);
            self.stepped_back = None;
            if !std::mem::replace(&mut self.settled, false) {
                return;
            }
            RouteEvent::SelectorChanged { target: self.selected().map(str::to_owned) }
        } else {
            return;
        };
        self.outputs.push_back(RouteOutput::Report(event));
    }
}
