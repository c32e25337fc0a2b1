//! What a client may not do, and what it is told.

use super::harness::{Connection, HANG, PATIENT, Served, served};
use leasehold::program::http::Limits;
use std::io::{ErrorKind, Read, Write};
use std::iter;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

/// Short enough to wait for.
const SOON: Duration = Duration::from_millis(50);

#[test]
fn a_head_that_takes_too_long_is_ended_however_steadily_it_trickles() {
    let served = served(Limits { head: SOON, ..PATIENT });
    let mut connection = served.connect();
    connection.send("GET / HTTP/1.1\r\nHost: test\r\n").unwrap();
    let trickle = trickle(connection.stream().try_clone().unwrap());
    let answer = connection.answer(true).unwrap();
    assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")));
    // The client goes on sending; having been answered, it must not be able to for ever.
    connection.stream().shutdown(Shutdown::Both).unwrap();
    trickle.join().unwrap();
    assert_eq!(served.metric("leasehold_http_rejected_total{reason=\"slow\"}"), 1.0);
}

/// Sends one more field, a byte at a time, until the connection ends.
fn trickle(mut stream: TcpStream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    })
}

#[test]
fn an_idle_connection_is_closed_before_and_after_its_first_request() {
    let served = served(Limits { idle: SOON, ..PATIENT });
    assert!(served.connect().is_closed());
    assert!(answered_once(&served).is_closed());
}

#[test]
fn empty_lines_after_a_request_begin_no_other() {
    // Were they the beginning of a head, the connection would stay for as long as a head may take.
    let served = served(Limits { idle: SOON, ..PATIENT });
    let mut connection = answered_once(&served);
    // It may be closed already.
    let _ = connection.send("\r\n");
    assert!(connection.is_closed());
}

/// A connection on which a request has been answered. On a slow machine a short limit ends some before that.
fn answered_once(served: &Served) -> Connection {
    let mut connections = iter::repeat_with(|| served.connect());
    connections.find_map(|mut connection| connection.get("/").is_ok().then_some(connection)).unwrap()
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    let served = served(PATIENT);
    let mut connection = served.connect();
    connection.send("\r\n\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(connection.answer(true).unwrap().status, 200);
}

#[test]
fn ten_megabytes_of_head_are_refused_and_nothing_is_kept_of_them() {
    let served = served(Limits { linger: SOON, ..PATIENT });
    let mut connection = served.connect();
    let mut writer = connection.stream().try_clone().unwrap();
    let sender = thread::spawn(move || {
        let field = [b"X-Long: ", &[b'x'; 1 << 20][..]].concat();
        // It fails as soon as the server has had enough.
        let _ = writer.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n");
        (0..10).any(|_| writer.write_all(&field).is_err())
    });
    assert_eq!(connection.answer(true).unwrap().status, 431);
    assert!(sender.join().unwrap(), "the server must not read all of it");
    assert_eq!(served.metric("leasehold_http_rejected_total{reason=\"refused\"}"), 1.0);
}

#[test]
fn a_head_may_fill_its_bound_and_not_a_byte_more() {
    let served = served(PATIENT);
    let head = |length: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: test\r\nX: \r\n\r\n";
        frame.replace("X: ", &format!("X: {}", "x".repeat(length - frame.len())))
    };
    for (length, expected) in [(PATIENT.head_bytes, 200), (PATIENT.head_bytes + 1, 431)] {
        let mut connection = served.connect();
        connection.send(head(length)).unwrap();
        assert_eq!(connection.answer(true).unwrap().status, expected, "{length}");
    }
}

#[test]
fn a_body_is_refused_before_it_is_sent() {
    let served = served(PATIENT);
    for (method, fields, expected) in [
        ("POST", "Content-Length: 1000000000\r\n", 405),
        ("PUT", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", 405),
        ("GET", "Content-Length: 1000000000\r\n", 413),
        ("GET", "Transfer-Encoding: chunked\r\n", 413),
        ("HEAD", "Content-Length: 1\r\n", 413),
    ] {
        let mut connection = served.connect();
        connection.send(format!("{method} / HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).unwrap();
        let answer = connection.answer(true).unwrap();
        assert_eq!((answer.status, answer.field("Connection")), (expected, Some("close")), "{method} {fields}");
        assert_eq!(answer.field("Allow").is_some(), expected == 405);
        connection.stream().shutdown(Shutdown::Write).unwrap();
        assert!(connection.is_closed());
    }
}

#[test]
fn a_request_hidden_in_a_body_is_not_answered() {
    let served = served(PATIENT);
    let mut connection = served.connect();
    let hidden = "GET /leader HTTP/1.1\r\nHost: test\r\n\r\n";
    let length = hidden.len();
    connection.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{hidden}")).unwrap();
    assert_eq!(connection.answer(true).unwrap().status, 405);
    connection.stream().shutdown(Shutdown::Write).unwrap();
    assert!(connection.is_closed());
    assert_eq!(served.metric("leasehold_http_requests_total"), 1.0, "only this question after the metrics");
}

#[test]
fn garbage_is_answered_400_and_the_next_client_is_served() {
    let served = served(PATIENT);
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0xff, 0, 0x80];
    for garbage in
        [&hello[..], b"\0\0\0\0", b"GET  / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"}{\n\n"]
    {
        let mut connection = served.connect();
        connection.send(garbage).unwrap();
        assert_eq!(connection.answer(true).unwrap().status, 400, "{garbage:?}");
    }
    // Bytes of every kind, from a generator with a fixed seed: whatever they are taken for, they harm nobody.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200 {
        let mut connection = served.connect();
        let length = (state % 300) as usize;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(length).collect();
        connection.send(&bytes).unwrap();
        // It may have been closed from the other side already, or reset.
        let _ = connection.stream().shutdown(Shutdown::Write);
        let _ = connection.stream().read_to_end(&mut Vec::new());
    }
    assert_eq!(served.get("/").status, 200);
}

#[test]
fn a_truncated_request_is_not_answered_and_a_half_closed_one_is() {
    let served = served(PATIENT);
    let text = "GET /leader HTTP/1.1\r\nHost: test\r\n\r\n";
    for end in 0..=text.len() {
        let mut connection = served.connect();
        connection.send(&text[..end]).unwrap();
        connection.stream().shutdown(Shutdown::Write).unwrap();
        if end == text.len() {
            assert_eq!(connection.answer(true).unwrap().status, 200);
        }
        assert!(connection.is_closed(), "{end}");
    }
}

#[test]
fn who_does_not_take_his_answers_is_closed_and_others_are_served_meanwhile() {
    let served = served(Limits { write: SOON, ..PATIENT });
    *served.view.metrics.lock().unwrap() = "x".repeat(200 << 10);
    let mut greedy = TcpStream::connect(served.address).unwrap();
    greedy.set_write_timeout(Some(HANG)).unwrap();
    greedy.write_all("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(100).as_bytes()).unwrap();
    served.await_metric("leasehold_http_rejected_total{reason=\"stalled\"}", 1.0);
    let mut taken = Vec::new();
    // A reset: what it has not taken must not stay in this side's kernel after the connection.
    assert_eq!(greedy.read_to_end(&mut taken).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(taken.len() < 4 << 20, "{} bytes had been buffered for it", taken.len());
}

#[test]
fn bytes_owed_are_bounded_over_all_connections() {
    let served = served(Limits { owed_bytes: 500 << 10, ..PATIENT });
    *served.view.metrics.lock().unwrap() = "x".repeat(200 << 10);
    let greedy: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(served.address).unwrap();
            stream.write_all("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(50).as_bytes()).unwrap();
            stream
        })
        .collect();
    // No time limit is met here: only what they are owed together can have closed them.
    served.await_metric("leasehold_http_rejected_total{reason=\"stalled\"}", 10.0);
    drop(greedy);
}
