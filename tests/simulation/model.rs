//! A typed model of the API server with one Lease: no JSON, so that tens of thousands of schedules run in minutes.
//!
//! PURE.

use std::time::Duration;

use leasehold::election::{
    Annotations, Answer, CallFailure, CallKind, Content, Input, LeaseRequest, Mutant, Record, Snapshot, Version,
};
use leasehold::program::routing;
use leasehold::time::WallTime;

use crate::api::{
    Api, Conditions, Edit, Facts, FenceFacts, ForeignRecord, Misbehaviour, Outcome, ServiceEdit, ServiceFacts,
    YOUNGER_LEASE,
};
use crate::routes;

#[derive(Clone, Default)]
pub struct Model {
    version: Version,
    leases_made: u64,
    lease: Option<Object>,
    changes: Vec<Event>,
    labelled: Vec<usize>,
    service: Option<ServiceFacts>,
    services_made: u64,
    misbehaviour: Option<Misbehaviour>,
    undoes_writes: bool,
    saved: Option<Box<Model>>,
}

#[derive(Clone, Debug)]
struct Object {
    snapshot: Snapshot,
    label: u64,
}

#[derive(Clone, Debug)]
pub struct Call {
    request: LeaseRequest,
    /// Of the object that the replacement was made from.
    uid: Option<String>,
    label: u64,
    unconditional: bool,
}

#[derive(Clone)]
pub struct RouteCall {
    request: routing::RouteRequest,
    node: usize,
}

#[derive(Clone, Debug)]
pub enum Reply {
    Found(Snapshot, u64),
    Absent,
    Written { lease: Snapshot, label: u64, created: bool },
    Conflict,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "deletions are rare, and a box for every other event is not free")]
pub enum Event {
    Modified(Snapshot, u64),
    Deleted(Version),
}

pub struct Watch {
    next: usize,
    from: Version,
}

impl Event {
    fn version(&self) -> Version {
        match self {
            Event::Modified(lease, _) => lease.version,
            Event::Deleted(version) => *version,
        }
    }
}

pub struct Client {
    read: Vec<(Version, String, u64)>,
    mistake: Option<Mutant>,
}

impl Client {
    fn keep(&mut self, lease: &Snapshot, label: u64) {
        self.read.retain(|(version, ..)| *version != lease.version);
        self.read.push((lease.version, lease.uid.clone(), label));
        if self.read.len() > 3 {
            self.read.remove(0);
        }
    }
}

impl Model {
    fn put(&mut self, snapshot: Snapshot, label: u64) -> Snapshot {
        self.version += 1;
        let snapshot = Snapshot { version: self.version, ..snapshot };
        self.lease = Some(Object { snapshot: snapshot.clone(), label });
        self.changes.push(Event::Modified(snapshot.clone(), label));
        snapshot
    }

    fn create(&mut self, record: Record, annotations: Annotations, label: u64) -> Snapshot {
        self.leases_made += 1;
        let uid = format!("uid-{}", self.leases_made);
        self.put(Snapshot { uid, version: 0, record, annotations, coordinated: false }, label)
    }

    fn replace(&mut self, call: &Call, version: Version, content: &Content) -> Reply {
        let Content { record, annotations } = content.clone();
        let Some(found) = self.lease.clone() else {
            if call.uid.is_some() {
                return Reply::Conflict;
            }
            let lease = self.create(record, annotations, call.label);
            return Reply::Written { lease, label: call.label, created: true };
        };
        let before = found.snapshot;
        let same_uid = call.uid.as_ref().is_none_or(|uid| *uid == before.uid);
        if !call.unconditional && (version != before.version || !same_uid) {
            return Reply::Conflict;
        }
        if self.undoes_writes {
            return Reply::Written { lease: before, label: found.label, created: false };
        }
        let label = if call.unconditional { found.label } else { call.label };
        let lease = Snapshot { record, annotations, ..before.clone() };
        let lease = if lease == before && label == found.label { before } else { self.put(lease, label) };
        Reply::Written { lease, label, created: false }
    }
}

impl Api for Model {
    type Client = Client;
    type Call = Call;
    type Reply = Reply;
    type Event = Event;
    type Stream = Watch;
    type RouteCall = RouteCall;
    type RouteReply = Result<routing::RouteReply, routing::RouteFailure>;

    fn new(_: u64) -> Model {
        let mut model = Model { version: 99, ..Model::default() };
        model.edit_service(&ServiceEdit::Recreate);
        model
    }

    fn client(mistake: Option<Mutant>) -> Client {
        Client { read: Vec::new(), mistake }
    }

    fn encode(client: &mut Client, request: &LeaseRequest, _: CallKind) -> Option<Call> {
        let mut call = Call { request: request.clone(), uid: None, label: 0, unconditional: false };
        if let LeaseRequest::Replace { version, .. } = request {
            let (_, uid, label) = client.read.iter().find(|(read, ..)| read == version)?;
            call.label = *label;
            call.unconditional = client.mistake == Some(Mutant::WriteWithoutVersion);
            call.uid = Some(uid.clone()).filter(|_| !call.unconditional);
        }
        Some(call)
    }

    fn decode(client: &mut Client, call: &Call, outcome: Outcome<Reply>) -> Result<Answer, CallFailure> {
        let writes = call.request != LeaseRequest::Get;
        let refused = |retry_after: Option<Duration>| Err(CallFailure::Refused { retry_after });
        match outcome {
            Outcome::Reply(Reply::Found(lease, label)) => {
                client.keep(&lease, label);
                Ok(Answer::Found(lease))
            }
            Outcome::Reply(Reply::Absent) => Ok(Answer::Absent),
            Outcome::Reply(Reply::Written { lease, label, created }) => {
                client.keep(&lease, label);
                Ok(Answer::Written { lease, created })
            }
            Outcome::Reply(Reply::Conflict) => Err(CallFailure::Conflict),
            Outcome::Unreachable => refused(None),
            Outcome::Status { code: 429, retry_after } => refused(retry_after),
            Outcome::Status { retry_after, .. } if !writes => refused(retry_after),
            Outcome::Status { retry_after, .. } => Err(CallFailure::Unknown { retry_after }),
            Outcome::Reset | Outcome::TimedOut => Err(CallFailure::Unknown { retry_after: None }),
        }
    }

    fn decode_event(client: &mut Client, event: &Event) -> Option<Input> {
        Some(match event {
            Event::Modified(lease, label) => {
                client.keep(lease, *label);
                Input::Seen(lease.clone())
            }
            Event::Deleted(version) => Input::Deleted(*version),
        })
    }

    fn writes(call: &Call) -> bool {
        call.request != LeaseRequest::Get
    }

    fn conditions(call: &Call) -> Option<Conditions> {
        matches!(call.request, LeaseRequest::Replace { .. })
            .then(|| Conditions { version: !call.unconditional, uid: call.uid.is_some() })
    }

    fn serve(&mut self, call: &Call, _: i64) -> Reply {
        match &call.request {
            LeaseRequest::Get => match &self.lease {
                Some(found) => Reply::Found(found.snapshot.clone(), found.label),
                None => Reply::Absent,
            },
            LeaseRequest::Create(_) if self.lease.is_some() => Reply::Conflict,
            LeaseRequest::Create(content) => {
                let lease = self.create(content.record.clone(), content.annotations.clone(), 0);
                Reply::Written { lease, label: 0, created: true }
            }
            LeaseRequest::Replace { version, content } => self.replace(call, *version, content),
        }
    }

    /// A watch from a version that the server has not reached, as after a restored backup, is accepted and stays silent.
    fn open(&mut self, from: u128) -> Option<Watch> {
        Some(Watch { next: self.changes.partition_point(|change| change.version() <= from), from })
    }

    fn read(&mut self, watch: &mut Watch) -> Vec<Event> {
        let news = self.changes.get(watch.next..).unwrap_or_default();
        watch.next = self.changes.len();
        news.iter().filter(|change| change.version() > watch.from).cloned().collect()
    }

    fn encode_route(request: &routing::RouteRequest, node: usize) -> RouteCall {
        RouteCall { request: request.clone(), node }
    }

    fn route_conditions(call: &RouteCall) -> Option<Conditions> {
        let patches = matches!(call.request, routing::RouteRequest::PatchService { .. });
        patches.then_some(Conditions { version: true, uid: true })
    }

    fn serve_route(&mut self, call: &RouteCall) -> Self::RouteReply {
        match &call.request {
            routing::RouteRequest::GetPod => return Ok(routes::labelled(self.labelled.contains(&call.node))),
            routing::RouteRequest::LabelPod if self.misbehaviour == Some(Misbehaviour::RemovesLabel) => {
                return Ok(routes::labelled(false));
            }
            routing::RouteRequest::LabelPod => {
                self.labelled.push(call.node);
                return Ok(routes::labelled(true));
            }
            routing::RouteRequest::GetService => {}
            routing::RouteRequest::PatchService { version, uid, fence } => {
                let service = self.service.as_mut().ok_or(routes::failure(404))?;
                let refused = self.misbehaviour == Some(Misbehaviour::Conflicts);
                if refused || service.version != *version || service.uid != *uid {
                    return Err(routes::failure(409));
                }
                self.version += 1;
                service.version = self.version;
                service.target = Some(routes::value(call.node));
                service.fence = Some(FenceFacts { lease_uid: fence.lease_uid.clone(), token: fence.token });
                match self.misbehaviour {
                    Some(Misbehaviour::RemovesFence) => service.fence = None,
                    Some(Misbehaviour::RemovesSelector) => service.target = None,
                    _ => {}
                }
            }
        }
        let service = self.service.as_ref().ok_or(routes::failure(404))?;
        Ok(routing::RouteReply::Service(service.view()))
    }

    fn decode_route(_: &RouteCall, outcome: Outcome<Self::RouteReply>) -> Self::RouteReply {
        match outcome {
            Outcome::Reply(reply) => reply,
            _ => Err(routes::failure(503)),
        }
    }

    fn service(&self) -> Option<ServiceFacts> {
        self.service.clone()
    }

    fn edit_service(&mut self, edit: &ServiceEdit) {
        self.version += 1;
        let version = self.version;
        match (edit, &mut self.service) {
            (ServiceEdit::Recreate, service) => {
                self.services_made += 1;
                let uid = format!("service-{}", self.services_made);
                *service = Some(ServiceFacts { uid, version, target: None, fence: None });
            }
            (ServiceEdit::Target(target), Some(service)) => {
                service.target.clone_from(target);
                service.version = version;
            }
            (ServiceEdit::Unsign, Some(service)) => {
                service.fence = None;
                service.version = version;
            }
            (ServiceEdit::Fence { token, target }, Some(service)) => {
                service.target = Some(target.clone());
                service.fence = Some(FenceFacts { lease_uid: YOUNGER_LEASE.to_owned(), token: *token });
                service.version = version;
            }
            (_, None) => {}
        }
    }

    fn undo_writes(&mut self, undo: bool) {
        self.undoes_writes = undo;
    }

    fn misbehave(&mut self, how: Option<Misbehaviour>) {
        self.misbehaviour = how;
    }

    fn facts(&self) -> Option<Facts> {
        let Object { snapshot, label } = self.lease.as_ref()?;
        Some(Facts {
            uid: snapshot.uid.clone(),
            version: snapshot.version,
            holder: snapshot.record.holder.clone(),
            duration_seconds: snapshot.record.lease_duration_seconds,
            acquire_micros: snapshot.record.acquire_time.map(|time| time.0),
            renew_micros: snapshot.record.renew_time.map(|time| time.0),
            transitions: snapshot.record.transitions,
            coordinated: snapshot.coordinated,
            other: label.to_string(),
        })
    }

    fn version(&self) -> u128 {
        self.version
    }

    fn edit(&mut self, edit: &Edit, _: i64) {
        let Some(Object { mut snapshot, mut label }) = self.lease.clone() else { return };
        match edit {
            Edit::Delete => {
                self.version += 1;
                self.lease = None;
                self.changes.push(Event::Deleted(self.version));
                return;
            }
            Edit::Holder(holder) => snapshot.record.holder.clone_from(holder),
            Edit::Duration(seconds) => snapshot.record.lease_duration_seconds = *seconds,
            Edit::ForgetTimes => {
                snapshot.record.acquire_time = None;
                snapshot.record.renew_time = None;
            }
            Edit::Label(value) => label = *value,
            Edit::Strategy(set) if snapshot.coordinated == *set => return,
            Edit::Strategy(set) => snapshot.coordinated = *set,
            Edit::YieldTo(name) => snapshot.annotations.yield_to = Some(name.clone()),
        }
        self.put(snapshot, label);
    }

    fn put_as_client_go(&mut self, version: Option<u128>, record: &ForeignRecord, _: i64) -> bool {
        let found = self.lease.as_ref().map(|found| found.snapshot.version);
        if found != version {
            return false;
        }
        let record = Record {
            holder: Some(record.holder.clone()).filter(|holder| !holder.is_empty()),
            lease_duration_seconds: Some(record.duration_seconds),
            acquire_time: Some(WallTime(record.acquire_micros)),
            renew_time: Some(WallTime(record.renew_micros)),
            transitions: record.transitions,
        };
        match self.lease.clone() {
            Some(Object { snapshot, label }) => {
                self.put(Snapshot { record, coordinated: false, ..snapshot }, label);
            }
            None => {
                self.create(record, Annotations::default(), 0);
            }
        }
        true
    }

    fn save(&mut self) {
        self.saved = Some(Box::new(Model { saved: None, ..self.clone() }));
    }

    fn restore(&mut self) {
        if let Some(saved) = &self.saved {
            *self = (**saved).clone();
        }
    }
}
