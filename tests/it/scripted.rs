//! A server that does exactly what a test says, over plain HTTP on loopback, and what its tests have in common.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use leasehold::kube::request::{self, Request};
use leasehold::kube::{CallError, Client, ClientOptions, Purpose, TransportKind};
use serde_json::json;

/// Ends a hang; decides nothing.
pub const LONG: Duration = Duration::from_secs(20);
/// For calls that are meant to run out of time.
pub const SHORT: Duration = Duration::from_millis(500);

/// A server whose every connection is handled by one closure, which is told the connection's number.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub connection: usize,
    pub head: String,
    pub body: String,
}

pub struct Connection {
    pub number: usize,
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub fn start(handle: impl Fn(&mut Connection) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<usize>>::default());
        let (handle, all_seen, count) = (Arc::new(handle), Arc::clone(&seen), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let number = {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    *count
                };
                let reader = BufReader::new(stream.try_clone().unwrap());
                let mut connection = Connection { number, stream, reader, seen: Arc::clone(&all_seen) };
                let handle = Arc::clone(&handle);
                thread::spawn(move || handle(&mut connection));
            }
        });
        Server { address, seen, connections }
    }

    /// Answers every request with the same bytes, and keeps the connection.
    pub fn always(answer: impl Into<String>) -> Server {
        let answer = answer.into();
        Server::start(move |connection| {
            while connection.request().is_some() {
                connection.send(&answer);
            }
        })
    }

    pub fn client(&self) -> Client {
        Client::new(self.options()).unwrap()
    }

    pub fn options(&self) -> ClientOptions {
        ClientOptions::new(&format!("http://{}", self.address))
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

impl Connection {
    /// The next request; `None` when the client has closed the connection.
    pub fn request(&mut self) -> Option<Seen> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).ok()?;
        let seen = Seen { connection: self.number, head, body: String::from_utf8(body).unwrap() };
        self.seen.lock().unwrap().push(seen.clone());
        Some(seen)
    }

    pub fn send(&mut self, answer: &str) {
        // The client may be gone by now; that is its right.
        let _ = self.stream.write_all(answer.as_bytes());
    }

    /// Does nothing until the client closes the connection.
    pub fn hang(&mut self) {
        let _ = self.reader.read_to_end(&mut Vec::new());
    }

    pub fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

pub fn ok(body: &str) -> String {
    answer("200 OK", body)
}

pub fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub fn status(code: u16, reason: &str) -> String {
    let body = json!({ "kind": "Status", "code": code, "reason": reason, "message": "in words" });
    answer(&format!("{code} {reason}"), &body.to_string())
}

pub fn get() -> Request {
    request::get_lease("ns", "web", Purpose::Observe)
}

pub fn put() -> Request {
    let object =
        json!({ "metadata": { "resourceVersion": "41", "uid": "u-1" }, "spec": { "holderIdentity": "web-0" } });
    request::replace_lease("ns", "web", &object, Purpose::Renew)
}

#[track_caller]
pub fn transport(error: &CallError) -> (TransportKind, bool) {
    (error.transport.unwrap_or_else(|| panic!("{error:?}")), error.sent)
}

/// A service account's directory with a token and a CA; removed at the end.
pub struct ServiceAccount(pub std::path::PathBuf);

impl ServiceAccount {
    pub fn new(test: &str) -> ServiceAccount {
        let path = std::env::temp_dir().join(format!("leasehold-it-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("token"), "secret\n").unwrap();
        std::fs::write(path.join("ca.crt"), include_str!("../data/ca.crt")).unwrap();
        ServiceAccount(path)
    }
}

impl Drop for ServiceAccount {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
