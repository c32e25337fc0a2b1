//! Routing: the own Pod's label, and the Service's selector, fenced, sans-IO.
//!
//! PURE: like the election it is handed the time and answers with calls to make; the driver makes them on a
//! connection of their own, so that nothing here can delay a renewal.
//!
//! A Service selects Pods by label. Each Pod bears a label of its own; the leader points the selector at its own
//! Pod's label and signs the Service with the fence of its term. Three things keep a stale leader from stealing the
//! traffic, however late its patch arrives:
//!
//! - the patch carries the `resourceVersion` that was read, so it fails if anybody wrote since;
//! - what was read must not bear a greater fence, that is, a later term's;
//! - the driver asks the clock whether the term is still valid right before it sends ([`RouteOutput::Call`]).
//!
//! The selector is only touched once the Pod is known to bear the label: else it would select nothing.

pub(crate) mod worker;

use std::collections::VecDeque;
use std::time::Duration;

#[cfg(feature = "mutants")]
use crate::election::Mutant;
use crate::election::{Version, mutant};
use crate::kube::Fence;
use crate::time::BootTime;

/// While draining without a watch, the Service is looked at this often. DRAIN_TIMEOUT bounds how many times.
const DRAIN_POLL: Duration = Duration::from_millis(250);

/// What is asked of the API.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteRequest {
    /// Read the own Pod.
    GetPod,
    /// Give it the label.
    LabelPod,
    /// Read the Service.
    GetService,
    /// Point the selector here, and sign it.
    PatchService {
        /// The Service's `resourceVersion` as read.
        version: Version,
        /// Its uid as read.
        uid: String,
        /// The term's fence.
        fence: Fence,
    },
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteReply {
    /// To [`RouteRequest::GetPod`] and [`RouteRequest::LabelPod`]: whether the Pod bears the label with the right value.
    Pod {
        /// It does.
        labelled: bool,
    },
    /// To the others: the Service, as it now is.
    Service(ObservedService),
}

/// Purpose nothing came back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RouteFailure {
    /// There is no such object.
    NotFound,
    /// It has changed since it was read.
    Conflict,
    /// The credentials do not allow it.
    Forbidden,
    /// The term ended before the call was sent, so it was not.
    NotSent,
    /// Anything else; it may have been applied.
    Failed,
}

/// What matters of a Service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ObservedService {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub version: Version,
    /// The value of the selector's routing key.
    pub target: Option<String>,
    /// Whose word that is.
    pub fence: Option<Fence>,
}

/// What routing is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteInput {
    /// The instant of [`RouteOutput::WaitUntil`] has come, or any other. Always harmless.
    Timer,
    /// A term has begun; this is its fence.
    Lead(Fence),
    /// The term has ended.
    Lost,
    /// What became of a call.
    Reply {
        /// The number from [`RouteOutput::Call`].
        call: u64,
        /// What came back.
        result: Result<RouteReply, RouteFailure>,
    },
    /// The watch delivered a version of the Service.
    Seen(ObservedService),
    /// The watch saw the Service deleted.
    Deleted,
    /// Whether a watch on the Service stands.
    Watching(bool),
    /// Report [`RouteOutput::Drained`] once the Service points elsewhere, at the latest at this instant.
    Drain {
        /// The limit.
        until: BootTime,
    },
}

/// What routing asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteOutput {
    /// Send this; answer with [`RouteInput::Reply`]. A [`RouteRequest::PatchService`] must not be sent unless the term is
    /// valid at that moment: answer [`RouteFailure::NotSent`] instead.
    Call {
        /// To be repeated in the reply.
        call: u64,
        /// What to send.
        request: RouteRequest,
    },
    /// Something that people want to know.
    Report(RouteEvent),
    /// The Service points elsewhere, or never pointed here, or there is no time left.
    Drained {
        /// Whether it does point elsewhere.
        elsewhere: bool,
    },
    /// Nothing more to do before this instant or the next input. Always the last output.
    WaitUntil(Option<BootTime>),
}

/// Something that people want to know.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteEvent {
    /// The Pod has got the label (`patched`), or had it.
    PodLabelled {
        /// It had to be given.
        patched: bool,
    },
    /// The Service points here.
    ServiceUpdated,
    /// Somebody else changed the selector while this process leads; it is put right again.
    SelectorChanged {
        /// To this.
        target: Option<String>,
    },
    /// The Service bears a greater fence: it belongs to a later term, and is left alone.
    SteppedBack {
        /// The greater fence.
        theirs: Fence,
    },
}

/// The routing of one Service to one Pod. See the module's documentation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Routing {
    /// The value of label and selector.
    target: String,
    retry_period: Duration,
    pod: PodLabel,
    /// The current term's fence.
    fence: Option<Fence>,
    service: Option<ObservedService>,
    /// What is known of the Service may be old.
    stale: bool,
    /// In this term the Service did point here.
    settled: bool,
    stepped_back: bool,
    patched_at: Option<BootTime>,
    watching: bool,
    drain_until: Option<BootTime>,
    call: Option<(u64, RouteCall)>,
    calls: u64,
    pod_at: BootTime,
    service_at: BootTime,
    outputs: VecDeque<RouteOutput>,
    #[cfg(feature = "mutants")]
    tampering: Tampering,
}

#[cfg(feature = "mutants")]
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Tampering {
    mistake: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum PodLabel {
    Unknown,
    Unlabelled,
    Labelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum RouteCall {
    Pod,
    Service,
    Patch,
}

impl Routing {
    /// `target`: the value of the Pod's label and of the Service's selector. `retry_period`: between tries that
    /// failed, and between looks at the Service where it cannot be watched.
    pub fn new(target: String, retry_period: Duration) -> Routing {
        Routing {
            target,
            retry_period,
            pod: PodLabel::Unknown,
            fence: None,
            service: None,
            stale: true,
            settled: false,
            stepped_back: false,
            patched_at: None,
            watching: false,
            drain_until: None,
            call: None,
            calls: 0,
            pod_at: BootTime(0),
            service_at: BootTime(0),
            outputs: VecDeque::new(),
            #[cfg(feature = "mutants")]
            tampering: Tampering::default(),
        }
    }

    /// Builds a known mistake in. For the simulator, which must catch it.
    #[cfg(feature = "mutants")]
    pub fn with_mistake(mut self, mistake: Option<Mutant>) -> Routing {
        self.tampering.mistake = mistake;
        self
    }

    /// From which version the Service should be watched; `None`: it need not be.
    pub fn watch_from(&self) -> Option<Version> {
        let wanted = self.fence.is_some() || self.drain_until.is_some();
        self.service.as_ref().filter(|_| wanted).map(|service| service.version)
    }

    /// The newest view of the Service.
    pub fn service(&self) -> Option<&ObservedService> {
        self.service.as_ref()
    }

    /// Takes one input. Drain [`Routing::poll`] afterwards.
    pub fn handle(&mut self, now: BootTime, input: RouteInput) {
        match input {
            RouteInput::Timer => {}
            RouteInput::Lead(fence) => {
                self.fence = Some(fence);
                (self.settled, self.stepped_back, self.patched_at) = (false, false, None);
                // Whatever was known is from an earlier term, or from nobody.
                (self.stale, self.service_at) = (true, now);
            }
            RouteInput::Lost => self.fence = None,
            RouteInput::Reply { call, result } => self.on_reply(now, call, result),
            RouteInput::Seen(service) => {
                if self.service.as_ref().is_none_or(|known| known.version < service.version) {
                    self.learn(service);
                }
            }
            RouteInput::Deleted => (self.service, self.stale, self.service_at) = (None, true, now),
            RouteInput::Watching(watching) => {
                if !watching && self.watching {
                    (self.stale, self.service_at) = (true, now + self.retry_period);
                }
                self.watching = watching;
            }
            RouteInput::Drain { until } => (self.drain_until, self.service_at) = (Some(until), now),
        }
        self.advance(now);
    }

    /// The next thing to do. [`RouteOutput::WaitUntil`] means: nothing more for now.
    pub fn poll(&mut self) -> RouteOutput {
        self.outputs.pop_front().unwrap_or_else(|| RouteOutput::WaitUntil(self.next_wake()))
    }

    fn points_here(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.target.as_ref() == Some(&self.target))
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
        if self.pod != PodLabel::Labelled && now >= self.pod_at {
            let request = if self.pod == PodLabel::Unknown { RouteRequest::GetPod } else { RouteRequest::LabelPod };
            self.start(RouteCall::Pod, request);
        } else if self.service_wanted() && now >= self.service_at {
            self.look_or_patch(now);
        }
    }

    fn look_or_patch(&mut self, now: BootTime) {
        match self.patch() {
            Some(patch) if !self.stale => {
                self.patched_at = Some(now);
                self.start(RouteCall::Patch, patch);
            }
            _ => self.start(RouteCall::Service, RouteRequest::GetService),
        }
    }

    /// Whether there is anything to do about the Service, now or at `service_at`.
    fn service_wanted(&self) -> bool {
        if self.drain_until.is_some() {
            return !self.watching;
        }
        self.fence.is_some()
            && self.pod == PodLabel::Labelled
            && (self.stale || !self.watching || self.patch().is_some())
    }

    /// The patch that the Service needs, if any.
    fn patch(&self) -> Option<RouteRequest> {
        let (fence, service) = (self.fence.as_ref()?, self.service.as_ref()?);
        let theirs = service.fence.as_ref();
        if theirs.is_some_and(|theirs| theirs.is_greater_than(fence)) && !mutant!(self, UnfencedRoute) {
            return None;
        }
        let done = self.points_here() && theirs == Some(fence);
        let patch =
            || RouteRequest::PatchService { version: service.version, uid: service.uid.clone(), fence: fence.clone() };
        (!done).then(patch)
    }

    fn next_wake(&self) -> Option<BootTime> {
        let idle = self.call.is_none();
        let pod = (idle && self.pod != PodLabel::Labelled).then_some(self.pod_at);
        let service = (idle && self.service_wanted()).then_some(self.service_at);
        [pod, service, self.drain_until].into_iter().flatten().min()
    }

    fn start(&mut self, kind: RouteCall, request: RouteRequest) {
        self.calls += 1;
        self.call = Some((self.calls, kind));
        self.outputs.push_back(RouteOutput::Call { call: self.calls, request });
    }

    fn on_reply(&mut self, now: BootTime, number: u64, result: Result<RouteReply, RouteFailure>) {
        let Some((_, kind)) = self.call.take_if(|(call, _)| *call == number) else { return };
        match (kind, result) {
            (RouteCall::Pod, Ok(RouteReply::Pod { labelled })) => self.on_pod(labelled),
            (RouteCall::Service | RouteCall::Patch, Ok(RouteReply::Service(service))) => {
                self.on_service(now, kind, service)
            }
            (RouteCall::Pod, Err(failure)) => self.on_pod_failure(now, failure),
            (RouteCall::Service | RouteCall::Patch, Err(failure)) => self.on_service_failure(now, failure),
            (_, Ok(_)) => debug_assert!(false, "an answer to another question"),
        }
    }

    fn on_pod(&mut self, labelled: bool) {
        if labelled {
            self.outputs
                .push_back(RouteOutput::Report(RouteEvent::PodLabelled { patched: self.pod == PodLabel::Unlabelled }));
        }
        self.pod = if labelled { PodLabel::Labelled } else { PodLabel::Unlabelled };
    }

    fn on_pod_failure(&mut self, now: BootTime, failure: RouteFailure) {
        // Not allowed to look: it may be allowed to patch.
        if failure == RouteFailure::Forbidden && self.pod == PodLabel::Unknown {
            self.pod = PodLabel::Unlabelled;
        } else {
            (self.pod, self.pod_at) = (PodLabel::Unknown, now + self.retry_period);
        }
    }

    fn on_service(&mut self, now: BootTime, kind: RouteCall, service: ObservedService) {
        // Authoritative even where its version is smaller: that is what a restored backup looks like. A watch event
        // that came in the meantime is newer only if its version says so.
        let newer_seen = !self.stale && self.service.as_ref().is_some_and(|known| known.version > service.version);
        if !newer_seen {
            self.stale = false;
            self.learn(service);
        }
        if kind == RouteCall::Service && self.patch().is_none() {
            let pace = if self.drain_until.is_some() { DRAIN_POLL } else { self.retry_period };
            self.service_at = now + pace;
            self.stale = !self.watching;
        }
    }

    fn on_service_failure(&mut self, now: BootTime, failure: RouteFailure) {
        match failure {
            RouteFailure::NotFound => self.service = None,
            RouteFailure::Conflict => return (self.stale, self.service_at) = (true, now),
            RouteFailure::Forbidden | RouteFailure::NotSent | RouteFailure::Failed => {}
        }
        let pace = if self.drain_until.is_some() { DRAIN_POLL } else { self.retry_period };
        (self.stale, self.service_at) = (true, now + pace);
    }

    fn learn(&mut self, service: ObservedService) {
        self.service = Some(service);
        let (Some(fence), Some(service)) = (&self.fence, &self.service) else { return };
        let theirs = service.fence.clone().filter(|theirs| theirs.is_greater_than(fence));
        let event = match theirs {
            Some(theirs) if !self.stepped_back => {
                self.stepped_back = true;
                RouteEvent::SteppedBack { theirs }
            }
            Some(_) => return,
            None if self.patch().is_none() && !self.settled => {
                self.settled = true;
                RouteEvent::ServiceUpdated
            }
            None if self.patch().is_some() && self.settled => {
                self.settled = false;
                // Put right at once; but whoever changes it again and again is not answered in a loop.
                self.service_at = self.patched_at.map_or(self.service_at, |at| at + self.retry_period);
                RouteEvent::SelectorChanged { target: service.target.clone() }
            }
            None => return,
        };
        self.outputs.push_back(RouteOutput::Report(event));
    }
}
