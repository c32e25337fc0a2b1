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
//! - the worker asks the clock whether the term is still valid right before it sends ([`Routing::call`]).
//!
//! The selector is only patched once the Pod is known to bear the label: else it would select nothing. Pod and Service
//! are always read right before they are patched, and again from time to time. When its term is over a process follows
//! the Service until it points elsewhere: a shutdown waits for that.

#[cfg(test)]
mod tests;
pub(crate) mod worker;

use std::time::Duration;

#[cfg(feature = "mutants")]
use crate::election::Mutant;
use crate::election::{Version, mutant};
use crate::kube::{Fence, Service};
use crate::time::BootTime;

/// A leader reads the Service this often although it watches it: a watch can die silently.
const LOOK_PERIOD: Duration = Duration::from_secs(60);

/// And its Pod this often: without the label the Service selects nothing.
const POD_LOOK_PERIOD: Duration = Duration::from_secs(300);

/// A leader that steps back reports it again after this long.
const REPORT_AGAIN: Duration = Duration::from_secs(300);

/// After so many conflicts in a row the next try waits for RETRY_PERIOD (P20).
const CONFLICTS_IN_A_ROW: u32 = 3;

/// A call to the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteRequest {
    /// Read the own Pod.
    GetPod,
    /// Give it the label.
    LabelPod,
    /// Read the Service.
    GetService,
    /// Point the selector here, and annotate the fence.
    PatchService {
        /// The Service's `resourceVersion` as read.
        version: Version,
        /// Its uid as read.
        uid: String,
        /// The term's fence.
        fence: Fence,
    },
}

/// An answer to a [`RouteRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteReply {
    /// To [`RouteRequest::GetPod`] and [`RouteRequest::LabelPod`]: whether the Pod bears the label with the right value.
    Labelled(bool),
    /// To the others: the Service as it is now.
    Service(Service),
}

/// Why there is no [`RouteReply`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteFailure {
    /// The answer's, if one came. Without one, and from 500 on, a patch may have been applied.
    pub status: Option<u16>,
    /// How long the API server asks to wait.
    pub retry_after: Duration,
}

/// What goes into routing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteInput {
    /// The instant of [`Routing::wake`] has come. Any other time is harmless.
    Timer,
    /// A term has begun; this is its fence.
    Lead(Fence),
    /// The term has ended.
    Lost,
    /// The call under way was answered, or failed.
    Reply(Result<RouteReply, RouteFailure>),
    /// The watch delivered a version of the Service.
    Seen(Service),
    /// The watch saw the Service deleted.
    Deleted,
    /// Whether a watch on the Service is open.
    Watching(bool),
}

/// What routing has to say, for the log and the metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteEvent {
    /// The Pod was given the label.
    PodLabelled,
    /// The Service points here.
    ServiceUpdated,
    /// The selector was changed while this process leads; it is set again.
    SelectorChanged,
    /// The Service bears this fence of a later term, and is not patched.
    SteppedBack(Fence),
    /// The last patches were all conflicts, and the next one waits.
    Conflicts,
}

/// The routing of one Service to one Pod. See the module's documentation.
#[derive(Debug, Default)]
pub struct Routing {
    /// The key of label and selector, and its value.
    key: String,
    target: String,
    retry_period: Duration,
    /// Whether the Pod is known to bear the label, and when it was read last.
    labelled: bool,
    pod_read: BootTime,
    /// The current term's fence.
    fence: Option<Fence>,
    service: Option<Service>,
    /// Whether the last patch may have been applied or not: the Service was not seen since.
    patch_in_doubt: bool,
    progress: Progress,
    /// Until the Service is read again, where nothing is wrong.
    look_period: Duration,
    /// The Pod or the Service is not read again before this.
    next_look: BootTime,
    /// A change by others is not undone before this: two writers could undo each other in a loop.
    next_patch: BootTime,
    /// Patches in a row that were conflicts.
    conflicts: u32,
    /// The call to make: the next input is its [`RouteInput::Reply`]. A [`RouteRequest::PatchService`] must not be sent
    /// unless the term is valid at that moment: else the next input is [`RouteInput::Lost`].
    pub call: Option<RouteRequest>,
    #[cfg(feature = "mutants")]
    mistake: Option<Mutant>,
}

/// How far the current term has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Progress {
    /// The Service has yet to be patched.
    #[default]
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
        Routing { key, target, retry_period, look_period: retry_period, ..Routing::default() }
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

    /// Whether it does, or would by a patch whose answer was lost.
    pub fn may_point_here(&self) -> bool {
        self.points_here() || self.patch_in_doubt
    }

    /// Takes one input. Afterwards look at [`Routing::call`], and at [`Routing::wake`] if there is none.
    pub fn handle(&mut self, now: BootTime, input: RouteInput) -> Option<RouteEvent> {
        let mut event = None;
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
            RouteInput::Reply(result) => event = self.on_reply(now, result),
            RouteInput::Seen(service) => {
                if self.service.as_ref().is_none_or(|known| known.version < service.version) {
                    event = self.learn(now, service);
                }
            }
            RouteInput::Deleted => {
                (self.service, self.patch_in_doubt) = (None, false);
                self.next_look = now.max(self.next_patch);
            }
            RouteInput::Watching(watching) => {
                self.look_period = match watching {
                    true if mutant!(self, RouteByWatchAlone) => Duration::MAX,
                    true => LOOK_PERIOD,
                    false => self.retry_period,
                };
                self.next_look = self.next_look.min(now + self.pace());
            }
        }
        if self.wake().is_some_and(|at| at <= now) {
            self.call = Some(if self.pod_is_due(now) { RouteRequest::GetPod } else { RouteRequest::GetService });
        }
        event
    }

    /// When there is something to do if there is no input until then.
    pub fn wake(&self) -> Option<BootTime> {
        let looks = self.call.is_none() && (!self.labelled || self.follows_service());
        looks.then_some(self.next_look)
    }

    fn follows_service(&self) -> bool {
        self.fence.is_some() || self.may_point_here()
    }

    /// Before the Service is patched the first time, and then when nothing else is to be done.
    fn pod_is_due(&self, now: BootTime) -> bool {
        let idle = self.fence.is_some() && self.progress == Progress::Set;
        !self.labelled || idle && now.since(self.pod_read) >= POD_LOOK_PERIOD
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

    /// Until the next try after one that failed.
    fn pace(&self) -> Duration {
        if mutant!(self, UnpacedRoute) { Duration::ZERO } else { self.retry_period }
    }

    fn on_reply(&mut self, now: BootTime, result: Result<RouteReply, RouteFailure>) -> Option<RouteEvent> {
        let request = self.call.take()?;
        let patched = matches!(request, RouteRequest::PatchService { .. });
        let asked = result.as_ref().err().map_or(Duration::ZERO, |failure| failure.retry_after.min(LOOK_PERIOD));
        self.next_look = now + self.pace().max(asked);
        if matches!(request, RouteRequest::GetPod | RouteRequest::LabelPod) {
            self.pod_read = now;
        }
        match result.map_err(|failure| failure.status) {
            Ok(RouteReply::Labelled(true)) => {
                (self.labelled, self.next_look) = (true, now);
                return (request == RouteRequest::LabelPod).then_some(RouteEvent::PodLabelled);
            }
            // Not allowed to read it: it may be allowed to patch it.
            Ok(RouteReply::Labelled(false)) | Err(Some(403)) if request == RouteRequest::GetPod => {
                self.call = Some(RouteRequest::LabelPod);
            }
            Ok(RouteReply::Service(service)) => {
                let event = self.learn(now, service);
                match self.patch() {
                    None => self.next_look = now + self.look_period,
                    // An answer that lacks what was patched was changed on the way, by an admission webhook for example.
                    Some(_) if patched => {}
                    patch => (self.next_patch, self.call) = (now + self.pace(), patch),
                }
                return event;
            }
            Err(Some(404)) => (self.service, self.patch_in_doubt) = (None, false),
            Err(Some(409)) if patched => {
                self.conflicts += 1;
                if self.conflicts < CONFLICTS_IN_A_ROW {
                    self.next_look = now;
                }
                return (self.conflicts == CONFLICTS_IN_A_ROW).then_some(RouteEvent::Conflicts);
            }
            Err(status) if patched => self.patch_in_doubt = status.is_none_or(|status| status >= 500),
            Ok(RouteReply::Labelled(false)) | Err(_) => {}
        }
        None
    }

    /// Takes note of the Service as it is; what that means for this term.
    fn learn(&mut self, now: BootTime, service: Service) -> Option<RouteEvent> {
        (self.service, self.patch_in_doubt) = (Some(service), false);
        self.fence.as_ref()?;
        let before = self.progress;
        if let Some(theirs) = self.outranked_by().cloned() {
            if matches!(before, Progress::SteppedBack { reported } if now.since(reported) < REPORT_AGAIN) {
                return None;
            }
            self.progress = Progress::SteppedBack { reported: now };
            return Some(RouteEvent::SteppedBack(theirs));
        }
        if self.patch().is_none() {
            (self.progress, self.conflicts) = (Progress::Set, 0);
            return (before != Progress::Set).then_some(RouteEvent::ServiceUpdated);
        }
        if before != Progress::Pending {
            (self.progress, self.next_look) = (Progress::Pending, now.max(self.next_patch));
        }
        (before == Progress::Set).then_some(RouteEvent::SelectorChanged)
    }
}
