//! The client against the in-memory API server: TLS, tokens, rotation, and every call that leasehold makes.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use leasehold::election::{Annotations, Content, Record};
use leasehold::kube::event::{Subject, event};
use leasehold::kube::service::selector_patch;
use leasehold::kube::{
    Client, ClientOptions, Credentials, Fence, Lease, Pod, Purpose, Service, TransportKind, Watch, WatchEvent,
    WatchStop, request,
};
use leasehold::time::WallTime;
use leasehold_apiserver::{Certificate, Options, Server};
use serde_json::json;

use crate::scripted::{LONG, get, put, transport};

/// A server, a service account that it knows, and a client that uses it.
struct Setup {
    server: Server,
    directory: PathBuf,
    credentials: Arc<Credentials>,
    client: Client,
}

impl Setup {
    fn new(test: &str) -> Setup {
        Setup::with(test, Options::default())
    }

    fn with(test: &str, options: Options) -> Setup {
        let server = Server::start(options).unwrap();
        let directory = std::env::temp_dir().join(format!("leasehold-secure-{test}-{}", std::process::id()));
        let token = server.add_user("elector");
        server.write_service_account(&directory, &token, "ns").unwrap();
        let credentials = Arc::new(Credentials::open(&directory).unwrap());
        let mut options = ClientOptions::new(&server.url());
        options.credentials = Some(Arc::clone(&credentials));
        let client = Client::new(options).unwrap();
        Setup { server, directory, credentials, client }
    }

    fn new_token(&self) -> String {
        let token = self.server.add_user("elector");
        self.server.write_service_account(&self.directory, &token, "ns").unwrap();
        token
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.directory.join("token")).unwrap()
    }

    fn lease(&self) -> Lease {
        self.client.call(&get(), LONG).unwrap().parse(&get(), Lease::parse).unwrap()
    }

    fn create_lease(&self) -> Lease {
        let create =
            request::create_lease("ns", "web", &Lease::new_object("ns", "web", &held_by("web-0")), Purpose::Acquire);
        self.client.call(&create, LONG).unwrap().parse(&create, Lease::parse).unwrap()
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn held_by(holder: &str) -> Content {
    let record = Record {
        holder: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        acquire_time: Some(WallTime(1_795_359_845_000_007)),
        renew_time: Some(WallTime(1_795_359_845_000_007)),
        transitions: 1,
    };
    Content { record, annotations: Annotations { incarnation: Some("pod-uid".into()), ..Annotations::default() } }
}

#[test]
fn a_lease_is_created_read_replaced_and_never_written_blindly() {
    let setup = Setup::new("lease");
    let missing = setup.client.call(&get(), LONG).unwrap_err();
    assert_eq!(missing.status, Some(404));

    let created = setup.create_lease();
    let again = request::create_lease("ns", "web", &Lease::new_object("ns", "web", &held_by("x")), Purpose::Acquire);
    assert_eq!(setup.client.call(&again, LONG).unwrap_err().status, Some(409));
    assert_eq!(setup.lease(), created);
    assert_eq!(created.snapshot.record, held_by("web-0").record);

    let replace = request::replace_lease("ns", "web", &created.with(&held_by("web-1")), Purpose::Acquire);
    let reply = setup.client.call(&replace, LONG).unwrap();
    let replaced = reply.parse(&replace, Lease::parse).unwrap();
    assert_eq!((reply.status, replaced.snapshot.record.holder.as_deref()), (200, Some("web-1")));
    assert!(replaced.snapshot.version > created.snapshot.version);
    let stale = setup.client.call(&replace, LONG).unwrap_err();
    assert_eq!(stale.status, Some(409), "{stale}");
    assert!(stale.to_string().contains("409 Conflict: "), "{stale}");
}

#[test]
fn a_pod_is_labelled_and_a_service_pointed_at_it() {
    let setup = Setup::new("route");
    setup.server.create_pod("ns", "web-0", &json!({ "app": "web" }));
    setup.server.create_service("ns", "web", &json!({ "app": "web" }));
    let label = request::label_pod("ns", "web-0", "pod", "web-0");
    setup.client.call(&label, LONG).unwrap();
    let read = request::get_pod("ns", "web-0");
    let pod = setup.client.call(&read, LONG).unwrap().parse(&read, Pod::parse).unwrap();
    assert_eq!((pod.label("pod"), pod.label("app")), (Some("web-0"), Some("web")));

    let read = request::get_service("ns", "web", Purpose::Route);
    let service = || setup.client.call(&read, LONG).unwrap().parse(&read, Service::parse).unwrap();
    let (before, fence) = (service(), Fence { lease_uid: "u-1".into(), token: 7 });
    let patch =
        request::patch_service("ns", "web", &selector_patch(before.version, &before.uid, "pod", "web-0", &fence));
    setup.client.call(&patch, LONG).unwrap();
    let after = service();
    assert_eq!((after.selector_value("pod"), after.selector_value("app")), (Some("web-0"), Some("web")));
    assert_eq!(after.fence, Some(fence));
    assert_eq!(setup.client.call(&patch, LONG).unwrap_err().status, Some(409), "its version is past");
}

#[test]
fn an_event_is_created() {
    let setup = Setup::new("event");
    let subject = Subject { namespace: "ns", name: "web", uid: "u-1", identity: "web-0" };
    let (name, object) = event(&subject, "became leader", WallTime(0), 1);
    let reply = setup.client.call(&request::create_event("ns", &name, &object), LONG).unwrap();
    let created: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&created["count"], &created["message"]), (&json!(1), &json!("web-0 became leader")));
}

#[test]
fn many_calls_share_one_tls_connection() {
    let setup = Setup::new("kept");
    setup.create_lease();
    for _ in 0..10 {
        setup.lease();
    }
    let connections: Vec<u64> = setup.server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1; 11]);
}

#[test]
fn an_ipv6_server_is_verified_by_its_address() {
    let setup = Setup::with("ipv6", Options { ipv6: true, ..Options::default() });
    assert!(setup.server.url().starts_with("https://[::1]:"));
    setup.create_lease();
}

#[test]
fn certificates_that_are_not_right_are_refused_before_anything_is_sent() {
    for (name, kind) in [
        ("wrong-name", Certificate::WrongName),
        ("other-ca", Certificate::OtherAuthority),
        ("expired", Certificate::Expired),
    ] {
        let setup = Setup::new(name);
        setup.server.serve_certificate(kind).unwrap();
        let error = setup.client.call(&put(), LONG).unwrap_err();
        assert_eq!(transport(&error), (TransportKind::Tls, false), "{name}: {error}");
        assert!(!error.may_have_been_applied() && setup.server.requests().is_empty());
        // The cause gone, all is well by itself.
        setup.server.serve_certificate(Certificate::Valid).unwrap();
        setup.create_lease();
    }
}

#[test]
fn a_new_ca_is_taken_over_at_once_when_the_old_one_fails() {
    let setup = Setup::new("rotate-ca");
    setup.create_lease();
    setup.server.rotate_authority().unwrap();
    setup.server.write_service_account(&setup.directory, &setup.token(), "ns").unwrap();
    setup.server.close_connections();
    setup.lease();
}

#[test]
fn a_refused_token_is_read_again_at_once_and_tried_once() {
    let setup = Setup::new("rotate-token");
    setup.create_lease();
    let old = setup.token();
    setup.new_token();
    setup.server.revoke_token(&old);
    setup.lease();
    let statuses: Vec<Option<u16>> = setup.server.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(201), Some(401), Some(200)]);

    setup.server.revoke_token(&setup.token());
    let error = setup.client.call(&get(), LONG).unwrap_err();
    assert_eq!(error.status, Some(401));
    assert_eq!(setup.server.requests().len(), 5, "two tries, no more");
    assert!(!error.to_string().contains("token-"), "{error}");
}

/// A header must fit into one of the client's buffers, which are small; what is accepted as a token must fit too.
#[test]
fn the_longest_token_that_is_accepted_can_be_sent() {
    let setup = Setup::new("long-token");
    setup.create_lease();
    let length = (1..).find(|length| {
        setup.server.write_service_account(&setup.directory, &"t".repeat(length + 1), "ns").unwrap();
        Credentials::open(&setup.directory).is_err()
    });
    let length = length.unwrap();
    assert!(length > 3000, "a service account's token has up to 1,500 bytes; {length}");
    let shortest = setup.server.add_user("").len();
    let token = setup.server.add_user(&"t".repeat(length - shortest));
    assert_eq!(token.len(), length);
    setup.server.write_service_account(&setup.directory, &token, "ns").unwrap();
    setup.credentials.refresh();
    setup.lease();
}

#[test]
fn a_watch_tells_of_a_change_and_can_be_stopped() {
    let setup = Setup::new("watch");
    let created = setup.create_lease();
    let watching =
        request::watch_lease("ns", "web", created.snapshot.version, Duration::from_secs(60), Purpose::Observe);
    let stop = WatchStop::default();
    let mut watch = Watch::open(&setup.client, &watching, LONG, &stop).unwrap();
    let replace = request::replace_lease("ns", "web", &created.with(&held_by("web-1")), Purpose::Acquire);
    let reply = setup.client.call(&replace, LONG).unwrap();
    let Some(Ok(WatchEvent::Modified(_, object))) = watch.next() else { panic!("no event") };
    assert_eq!(Lease::from_object(object).unwrap(), reply.parse(&replace, Lease::parse).unwrap());
    let reading = thread::spawn(move || watch.next());
    stop.stop();
    assert_eq!(reading.join().unwrap(), None);
}

#[test]
fn a_watch_retries_a_refused_token_and_reports_a_forgotten_version() {
    let setup = Setup::new("watch-token");
    let created = setup.create_lease();
    let old = setup.token();
    setup.new_token();
    setup.server.revoke_token(&old);
    let watching =
        request::watch_lease("ns", "web", created.snapshot.version, Duration::from_secs(60), Purpose::Observe);
    let mut watch = Watch::open(&setup.client, &watching, LONG, &WatchStop::default()).unwrap();
    setup.server.watches().expire();
    assert_eq!(watch.next().unwrap().unwrap_err().status, Some(410));
    assert_eq!(watch.next(), None);
}

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps what is logged on threads that ask for it.
struct Listener(Mutex<String>);

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        if LISTENING.get() {
            *self.0.lock().unwrap() += &format!("{} {} {}\n", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

#[test]
fn no_token_and_no_body_reaches_the_log_at_debug() {
    static LISTENER: Listener = Listener(Mutex::new(String::new()));
    log::set_logger(&LISTENER).unwrap();
    let setup = Setup::new("log");
    let logged = |level| {
        log::set_max_level(level);
        LISTENING.set(true);
        setup.credentials.refresh();
        let missing = setup.client.call(&put(), LONG).unwrap_err();
        LISTENING.set(false);
        (std::mem::take(&mut *LISTENER.0.lock().unwrap()), missing)
    };
    let (text, error) = logged(log::LevelFilter::Debug);
    assert!(text.contains("leasehold::kube::client") && text.contains("ureq"), "{text}");
    // A dump of the request would be in pieces of sixteen bytes that no search for the token finds.
    assert!(!text.contains("TRACE"), "{text}");
    for secret in [setup.token().as_str(), "Bearer", "web-0"] {
        assert!(!text.contains(secret) && !error.to_string().contains(secret), "{secret} in:\n{text}");
    }
    let (quiet, _) = logged(log::LevelFilter::Info);
    assert_eq!(quiet, "");
}

/// Go accepts these; ring does not.
#[test]
fn a_signature_algorithm_that_is_not_supported_is_named() {
    let table = [
        ("p521", include_str!("../data/p521.pem"), "signed by ECDSA with SHA-512, which is not supported"),
        (
            "p256-sha512",
            include_str!("../data/p256-sha512.pem"),
            "signed by ECDSA with SHA-512, which is not supported",
        ),
    ];
    for (name, pem, algorithm) in table {
        let setup = Setup::new(name);
        setup.server.serve_pem(pem).unwrap();
        std::fs::write(setup.directory.join("ca.crt"), pem).unwrap();
        setup.credentials.refresh();
        let error = setup.client.call(&get(), LONG).unwrap_err();
        assert_eq!(transport(&error), (TransportKind::Tls, false), "{error}");
        assert!(error.to_string().contains(algorithm), "{error}");
    }
}
