//! The HTTP side's beginning and end, and many clients at once.

use super::harness::{PATIENT, served, served_with};
use std::net::TcpStream;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

#[test]
fn stopping_answers_what_was_asked_and_closes_the_rest() {
    let (asked, was_asked) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let (asked, may_go) = (Mutex::new(asked), Mutex::new(may_go));
    let mut served = served_with(
        PATIENT,
        Box::new(move || {
            // The second request is answered when nobody listens for this any more.
            let _ = asked.lock().unwrap().send(());
            let _ = may_go.lock().unwrap().recv();
        }),
    );
    let mut unfinished = served.connect();
    unfinished.send("GET /leader HTTP/1.1\r\n").unwrap();
    let [mut first, mut second] = [served.connect(), served.connect()];
    first.send("GET /leader HTTP/1.1\r\n\r\n").unwrap();
    was_asked.recv().unwrap();
    second.send("GET /leader HTTP/1.1\r\n\r\n").unwrap();
    let address = served.address;
    let stopping = thread::spawn(move || served.stop());
    drop(was_asked);
    go.send(()).unwrap();
    drop(go);
    assert_eq!(first.answer(true).unwrap().status, 200);
    assert_eq!(second.answer(true).unwrap().status, 200);
    assert!(unfinished.is_closed());
    stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn an_answer_too_large_is_an_error_and_no_burden() {
    let served = served(PATIENT);
    served.view.lock().unwrap().leader = Some("x".repeat(1 << 20));
    assert_eq!(served.get("/leader").status, 500);
    assert_eq!(served.get("/healthz").status, 200);
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
                start.wait();
                for _ in 0..200 {
                    let answer = served.get(path);
                    assert_eq!(answer.status, status);
                    assert_eq!(answer.text().starts_with('{'), status == 200);
                    assert_eq!(answer.text().contains("lease"), path == "/leader");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
