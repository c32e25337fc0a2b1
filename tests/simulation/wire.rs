//! The API server as it is served to tests, and the shipped code in front of it: every call is the bytes that
//! leasehold sends, every answer the bytes that it parses.
//!
//! PURE: [`Store`] and [`LeaseStore`] are.

use std::sync::Arc;

use leasehold::election::{Answer, CallFailure, CallKind, Input, LeaseRequest, Mutant};
use leasehold::kube::service::selector_patch;
use leasehold::kube::{self, CallError, Purpose, TransportKind, WatchEvent, request};
use leasehold::program::routing;
use leasehold::runtime::lease_store::{self, LeaseStore};
use leasehold::time::WallTime;
use leasehold_apiserver::store::{self, Fields, LEASES, PODS, SERVICES, Store, Watch};
use serde_json::{Value, json};

use crate::api::{
    Api, Conditions, Edit, Facts, FenceFacts, ForeignRecord, Misbehaviour, Outcome, ROUTE_LABEL, ServiceEdit,
    ServiceFacts, YOUNGER_LEASE,
};
use crate::routes;

pub const NAMESPACE: &str = "ns";
pub const NAME: &str = "web";

pub struct Wire {
    pub store: Store,
    refuses_patches: bool,
    saved: Option<store::Snapshot>,
}

/// A candidate's end: the shipped code, and the mistake that only a test makes.
pub struct Client {
    store: LeaseStore,
    mistake: Option<Mutant>,
}

/// An HTTP answer.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    body: Arc<[u8]>,
}

impl Wire {
    /// Serves a call of leasehold's.
    pub fn handle(&mut self, call: &kube::Request, wall_micros: i64) -> Reply {
        let request = store::Request {
            method: call.verb.method().to_owned(),
            path: call.path.clone(),
            content_type: call.content_type.unwrap_or_default().to_owned(),
            body: call.body.clone().unwrap_or_default().into_bytes(),
            ..store::Request::default()
        };
        let response = self.store.handle(&request, wall_micros);
        Reply { status: response.status, body: response.body.to_string().into_bytes().into() }
    }

    fn lease(&self) -> Option<&Value> {
        self.store.object(LEASES, NAMESPACE, NAME)
    }

    fn patch(&mut self, patch: Value) {
        self.store.patch_object(LEASES, NAMESPACE, NAME, &patch);
    }
}

/// What the client's code makes of an outcome.
pub fn result_of(call: &kube::Request, outcome: Outcome<Reply>) -> Result<kube::Reply, CallError> {
    let broken = |kind, sent| Err(CallError::transport(call, kind, sent, "simulated"));
    match outcome {
        Outcome::Reply(Reply { status: status @ 200..300, body }) => Ok(kube::Reply { status, body: body.to_vec() }),
        Outcome::Reply(Reply { status, body }) => Err(CallError::from_answer(call, status, None, &body)),
        Outcome::Status { code, retry_after } => {
            let seconds = retry_after.map(|after| after.as_secs().to_string());
            Err(CallError::from_answer(call, code, seconds.as_deref(), b"upstream connect error"))
        }
        Outcome::Unreachable => broken(TransportKind::Connect, false),
        Outcome::Reset => broken(TransportKind::Cut, true),
        Outcome::TimedOut => broken(TransportKind::Timeout, true),
    }
}

fn watch_from(version: u128) -> kube::Request {
    request::watch_lease(NAMESPACE, NAME, version, std::time::Duration::from_secs(300), Purpose::Observe)
}

fn version(object: &Value) -> Option<u128> {
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

/// What a body names of what it replaces.
fn conditions(body: &str) -> Option<Conditions> {
    let body: Value = serde_json::from_str(body).ok()?;
    let has = |key: &str| body["metadata"][key].is_string();
    Some(Conditions { version: has("resourceVersion"), uid: has("uid") })
}

/// The same replacement, whatever the version is by now.
fn without_version(mut call: kube::Request) -> kube::Request {
    let mut object: Value = serde_json::from_str(call.body.as_deref().expect("a body")).expect("JSON");
    let metadata = object["metadata"].as_object_mut().expect("an object");
    metadata.remove("resourceVersion");
    metadata.remove("uid");
    call.body = Some(object.to_string());
    call
}

impl Api for Wire {
    type Client = Client;
    type Call = kube::Request;
    type Reply = Reply;
    type Event = Arc<[u8]>;
    type Stream = Watch;
    type RouteCall = kube::Request;
    type RouteReply = Reply;

    fn new(seed: u64) -> Wire {
        let mut store = Store::new(seed);
        store.set_lease_fields(Fields::All);
        let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": {"app": "web"}});
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(NAME), "spec": spec});
        store.put_object(SERVICES, &service, 0);
        for node in 0..5 {
            let spec = json!({"containers": [{"name": "main", "image": "web"}]});
            let metadata = metadata(&routes::value(node));
            store.put_object(PODS, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}), 0);
        }
        store.advance_resource_version(100);
        Wire { store, refuses_patches: false, saved: None }
    }

    fn client(mistake: Option<Mutant>) -> Client {
        Client { store: LeaseStore::new(NAMESPACE, NAME), mistake }
    }

    fn encode(client: &mut Client, request: &LeaseRequest, purpose: CallKind) -> Option<kube::Request> {
        let call = client.store.request(request, purpose)?;
        let mistaken = client.mistake == Some(Mutant::WriteWithoutVersion) && call.verb == kube::Verb::Update;
        Some(if mistaken { without_version(call) } else { call })
    }

    fn decode(client: &mut Client, call: &kube::Request, outcome: Outcome<Reply>) -> Result<Answer, CallFailure> {
        client.store.read(call, result_of(call, outcome)).or_else(|error| lease_store::failure(&error))
    }

    fn decode_event(client: &mut Client, line: &Arc<[u8]>) -> Option<Input> {
        match WatchEvent::parse(&watch_from(0), line) {
            Ok(WatchEvent::Modified(_, object)) => client.store.seen(object).ok().map(Input::Seen),
            Ok(WatchEvent::Deleted(version)) => Some(Input::Deleted(version)),
            Ok(WatchEvent::Bookmark(_)) | Err(_) => None,
        }
    }

    fn conditions(call: &kube::Request) -> Option<Conditions> {
        conditions(call.body.as_deref().filter(|_| call.verb == kube::Verb::Update)?)
    }

    fn writes(call: &kube::Request) -> bool {
        call.verb.writes()
    }

    fn serve(&mut self, call: &kube::Request, wall_micros: i64) -> Reply {
        self.handle(call, wall_micros)
    }

    fn open(&mut self, from: u128) -> Option<Watch> {
        let call = watch_from(from);
        self.store.handle(&store::Request::new(call.verb.method(), call.path), 0).watch
    }

    fn read(&mut self, watch: &mut Watch) -> Vec<Arc<[u8]>> {
        self.store.read_watch(watch).iter().map(|event| event.line().into()).collect()
    }

    fn encode_route(request: &routing::RouteRequest, node: usize) -> kube::Request {
        let pod = routes::value(node);
        match request {
            routing::RouteRequest::GetPod => request::get_pod(NAMESPACE, &pod),
            routing::RouteRequest::LabelPod => request::label_pod(NAMESPACE, &pod, ROUTE_LABEL, &pod),
            routing::RouteRequest::GetService => request::get_service(NAMESPACE, NAME, Purpose::Route),
            routing::RouteRequest::PatchService { version, uid, fence } => {
                let patch = selector_patch(*version, uid, ROUTE_LABEL, &pod, fence);
                request::patch_service(NAMESPACE, NAME, &patch)
            }
        }
    }

    fn route_conditions(call: &kube::Request) -> Option<Conditions> {
        let patches = call.verb == kube::Verb::Patch && call.resource == kube::Resource::Service;
        conditions(call.body.as_deref().filter(|_| patches)?)
    }

    fn serve_route(&mut self, call: &kube::Request) -> Reply {
        if self.refuses_patches && Wire::route_conditions(call).is_some() {
            return Reply { status: 409, body: Arc::new([]) };
        }
        self.handle(call, 0)
    }

    fn decode_route(
        call: &kube::Request,
        outcome: Outcome<Reply>,
    ) -> Result<routing::RouteReply, routing::RouteFailure> {
        let read = result_of(call, outcome).and_then(|reply| {
            if call.resource == kube::Resource::Pod {
                let pod = reply.parse(call, kube::Pod::parse)?;
                return Ok(routes::labelled(pod.label(ROUTE_LABEL) == Some(call.name.as_str())));
            }
            Ok(routing::RouteReply::Service(reply.parse(call, kube::Service::parse)?))
        });
        read.map_err(|error| routing::RouteFailure {
            status: error.status,
            retry_after: error.retry_after.unwrap_or_default(),
        })
    }

    fn service(&self) -> Option<ServiceFacts> {
        let object = self.store.object(SERVICES, NAMESPACE, NAME)?;
        let fence = object["metadata"]["annotations"]["leasehold.dev/fence"].as_str().and_then(|text| {
            let (lease_uid, token) = text.split_once('/')?;
            Some(FenceFacts { lease_uid: lease_uid.to_owned(), token: token.parse().ok()? })
        });
        Some(ServiceFacts {
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            version: version(object).unwrap_or(0),
            target: object["spec"]["selector"][ROUTE_LABEL].as_str().map(str::to_owned),
            fence,
        })
    }

    fn edit_service(&mut self, edit: &ServiceEdit) {
        let patch = match edit {
            ServiceEdit::Target(target) => json!({"spec": {"selector": {ROUTE_LABEL: target}}}),
            ServiceEdit::Unsign => json!({"metadata": {"annotations": {"leasehold.dev/fence": null}}}),
            ServiceEdit::Fence { token, target } => json!({
                "metadata": {"annotations": {"leasehold.dev/fence": format!("{YOUNGER_LEASE}/{token}")}},
                "spec": {"selector": {ROUTE_LABEL: target}},
            }),
            ServiceEdit::Recreate => {
                let Some(mut object) = self.store.object(SERVICES, NAMESPACE, NAME).cloned() else { return };
                self.store.delete_object(SERVICES, NAMESPACE, NAME);
                object["metadata"] = json!({"name": NAME, "namespace": NAMESPACE});
                object["spec"]["selector"] = json!({"app": "web"});
                self.store.put_object(SERVICES, &object, 0);
                return;
            }
        };
        self.store.patch_object(SERVICES, NAMESPACE, NAME, &patch);
    }

    fn misbehave(&mut self, how: Option<Misbehaviour>) {
        let fields: (&[&str], &[&str]) = match how {
            Some(Misbehaviour::RemovesLabel) => (&["/metadata/labels/pod"], &[]),
            Some(Misbehaviour::RemovesFence) => (&[], &["/metadata/annotations/leasehold.dev~1fence"]),
            Some(Misbehaviour::RemovesSelector) => (&[], &["/spec/selector/pod"]),
            Some(Misbehaviour::Conflicts) | None => (&[], &[]),
        };
        self.store.remove_on_admission(PODS, fields.0);
        self.store.remove_on_admission(SERVICES, fields.1);
        self.refuses_patches = how == Some(Misbehaviour::Conflicts);
    }

    fn facts(&self) -> Option<Facts> {
        let object = self.lease()?;
        let spec = &object["spec"];
        let time = |key: &str| spec[key].as_str().and_then(WallTime::parse).map(|time| time.0);
        let number = |key: &str| spec[key].as_u64().and_then(|number| u32::try_from(number).ok());
        Some(Facts {
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            version: version(object).unwrap_or(0),
            holder: spec["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned),
            duration_seconds: number("leaseDurationSeconds"),
            acquire_micros: time("acquireTime"),
            renew_micros: time("renewTime"),
            transitions: number("leaseTransitions").unwrap_or(0),
            coordinated: spec["strategy"].is_string(),
            other: format!("{} {} {}", object["metadata"]["labels"], spec["unknown"], spec["strategy"]),
        })
    }

    fn version(&self) -> u128 {
        self.store.resource_version().into()
    }

    fn edit(&mut self, edit: &Edit, _: i64) {
        match edit {
            Edit::Delete => drop(self.store.delete_object(LEASES, NAMESPACE, NAME)),
            Edit::Holder(holder) => self.patch(json!({"spec": {"holderIdentity": holder}})),
            Edit::Duration(seconds) => self.patch(json!({"spec": {"leaseDurationSeconds": seconds}})),
            Edit::ForgetTimes => self.patch(json!({"spec": {"acquireTime": null, "renewTime": null}})),
            Edit::Label(value) => self.patch(json!({
                "metadata": {"labels": {"team": format!("team-{value}")}},
                "spec": {"unknown": {"deep": [value, 2.5, "x"]}},
            })),
            Edit::Strategy(true) => self.patch(json!({"spec": {"strategy": "OldestEmulationVersion"}})),
            Edit::Strategy(false) => self.patch(json!({"spec": {"strategy": null}})),
            Edit::YieldTo(name) => {
                self.patch(json!({"metadata": {"annotations": {"leasehold.dev/yield-to": name}}}));
            }
        }
    }

    fn put_as_client_go(&mut self, version: Option<u128>, record: &ForeignRecord, wall_micros: i64) -> bool {
        let spec = json!({
            "holderIdentity": record.holder,
            "leaseDurationSeconds": record.duration_seconds,
            "acquireTime": WallTime(record.acquire_micros).to_string(),
            "renewTime": WallTime(record.renew_micros).to_string(),
            "leaseTransitions": record.transitions,
        });
        let path = LEASES.path(NAMESPACE, if version.is_some() { NAME } else { "" });
        let request = match (version, self.lease()) {
            (Some(version), Some(lease)) => {
                let mut object = lease.clone();
                object["spec"] = spec;
                object["metadata"]["resourceVersion"] = json!(version.to_string());
                store::Request::new("PUT", path).with_json(&object)
            }
            (None, _) => {
                let metadata = json!({"name": NAME, "namespace": NAMESPACE});
                let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
                store::Request::new("POST", path).with_json(&lease)
            }
            (Some(_), None) => return false,
        };
        self.store.handle(&request, wall_micros).status < 300
    }

    fn save(&mut self) {
        self.saved = Some(self.store.snapshot());
    }

    fn restore(&mut self) {
        if let Some(saved) = &self.saved {
            self.store.restore(saved);
        }
    }
}
