//! The client: time limits, broken connections, hostile answers, what is retried and what never is.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold::kube::{Client, ClientOptions, Credentials, Lease, TransportKind, request};
use serde_json::{Value, json};

use crate::scripted::{Connection, LONG, SHORT, Server, ServiceAccount, get, ok, put, status, transport};

#[test]
fn the_exact_bytes_of_a_renewal() {
    let server = Server::always(ok("{}"));
    let reply = server.client().call(&put(), LONG).unwrap();
    assert_eq!((reply.status, reply.body), (200, b"{}".to_vec()));
    let seen = &server.seen()[0];
    let mut lines: Vec<&str> = seen.head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    let (host, agent) = (format!("host: {}", server.address), ClientOptions::new("").user_agent);
    let agent = format!("user-agent: {agent}");
    assert_eq!(
        lines,
        [
            "PUT /apis/coordination.k8s.io/v1/namespaces/ns/leases/web?fieldManager=leasehold HTTP/1.1",
            "accept: application/json",
            "content-length: 83",
            "content-type: application/json",
            &host,
            &agent,
        ]
    );
    assert_eq!(seen.body, put().body.unwrap());
}

#[test]
fn a_read_has_no_body_and_a_patch_says_which_kind_it_is() {
    let server = Server::always(ok("{}"));
    let client = server.client();
    client.call(&get(), LONG).unwrap();
    client.call(&request::label_pod("ns", "web-0", "pod", "web-0"), LONG).unwrap();
    let seen = server.seen();
    assert!(!seen[0].head.contains("content-") && seen[0].head.starts_with("GET "), "{}", seen[0].head);
    assert!(seen[1].head.contains("content-type: application/merge-patch+json\r\n"), "{}", seen[1].head);
    assert!(seen[1].head.starts_with("PATCH "), "{}", seen[1].head);
}

#[test]
fn many_calls_share_one_connection() {
    let server = Server::always(ok(&"x".repeat(100_000)));
    let client = server.client();
    for request in [get(), put()].iter().cycle().take(20) {
        client.call(request, LONG).unwrap();
    }
    // Errors are answers too: they keep the connection.
    assert_eq!((server.seen().len(), server.connections()), (20, 1));
    let server = Server::always(status(409, "Conflict"));
    let client = server.client();
    for _ in 0..5 {
        assert_eq!(client.call(&put(), LONG).unwrap_err().status, Some(409));
    }
    assert_eq!((server.seen().len(), server.connections()), (5, 1));
}

#[test]
fn statuses_become_errors() {
    let server = Server::always(status(403, "Forbidden"));
    let error = server.client().call(&put(), LONG).unwrap_err();
    assert_eq!((error.status, error.transport), (Some(403), None));
    assert_eq!(
        error.to_string(),
        "PUT /apis/coordination.k8s.io/v1/namespaces/ns/leases/web?fieldManager=leasehold: 403 Forbidden: in words"
    );
    let server = Server::always("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy");
    let error = server.client().call(&put(), LONG).unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    assert!(error.may_have_been_applied());
}

#[test]
fn a_server_that_shuts_down_is_not_waited_for() {
    for (connection, expected) in [("keep-alive", Some(Duration::from_secs(5))), ("close", None)] {
        let server = Server::start(move |answering| {
            answering.request();
            answering.send(&format!(
                "HTTP/1.1 429 Busy\r\nRetry-After: 5\r\nConnection: {connection}\r\nContent-Length: 0\r\n\r\n"
            ));
            answering.request();
            answering.hang();
        });
        let error = server.client().call(&put(), LONG).unwrap_err();
        assert_eq!((error.status, error.retry_after), (Some(429), expected));
    }
}

#[test]
fn the_statuss_word_stands_though_its_body_is_cut_or_endless() {
    for body in ["Content-Length: 1000\r\n\r\n{\"kind\":", "Content-Length: 10000000\r\n\r\n{\"kind\":", "\r\n<html>"] {
        let server = Server::start(move |connection| {
            connection.request();
            connection.send(&format!("HTTP/1.1 403 Forbidden\r\n{body}"));
        });
        let error = server.client().call(&put(), LONG).unwrap_err();
        assert_eq!((error.status, error.transport), (Some(403), None), "{error}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Server::always(ok("{}"));
    let server = Server::always(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
        elsewhere.address
    ));
    let error = server.client().call(&get(), LONG).unwrap_err();
    assert_eq!((error.status, error.transport), (Some(307), None), "{error}");
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn time_runs_out_in_each_phase() {
    type Phase = (&'static str, fn(&mut Connection));
    let phases: [Phase; 4] = [
        ("before the request is read", |connection| connection.hang()),
        ("before the answer", |connection| {
            connection.request();
            connection.hang();
        }),
        ("within the answer's head", |connection| {
            connection.request();
            connection.send("HTTP/1.1 200 OK\r\nContent-Le");
            connection.hang();
        }),
        ("within its body", |connection| {
            connection.request();
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
            connection.hang();
        }),
    ];
    for (phase, handle) in phases {
        let server = Server::start(move |connection| {
            // Only the first is held up: the next call must get a connection of its own.
            if connection.number == 1 {
                handle(connection)
            } else {
                connection.request();
                connection.send(&ok("{}"));
            }
        });
        let client = server.client();
        let error = client.call(&put(), SHORT).unwrap_err();
        assert_eq!(transport(&error), (TransportKind::Timeout, true), "{phase}: {error}");
        assert!(error.may_have_been_applied(), "{phase}");
        client.call(&put(), LONG).unwrap();
        assert_eq!(server.connections(), 2, "{phase}");
    }
}

#[test]
fn a_handshake_that_never_ends_runs_out_of_time_before_anything_is_sent() {
    let directory = ServiceAccount::new("handshake");
    let server = Server::start(Connection::hang);
    let mut options = ClientOptions::new(&format!("https://{}", server.address));
    options.credentials = Some(Arc::new(Credentials::open(&directory.0).unwrap()));
    let error = Client::new(options).unwrap().call(&put(), SHORT).unwrap_err();
    assert_eq!(transport(&error), (TransportKind::Timeout, false), "{error}");
    assert!(!error.may_have_been_applied());
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_as_such() {
    let directory = ServiceAccount::new("plain");
    let server = Server::start(|connection| {
        connection.send("HTTP/1.1 400 Bad Request\r\n\r\n");
        connection.hang();
    });
    let mut options = ClientOptions::new(&format!("https://{}", server.address));
    options.credentials = Some(Arc::new(Credentials::open(&directory.0).unwrap()));
    let error = Client::new(options).unwrap().call(&put(), LONG).unwrap_err();
    assert_eq!(transport(&error), (TransportKind::Tls, false), "{error}");
}

#[test]
fn a_refused_connection_has_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(ClientOptions::new(&format!("http://{address}"))).unwrap();
    let error = client.call(&put(), LONG).unwrap_err();
    assert_eq!(transport(&error), (TransportKind::Connect, false), "{error}");
    assert!(!error.may_have_been_applied());
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn answers_that_break_off_are_cut_and_may_have_been_applied() {
    for piece in [
        "",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"metadata\":",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"met\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"me",
    ] {
        let server = Server::start(move |connection| {
            connection.request();
            connection.send(piece);
            connection.close();
        });
        let error = server.client().call(&put(), LONG).unwrap_err();
        assert_eq!(transport(&error), (TransportKind::Cut, true), "{piece:?}: {error}");
        assert!(error.may_have_been_applied());
        assert_eq!(server.seen().len(), 1, "a write is never sent twice");
    }
}

#[test]
fn what_is_no_http_is_told_as_such() {
    for piece in ["SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP/9.9 xyz\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n"] {
        let server = Server::start(move |connection| {
            connection.request();
            connection.send(piece);
            connection.hang();
        });
        let error = server.client().call(&put(), LONG).unwrap_err();
        assert_eq!(transport(&error), (TransportKind::Protocol, true), "{piece:?}: {error}");
    }
}

#[test]
fn an_answer_that_is_too_large_is_refused_announced_or_not() {
    let megabytes = 10 << 20;
    for head in [format!("Content-Length: {megabytes}"), "Connection: close".to_owned()] {
        let server = Server::start(move |connection| {
            connection.request();
            connection.send(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            connection.send(&"x".repeat(megabytes));
        });
        let error = server.client().call(&put(), LONG).unwrap_err();
        assert_eq!(transport(&error), (TransportKind::Protocol, true), "{error}");
        assert!(
            error.may_have_been_applied() && error.to_string().contains("larger than request limit: 1048576"),
            "{error}"
        );
    }
}

#[test]
fn garbage_and_truncated_json_are_malformed() {
    for body in ["<html>", "{\"metadata\":{\"uid\":\"u", ""] {
        let server = Server::always(ok(body));
        let reply = server.client().call(&get(), LONG).unwrap();
        let error = reply.parse(&get(), Lease::parse).unwrap_err();
        assert_eq!((error.status, error.transport), (Some(200), None), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("GET /apis/coordination.k8s.io/v1/namespaces/ns/leases/web: 200 with a malformed body: ")
        );
    }
}

#[test]
fn a_kept_connection_that_the_server_has_closed_is_not_written_to() {
    let (closed, wait) = channel();
    let closed = Mutex::new(closed);
    let server = Server::start(move |connection| {
        connection.request();
        connection.send(&ok("{}"));
        if connection.number == 1 {
            connection.close();
            closed.lock().unwrap().send(()).unwrap();
        }
    });
    let client = server.client();
    client.call(&get(), LONG).unwrap();
    wait.recv_timeout(LONG).unwrap();
    client.call(&put(), LONG).unwrap();
    let puts: Vec<usize> =
        server.seen().iter().filter(|seen| seen.head.starts_with("PUT")).map(|seen| seen.connection).collect();
    assert_eq!(puts, [2]);
}

/// The race that the probe of a kept connection cannot win: the server closes it while the request is on its way.
fn closes_on_the_second_request() -> Server {
    Server::start(|connection| {
        connection.request();
        connection.send(&ok("{}"));
        if connection.number == 1 {
            connection.request();
            connection.close();
        } else {
            connection.hang();
        }
    })
}

#[test]
fn a_read_cut_on_a_kept_connection_is_tried_on_a_new_one() {
    let server = closes_on_the_second_request();
    let client = server.client();
    client.call(&get(), LONG).unwrap();
    client.call(&get(), LONG).unwrap();
    assert_eq!((server.seen().len(), server.connections()), (3, 2));
}

#[test]
fn a_write_cut_on_a_kept_connection_is_not() {
    let server = closes_on_the_second_request();
    let client = server.client();
    client.call(&get(), LONG).unwrap();
    let error = client.call(&put(), LONG).unwrap_err();
    assert_eq!(transport(&error), (TransportKind::Cut, true));
    assert!(error.may_have_been_applied());
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_read_cut_on_a_new_connection_is_not_tried_again() {
    let server = Server::start(|connection| {
        connection.request();
        connection.close();
    });
    let error = server.client().call(&get(), LONG).unwrap_err();
    assert_eq!(transport(&error), (TransportKind::Cut, true));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn without_tls_no_token_is_sent_not_even_after_a_401() {
    let directory = ServiceAccount::new("no-token");
    let server = Server::always(status(401, "Unauthorized"));
    let mut options = server.options();
    options.credentials = Some(Arc::new(Credentials::open(&directory.0).unwrap()));
    let error = Client::new(options).unwrap().call(&get(), LONG).unwrap_err();
    assert_eq!(error.status, Some(401));
    let seen = server.seen();
    assert_eq!(seen.len(), 1, "there is no token to read again");
    assert!(!seen[0].head.to_lowercase().contains("authorization"), "{}", seen[0].head);
}

#[test]
fn options_that_cannot_work_are_refused_with_the_reason() {
    for (url, reason) in [
        ("", "not a URL"),
        ("10.0.0.1:443", "begins with http:// or https://"),
        ("ftp://10.0.0.1", "begins with http:// or https://"),
        ("https://10.0.0.1:443", "needs a service account"),
        ("http://10.0.0.1:80", "loopback address only"),
        ("http://[fd00::1]:80", "loopback address only"),
        ("https://kubernetes.default.svc", "names are not resolved"),
        ("http://user@127.0.0.1:80", "user name"),
        ("http://127.0.0.1:80/api", "must end after host and port"),
        ("http://127.0.0.1:80/?x", "must end after host and port"),
    ] {
        let error = Client::new(ClientOptions::new(url)).err().unwrap();
        assert!(error.contains(reason) && error.contains(url), "{url}: {error}");
    }
    for url in ["http://127.0.0.1:8001", "http://127.0.0.1:8001/", "http://[::1]:8001", "http://localhost:8001"] {
        Client::new(ClientOptions::new(url)).unwrap();
    }
}

#[test]
fn every_call_is_observed_once() {
    let server = Server::start(|connection| {
        connection.request();
        connection.send(&status(409, "Conflict"));
        connection.request();
        connection.close();
    });
    let (calls, observed) = channel();
    let calls = Mutex::new(calls);
    let mut options = server.options();
    options.observer = Some(Arc::new(move |call| {
        let reason = call.result.unwrap_err().reason.to_string();
        let told = (call.request.verb.method(), call.status(), reason, call.attempt);
        assert!(call.bytes_sent > 100 && call.host.starts_with("127.0.0.1:"));
        calls.lock().unwrap().send(told).unwrap();
    }));
    let client = Client::new(options).unwrap();
    client.call(&put(), LONG).unwrap_err();
    client.call(&put(), LONG).unwrap_err();
    drop(client);
    let observed: Vec<_> = observed.iter().collect();
    assert_eq!(observed, [("PUT", Some(409), "Conflict".to_owned(), 1), ("PUT", None, "cut".to_owned(), 1)]);
}

#[test]
fn the_audit_log_has_a_line_for_each_call_without_token_or_body() {
    use leasehold::kube::{Audit, AuditTarget};
    let directory = ServiceAccount::new("audit");
    let file = directory.0.join("audit.log");
    let audit = Arc::new(Audit::open(&AuditTarget::File(file.clone())).unwrap());
    let answer = ok(r#"{"metadata":{"resourceVersion":"42"},"spec":{"holderIdentity":"web-0"}}"#);
    let server = Server::always(answer.replacen("\r\n", "\r\nAudit-Id: 0b1f6a52-2f0e\r\n", 1));
    let mut options = server.options();
    options.audit = Some(Arc::clone(&audit));
    let client = Client::new(options).unwrap();
    client.call(&put(), LONG).unwrap();
    client.call(&get(), LONG).unwrap();
    audit.flush(LONG);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains("web-0"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = |line: &Value, keys: &[&str]| keys.iter().map(|key| line[*key].clone()).collect::<Vec<_>>();
    let keys = ["verb", "resource", "namespace", "name", "why", "sentVersion", "receivedVersion", "status", "attempt"];
    assert_eq!(lines.len(), 2);
    assert_eq!(json!(fields(&lines[0], &keys)), json!(["update", "leases", "ns", "web", "renew", "41", "42", 200, 1]));
    assert_eq!(json!(fields(&lines[1], &keys)), json!(["get", "leases", "ns", "web", "observe", null, "42", 200, 1]));
    assert!(lines[0]["bytesSent"].as_u64() > Some(200) && lines[0]["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines[0]["auditID"], "0b1f6a52-2f0e", "the name that the server's own log has for it");
    let reference = std::fs::read_to_string("docs/reference.md").unwrap();
    let table = reference.split("## Audit log").nth(1).and_then(|rest| rest.split("\n\n").nth(2)).unwrap();
    let cells = table.lines().skip(2).flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2));
    let (told, written): (BTreeSet<_>, BTreeSet<_>) =
        (cells.collect(), lines[0].as_object().unwrap().keys().map(String::as_str).collect());
    assert_eq!(told, written, "the reference's fields, and the line's");
}
