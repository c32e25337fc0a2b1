//! The server's own behaviour: TLS, tokens, records, waits, faults, watches, and an end that leaves nothing behind.

mod support;

use std::thread;
use std::time::Duration;

use leasehold_apiserver::store::{LEASES, SERVICES};
use leasehold_apiserver::{Action, Certificate, Fault, Options, Reply, Server};
use serde_json::{Value, json};
use support::{Answer, Client, JSON, LIMIT, MERGE_PATCH, Target};

const LEASES_PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
const LEASE_PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/a";

fn start() -> Server {
    Server::start(Options::default()).unwrap()
}

fn target(server: &Server) -> Target {
    Target { url: server.url(), ca_pem: server.ca_pem(), ..Target::default() }
}

fn client(server: &Server) -> Client {
    Client::connect(&target(server).with_token(&server.add_user("u"))).unwrap()
}

fn lease(holder: &str) -> Vec<u8> {
    json!({ "metadata": { "name": "a" }, "spec": { "holderIdentity": holder } }).to_string().into_bytes()
}

fn create(client: &mut Client, holder: &str) -> Answer {
    client.request("POST", LEASES_PATH, JSON, &lease(holder)).unwrap()
}

fn hold(client: &mut Client, holder: &str) -> std::io::Result<Answer> {
    let patch = json!({ "spec": { "holderIdentity": holder } }).to_string();
    client.request("PATCH", LEASE_PATH, MERGE_PATCH, patch.as_bytes())
}

#[test]
fn one_connection_serves_many_requests_and_each_is_recorded() {
    let server = start();
    let mut client = client(&server);
    assert_eq!(client.request("GET", LEASE_PATH, "", b"").unwrap().status, 404);
    let created = create(&mut client, "x");
    assert_eq!(created.status, 201);
    assert_eq!(server.holder("ns", "a").as_deref(), Some("x"));

    let requests = server.requests();
    let seen: Vec<(usize, u64, &str, &str, Option<u16>)> =
        requests.iter().map(|r| (r.number, r.connection, r.verb.as_str(), r.user.as_str(), r.status)).collect();
    assert_eq!(seen, [(0, 1, "get", "u", Some(404)), (1, 1, "create", "u", Some(201))]);
    assert_eq!(requests[1].response_version.map(|v| v.to_string()), Some(created.version()));
    assert_eq!(requests[1].json()["spec"]["holderIdentity"], "x");
    assert!(requests[1].has_credentials && requests[1].header("authorization").is_none());
    assert!(requests[0].answered_ns <= requests[1].answered_ns && requests[0].received_ns <= requests[1].received_ns);
}

#[test]
fn tokens_decide_who_asks() {
    let server = start();
    let token = server.add_user("system:serviceaccount:ns:sa");
    let ask = |headers: &[(&str, &str)]| {
        let mut with = target(&server);
        with.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Client::connect(&with).unwrap().request("GET", LEASE_PATH, "", b"").unwrap()
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(ask(&[("Authorization", &bearer)]).status, 404);
    for wrong in [&[("Authorization", "Bearer nobody")][..], &[("Authorization", "Basic eDp5")], &[]] {
        let answer = ask(wrong);
        assert_eq!((answer.status, answer.reason().as_str()), (401, "Unauthorized"), "{wrong:?}");
    }
    let fresh = server.add_user("system:serviceaccount:ns:sa");
    server.revoke_token(&token);
    assert_eq!(ask(&[("Authorization", &bearer)]).status, 401);
    server.expire_token(&fresh, Duration::ZERO);
    assert_eq!(ask(&[("Authorization", &format!("Bearer {fresh}"))]).status, 401);
    let users: Vec<String> = server.requests().into_iter().map(|r| r.user).collect();
    assert_eq!(users, ["system:serviceaccount:ns:sa", "", "", "system:anonymous", "", ""]);
}

#[test]
fn a_role_is_all_that_a_bound_user_may() {
    let server = start();
    let role = json!({ "rules": [
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["a"], "verbs": ["get", "watch"] },
    ]});
    server.store().rbac().bind("u", "ns", &role).unwrap();
    let mut client = client(&server);
    assert_eq!(client.request("GET", LEASE_PATH, "", b"").unwrap().status, 404);
    let refused = create(&mut client, "x");
    assert_eq!((refused.status, refused.reason().as_str()), (403, "Forbidden"));
    assert!(refused.message().contains(r#"User "u" cannot create resource "leases""#), "{}", refused.message());
    assert_eq!(client.request("GET", "/healthz", "", b"").unwrap().body, b"ok");
}

#[test]
fn plain_http_is_an_operators_and_notices_a_token() {
    let server = Server::start(Options { plain_http: true, ..Options::default() }).unwrap();
    assert!(server.url().starts_with("http://127.0.0.1:"));
    let mut client = Client::connect(&target(&server)).unwrap();
    assert_eq!(create(&mut client, "x").status, 201);
    assert!(!server.requests()[0].has_credentials);
}

#[test]
fn ipv6_has_a_valid_certificate_too() {
    let server = match Server::start(Options { ipv6: true, ..Options::default() }) {
        Ok(server) => server,
        Err(error) => return eprintln!("skipped: no IPv6 loopback here ({error})"),
    };
    assert!(server.url().starts_with("https://[::1]:"), "{}", server.url());
    assert_eq!(client(&server).request("GET", "/version", "", b"").unwrap().status, 200);
}

#[test]
fn certificates_that_are_wrong_in_one_way_each() {
    let server = start();
    let before = target(&server);
    let mut open = client(&server);
    for (kind, complaint) in [
        (Certificate::WrongName, "NotValidForName"),
        (Certificate::OtherAuthority, "UnknownIssuer"),
        (Certificate::Expired, "xpired"),
    ] {
        let failed = server.wait_for(LIMIT, |now| Some(now.failed_handshakes)).unwrap();
        server.serve_certificate(kind).unwrap();
        let error = Client::connect(&before).err().map(|error| format!("{error:?}")).unwrap_or_default();
        assert!(error.contains(complaint), "{kind:?}: {error}");
        assert!(server.wait_until(LIMIT, |now| now.failed_handshakes > failed), "{kind:?}");
    }
    server.serve_certificate(Certificate::Valid).unwrap();
    Client::connect(&before).unwrap();
    server.rotate_authority().unwrap();
    assert!(Client::connect(&before).is_err());
    Client::connect(&target(&server)).unwrap();
    assert_eq!(open.request("GET", "/version", "", b"").unwrap().status, 200, "an open connection stays");
}

#[test]
fn faults_before_handling() {
    let server = start();
    let mut reset = client(&server);
    let id = server.faults().add(Fault::new(Action::ResetBefore).verb("create").times(1));
    reset.send("POST", LEASES_PATH, JSON, &lease("x")).unwrap();
    let error = reset.receive(false).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(server.faults().fired(id), 1);
    assert_eq!(server.holder("ns", "a"), None);

    let busy = server.faults().add(Fault::new(Action::Answer(Reply::status(429).retry_after(3))).times(1));
    let answer = create(&mut client(&server), "x");
    assert_eq!(
        (answer.status, answer.reason().as_str(), answer.header("retry-after")),
        (429, "TooManyRequests", Some("3"))
    );
    assert_eq!(server.holder("ns", "a"), None);
    assert_eq!(server.faults().remove(busy), 1);
    assert_eq!(create(&mut client(&server), "x").status, 201);
}

#[test]
fn faults_after_handling() {
    let server = start();
    create(&mut client(&server), "x");
    let faults = server.faults();

    let id = faults.add(Fault::new(Action::DropReply).verb("patch").path("leases/a").user("u").times(1));
    let error = hold(&mut client(&server), "lost").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(server.holder("ns", "a").as_deref(), Some("lost"), "applied all the same");
    assert_eq!(faults.fired(id), 1);
    let last = server.requests().pop().unwrap();
    assert_eq!((last.fault, last.applied, last.status), (Some(id), true, None));

    faults.add(Fault::new(Action::AnswerAfter(Reply::status(504))).verb("patch").times(1));
    assert_eq!(hold(&mut client(&server), "unsure").unwrap().status, 504);
    assert_eq!(server.holder("ns", "a").as_deref(), Some("unsure"));

    faults.add(Fault::new(Action::CutReply(20)).verb("get").times(1));
    assert!(client(&server).request("GET", LEASE_PATH, "", b"").is_err());
    faults.add(Fault::new(Action::TruncateBody(20)).verb("get").times(1));
    let answer = client(&server).request("GET", LEASE_PATH, "", b"").unwrap();
    assert_eq!((answer.body.len(), answer.json()), (20, Value::Null));
    faults.add(Fault::new(Action::Answer(Reply::garbage())).verb("get").times(1));
    assert_eq!(client(&server).request("GET", LEASE_PATH, "", b"").unwrap().json(), Value::Null);
    faults.add(Fault::new(Action::Answer(Reply::huge(10_000_000))).verb("get").times(1));
    assert_eq!(client(&server).request("GET", LEASE_PATH, "", b"").unwrap().body.len(), 10_000_000);
}

#[test]
fn a_repeated_write_with_a_version_applies_once() {
    let server = start();
    let mut client = client(&server);
    let version = create(&mut client, "x").version();
    server.faults().add(Fault::new(Action::Duplicate).verb("update"));
    let body = json!({ "metadata": { "name": "a", "resourceVersion": version }, "spec": { "holderIdentity": "y" } });
    let answer = client.request("PUT", LEASE_PATH, JSON, body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(server.store().object_version(LEASES, "ns", "a").map(|v| v.to_string()), Some(answer.version()));
}

#[test]
fn a_held_request_is_applied_when_it_is_let_go_even_if_its_sender_has_left() {
    let server = start();
    let id = server.faults().add(Fault::new(Action::HangBefore).verb("create"));
    let mut sender = client(&server);
    sender.send("POST", LEASES_PATH, JSON, &lease("late")).unwrap();
    assert!(server.faults().wait_fired(id, 1, LIMIT));
    drop(sender);
    assert_eq!(server.holder("ns", "a"), None);
    assert_eq!(server.faults().remove(id), 1);
    assert!(server.wait_until(LIMIT, |now| now.store.object(LEASES, "ns", "a").is_some()));

    let id = server.faults().add(Fault::new(Action::HangAfter).verb("patch"));
    let mut waiting = client(&server);
    thread::scope(|scope| {
        let answer = scope.spawn(|| hold(&mut waiting, "held"));
        assert!(server.wait_until(LIMIT, |now| now.requests.last().is_some_and(|r| r.fault == Some(id) && r.applied)));
        assert_eq!(server.holder("ns", "a").as_deref(), Some("held"));
        server.faults().clear();
        assert_eq!(answer.join().unwrap().unwrap().status, 200);
    });
}

#[test]
fn a_refused_port_opens_again() {
    let server = start();
    let mut before = client(&server);
    server.refuse_connections().unwrap();
    let error = Client::connect(&target(&server)).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(before.request("GET", "/version", "", b"").is_err(), "open connections are closed");
    server.accept_connections().unwrap();
    assert_eq!(client(&server).request("GET", "/version", "", b"").unwrap().status, 200);
}

#[test]
fn a_watch_streams_changes_and_obeys_the_test() {
    let server = start();
    let mut writer = client(&server);
    let version = create(&mut writer, "x").version();
    let path = format!("{LEASES_PATH}?watch=true&fieldSelector=metadata.name%3Da&resourceVersion={version}");
    let mut watching = client(&server).watch(&path).unwrap();
    assert_eq!(watching.status, 200);
    assert!(server.wait_until(LIMIT, |now| now.watches == 1));
    assert_eq!(server.watches().of("u").paths(), std::slice::from_ref(&path));
    assert_eq!(server.watches().of("v").count(), 0);

    server.watches().split_lines(7, Duration::ZERO);
    hold(&mut writer, "y").unwrap();
    let event = watching.next().unwrap().unwrap();
    assert_eq!(
        (event["type"].as_str(), event["object"]["spec"]["holderIdentity"].as_str()),
        (Some("MODIFIED"), Some("y"))
    );
    server.watches().whole_lines();

    server.watches().bookmark();
    let event = watching.next().unwrap().unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("BOOKMARK"), &json!("Lease")));
    assert_eq!(event["object"]["metadata"]["resourceVersion"], server.store().resource_version().to_string());

    server.watches().silence(true);
    hold(&mut writer, "z").unwrap();
    server.watches().inject(b"{\"type\":\"X\"}\n");
    assert_eq!(watching.next().unwrap().unwrap()["type"], "X", "the change is not told");
    server.watches().silence(false);
    assert_eq!(watching.next().unwrap().unwrap()["object"]["spec"]["holderIdentity"], "z");

    server.store().delete_object(LEASES, "ns", "a");
    assert_eq!(watching.next().unwrap().unwrap()["type"], "DELETED");
    server.watches().expire();
    let event = watching.next().unwrap().unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(watching.next().unwrap(), None, "the stream ends properly");
    assert_eq!(watching.client.request("GET", "/version", "", b"").unwrap().status, 200, "and the connection lives on");

    let mut watching = client(&server).watch(&path).unwrap();
    assert_eq!(watching.next().unwrap().unwrap()["object"]["spec"]["holderIdentity"], "y", "history is replayed");
    server.watches().cut();
    while let Ok(event) = watching.next() {
        assert!(event.is_some(), "a cut stream has no proper end");
    }
    assert!(server.wait_until(LIMIT, |now| now.watches == 0));
}

#[test]
fn a_watch_that_the_client_leaves_is_noticed() {
    let server = start();
    let watching = client(&server).watch(&format!("{LEASES_PATH}?watch=1")).unwrap();
    assert!(server.wait_until(LIMIT, |now| now.watches == 1));
    drop(watching);
    assert!(server.wait_until(LIMIT, |now| now.watches == 0 && now.connections == 0));
}

#[test]
fn bookmarks_come_by_themselves_to_who_asked() {
    let options = Options { bookmark_period: Duration::from_millis(1), ..Options::default() };
    let server = Server::start(options).unwrap();
    let mut watching = client(&server).watch(&format!("{LEASES_PATH}?watch=1&allowWatchBookmarks=true")).unwrap();
    for _ in 0..3 {
        assert_eq!(watching.next().unwrap().unwrap()["type"], "BOOKMARK");
    }
}

#[test]
fn compaction_ends_a_watch_and_a_restore_silences_it() {
    let server = start();
    let mut writer = client(&server);
    let version = create(&mut writer, "x").version();
    let backup = server.store().snapshot();
    hold(&mut writer, "y").unwrap();
    server.store().compact();
    let path = format!("{LEASES_PATH}?watch=true&resourceVersion={version}");
    let mut watching = client(&server).watch(&path).unwrap();
    let event = watching.next().unwrap().unwrap();
    assert_eq!((&event["object"]["reason"], &event["object"]["code"]), (&json!("Expired"), &json!(410)));
    assert_eq!(watching.next().unwrap(), None);

    let mut watching = client(&server).watch(&format!("{LEASES_PATH}?watch=true")).unwrap();
    assert_eq!(watching.next().unwrap().unwrap()["type"], "ADDED");
    server.store().restore(&backup);
    let path = format!("{LEASES_PATH}?watch=true&resourceVersion=999999&allowWatchBookmarks=true&timeoutSeconds=1");
    let mut ahead = client(&server).watch(&path).unwrap();
    hold(&mut client(&server), "z").unwrap();
    assert_eq!((ahead.status, ahead.next().unwrap()), (200, None), "no event, no bookmark, a clean end");
    server.watches().end();
    assert_eq!(watching.next().unwrap(), None, "nor did the one that was open bring anything");
    server.store().restore(&backup);
    assert_eq!(server.holder("ns", "a").as_deref(), Some("x"));
    assert_eq!(server.store().resource_version().to_string(), version);
}

#[test]
fn garbage_is_answered_or_ended_and_the_server_lives() {
    let server = Server::start(Options { plain_http: true, ..Options::default() }).unwrap();
    for (bytes, status) in [
        (b"\x00\x01\x02 nonsense\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n".to_vec(), 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_vec(), 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), 411),
        ([b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 70_000]].concat(), 431),
        (b"GET /%zz%?watch=%&%=%%% HTTP/1.1\r\n\r\n".to_vec(), 404),
    ] {
        let mut client = Client::connect(&target(&server)).unwrap();
        client.send_raw(&bytes).unwrap();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert_eq!(client.receive(false).unwrap().status, status, "{shown}");
    }
    let mut cut = Client::connect(&target(&server)).unwrap();
    cut.send_raw(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    drop(cut);
    assert!(server.wait_until(LIMIT, |now| now.connections == 0));
    assert_eq!(Client::connect(&target(&server)).unwrap().request("GET", "/version", "", b"").unwrap().status, 200);
}

#[test]
fn fifty_clients_at_once_are_all_answered() {
    let server = start();
    create(&mut client(&server), "x");
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut client = client(&server);
                for _ in 0..5 {
                    assert_eq!(client.request("GET", LEASE_PATH, "", b"").unwrap().status, 200);
                }
            });
        }
    });
    let numbers: Vec<usize> = server.requests().iter().map(|recorded| recorded.number).collect();
    assert_eq!(numbers, (0..251).collect::<Vec<_>>());
}

#[test]
fn stopping_ends_idle_held_and_watching_connections_and_their_threads() {
    let server = start();
    let _idle = client(&server);
    server.faults().add(Fault::new(Action::HangBefore).verb("get"));
    let mut held = client(&server);
    held.send("GET", LEASE_PATH, "", b"").unwrap();
    let _watching = client(&server).watch(&format!("{LEASES_PATH}?watch=1")).unwrap();
    assert!(server.wait_until(LIMIT, |now| now.watches == 1 && now.requests.len() == 2 && now.connections == 3));
    let address = server.addr();
    server.stop();
    assert!(held.receive(false).is_err());
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn operators_put_objects_and_backups_bring_them_back() {
    let server = start();
    assert_eq!(server.create_pod("ns", "p", &json!({ "app": "x" })).status, 201);
    assert_eq!(server.create_service("ns", "s", &json!({ "app": "x" })).status, 201);
    let backup = server.store().snapshot();
    let patch = json!({ "spec": { "selector": { "pod": "p" } } });
    assert_eq!(server.store().patch_object(SERVICES, "ns", "s", &patch).status, 200);
    let after = server.store().object_version(SERVICES, "ns", "s").unwrap();
    let (uid, selector) = {
        let mut store = server.store();
        assert_eq!(store.restore_object(&backup, SERVICES, "ns", "s", 0).status, 200);
        let service = store.object(SERVICES, "ns", "s").unwrap();
        (service["metadata"]["uid"].clone(), service["spec"]["selector"].clone())
    };
    assert_eq!(selector, json!({ "app": "x" }));
    assert!(server.store().object_version(SERVICES, "ns", "s").unwrap() > after, "a new version of it");
    server.store().delete_object(SERVICES, "ns", "s");
    assert_eq!(server.store().restore_object(&backup, SERVICES, "ns", "s", 0).status, 201);
    assert_ne!(
        server.store().object(SERVICES, "ns", "s").unwrap()["metadata"]["uid"],
        uid,
        "another object by that name"
    );
}
