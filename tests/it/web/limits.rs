//! What a client may not do, and what it is answered.

use super::harness::{Connection, PATIENT, served};
use leasehold::program::http::HttpLimits;
use leasehold::program::http::head::HEAD_MAX;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

/// Short enough to wait for.
const SOON: Duration = Duration::from_millis(50);

#[test]
fn only_the_first_of_pipelined_requests_is_answered() {
    let served = served(PATIENT);
    let mut connection = served.connect();
    connection
        .send("GET /leader HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(100))
        .unwrap();
    assert_eq!(connection.answer(true).unwrap().text().get(..8), Some("{\"lease\""));
    assert_eq!(served.metric("leasehold_http_requests_total"), 2.0, "the metrics' own is the second");
}

#[test]
fn a_head_that_takes_too_long_is_ended_however_steadily_it_trickles() {
    let served = served(HttpLimits { time: SOON, ..PATIENT });
    let mut connection = served.connect();
    connection.send("GET / HTTP/1.1\r\nHost: test\r\n").unwrap();
    let trickle = trickle(connection.stream().try_clone().unwrap());
    assert!(connection.is_closed());
    trickle.join().unwrap();
    served.await_metric("leasehold_http_rejected_total{reason=\"slow\"}", 1.0);
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
fn empty_lines_begin_no_head_and_do_not_extend_its_limit() {
    let served = served(HttpLimits { time: SOON, ..PATIENT });
    let mut connection = served.connect();
    connection.send("\r\n\r\n").unwrap();
    assert!(connection.is_closed());
}

#[test]
fn an_endless_body_is_ended_after_the_answer() {
    // The head arrives in one piece, so its own limit is not met.
    let served = served(HttpLimits { time: SOON, ..PATIENT });
    let mut connection = served.connect();
    connection.send("POST /leader HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let trickle = trickle(connection.stream().try_clone().unwrap());
    assert_eq!(connection.answer(true).unwrap().status, 405);
    trickle.join().unwrap();
}

#[test]
fn ten_megabytes_of_head_are_refused_and_nothing_is_kept_of_them() {
    let served = served(PATIENT);
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
    for (length, expected) in [(HEAD_MAX, 200), (HEAD_MAX + 1, 431)] {
        let mut connection = served.connect();
        connection.send(head(length)).unwrap();
        assert_eq!(connection.answer(true).unwrap().status, expected, "{length}");
    }
}

#[test]
fn a_body_is_never_waited_for_nor_taken_for_a_request() {
    let served = served(PATIENT);
    let hidden = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";
    for (method, fields, expected) in [
        ("POST", "Content-Length: 1000000000\r\n", 405),
        ("POST", "Content-Length: 18446744073709551615\r\n", 405),
        ("POST", "Content-Length: 3\r\n", 405),
        ("PUT", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", 405),
        ("PATCH", "Content-Length: 5\r\nExpect: something else\r\n", 405),
        ("GET", "Content-Length: 1000000000\r\n", 200),
        ("GET", "Content-Length: -1\r\nTransfer-Encoding: gzip, chunked\r\n", 200),
    ] {
        for body in ["", hidden] {
            let mut connection = served.connect();
            connection.send(format!("{method} / HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}")).unwrap();
            let answer = connection.answer(true).unwrap();
            assert_eq!(answer.status, expected, "{method} {fields}");
            assert_eq!(answer.field("Allow").is_some(), expected == 405);
        }
    }
    assert_eq!(served.metric("leasehold_http_requests_total"), 15.0, "the metrics' own is the fifteenth");
}

#[test]
fn garbage_is_answered_400_and_the_next_client_is_served() {
    let served = served(PATIENT);
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0xff, 0, 0x80];
    for garbage in [&hello[..], b"\0\0\0\0", b"GET  / HTTP/1.1\r\n\r\n", b"}{\n\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
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
    for end in 1..=text.len() {
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
fn an_idle_connection_does_not_outlive_the_limit_of_a_head() {
    // The kernel keeps it back for some seconds, where it does so at all.
    let served = served(HttpLimits { time: SOON, ..PATIENT });
    assert!(Connection::to(served.address).unwrap().is_closed());
}
