//! What must hold for whatever bytes come from outside, one function for each thing that reads them.
//!
//! Shared by the fuzz targets (`fuzz/fuzz_targets`, run for as long as one likes) and by `tests/it/properties.rs` (a
//! bounded run in every `cargo test`). A property that fails panics; so does what it tests, if it panics.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use leasehold::election::Content;
use leasehold::kube::pod::label_value;
use leasehold::kube::request::{self, Verb};
use leasehold::kube::service::selector_patch;
use leasehold::kube::watch::next_line;
use leasehold::kube::{CallError, Fence, Lease, Pod, Purpose, Service, WatchEvent};
use leasehold::program::config;
use leasehold::time::WallTime;
use serde_json::Value;

/// A property, by the name that fuzz target and corpus directory have too.
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// It itself.
    pub holds: fn(&[u8]),
    /// Inputs from which mutation gets somewhere.
    pub seeds: &'static [&'static str],
}

/// All of them.
pub const ALL: &[Property] = &[
    Property {
        name: "lease",
        holds: lease,
        seeds: &[
            r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"web","namespace":"ns","uid":"u-1","resourceVersion":"8123","creationTimestamp":"2026-11-22T15:00:00Z","annotations":{"note":"kept","leasehold.dev/incarnation":"a","leasehold.dev/yield-to":""},"managedFields":[{"f:spec":{}}]},"spec":{"holderIdentity":"web-0","leaseDurationSeconds":15,"leaseTransitions":3,"acquireTime":"2026-11-22T15:00:00.000001Z","renewTime":"2026-11-22T16:04:05.12+01:00","strategy":"x","unknown":{"deep":[1,2.5,null]}}}"#,
            r#"{"metadata":{"uid":"u","resourceVersion":"1","annotations":null},"spec":null}"#,
        ],
    },
    Property {
        name: "service",
        holds: service,
        seeds: &[
            r#"{"kind":"Service","metadata":{"uid":"s","resourceVersion":"7","annotations":{"leasehold.dev/fence":"2026-11-22T15:04:05Z/u-1/8123"}},"spec":{"selector":{"app":"web","pod":"web-1"}}}"#,
        ],
    },
    Property {
        name: "pod",
        holds: pod,
        seeds: &[
            r#"{"kind":"Pod","metadata":{"labels":{"pod":"web-0"}}}"#,
            "web-0",
            "../x/../y",
            "a-pod-name-that-is-longer-than-the-sixty-three-characters-of-a-label",
        ],
    },
    Property {
        name: "status",
        holds: status,
        seeds: &[
            r#"409 {"kind":"Status","code":409,"reason":"Conflict","message":"modified","details":{"retryAfterSeconds":7}}"#,
            r#"410 {"kind":"Status","code":410,"reason":"Expired"}"#,
            "502 <html>\r\n\u{1b}[31mBad Gateway</html>",
        ],
    },
    Property {
        name: "watch",
        holds: watch,
        seeds: &[
            "{\"type\":\"ADDED\",\"object\":{}}\n{\"type\":\"DELETED\",\"object\":{\"a\":1}}\n\n",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"12\"}}}\n",
            "{\"type\":\"ERROR\",\"object\":{\"code\":410,\"reason\":\"Expired\"}}\r\n{\"type\":\"ERROR\",\"object\":{}}\n",
        ],
    },
    Property {
        name: "fence",
        holds: fence,
        seeds: &["2026-11-22T15:04:05Z/u-1/8123", "0000-01-01T00:00:00+23:59/ü/1"],
    },
    Property {
        name: "time",
        holds: time,
        seeds: &["2026-11-22T15:04:05.123456Z", "2026-11-22t16:04:05.123456789+01:00", "9999-12-31T23:59:60-23:59"],
    },
    Property {
        name: "config",
        holds: config,
        seeds: &[
            "LEASE_NAME=web\nLEASE_DURATION=15\nRENEWAL_DEADLINE=10s\nRETRY_PERIOD=2000ms\nRENEW_INTERVAL=0.5m\nPOD_NAME=web-0\nKUBERNETES_SERVICE_HOST=10.96.0.1\nKUBERNETES_SERVICE_PORT=443",
            "LEASE_NAME=web\nPOD_NAME=a\nKUBE_API_URL=https://[fd00::1]:6443\nHEALTH_URL=http://localhost:80/x?y\nAUDIT_LOG=stdout\nROUTE_LABEL=example.com/pod\nSERVICE_NAME=web\nPORT=8080\nEVENTS=off\nRUST_LOG=info",
            "LEASE_NAME=\nLEASE_DURATION=1.5\nRENEWAL_DEADLINE=-1\nRETRY_PERIOD=99999999999999999999h\n--\nprogram\n--flag",
        ],
    },
    #[cfg(feature = "program")]
    Property {
        name: "http_head",
        holds: http_head,
        seeds: &[
            "GET /leader HTTP/1.1\r\nHost: a\r\nAccept: text/html,*/*;q=0.8\r\nConnection: close\r\n\r\nGET / HTTP/1.1",
            "HEAD http://a/?x=y HTTP/1.0\nConnection: keep-alive\n\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        ],
    },
];

/// A Lease that can be read can be written: back as it was, with nothing changed but what an election changes.
pub fn lease(bytes: &[u8]) {
    let Ok(lease) = Lease::parse(bytes) else { return };
    let before = &lease.snapshot;
    assert!(before.version > 0 && !before.uid.is_empty());
    assert_ne!(before.record.holder.as_deref(), Some(""), "an empty holder is none");
    assert_ne!(before.record.lease_duration_seconds, Some(0), "a duration of zero is none");
    let content = Content { record: before.record.clone(), annotations: before.annotations.clone() };
    let written = lease.with(&content);
    let after = Lease::from_object(written.clone()).expect("what was read can be read again").snapshot;
    assert_eq!((&after.uid, after.version, &after.annotations), (&before.uid, before.version, &before.annotations));
    if [before.record.acquire_time, before.record.renew_time].into_iter().flatten().all(has_four_digit_year) {
        assert_eq!(after.record, before.record);
    }
    let original: Value = serde_json::from_slice(bytes).expect("it was parsed");
    assert_eq!(without_election(written), without_election(original));
}

/// What an election must not touch. A `spec` or `annotations` that is no object holds nothing to be kept.
fn without_election(mut object: Value) -> Value {
    for (path, keys) in [
        ("/spec", &["holderIdentity", "leaseDurationSeconds", "leaseTransitions", "acquireTime", "renewTime"][..]),
        (
            "/metadata/annotations",
            &[
                "leasehold.dev/incarnation",
                "leasehold.dev/fencing-token",
                "leasehold.dev/yield-to",
                "leasehold.dev/yielded-to",
            ],
        ),
    ] {
        if let Some(map) = object.pointer_mut(path).and_then(Value::as_object_mut) {
            keys.iter().for_each(|key| drop(map.remove(*key)));
        }
    }
    if !object["spec"].is_object() {
        object["spec"] = serde_json::json!({});
    }
    object
}

/// A Service that can be read can be patched, and only the version that was read.
pub fn service(bytes: &[u8]) {
    let Ok(service) = Service::parse(bytes) else { return };
    let fence = Fence { lease_uid: "u".to_owned(), token: 1 };
    let patch = selector_patch(service.version, &service.uid, "pod", "web-0", &fence);
    assert_eq!(patch["metadata"]["resourceVersion"], service.version.to_string());
    // What is passed over unread may be no JSON after all: bytes that are no text, say.
    let Ok(object) = serde_json::from_slice(bytes) else { return };
    assert_eq!(Service::from_object(&object).as_ref(), Ok(&service), "read from bytes or from a watch, it is the same");
}

/// Any name is a valid label value in the end; and no name gets out of its place in a path.
pub fn pod(bytes: &[u8]) {
    let _ = Pod::parse(bytes);
    let name = String::from_utf8_lossy(bytes);
    let value = label_value(&name);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    assert!(value.len() <= 63 && edge(value.chars().next()) && edge(value.chars().next_back()), "{value:?}");
    assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{value:?}");
    assert_eq!(label_value(&value), value);
    let request = request::get_pod(&name, &name);
    assert_eq!(request.path.matches('/').count(), 6, "{request:?}");
    assert!(request.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#'), "{request:?}");
}

/// Whatever a server says: no panic, one printable line of bounded length. The input begins with the status.
pub fn status(bytes: &[u8]) {
    let (status, body) = bytes.split_at_checked(3).unwrap_or((b"500", bytes));
    let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok()).unwrap_or(500);
    let header = std::str::from_utf8(body).ok();
    for request in [request::get_lease("ns", "web", Purpose::Observe), request::label_pod("ns", "web-0", "a", "b")] {
        let error = CallError::from_answer(&request, status, header, body);
        let text = error.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        // Each character shown may be an escape of ten.
        assert!(text.chars().count() < 300 * 10 * 2 + 200, "{}", text.len());
        assert!(request.verb != Verb::Get || !error.may_have_been_applied());
        assert_eq!((error.status, error.transport), (Some(status), None));
    }
}

/// Lines come out the same however the stream is cut. The first byte says where.
pub fn watch(bytes: &[u8]) {
    let Some((size, stream)) = bytes.split_first() else { return };
    let cut = lines_of(BufReader::with_capacity(usize::from(*size) + 1, stream));
    assert_eq!(cut, lines_of(stream));
    let request = request::watch_lease("ns", "web", 1, Duration::from_secs(300), Purpose::Observe);
    for line in &cut {
        assert!(line.iter().position(|byte| *byte == b'\n') == Some(line.len() - 1) && !line.trim_ascii().is_empty());
        if let Ok(WatchEvent::Bookmark(version)) = WatchEvent::parse(&request, line) {
            assert!(version > 0);
        }
    }
}

fn lines_of(mut stream: impl BufRead) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| next_line(&mut stream).expect("far below the limit")).collect()
}

/// A fence survives its text, and does not outrank itself.
pub fn fence(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(fence) = Fence::parse(text) else { return };
    assert!(!fence.outranks(&fence, fence.token));
    assert_eq!(Fence::parse(&fence.to_string()), Some(fence));
}

/// A time that can be read is written as a MicroTime, and that is the same time.
pub fn time(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(time) = WallTime::parse(text) else { return };
    if has_four_digit_year(time) {
        let written = time.to_string();
        assert_eq!(written.len(), "2026-11-22T15:04:05.123456Z".len(), "{written}");
        assert_eq!(WallTime::parse(&written), Some(time));
    }
}

/// An offset can carry the first and the last year of the calendar beyond it; no API server gives such a time out.
fn has_four_digit_year(time: WallTime) -> bool {
    let text = time.to_string();
    text.len() == 27 && !text.starts_with('-')
}

/// Variables, one a line, then arguments after a line `--`: never a panic, and what is wrong is printable.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (variables, arguments) = match text.split_once("\n--\n") {
        Some((variables, arguments)) => (variables, format!("--\n{arguments}")),
        None => (&*text, String::new()),
    };
    let arguments: Vec<OsString> = arguments.lines().map(OsString::from).collect();
    let variable = |name: &str| {
        let mut values = variables.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.next().map(OsString::from)
    };
    let parsed = config::parse(&arguments, &variable, &|_| Ok("ns".to_owned()));
    if let Err(mistakes) = parsed {
        assert!(!mistakes.0.is_empty());
        for mistake in &mistakes.0 {
            assert!(!mistake.to_string().chars().any(char::is_control), "{mistake:?}");
        }
    }
}

/// A head is whole at its end and not before; what follows it does not matter; and what tiny_http is given is one clean
/// head without a body, whatever came.
#[cfg(feature = "program")]
pub fn http_head(bytes: &[u8]) {
    use leasehold::program::http::head::{end, rewrite};
    let Some(length) = end(bytes) else { return };
    assert_eq!(end(&bytes[..length]), Some(length));
    for cut in 0..length {
        assert_eq!(end(&bytes[..cut]), None, "cut at {cut}");
    }
    let Some(text) = rewrite(&bytes[..length]) else { return };
    let line = text.strip_suffix("\r\n\r\n").expect("one whole head");
    let line = line.strip_suffix("\r\nAccept: text/html").unwrap_or(line);
    assert!(line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{text:?}");
    let words: Vec<&str> = line.split(' ').collect();
    assert!(words.len() == 3 && words.iter().all(|word| !word.is_empty()) && words[2] == "HTTP/1.1", "{text:?}");
}
