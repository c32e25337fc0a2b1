//! An API server, in memory or real, with a namespace in which candidates may do exactly what `manifests/` grants.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use leasehold::kube::{self, Audit, AuditTarget, ClientOptions, Credentials, Resource};
use leasehold_apiserver::client::{Answer, Client, JSON, MERGE_PATCH, Target};
use leasehold_apiserver::rbac::{Attempt, Rbac};
use leasehold_apiserver::real::Real;
use leasehold_apiserver::{Options, Server};
use serde_json::{Value, json};

use super::ledger::{Ledger, Page};
use super::watched::number;
use super::{Lease, Program, Service, Watched, eventually};
use crate::manifests;
use crate::rules::RULES;

/// The names are those of the shipped Role.
pub(crate) const LEASE: &str = "leasehold";
pub(crate) const SERVICE: &str = "leasehold";
const ACCOUNT: &str = "leasehold";
const ROLE: &str = "leasehold";

/// How long leases last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So long that none runs out within a test, however slow the machine is.
    Hours,
    /// As short as a test can wait for. Leaders may lose them on a slow machine.
    Seconds,
}

pub(crate) struct World {
    pub(crate) namespace: String,
    pub(crate) operator: Target,
    pub(crate) leases: Watched,
    pub(crate) services: Watched,
    /// What belongs to candidates: their service accounts' directories, their commands' files.
    directory: PathBuf,
    ledger: Ledger,
    origin: Origin,
}

enum Origin {
    Memory(Box<Server>),
    Real,
}

/// A name that no other world has, on this machine and within a cluster.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("leasehold-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl World {
    pub(crate) fn in_memory() -> World {
        World::on(Server::start(Options::default()).expect("a server in memory"))
    }

    pub(crate) fn on(server: Server) -> World {
        let namespace = "team-a";
        server.store().set_namespaces(&[namespace]);
        server.store().rbac().enforce();
        let ca_pem = server.ca_pem();
        let operator = Target { url: server.url(), ca_pem, ..Target::default() }.with_token(&server.add_admin());
        World::new(namespace.to_owned(), operator, Origin::Memory(Box::new(server)))
    }

    /// A namespace of its own, with the shipped ServiceAccount, Role and RoleBinding in it.
    pub(crate) fn real(server: &Real) -> World {
        let namespace = unique();
        let target = &server.admin;
        let create = |path: &str, object: &Value| {
            let answer = request(target, "POST", path, object);
            assert_eq!(answer.status, 201, "{path}: {}", answer.message());
            answer.json()
        };
        create("/api/v1/namespaces", &json!({ "metadata": { "name": namespace } }));
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        create(&accounts, &manifests::object("ServiceAccount"));
        create(&format!("{rbac}/roles"), &manifests::object("Role"));
        let mut binding = manifests::object("RoleBinding");
        binding["subjects"][0]["namespace"] = json!(namespace);
        create(&format!("{rbac}/rolebindings"), &binding);
        let world = World::new(namespace, server.admin.clone(), Origin::Real);
        world.await_role(&manifests::object("Role"), "");
        world
    }

    fn new(namespace: String, operator: Target, origin: Origin) -> World {
        let directory = std::env::temp_dir().join(unique());
        std::fs::create_dir_all(&directory).expect("a directory of our own");
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let services = format!("/api/v1/namespaces/{namespace}/services");
        let (leases, services) = (Watched::new(&operator, &leases), Watched::new(&operator, &services));
        let ledger = Ledger::in_directory(directory.clone());
        World { namespace, operator, leases, services, directory, ledger, origin }
    }

    /// The server, where it is in memory: it remembers every request, and can be made to fail.
    pub(crate) fn memory(&self) -> Option<&Server> {
        match &self.origin {
            Origin::Memory(server) => Some(server),
            Origin::Real => None,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Every process that was started here, with its audit log.
    pub(crate) fn pages(&self) -> Vec<Page> {
        self.ledger.pages()
    }

    // --- candidates ------------------------------------------------------------------------------------------------

    /// A Pod of this name, and a candidate to be started in it, allowed what the shipped Role allows.
    pub(crate) fn candidate(&self, pod: &str, pace: Pace) -> Program {
        self.make_pod(pod);
        if self.memory().is_some() {
            self.grant(pod, &manifests::object("Role"));
        }
        let program = self.stranger(pod);
        match pace {
            Pace::Hours => {
                program.with("LEASE_DURATION", "3h").with("RENEWAL_DEADLINE", "2h").with("RETRY_PERIOD", "500ms")
            }
            Pace::Seconds => {
                program.with("LEASE_DURATION", "3s").with("RENEWAL_DEADLINE", "2s").with("RETRY_PERIOD", "250ms")
            }
        }
    }

    /// A candidate that is allowed nothing yet, with its service account mounted.
    pub(crate) fn stranger(&self, pod: &str) -> Program {
        let mount = self.file(&format!("account-of-{pod}"));
        self.write_account(pod, &mount);
        let (scheme, address) = self.operator.url.split_once("://").expect("a URL");
        let (host, port) = address.rsplit_once(':').expect("a port");
        assert_eq!(scheme, "https");
        Program::default()
            .audited(&self.ledger)
            .with("KUBERNETES_SERVICE_HOST", host.trim_matches(['[', ']']))
            .with("KUBERNETES_SERVICE_PORT", port)
            .with("SERVICE_ACCOUNT_DIR", mount)
            .with("LEASE_NAME", LEASE)
            .with("SERVICE_NAME", SERVICE)
            .with("POD_NAME", pod)
            .with("PORT", "0")
            .with("DRAIN_TIMEOUT", "2m")
    }

    /// The library's own client, as a candidate in that Pod has it, and where its calls are written down.
    pub(crate) fn client(&self, pod: &str) -> (kube::Client, Arc<Audit>) {
        self.candidate(pod, Pace::Hours);
        let page = self.ledger.open(pod, "client");
        let audit = Arc::new(Audit::open(&AuditTarget::File(page.file)).expect("a page"));
        let account = Credentials::open(self.file(&format!("account-of-{pod}"))).expect("an account");
        let mut options = ClientOptions::new(&self.operator.url);
        (options.credentials, options.audit) = (Some(Arc::new(account)), Some(Arc::clone(&audit)));
        (kube::Client::new(options).expect("a client"), audit)
    }

    /// Writes token, ca.crt and namespace as they are mounted in a Pod; the token.
    pub(crate) fn write_account(&self, pod: &str, mount: &Path) -> String {
        let token = match &self.origin {
            Origin::Memory(server) => server.add_user(&self.user(pod)),
            Origin::Real => self.bound_token(pod),
        };
        std::fs::create_dir_all(mount).expect("a directory");
        for (file, content) in [("token", &token), ("ca.crt", &self.operator.ca_pem), ("namespace", &self.namespace)] {
            std::fs::write(mount.join(file), content).expect("a file");
        }
        token
    }

    /// As the kubelet gets one for a Pod's volume: the API server knows the caller's Pod by it.
    fn bound_token(&self, pod: &str) -> String {
        let uid = self.must("GET", &self.core("pods", pod), &Value::Null)["metadata"]["uid"].clone();
        let bound = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid });
        let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                            "spec": { "expirationSeconds": 3600, "boundObjectRef": bound } });
        let granted = self.must("POST", &self.core("serviceaccounts", &format!("{ACCOUNT}/token")), &asked);
        granted["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// From now on this Pod may do what this Role grants, and nothing else. On a real server the Pods share one account, so
    /// all may.
    pub(crate) fn grant(&self, pod: &str, role: &Value) {
        match &self.origin {
            Origin::Memory(server) => {
                let (user, mut store) = (self.user(pod), server.store());
                store.rbac().unbind(&user);
                store.rbac().bind(&user, &self.namespace, role).expect("a Role");
            }
            Origin::Real => {
                let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/{ROLE}", self.namespace);
                self.must("PUT", &path, &json!({ "metadata": { "name": ROLE }, "rules": role["rules"] }));
                self.await_role(role, pod);
            }
        }
    }

    /// The authorizer learns of Roles and bindings through a watch of its own.
    fn await_role(&self, role: &Value, pod: &str) {
        let mut rbac = Rbac::default();
        rbac.bind("us", &self.namespace, role).expect("a Role");
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{}", self.namespace)];
        for rule in RULES {
            let (verb, group, resource) = (rule.verb.as_str(), rule.resource.group(), rule.resource.plural());
            let name = match rule.resource {
                Resource::Lease => LEASE,
                Resource::Service => SERVICE,
                Resource::Pod => pod,
                Resource::Event => "",
            };
            let asked = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                "user": self.user(ACCOUNT), "groups": groups, "resourceAttributes": {
                    "namespace": self.namespace, "verb": verb, "group": group, "resource": resource, "name": name } } });
            let attempt = Attempt { verb, group, resource, namespace: &self.namespace, name };
            let wanted = rbac.allows("us", &attempt);
            eventually("the Role is in force", || {
                let review = self.must("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &asked);
                (review["status"]["allowed"] == wanted).then_some(())
            });
        }
    }

    /// The in-memory server tells candidates apart by their users: they share the Role, not the account.
    pub(crate) fn user(&self, pod: &str) -> String {
        format!("system:serviceaccount:{}:{pod}", self.namespace)
    }

    // --- what an operator does -------------------------------------------------------------------------------------

    pub(crate) fn make_pod(&self, pod: &str) {
        let object = json!({
            "metadata": { "name": pod, "labels": { "app": "web" } },
            // No node has that label: where there is a scheduler the Pod stays what it is here, an object.
            "spec": { "nodeSelector": { "leasehold.test/none": "true" }, "serviceAccountName": ACCOUNT,
                      "containers": [{ "name": "main", "image": "example.test/app" }] },
        });
        let answer = self.send("POST", &self.core("pods", ""), &object);
        assert!(matches!(answer.status, 201 | 409), "{}", answer.message());
    }

    pub(crate) fn label_pod(&self, pod: &str, key: &str, value: &str) {
        self.must("PATCH", &self.core("pods", pod), &json!({ "metadata": { "labels": { key: value } } }));
    }

    pub(crate) fn make_service(&self) {
        let object = json!({
            "metadata": { "name": SERVICE, "annotations": { "note": "kept" } },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
        });
        self.must("POST", &self.core("services", ""), &object);
    }

    pub(crate) fn make_lease(&self, spec: &Value) {
        self.must("POST", &self.lease_path(""), &json!({ "metadata": { "name": LEASE }, "spec": spec }));
    }

    pub(crate) fn patch_lease(&self, patch: &Value) -> Value {
        self.must("PATCH", &self.lease_path(LEASE), patch)
    }

    pub(crate) fn patch_service(&self, patch: &Value) -> Value {
        self.must("PATCH", &self.core("services", SERVICE), patch)
    }

    pub(crate) fn delete_lease(&self) {
        self.must("DELETE", &self.lease_path(LEASE), &Value::Null);
    }

    /// The Lease as it is now.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let answer = self.send("GET", &self.lease_path(LEASE), &Value::Null);
        (answer.status == 200).then(|| Lease::of(&answer.json()))
    }

    /// The Service as it is now.
    pub(crate) fn service(&self) -> Value {
        self.must("GET", &self.core("services", SERVICE), &Value::Null)
    }

    /// A label of a Pod as it is now.
    pub(crate) fn pod_label(&self, pod: &str, key: &str) -> Option<String> {
        let pod = self.must("GET", &self.core("pods", pod), &Value::Null);
        pod["metadata"]["labels"][key].as_str().map(str::to_owned)
    }

    /// The messages of the Events about the Lease.
    pub(crate) fn events(&self) -> Vec<Value> {
        let list = self.must("GET", &self.core("events", ""), &Value::Null);
        list["items"].as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.message());
        answer.json()
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        request(&self.operator, method, path, body)
    }

    fn lease_path(&self, name: &str) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{name}", self.namespace).trim_end_matches('/').into()
    }

    fn core(&self, resource: &str, name: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}/{name}", self.namespace).trim_end_matches('/').into()
    }

    // --- what came of it -------------------------------------------------------------------------------------------

    /// Waits until the Lease's present version is like this. (What the watch told before now is not taken for it.)
    #[track_caller]
    pub(crate) fn wait_for_lease(&self, what: &str, mut is: impl FnMut(&Lease) -> bool) -> Lease {
        let from = self.lease().map_or(0, |lease| lease.version);
        self.leases.wait(what, |versions| {
            let last = versions.last().filter(|last| !last.deleted && last.number() >= from)?.lease();
            is(&last).then_some(last)
        })
    }

    /// Waits until the Lease names this holder.
    #[track_caller]
    pub(crate) fn wait_for_holder(&self, holder: &str) -> Lease {
        self.wait_for_lease(&format!("{holder} holds the Lease"), |lease| lease.holder == holder)
    }

    /// Waits until the Service points there.
    #[track_caller]
    pub(crate) fn wait_for_target(&self, target: &str) -> Service {
        let from = number(&self.service());
        self.services.wait(&format!("the Service points at {target}"), |versions| {
            let last = versions.last().filter(|last| !last.deleted && last.number() >= from)?.service();
            (last.target() == Some(target)).then_some(last)
        })
    }

    /// Every record of the Lease so far, none missing; deletions are left out, and so are versions in which only an
    /// annotation changed: a candidate may name itself successor at any moment.
    #[track_caller]
    pub(crate) fn lease_history(&self) -> Vec<Lease> {
        let now = self.lease().map_or(0, |lease| lease.version);
        let versions = self.leases.all_up_to(now);
        let mut history: Vec<_> = versions.iter().filter(|it| !it.deleted).map(|version| version.lease()).collect();
        history.dedup_by(|later, earlier| later.record() == earlier.record());
        history
    }

    /// Every version of the Service so far, none missing.
    #[track_caller]
    pub(crate) fn service_history(&self) -> Vec<Service> {
        let now = number(&self.service());
        self.services.all_up_to(now).iter().map(|version| version.service()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Origin::Real = self.origin {
            self.send("DELETE", &format!("/api/v1/namespaces/{}", self.namespace), &Value::Null);
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// On a connection of its own: one that is kept might have been closed by what the test does to the server.
fn request(target: &Target, method: &str, path: &str, body: &Value) -> Answer {
    let content_type = if method == "PATCH" { MERGE_PATCH } else { JSON };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = Client::connect(target).and_then(|mut it| it.request(method, path, content_type, body.as_bytes()));
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}
