//! What goes into routing and what comes out of it, as values.
//!
//! PURE: data only.

use crate::election::Version;
use crate::kube::{Fence, Service};

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

/// What goes into routing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteInput {
    /// The instant of [`Routing::wake`](super::Routing::wake) has come. Any other time is harmless.
    Timer,
    /// A term has begun; this is its fence.
    Lead(Fence),
    /// The term has ended.
    Lost,
    /// The call under way was answered, or failed, with this status if one came: it may have been applied.
    Reply(Result<RouteReply, Option<u16>>),
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
