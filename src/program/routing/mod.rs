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
//! The selector is only patched once the Pod is known to bear the label: else it would select nothing. Pod and Service
//! are always read right before they are patched. When its term is over a process follows the Service until it points
//! elsewhere: a shutdown waits for that.

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

pub use messages::{RouteEvent, RouteInput, RouteOutput, RouteReply, RouteRequest};

/// A leader reads the Service this often although it watches it: a watch can die silently.
const LOOK_PERIOD: Duration = Duration::from_secs(60);

/// A leader that steps back reports it again after this long.
const REPORT_AGAIN: Duration = Duration::from_secs(300);

/// After so many conflicts in a row the next try waits for RETRY_PERIOD (P20).
const CONFLICTS_IN_A_ROW: u32 = 3;

/// The routing of one Service to one Pod. See the module's documentation.
#[derive(Debug)]
pub struct Routing {
    /// The key of label and selector, and its value.
    key: String,
    target: String,
    retry_period: Duration,
    /// Whether the Pod is known to bear the label.
    labelled: bool,
    /// The current term's fence.
    fence: Option<Fence>,
    service: Option<Service>,
    progress: Progress,
    watching: bool,
    /// Not before this are Pod or Service read again.
    next_look: BootTime,
    patched_at: BootTime,
    /// Patches in a row that were conflicts.
    conflicts: u32,
    /// The call under way.
    call: Option<RouteRequest>,
    outputs: VecDeque<RouteOutput>,
    #[cfg(feature = "mutants")]
    mistake: Option<Mutant>,
}

/// How far the current term has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// The Service has yet to be patched.
    Pending,
    /// The Service points here.
    Set,
    /// The Service bears the fence of a later term.
    SteppedBack { reported: BootTime },
}

impl Routing {
    /// `key`, `target`: the Pod's label and its value, as in the Service's selector. `retry_period`: between tries that
    /// failed, and between reads of the Service where it cannot be watched.
    pub fn new(key: String, target: String, retry_period: Duration) -> Routing {
        Routing {
            key,
            target,
            retry_period,
            labelled: false,
            fence: None,
            service: None,
            progress: Progress::Pending,
            watching: false,
            next_look: BootTime(0),
            patched_at: BootTime(0),
            conflicts: 0,
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
        self.service.as_ref().filter(|_| self.follows_service()).map(|service| service.version)
    }

    /// The value that the Service's selector has for the key, as far as is known.
    pub fn selected(&self) -> Option<&str> {
        self.service.as_ref()?.selector_value(&self.key)
    }

    /// Whether the Service points at this Pod, as far as is known.
    pub fn points_here(&self) -> bool {
        self.selected() == Some(self.target.as_str())
    }

    /// Takes one input. Drain [`Routing::poll`] afterwards.
    pub fn handle(&mut self, now: BootTime, input: RouteInput) {
        match input {
            RouteInput::Timer => {}
            RouteInput::Lead(fence) => {
                self.fence = Some(fence);
                (self.progress, self.conflicts) = (Progress::Pending, 0);
                if self.labelled {
                    self.next_look = now;
                }
            }
            RouteInput::Lost => (self.fence, self.call) = (None, None),
            RouteInput::Reply(result) => self.on_reply(now, result),
            RouteInput::Seen(service) => {
                if self.service.as_ref().is_none_or(|known| known.version < service.version) {
                    self.learn(now, service);
                }
            }
            RouteInput::Deleted => {
                self.service = None;
                self.next_look = self.soon(now);
            }
            RouteInput::Watching(watching) => {
                self.watching = watching;
                self.next_look = self.next_look.min(now + self.pace());
            }
        }
        if self.next_wake().is_some_and(|at| at <= now) {
            self.start(if self.labelled { RouteRequest::GetService } else { RouteRequest::GetPod });
        }
    }

    /// The next thing to do. [`RouteOutput::WaitUntil`] means: nothing more for now.
    pub fn poll(&mut self) -> RouteOutput {
        self.outputs.pop_front().unwrap_or_else(|| RouteOutput::WaitUntil(self.next_wake()))
    }

    fn follows_service(&self) -> bool {
        self.fence.is_some() || self.points_here()
    }

    fn next_wake(&self) -> Option<BootTime> {
        let looks = self.call.is_none() && (!self.labelled || self.follows_service());
        looks.then_some(self.next_look)
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

    fn start(&mut self, request: RouteRequest) {
        self.call = Some(request.clone());
        self.outputs.push_back(RouteOutput::Call(request));
    }

    fn report(&mut self, event: RouteEvent) {
        self.outputs.push_back(RouteOutput::Report(event));
    }

    /// Until the Service is read again, where nothing is wrong.
    fn look_period(&self) -> Duration {
        match self.watching {
            true if mutant!(self, RouteByWatchAlone) => Duration::MAX,
            true => LOOK_PERIOD,
            false => self.retry_period,
        }
    }

    /// When to look at a Service that has changed: at once, but not in a loop with one who changes it again and again.
    fn soon(&self, now: BootTime) -> BootTime {
        now.max(self.patched_at + self.pace())
    }

    /// Until the next try after one that failed.
    fn pace(&self) -> Duration {
        if mutant!(self, UnpacedRoute) { Duration::ZERO } else { self.retry_period }
    }

    fn on_reply(&mut self, now: BootTime, result: Result<RouteReply, Option<u16>>) {
        let Some(request) = self.call.take() else { return };
        let patched = matches!(request, RouteRequest::PatchService { .. });
        self.next_look = now + self.pace();
        match result {
            Ok(RouteReply::Labelled(true)) => (self.labelled, self.next_look) = (true, now),
            // Not allowed to read it: it may be allowed to patch it.
            Ok(RouteReply::Labelled(false)) | Err(Some(403)) if request == RouteRequest::GetPod => {
                self.start(RouteRequest::LabelPod);
            }
            Ok(RouteReply::Service(service)) => {
                self.learn(now, service);
                match self.patch() {
                    None => self.next_look = now + self.look_period(),
                    // An answer that lacks what was patched was changed on the way, by an admission webhook for example.
                    Some(_) if patched => {}
                    Some(patch) => {
                        self.patched_at = now;
                        self.start(patch);
                    }
                }
            }
            Err(Some(404)) => self.service = None,
            Err(Some(409)) if patched => {
                self.conflicts += 1;
                if self.conflicts < CONFLICTS_IN_A_ROW {
                    self.next_look = now;
                } else if self.conflicts == CONFLICTS_IN_A_ROW {
                    self.report(RouteEvent::Conflicts);
                }
            }
            Ok(RouteReply::Labelled(false)) | Err(_) => {}
        }
    }

    /// Takes note of the Service as it is, and reports what that means for this term.
    fn learn(&mut self, now: BootTime, service: Service) {
        self.service = Some(service);
        if self.fence.is_none() {
            return;
        }
        let before = self.progress;
        if let Some(theirs) = self.outranked_by().cloned() {
            if matches!(before, Progress::SteppedBack { reported } if now.since(reported) < REPORT_AGAIN) {
                return;
            }
            self.progress = Progress::SteppedBack { reported: now };
            self.report(RouteEvent::SteppedBack { theirs });
        } else if self.patch().is_none() {
            (self.progress, self.conflicts) = (Progress::Set, 0);
            if before != Progress::Set {
                self.report(RouteEvent::ServiceUpdated);
            }
        } else if before != Progress::Pending {
            (self.progress, self.next_look) = (Progress::Pending, self.soon(now));
            if before == Progress::Set {
                self.report(RouteEvent::SelectorChanged { target: self.selected().map(str::to_owned) });
            }
        }
    }
}
