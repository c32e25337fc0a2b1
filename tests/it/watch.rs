//! The watch: a stream cut anywhere, the ways in which it ends, and ending it from another thread.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use leasehold::kube::request::{self, Request};
use leasehold::kube::{CallError, Purpose, TransportKind, Watch, WatchEvent, WatchStop};
use serde_json::{Value, json};

use crate::scripted::{Connection, LONG, SHORT, Server, get, ok, status, transport};

fn watch() -> Request {
    request::watch_lease("ns", "web", 41, Duration::from_secs(300), Purpose::Observe)
}

fn open(server: &Server) -> Result<Watch, CallError> {
    Watch::open(&server.client(), &watch(), LONG, &WatchStop::default())
}

/// One whose answer has begun in time: on a slow machine some do not.
fn opened_within(server: &Server, request: &Request, limit: Duration) -> Watch {
    std::iter::repeat_with(|| Watch::open(&server.client(), request, limit, &WatchStop::default()))
        .find_map(Result::ok)
        .expect("endless")
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn event(kind: &str, version: &str) -> String {
    json!({ "type": kind, "object": { "metadata": { "resourceVersion": version } } }).to_string() + "\n"
}

fn object(version: &str) -> Value {
    json!({ "metadata": { "resourceVersion": version } })
}

/// A stream that is sent, and how it then ends.
fn streaming(pieces: Vec<String>, end: fn(&mut Connection)) -> Server {
    Server::start(move |connection| {
        connection.request();
        connection.send(HEAD);
        for piece in &pieces {
            connection.send(&chunk(piece));
        }
        end(connection);
    })
}

fn properly(connection: &mut Connection) {
    connection.send("0\r\n\r\n");
    connection.hang();
}

#[test]
fn events_come_out_whole_wherever_the_stream_is_cut() {
    let stream = event("MODIFIED", "42") + &event("BOOKMARK", "50") + &event("DELETED", "51");
    for size in [1, 2, 7, 64, stream.len()] {
        let pieces = stream.as_bytes().chunks(size).map(|piece| String::from_utf8(piece.into()).unwrap());
        let server = streaming(pieces.collect(), properly);
        let events: Vec<_> = open(&server).unwrap().collect();
        assert_eq!(
            events,
            [Ok(WatchEvent::Modified(42, object("42"))), Ok(WatchEvent::Bookmark(50)), Ok(WatchEvent::Deleted(51))]
        );
        assert!(server.seen()[0].head.starts_with(&format!("GET {} HTTP/1.1", watch().path)));
    }
}

#[test]
fn a_watch_that_ends_properly_differs_from_one_that_breaks() {
    let server = streaming(vec![event("MODIFIED", "42")], Connection::close);
    let events: Vec<_> = open(&server).unwrap().collect();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(transport(events[1].as_ref().unwrap_err()).0, TransportKind::Cut);
}

#[test]
fn nothing_comes_after_gone_or_nonsense() {
    let expired = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#;
    let server = streaming(vec![format!("{expired}\n{}", event("MODIFIED", "42"))], Connection::hang);
    let events: Vec<_> = open(&server).unwrap().collect();
    assert!(matches!(&events[..], [Err(CallError { status: Some(410), .. })]), "{events:?}");
    let server = streaming(vec![format!("nonsense\n{}", event("MODIFIED", "42"))], Connection::hang);
    let events: Vec<_> = open(&server).unwrap().collect();
    assert!(matches!(&events[..], [Err(CallError { status: Some(200), transport: None, .. })]), "{events:?}");
}

#[test]
fn a_line_without_end_is_refused() {
    let server = streaming(vec!["x".repeat(10 << 20)], Connection::hang);
    let events: Vec<_> = open(&server).unwrap().collect();
    let [Err(error)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(transport(error), (TransportKind::Protocol, true));
}

#[test]
fn refusals_are_told_when_it_is_opened() {
    for (code, reason) in [(403, "Forbidden"), (410, "Expired"), (429, "TooManyRequests"), (500, "InternalError")] {
        let error = open(&Server::always(status(code, reason))).err().unwrap();
        assert_eq!((error.status, &*error.reason), (Some(code), reason));
    }
}

#[test]
fn the_answer_must_begin_in_time_but_may_then_take_its_time() {
    let server = Server::start(Connection::hang);
    let error = Watch::open(&server.client(), &watch(), SHORT, &WatchStop::default()).err().unwrap();
    assert_eq!(transport(&error).0, TransportKind::Timeout);

    // An event that comes later than the opening's limit, counted from the opening. The sleep's length decides
    // nothing but whether a mistake would show.
    let limit = Duration::from_secs(2);
    let server = Server::start(move |connection| {
        connection.request();
        connection.send(HEAD);
        thread::sleep(limit + SHORT);
        connection.send(&chunk(&event("MODIFIED", "42")));
        properly(connection);
    });
    let watch = opened_within(&server, &watch(), limit);
    assert_eq!(watch.collect::<Vec<_>>(), [Ok(WatchEvent::Modified(42, object("42")))]);
}

#[test]
fn it_ends_by_itself_some_time_after_the_server_should_have_ended_it() {
    let server = streaming(vec![event("MODIFIED", "42")], Connection::hang);
    let request = Request { lasting: Some(SHORT), ..watch() };
    let watch = opened_within(&server, &request, SHORT);
    let events: Vec<_> = watch.collect();
    let Some(Err(error)) = events.last() else { panic!("{events:?}") };
    assert_eq!(transport(error).0, TransportKind::Timeout);
}

#[test]
fn another_thread_stops_a_read_that_blocks() {
    let server = streaming(vec![event("MODIFIED", "42")], Connection::hang);
    let stop = WatchStop::default();
    let mut watch = Watch::open(&server.client(), &watch(), LONG, &stop).unwrap();
    assert_eq!(watch.next(), Some(Ok(WatchEvent::Modified(42, object("42")))));
    let reading = thread::spawn(move || watch.next());
    stop.stop();
    assert_eq!(reading.join().unwrap(), None, "stopped is not failed");
}

#[test]
fn another_thread_stops_an_opening_that_blocks_and_every_later_one() {
    let (asked, was_asked) = channel();
    let asked = Mutex::new(asked);
    let server = Server::start(move |connection| {
        connection.request();
        asked.lock().unwrap().send(()).unwrap();
        connection.hang();
    });
    let (client, stop) = (Arc::new(server.client()), WatchStop::default());
    let opening = thread::spawn({
        let (client, stop) = (Arc::clone(&client), stop.clone());
        move || Watch::open(&client, &watch(), LONG * 10, &stop)
    });
    was_asked.recv_timeout(LONG).unwrap();
    stop.stop();
    let error = opening.join().unwrap().err().unwrap();
    assert_eq!(transport(&error).0, TransportKind::Cut, "{error}");
    let error = Watch::open(&client, &watch(), LONG, &stop).err().unwrap();
    assert_eq!(transport(&error), (TransportKind::Stopped, false), "{error}");
}

#[test]
fn stopping_a_watch_leaves_the_clients_calls_alone() {
    let server = Server::start(|connection| {
        while let Some(seen) = connection.request() {
            if seen.head.contains("watch=true") {
                connection.send(HEAD);
            } else {
                connection.send(&ok("{}"));
            }
        }
    });
    let (client, stop) = (server.client(), WatchStop::default());
    client.call(&get(), LONG).unwrap();
    let watch = Watch::open(&client, &watch(), LONG, &stop).unwrap();
    stop.stop();
    assert_eq!(watch.collect::<Vec<_>>(), []);
    client.call(&get(), LONG).unwrap();
    assert_eq!(server.connections(), 2, "one for the calls, one for the watch");
}
