//! The two kinds of server behind one face, and the shorthand in which expectations are written.
//!
//! IO.

use std::cell::RefCell;
use std::time::Instant;

use leasehold_apiserver::real::Real;
use leasehold_apiserver::{Options, Server};
use serde_json::{Value, json};

use crate::support::{Answer, Client, JSON, LIMIT, MERGE_PATCH, Target, Watching};

/// A namespace that the expectations have for themselves is `cluster.namespace`; this one does not exist.
pub const NO_NAMESPACE: &str = "no-such-namespace";

pub struct Cluster {
    pub name: &'static str,
    pub namespace: String,
    /// With an operator's credentials.
    pub admin: Target,
    /// Without credentials.
    pub nobody: Target,
    memory: Option<Server>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let namespace = format!("/api/v1/namespaces/{}", self.namespace);
        // The suite's verdict is in; what is left behind is at worst a namespace.
        let _ = Client::connect(&self.admin).and_then(|mut client| client.request("DELETE", &namespace, "", b""));
    }
}

impl Cluster {
    pub fn in_memory() -> Cluster {
        let server = Server::start(Options::default()).unwrap();
        server.store().set_namespaces(&["conformance"]);
        server.store().rbac().enforce();
        let nobody = Target { url: server.url(), ca_pem: server.ca_pem(), ..Target::default() };
        Cluster {
            name: "in memory",
            namespace: "conformance".to_owned(),
            admin: nobody.clone().with_token(&server.add_admin()),
            nobody,
            memory: Some(server),
        }
    }

    /// A namespace of its own on a real server.
    pub fn real(server: &Real) -> Cluster {
        let namespace = format!("conformance-{}", std::process::id());
        let body = json!({ "metadata": { "name": namespace } });
        let Real { admin, nobody, .. } = server;
        let (admin, nobody) = (admin.clone(), nobody.clone());
        let cluster = Cluster { name: "kube-apiserver", namespace, admin, nobody, memory: None };
        cluster.session().post("/api/v1/namespaces", &body).has(201, "");
        cluster
    }

    /// Whether history from before this server's start, or before a compaction, is gone; makes it so if it can.
    pub fn forgets_history(&self) -> bool {
        match &self.memory {
            Some(server) => {
                server.store().compact();
                true
            }
            None => {
                let path = format!("{}?watch=true&resourceVersion=1&timeoutSeconds=1", self.leases());
                self.session().watch(&path).next().unwrap().is_some_and(|event| event["type"] == "ERROR")
            }
        }
    }

    pub fn session(&self) -> Session {
        Session::new(&self.admin)
    }

    /// As another user, who may do what [`Cluster::grant`] has granted.
    pub fn session_of(&self, user: &str) -> Session {
        match &self.memory {
            Some(server) => Session::new(&self.nobody.clone().with_token(&server.add_user(user))),
            None => Session::new(&self.admin.clone().with_header("Impersonate-User", user)),
        }
    }

    /// Binds the user to a Role with these rules, and returns when that holds; `probe` is something it allows.
    pub fn grant(&self, user: &str, name: &str, rules: &Value, probe: &str) {
        if let Some(server) = &self.memory {
            server.store().rbac().bind(user, &self.namespace, &json!({ "rules": rules })).unwrap();
            return;
        }
        let base = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", self.namespace);
        let role = json!({ "metadata": { "name": name }, "rules": rules });
        self.session().post(&format!("{base}/roles"), &role).has(201, "");
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        });
        self.session().post(&format!("{base}/rolebindings"), &binding).has(201, "");
        // The authorizer learns of the binding through a watch of its own.
        let (begun, session) = (Instant::now(), self.session_of(user));
        while session.get(probe).status == 403 {
            assert!(begun.elapsed() < LIMIT, "the binding of {user} does not come into force");
        }
    }

    /// The Leases' path.
    pub fn leases(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    pub fn lease(&self, name: &str) -> String {
        format!("{}/{name}", self.leases())
    }

    /// The path of core objects: `pods`, `services/x`.
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }
}

/// One user's connection.
pub struct Session {
    client: RefCell<Client>,
    target: Target,
}

impl Session {
    pub fn new(target: &Target) -> Session {
        Session { client: RefCell::new(Client::connect(target).unwrap()), target: target.clone() }
    }

    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
        self.client
            .borrow_mut()
            .request(method, path, content_type, body.as_bytes())
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, JSON, &body.to_string())
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, JSON, &body.to_string())
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, MERGE_PATCH, &body.to_string())
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "", "")
    }

    /// A watch on a connection of its own.
    pub fn watch(&self, path: &str) -> Watching {
        Client::connect(&self.target).unwrap().watch(path).unwrap()
    }
}

/// What expectations say of an answer.
pub trait Expect {
    /// The status and the Status' reason; gives the body back.
    fn has(&self, status: u16, reason: &str) -> Value;
    /// The whole message, too.
    fn says(&self, status: u16, reason: &str, message: &str) -> Value;
    /// How the message begins, where the rest depends on the server's version.
    fn begins(&self, status: u16, reason: &str, message: &str) -> Value;
}

impl Expect for Answer {
    #[track_caller]
    fn has(&self, status: u16, reason: &str) -> Value {
        let body = self.json();
        assert_eq!((self.status, self.reason().as_str()), (status, reason), "{body}");
        if status >= 400 {
            let shape = (&body["kind"], &body["apiVersion"], &body["status"], &body["code"]);
            assert_eq!(shape, (&json!("Status"), &json!("v1"), &json!("Failure"), &json!(status)), "{body}");
        }
        body
    }

    #[track_caller]
    fn says(&self, status: u16, reason: &str, message: &str) -> Value {
        let body = self.has(status, reason);
        assert_eq!(self.message(), message);
        body
    }

    #[track_caller]
    fn begins(&self, status: u16, reason: &str, message: &str) -> Value {
        let body = self.has(status, reason);
        assert!(self.message().starts_with(message), "{:?} does not begin with {message:?}", self.message());
        body
    }
}
