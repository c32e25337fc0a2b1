//! Connections that stay, the door's own beginning and end, and a tiny_http that dies behind it.

use super::harness::{HANG, PATIENT, served, served_with};
use leasehold::program::http::Limits;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

#[test]
fn pipelined_requests_are_answered_in_order() {
    let served = served(PATIENT);
    let paths = ["/", "/nope", "/leader", "/leading", "/healthz"];
    let expected = [200, 404, 200, 503, 200];
    let one = |path: &&str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut connection = served.connect();
    connection.send(paths.iter().map(one).collect::<String>().repeat(100)).unwrap();
    for round in 0..100 {
        let answered: Vec<u16> = paths.iter().map(|_| connection.answer(true).unwrap().status).collect();
        assert_eq!(answered, expected, "round {round}");
    }
}

#[test]
fn a_pipeline_ends_with_the_request_that_closes() {
    let served = served(PATIENT);
    let mut connection = served.connect();
    connection
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /leader HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(connection.answer(true).unwrap().field("Connection"), Some("close"));
    connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(connection.is_closed());
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let served = served(PATIENT);
    let mut connection = served.connect();
    for _ in 0..2 {
        connection.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let answer = connection.answer(true).unwrap();
        assert_eq!((answer.status, answer.field("Connection")), (200, Some("keep-alive")));
    }
    connection.send("GET /leader HTTP/1.0\r\n\r\n").unwrap();
    let answer = connection.answer(true).unwrap();
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(connection.is_closed());
}

#[test]
fn draining_each_answer_is_its_connections_last() {
    let served = served(PATIENT);
    let mut connection = served.connect();
    assert_eq!(connection.get("/").unwrap().field("Connection"), None);
    served.web.as_ref().unwrap().drain();
    assert_eq!(connection.get("/").unwrap().field("Connection"), Some("close"), "one more answer, the last");
    assert_eq!(served.get("/").status, 200, "and newcomers are still answered");
}

#[test]
fn stopping_answers_what_was_asked_and_closes_the_rest() {
    let (asked, was_asked) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let (asked, may_go) = (Mutex::new(asked), Mutex::new(may_go));
    let mut served = served_with(
        PATIENT,
        Box::new(move || {
            asked.lock().unwrap().send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }),
    );
    let mut idle = served.connect();
    assert_eq!(idle.get("/healthz").unwrap().status, 200);
    let mut waiting = served.connect();
    waiting.send("GET /leader HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    was_asked.recv().unwrap();
    let address = served.address;
    let stopping = thread::spawn(move || served.stop());
    assert!(idle.is_closed());
    go.send(()).unwrap();
    let answer = waiting.answer(true).unwrap();
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    drop(waiting);
    stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn stopping_waits_no_longer_than_its_limit() {
    let (never, forever) = mpsc::channel::<()>();
    let forever = Mutex::new(forever);
    let hook = Box::new(move || assert!(forever.lock().unwrap().recv().is_err()));
    let mut served = served_with(Limits { stop: Duration::from_millis(50), ..PATIENT }, hook);
    let mut waiting = served.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    served.stop();
    assert!(waiting.is_closed());
    drop(never);
}

#[test]
fn a_panic_behind_the_door_costs_at_most_its_own_request() {
    let calls = AtomicUsize::new(0);
    let hook = Box::new(move || assert_ne!(calls.fetch_add(1, SeqCst), 0, "the first call fails, as planned"));
    let served = served_with(PATIENT, hook);
    // 500, unless tiny_http's end was noticed first: then it was asked again.
    assert!([200, 500].contains(&served.get("/leader").status));
    for _ in 0..10 {
        assert_eq!(served.get("/leader").status, 200);
    }
}

#[test]
fn who_makes_it_panic_every_time_is_told_so_and_others_are_served() {
    let served = served_with(PATIENT, Box::new(|| panic!("as planned")));
    for _ in 0..3 {
        assert!([500, 503].contains(&served.get("/leader").status));
        assert_eq!(served.get("/healthz").status, 200);
    }
}

#[test]
fn an_answer_too_large_is_an_error_and_no_burden() {
    let served = served(PATIENT);
    served.view.leadership.lock().unwrap().leader = Some("x".repeat(1 << 20));
    assert_eq!(served.get("/leader").status, 500);
    assert_eq!(served.get("/healthz").status, 200);
}

#[test]
fn a_view_that_hangs_costs_a_503_and_not_the_door() {
    let (never, forever) = mpsc::channel::<()>();
    let forever = Mutex::new(forever);
    let hook = Box::new(move || assert!(forever.lock().unwrap().recv().is_err()));
    let served = served_with(Limits { answer: Duration::from_millis(100), ..PATIENT }, hook);
    assert_eq!(served.get("/leader").status, 503);
    // As soon as the view answers again, so does the door.
    drop(never);
    let begun = std::time::Instant::now();
    while served.get("/leader").status != 200 {
        assert!(begun.elapsed() < HANG);
    }
}

#[test]
fn clients_at_the_same_time_get_each_their_own_answers() {
    let served = Arc::new(served(PATIENT));
    let start = Arc::new(Barrier::new(16));
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let (served, start) = (Arc::clone(&served), Arc::clone(&start));
            thread::spawn(move || {
                let (path, status) = [("/", 200), ("/nope", 404), ("/leading", 503), ("/leader", 200)][thread % 4];
                let mut connection = served.connect();
                start.wait();
                for _ in 0..200 {
                    let answer = connection.get(path).unwrap();
                    assert_eq!(answer.status, status);
                    assert_eq!(answer.text().starts_with('{'), status == 200);
                    assert_eq!(answer.text().contains("lease"), path == "/leader");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
