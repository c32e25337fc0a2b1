//! What goes into routing and what comes out of it, as values.
//!
//! PURE: data only.

use crate::election::Version;
use crate::kube::{Fence, Service};
use crate::time::BootTime;

/// A call to the API.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteReply {
    /// To [`RouteRequest::GetPod`] and [`RouteRequest::LabelPod`]: whether the Pod bears the label with the right value.
    Pod {
        /// It does.
        labelled: bool,
    },
    /// To the others: the Service as it is now.
    Service(Service),
}

/// Why a call brought no answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RouteFailure {
    /// There is no such object.
    NotFound,
    /// It has changed since it was read.
    Conflict,
    /// The credentials do not allow it.
    Forbidden,
    /// Anything else. It may have been applied; or it was not sent, because the term had ended.
    Failed,
}

/// What goes into routing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteInput {
    /// The instant of [`RouteOutput::WaitUntil`] has come. Any other time is harmless.
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
    /// Report [`RouteOutput::Drained`] once the Service points elsewhere, at the latest at this instant.
    Drain {
        /// The limit.
        until: BootTime,
    },
}

/// What comes out of routing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteOutput {
    /// Send this; answer with [`RouteInput::Reply`]. A [`RouteRequest::PatchService`] must not be sent unless the term is
    /// valid at that moment: answer [`RouteFailure::Failed`] instead. There is one call at a time.
    Call(RouteRequest),
    /// For the log and the metrics.
    Report(RouteEvent),
    /// The Service points elsewhere, or never pointed here, or there is no time left.
    Drained {
        /// Whether it points elsewhere.
        elsewhere: bool,
    },
    /// Nothing more to do before this instant or the next input. Always the last output.
    WaitUntil(Option<BootTime>),
}

/// An event for the log and the metrics.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RouteEvent {
    /// The Pod bears the label.
    PodLabelled {
        /// It had to be given.
        patched: bool,
    },
    /// The Service points here.
    ServiceUpdated,
    /// The selector was changed while this process leads; it is set again.
    SelectorChanged {
        /// To this.
        target: Option<String>,
    },
    /// The Service bears the fence of a later term, and is not patched.
    SteppedBack {
        /// That fence.
        theirs: Fence,
    },
    /// The last patches were all conflicts, and the next one waits.
    Conflicts,
}
