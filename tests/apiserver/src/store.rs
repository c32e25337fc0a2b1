//! The API server's state and every answer it gives, as a function of requests and time.
//!
//! PURE and deterministic: the same requests at the same times give the same answers, uids included. The HTTPS server
//! and the simulator drive this same store.

mod kinds;
mod operator;
mod path;
mod requests;
mod resource;
mod select;
mod status;
mod wall;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::rbac::{Attempt, Rbac};
use path::{Query, Target};
use select::Selector;

pub use kinds::Fields;
pub use operator::Snapshot;
pub use resource::{EVENTS, LEASES, PODS, ResourceId, SERVICES};
pub use status::{of_code, unauthorized};
pub use wall::{micros_text, seconds_text};
pub use watch::{EventType, Watch, WatchEvent};

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// An operator: allowed everything.
    #[default]
    Admin,
    /// Nobody in particular: no credentials were given.
    Anonymous,
    /// A user by name, `system:serviceaccount:ns:name` for instance; RBAC decides.
    Named(Arc<str>),
}

impl User {
    /// A user by name.
    pub fn named(name: &str) -> User {
        User::Named(Arc::from(name))
    }

    /// The name in messages and records.
    pub fn name(&self) -> &str {
        match self {
            User::Admin => "admin",
            User::Anonymous => "system:anonymous",
            User::Named(name) => name,
        }
    }
}

/// A request as the API sees it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The body's media type; empty is taken for JSON, except of a patch.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// Who asks.
    pub user: User,
}

impl Request {
    /// A request without a body, by an operator.
    pub fn new(method: &str, path: impl Into<String>) -> Request {
        Request { method: method.to_owned(), path: path.into(), ..Request::default() }
    }

    /// The same with a JSON body.
    pub fn with_json(mut self, body: &Value) -> Request {
        self.content_type = "application/json".to_owned();
        self.body = body.to_string().into_bytes();
        self
    }

    /// The same with a JSON merge patch.
    pub fn with_merge_patch(mut self, patch: &Value) -> Request {
        self.content_type = "application/merge-patch+json".to_owned();
        self.body = patch.to_string().into_bytes();
        self
    }

    /// The same by another user.
    pub fn by(mut self, user: User) -> Request {
        self.user = user;
        self
    }

    /// The Kubernetes verb (`get`, `list`, `watch`, `create`, …); the method itself where the path is not the API's.
    pub fn verb(&self) -> String {
        let (target, query) = path::parse(&self.path);
        match target {
            Target::Known(object) => verb(&self.method, &object.name, &query),
            Target::Unknown { name, .. } => verb(&self.method, &name, &query),
            Target::NonResource => self.method.to_lowercase(),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header, in seconds.
    pub retry_after: Option<u32>,
    /// The body: the object, a list, or a Status. Null for a watch.
    pub body: Arc<Value>,
    /// For a watch that was accepted: read it with [`Store::read_watch`].
    pub watch: Option<Watch>,
}

impl Response {
    pub(crate) fn json(status: u16, body: Value) -> Response {
        Response::shared(status, Arc::new(body))
    }

    fn shared(status: u16, body: Arc<Value>) -> Response {
        Response { status, retry_after: None, body, watch: None }
    }

    /// The same with a `Retry-After` header.
    pub fn with_retry_after(mut self, seconds: u32) -> Response {
        self.retry_after = Some(seconds);
        self
    }

    /// The reason of a Status; empty for anything else.
    pub fn reason(&self) -> &str {
        self.body.get("reason").and_then(Value::as_str).filter(|_| self.status >= 400).unwrap_or("")
    }

    /// The resourceVersion of the object (or list) in the body.
    pub fn resource_version(&self) -> Option<u64> {
        version_of(&self.body)
    }
}

/// `metadata.resourceVersion`, as a number.
pub fn version_of(object: &Value) -> Option<u64> {
    object.get("metadata")?.get("resourceVersion")?.as_str()?.parse().ok()
}

/// What a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Objects can be created in it.
    Active,
    /// It is being deleted: nothing new can be created.
    Terminating,
}

type Key = (String, String);

/// One change, for watches. `object` is the state after it; of a deletion, the last state under the deletion's version.
#[derive(Clone, Debug)]
struct Change {
    resource_version: u64,
    resource: ResourceId,
    before: Option<Arc<Value>>,
    object: Arc<Value>,
    deleted: bool,
}

/// The state: objects, their history, and who may do what.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Vec<BTreeMap<Key, Arc<Value>>>,
    resource_version: u64,
    log: VecDeque<Change>,
    /// Watches from before this version are told 410.
    compacted: u64,
    history_limit: usize,
    /// What an admission webhook removes from the objects of each resource.
    removed_fields: Vec<Vec<String>>,
    random: u64,
    /// `None`: every namespace exists.
    namespaces: Option<BTreeMap<String, Namespace>>,
    fields: Fields,
    rbac: Rbac,
}

impl Store {
    /// An empty store whose uids come from `seed`, at resourceVersion 1.
    pub fn new(seed: u64) -> Store {
        Store {
            objects: vec![BTreeMap::new(); resource::RESOURCES.len()],
            resource_version: 1,
            log: VecDeque::new(),
            compacted: 0,
            history_limit: 10_000,
            removed_fields: vec![Vec::new(); resource::RESOURCES.len()],
            random: seed,
            namespaces: None,
            fields: Fields::default(),
            rbac: Rbac::default(),
        }
    }

    /// Answers a request. `now_wall_micros` is what the server's wall clock reads (microseconds since 1970); it is only
    /// ever written, into `creationTimestamp`.
    pub fn handle(&mut self, request: &Request, now_wall_micros: i64) -> Response {
        let (target, query) = path::parse(&request.path);
        self.dispatch(request, &target, &query, now_wall_micros).unwrap_or_else(|refusal| *refusal)
    }

    fn dispatch(&mut self, request: &Request, target: &Target, query: &Query, now: i64) -> Answer {
        let object = match target {
            Target::Known(object) => object,
            Target::Unknown { group, resource, namespace, name } => {
                let verb = verb(&request.method, name, query);
                self.authorize(&request.user, &Attempt { verb: &verb, group, resource, namespace, name })?;
                return Err(status::no_such_path().into());
            }
            Target::NonResource => return self.non_resource(request),
        };
        let row = object.resource.row();
        let verb = verb(&request.method, &object.name, query);
        // A selector that cannot be read names nothing: RBAC speaks first, then the complaint about it.
        let selector = Selector::parse(query, row);
        let collection = matches!(verb.as_str(), "list" | "watch" | "deletecollection");
        let name = match &selector {
            Ok(selector) if collection => selector.exact_name().unwrap_or(""),
            _ => object.name.as_str(),
        };
        let attempt =
            Attempt { verb: &verb, group: row.group, resource: row.plural, namespace: &object.namespace, name };
        self.authorize(&request.user, &attempt)?;
        match (request.method.as_str(), object.name.is_empty()) {
            ("GET", false) => self.get(object, query),
            ("GET", true) if verb == "watch" => self.watch(object, query, selector?),
            ("GET", true) => self.list(object, &selector?),
            ("POST", true) if !object.namespace.is_empty() => self.create(object, request, now),
            ("PUT", false) => self.update(object, request, now),
            ("PATCH", false) => self.patch(object, request),
            ("DELETE", false) => self.delete(object, request),
            _ => Err(status::method_not_allowed().into()),
        }
    }

    fn authorize(&self, user: &User, attempt: &Attempt) -> Result<(), Box<Response>> {
        let allowed = match user {
            User::Admin => true,
            // Without RBAC, a server that takes every known user takes no unknown one.
            User::Anonymous if !self.rbac.is_enforced() => return Err(status::unauthorized().into()),
            User::Anonymous | User::Named(_) => self.rbac.allows(user.name(), attempt),
        };
        if allowed {
            return Ok(());
        }
        let scope = match attempt.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let what =
            format!("{} resource \"{}\" in API group \"{}\" {scope}", attempt.verb, attempt.resource, attempt.group);
        let plural = attempt.resource.split('/').next().unwrap_or("");
        Err(status::forbidden(Some((attempt.group, plural)), attempt.name, user.name(), &what).into())
    }

    fn non_resource(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap_or("");
        let public = matches!(path, "/healthz" | "/livez" | "/readyz" | "/version");
        if request.method == "GET" && public {
            let version = json!({ "major": "1", "minor": "0", "gitVersion": "v1.0.0+leasehold", "platform": "memory" });
            return Ok(Response::json(200, if path == "/version" { version } else { json!("ok") }));
        }
        if request.user != User::Admin && self.rbac.is_enforced() {
            let what = format!("{} path \"{path}\"", request.method.to_lowercase());
            return Err(status::forbidden(None, "", request.user.name(), &what).into());
        }
        Err(status::no_such_path().into())
    }

    /// What every answer to a write does last: a new version, and news for the watches.
    fn commit(&mut self, resource: ResourceId, key: Key, mut object: resource::Object) -> Arc<Value> {
        self.resource_version += 1;
        set_version(&mut object, self.resource_version);
        let object = Arc::new(Value::Object(object));
        let before = self.objects[resource.0].insert(key, Arc::clone(&object));
        self.record(Change {
            resource_version: self.resource_version,
            resource,
            before,
            object: Arc::clone(&object),
            deleted: false,
        });
        object
    }

    /// Takes an object away, if it is there; the deletion has a version of its own.
    fn remove(&mut self, resource: ResourceId, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects[resource.0].remove(key)?;
        self.resource_version += 1;
        let mut last = before.as_object().cloned().unwrap_or_default();
        set_version(&mut last, self.resource_version);
        let last = Arc::new(Value::Object(last));
        self.record(Change {
            resource_version: self.resource_version,
            resource,
            before: Some(before),
            object: Arc::clone(&last),
            deleted: true,
        });
        Some(last)
    }

    fn record(&mut self, change: Change) {
        self.log.push_back(change);
        while self.log.len() > self.history_limit {
            let oldest = self.log.pop_front().map_or(0, |change| change.resource_version);
            self.compacted = self.compacted.max(oldest);
        }
    }

    /// splitmix64: small, seeded, and good enough for names.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn new_uid(&mut self) -> String {
        let (a, b) = (self.next_random(), self.next_random());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            0x8000 | (b >> 48 & 0x3fff),
            b & 0xffff_ffff_ffff
        )
    }
}

/// An answer, or the refusal that ended the handling early.
type Answer = Result<Response, Box<Response>>;

fn set_version(object: &mut resource::Object, version: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
    }
}

fn verb(method: &str, name: &str, query: &Query) -> String {
    let verb = match (method, name.is_empty()) {
        ("GET", false) => "get",
        ("GET", true) if query.flag("watch") => "watch",
        ("GET", true) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "delete",
        ("DELETE", true) => "deletecollection",
        (other, _) => return other.to_lowercase(),
    };
    verb.to_owned()
}
