//! The seam between the simulated nodes and the API server, so that the same schedules run on a small typed model
//! (fast) and on the shipped JSON code with the served store (true to the wire).
//!
//! PURE.

use std::time::Duration;

use leasehold::election::{Answer, CallFailure, CallKind, Input, LeaseRequest, Mutant};
use leasehold::kube::{Fence, Service};
use leasehold::program::routing;

/// The key of a Pod's label and of the Service's selector.
pub const ROUTE_LABEL: &str = "pod";

/// The Lease as the checkers read it. Their own type: nothing of it is shared with the election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub uid: String,
    pub version: u128,
    pub holder: Option<String>,
    pub duration_seconds: Option<u32>,
    pub acquire_micros: Option<i64>,
    pub renew_micros: Option<i64>,
    pub transitions: u32,
    pub coordinated: bool,
    /// All that no candidate has any business with: labels, other annotations, unknown fields.
    pub other: String,
}

impl Facts {
    /// Whether a rival sees a sign of life between the two.
    pub fn same_record(&self, other: &Facts) -> bool {
        self.uid == other.uid
            && self.holder == other.holder
            && self.duration_seconds == other.duration_seconds
            && self.acquire_micros == other.acquire_micros
            && self.renew_micros == other.renew_micros
            && self.transitions == other.transitions
    }
}

/// What an operator does to the Lease by hand.
#[derive(Clone, Debug)]
pub enum Edit {
    Delete,
    Holder(Option<String>),
    Duration(Option<u32>),
    ForgetTimes,
    Label(u64),
    Strategy(bool),
    YieldTo(String),
}

impl Edit {
    /// Whether it touches what only candidates may write: the guarantee assumes that nobody else does.
    pub fn speaks_for_the_holder(&self) -> bool {
        !matches!(self, Edit::Label(_) | Edit::YieldTo(_))
    }
}

/// The Service as the checkers read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceFacts {
    pub uid: String,
    pub version: u128,
    pub target: Option<String>,
    pub fence: Option<FenceFacts>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FenceFacts {
    pub lease_uid: String,
    pub token: u128,
}

impl ServiceFacts {
    /// As a watch would deliver it to the routing.
    pub fn view(&self) -> Service {
        let fence = self.fence.as_ref().map(|fence| Fence { lease_uid: fence.lease_uid.clone(), token: fence.token });
        let selector = self.target.iter().map(|target| (ROUTE_LABEL.to_owned(), target.clone())).collect();
        Service { uid: self.uid.clone(), version: self.version, selector, fence }
    }
}

/// What people and their tools do to the Service.
#[derive(Clone, Debug)]
pub enum ServiceEdit {
    Target(Option<String>),
    /// The annotations are put back as they were in somebody's manifest: without the fence.
    Unsign,
    /// Deleted, and made anew.
    Recreate,
    /// Left behind by another Lease, younger than all others here.
    Fence {
        token: u128,
        target: String,
    },
}

/// The uid of that Lease: it sorts after all others.
pub const YOUNGER_LEASE: &str = "younger";

/// How the API server treats the calls about Pod and Service, again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misbehaviour {
    /// An admission webhook removes the Pod's label.
    RemovesLabel,
    /// It removes the Service's fence.
    RemovesFence,
    /// It removes the key of the Service's selector.
    RemovesSelector,
    /// Every patch of the Service is a conflict.
    Conflicts,
}

/// The record that client-go writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeignRecord {
    pub holder: String,
    pub duration_seconds: u32,
    pub acquire_micros: i64,
    pub renew_micros: i64,
    pub transitions: u32,
}

/// What came back to a call, before the client has made sense of it.
#[derive(Clone, Debug)]
pub enum Outcome<R> {
    Reply(R),
    /// Answered by the API server's front: 429, 500, 503.
    Status {
        code: u16,
        retry_after: Option<Duration>,
    },
    /// The connection could not be made: certainly not applied.
    Unreachable,
    /// The connection broke after the request was sent.
    Reset,
    TimedOut,
}

/// What a replacement said it was based on.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub version: bool,
    pub uid: bool,
}

pub trait Api: Sized {
    /// A node's end: what it must remember to write the object back as it was read.
    type Client;
    type Call: Clone + std::fmt::Debug;
    type Reply: Clone;
    type Event: Clone;
    type Stream;
    /// A call about the own Pod or the Service.
    type RouteCall: Clone;
    type RouteReply: Clone;

    fn new(seed: u64) -> Self;

    fn client(mistake: Option<Mutant>) -> Self::Client;
    /// `None`: the version to be replaced is not at hand, a conflict found out without asking.
    fn encode(client: &mut Self::Client, request: &LeaseRequest, purpose: CallKind) -> Option<Self::Call>;
    fn decode(
        client: &mut Self::Client,
        call: &Self::Call,
        outcome: Outcome<Self::Reply>,
    ) -> Result<Answer, CallFailure>;
    fn decode_event(client: &mut Self::Client, event: &Self::Event) -> Option<Input>;
    fn writes(call: &Self::Call) -> bool;
    /// Of a replacement; `None` for any other call.
    fn conditions(call: &Self::Call) -> Option<Conditions>;

    fn serve(&mut self, call: &Self::Call, wall_micros: i64) -> Self::Reply;
    /// A watch from after the version `from`; `None`: it is too old, or unknown (410).
    fn open(&mut self, from: u128) -> Option<Self::Stream>;
    fn read(&mut self, stream: &mut Self::Stream) -> Vec<Self::Event>;

    fn encode_route(request: &routing::RouteRequest, node: usize) -> Self::RouteCall;
    /// Of a patch of the Service; `None` for any other call.
    fn route_conditions(call: &Self::RouteCall) -> Option<Conditions>;
    fn serve_route(&mut self, call: &Self::RouteCall) -> Self::RouteReply;
    fn decode_route(
        call: &Self::RouteCall,
        outcome: Outcome<Self::RouteReply>,
    ) -> Result<routing::RouteReply, routing::RouteFailure>;
    fn service(&self) -> Option<ServiceFacts>;
    fn edit_service(&mut self, edit: &ServiceEdit);
    /// From now on, until it is called again.
    fn misbehave(&mut self, how: Option<Misbehaviour>);
    /// From now on a replacement of the Lease is answered with 200 and the Lease as it was. Not everywhere possible.
    fn undo_writes(&mut self, _: bool) {}

    fn facts(&self) -> Option<Facts>;
    /// The version of the last change.
    fn version(&self) -> u128;
    fn edit(&mut self, edit: &Edit, wall_micros: i64);
    /// A write as client-go makes it: the spec rebuilt, the metadata kept. `None` for `version`: it creates.
    fn put_as_client_go(&mut self, version: Option<u128>, record: &ForeignRecord, wall_micros: i64) -> bool;
    fn save(&mut self);
    /// The state of the last [`Api::save`], versions included, as after a restored backup.
    fn restore(&mut self);
}
