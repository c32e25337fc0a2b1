//! Crowds, floods, and a process that has run out of descriptors.

use super::harness::{Connection, HANG, PATIENT, metric, served};
use leasehold::program::http::HttpLimits;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;

/// As many clients at once as `count`, each asking `rounds` times. How many were answered.
fn crowd(address: SocketAddr, count: usize, rounds: usize) -> usize {
    let start = Arc::new(Barrier::new(count));
    let client = move || {
        start.wait();
        let ask = || Connection::to(address).and_then(|mut connection| connection.get("/leader"));
        (0..rounds).filter(|_| ask().unwrap().status == 200).count()
    };
    let clients: Vec<_> = (0..count).map(|_| thread::spawn(client.clone())).collect();
    clients.into_iter().map(|client| client.join().unwrap()).sum()
}

#[test]
fn two_hundred_clients_are_all_answered_through_thirty_two_connections() {
    let served = served(PATIENT);
    assert_eq!(crowd(served.address, 200, 10), 2_000);
    assert_eq!(served.metric("leasehold_http_rejected_total{reason=\"crowded\"}"), 0.0);
}

#[test]
fn a_thousand_silent_connections_do_not_keep_a_probe_out() {
    let served = served(PATIENT);
    let mut silent: Vec<Connection> = Vec::new();
    for _ in 0..10 {
        silent.extend((0..100).map(|_| served.connect()));
        assert_eq!(served.get("/healthz").status, 200);
        // This end of those that are gone would take descriptors; many machines allow 1,024.
        silent.retain(|connection| !connection.has_been_closed());
    }
    assert!(served.metric("leasehold_http_connections") <= 32.0);
}

#[test]
fn a_crowd_of_slow_heads_does_not_keep_a_probe_out() {
    let served = served(PATIENT);
    let slow: Vec<Connection> = (0..300)
        .map(|_| {
            let mut connection = served.connect();
            // It may have been closed to make room already.
            let _ = connection.send("GET / HTTP/1.1\r\nHost: te");
            connection
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(served.get("/healthz").status, 200);
    }
    served.await_metric("leasehold_http_rejected_total{reason=\"crowded\"}", 268.0);
    drop(slow);
}

#[test]
fn the_longest_unfinished_connection_is_the_one_that_is_closed() {
    // The question for the metrics needs a place, too.
    let served = served(HttpLimits { connections: 3, ..PATIENT });
    let begin = || {
        let mut connection = served.connect();
        connection.send("GET / HTTP/1.1\r\n").unwrap();
        served.await_metric("leasehold_http_connections", 1.0);
        connection
    };
    let [mut first, mut second, mut third] = [begin(), begin(), begin()];
    assert!(first.is_closed());
    for connection in [&mut second, &mut third] {
        connection.send("\r\n").unwrap();
        assert_eq!(connection.answer(true).unwrap().status, 200);
    }
}

/// Not a test: what the tests below run in a process of its own. It serves until its standard input ends.
#[test]
fn child_that_serves() {
    if std::env::var_os("LEASEHOLD_TEST_SERVES").is_none() {
        return;
    }
    let mut served = served(PATIENT);
    println!("\nserving on {}", served.address);
    let _ = io::stdin().read_to_end(&mut Vec::new());
    served.stop();
}

struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    /// Starts it after `shell`, which may narrow its limits.
    fn after(shell: &str) -> Serving {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{shell}; exec \"$0\" --exact web::endurance::child_that_serves --nocapture"))
            .arg(std::env::current_exe().unwrap())
            .env("LEASEHOLD_TEST_SERVES", "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("serving on ")?.parse().ok()).unwrap();
        thread::spawn(move || lines.for_each(drop));
        Serving { child, address }
    }

    fn get(&self, path: &str) -> super::harness::Answer {
        Connection::to(self.address).unwrap().get(path).unwrap()
    }

    /// It ends by itself, and well, when its input does.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn running_out_of_descriptors_ends_nothing() {
    // The program itself and tiny_http need about a dozen; not all of 32 connections get one.
    let serving = Serving::after("ulimit -n 32");
    let mut idle: Vec<Connection> = Vec::new();
    for _ in 0..20 {
        idle.extend((0..10).map(|_| {
            let mut connection = Connection::to(serving.address).unwrap();
            // It may have been closed to make room already.
            let _ = connection.send("GET / HTTP/1.1\r\n");
            connection
        }));
        assert_eq!(serving.get("/healthz").status, 200);
    }
    let refused = metric(&serving.get("/metrics").text(), "leasehold_http_rejected_total{reason=\"accept\"}");
    assert!(refused > 0.0, "the limit was met, or this shows nothing");
    drop(idle);
    assert_eq!(serving.get("/healthz").status, 200);
    serving.end();
}

#[test]
fn floods_do_not_grow_the_process() {
    let serving = Serving::after(":");
    let resident = || metric(&serving.get("/metrics").text(), "process_resident_memory_bytes");
    let flood = || {
        let heads: Vec<Connection> = (0..32)
            .map(|_| {
                let mut connection = Connection::to(serving.address).unwrap();
                let _ = connection.send(["GET / HTTP/1.1\r\nX: ", &"x".repeat(8_000)].concat());
                connection
            })
            .collect();
        for _ in 0..5 {
            let mut endless = Connection::to(serving.address).unwrap();
            endless.stream().set_write_timeout(Some(HANG)).unwrap();
            let _ = endless.send(vec![b'x'; 10 << 20]);
        }
        heads.len()
    };
    // The first one is the measure: the allocator and the threads' stacks have by then what they need.
    flood();
    let before = resident();
    for _ in 0..10 {
        flood();
    }
    let grown = resident() - before;
    assert!(grown < f64::from(1 << 20), "{grown} bytes");
    serving.end();
}

#[test]
fn the_largest_answer_arrives_whole() {
    let served = served(PATIENT);
    // Just below the bound: one byte of it is one of the holder's name.
    let frame = served.get("/leader").body.len() - "null".len() + "\"\"".len();
    let name = |length: usize| Some("x".repeat(length - frame));
    for (length, status) in [(60 << 10, 200), ((60 << 10) + 1, 500)] {
        served.view.lock().unwrap().leader = name(length);
        // Not reading delays no one: it is all sent at once.
        let mut late = served.connect();
        late.send("GET /leader HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(served.get("/leader").status, status);
        let answer = late.answer(true).unwrap();
        assert_eq!((answer.status, answer.body.len() == length), (status, status == 200));
    }
}
