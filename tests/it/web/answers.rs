//! What each method and path is answered.

use super::harness::{Answer, PATIENT, served};
use leasehold::time::WallTime;
use std::time::Duration;

/// Checks what every answer has, and its content type.
fn assert_proper(answer: &Answer, content_type: &str) {
    assert_eq!(answer.field("Content-Type"), Some(content_type));
    assert_eq!(answer.field("Cache-Control"), Some("no-store"));
    assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(answer.field("Server"), Some("leasehold"));
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[test]
fn root_names_the_pod() {
    let served = served(PATIENT);
    let answer = served.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"hostname":"pod-a"}"#));
    assert_proper(&answer, "application/json");
    assert_eq!(answer.field("Vary"), Some("Accept"));
}

#[test]
fn leader_has_its_fields_in_the_documented_order_and_null_for_the_unknown() {
    let served = served(PATIENT);
    let answer = served.get("/leader");
    let unknown = r#"{"lease":"ns/demo","leader":null,"isLeader":false,"transitions":0,"fencingToken":null,"validForMillis":0,"successor":null}"#;
    assert_eq!((answer.status, answer.text().as_str()), (200, unknown));
    assert_proper(&answer, "application/json");
    {
        let mut view = served.view.lock().unwrap();
        view.leader = Some("pod-\"b\"\n".into());
        view.is_leader = true;
        view.transitions = 3;
        view.fencing_token = Some(u128::MAX);
        view.successor = Some("pod-c".into());
        view.valid_for = Duration::from_micros(7_340_999);
    }
    let known = r#"{"lease":"ns/demo","leader":"pod-\"b\"\n","isLeader":true,"transitions":3,"fencingToken":"340282366920938463463374607431768211455","validForMillis":7340,"successor":"pod-c"}"#;
    assert_eq!(served.get("/leader?pretty#x").text(), known);
}

#[test]
fn leading_health_and_readiness_are_status_codes() {
    let served = served(PATIENT);
    let status = |path: &str| {
        let answer = served.get(path);
        assert_proper(&answer, PLAIN);
        (answer.status, answer.text())
    };
    assert_eq!(status("/leading"), (503, "not leading\n".into()));
    assert_eq!(status("/healthz"), (200, "ok\n".into()));
    assert_eq!(status("/readyz"), (200, "ok\n".into()));
    {
        let mut view = served.view.lock().unwrap();
        view.is_leader = true;
        view.unhealthy = Some("the lease is held past its expiry".into());
        view.ready = false;
    }
    assert_eq!(status("/leading"), (200, "leading\n".into()));
    assert_eq!(status("/healthz"), (503, "the lease is held past its expiry\n".into()));
    assert_eq!(status("/readyz").0, 503);
}

#[test]
fn metrics_are_of_the_election_then_http_then_the_process() {
    let served = served(PATIENT);
    served.view.lock().unwrap().is_leader = true;
    let answer = served.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_proper(&answer, "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    assert!(text.starts_with("# HELP leader_election_master_status "), "{text}");
    assert!(text.contains("\nleader_election_master_status{name=\"demo\"} 1\n"));
    let at = |family: &str| text.find(&format!("# HELP {family} ")).unwrap();
    assert!(at("leasehold_fencing_token") < at("leasehold_http_connections"));
    assert!(at("leasehold_http_rejected_total") < at("process_cpu_seconds_total"));
    assert!(text.contains("\nleasehold_http_requests_total 1\n"));
    assert!(text.contains("\nprocess_resident_memory_bytes "));
    assert!(text.ends_with('\n'));
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405_with_allow() {
    let served = served(PATIENT);
    for path in ["/nope", "/leader/", "//", "/healthz/../leader", "*", "/%6ceader", "leader"] {
        let answer = served.get(path);
        assert_eq!((answer.status, answer.text().as_str()), (404, "not found\n"), "{path}");
        assert_proper(&answer, PLAIN);
    }
    for (method, path) in
        [("POST", "/"), ("DELETE", "/leader"), ("OPTIONS", "/metrics"), ("get", "/"), ("BREW", "/readyz")]
    {
        let answer = served.connect().request(method, path, "").unwrap();
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, HEAD")), "{method}");
        assert_proper(&answer, PLAIN);
    }
}

#[test]
fn head_is_get_without_the_body() {
    let served = served(PATIENT);
    for path in ["/", "/leader", "/leading", "/healthz", "/readyz", "/nope"] {
        let with_body = served.get(path);
        let without = served.connect().request("HEAD", path, "").unwrap();
        let but_date = |answer: &Answer| {
            let fields = answer.fields.iter().filter(|(name, _)| name != "Date");
            (answer.status, fields.cloned().collect::<Vec<_>>())
        };
        assert_eq!(but_date(&without), but_date(&with_body), "{path}");
        assert_eq!(without.field("Content-Length"), Some(with_body.body.len().to_string().as_str()));
    }
}

#[test]
fn a_browser_gets_the_page_and_nothing_from_outside_is_markup_in_it() {
    let served = served(PATIENT);
    let hostile = "</script><script>alert(1)</script>";
    {
        let mut view = served.view.lock().unwrap();
        view.pod = hostile.into();
        view.lease = hostile.into();
        view.leader = Some(hostile.into());
        view.history = vec![(WallTime(0), Some(hostile.into()))];
        (view.service, view.service_target) = (Some(hostile.into()), Some(hostile.into()));
        view.unhealthy = Some(hostile.into());
    }
    let browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
    let answer = served.connect().request("GET", "/", browser).unwrap();
    assert_eq!(answer.status, 200);
    assert_proper(&answer, "text/html; charset=utf-8");
    assert_eq!(answer.field("Vary"), Some("Accept"));
    let policy = answer.field("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let page = answer.text();
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)"));
    let json = served.get("/").text();
    assert_eq!(json, r#"{"hostname":"</script><script>alert(1)</script>"}"#);
}

#[test]
fn a_target_in_absolute_form_is_understood() {
    let served = served(PATIENT);
    assert_eq!(served.get("http://test/leading?x").text(), "not leading\n");
}

#[test]
fn every_version_of_http_1_and_every_line_end_is_understood() {
    let served = served(PATIENT);
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\n\n",
        "\r\n\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: keep-alive\r\nTE: chunked\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nX: \u{e4}\r\nno colon\r\n\r\n",
    ] {
        let mut connection = served.connect();
        connection.send(head).unwrap();
        assert_eq!(connection.answer(true).unwrap().text(), r#"{"hostname":"pod-a"}"#, "{head:?}");
    }
}
