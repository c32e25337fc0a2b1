//! The door's connections to the tiny_http behind it: few, kept open, one request at a time on each. IO.

use crate::program::http::Control;
use crate::program::http::answer::BODY_MAX;
use crate::program::http::backend::{Answerer, Backend};
use crate::program::http::head::Request;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Below tiny_http's four pool threads: above them a connection can wait for a thread for ever.
const CONNECTIONS: usize = 2;

/// Bound on one answer with its head.
const ANSWER_MAX: usize = BODY_MAX + (4 << 10);

/// What a connection's buffer may keep between answers.
const BUFFER_KEPT: usize = 16 << 10;

/// How long a connection to a fresh tiny_http may take to be answered for the first time.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// Between two starts of tiny_http, at first and at most. It doubles, as a start that helps nobody leaves threads behind.
const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Whose request it is: a slot of the door, and the serial number of the client that had it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) slot: usize,
    pub(super) serial: u64,
}

/// The tiny_http of the moment and the connections to it.
pub(super) struct Upstreams {
    answerer: Answerer,
    control: Arc<Control>,
    patience: Duration,
    running: Option<(Backend, Vec<Connection>)>,
    restart_at: Option<Instant>,
    restart_after: Duration,
}

impl Upstreams {
    /// Starts a tiny_http, and returns when it has answered on every connection: from then on it needs no more
    /// descriptors, whatever clients do to the process's supply.
    pub(super) fn start(answerer: Answerer, control: Arc<Control>, patience: Duration) -> io::Result<Upstreams> {
        let running = Some(begin(&answerer, &control)?);
        Ok(Upstreams { answerer, control, patience, running, restart_at: None, restart_after: RESTART.0 })
    }

    /// Passes `request` on if a connection is free.
    pub(super) fn ask(&mut self, ticket: Ticket, request: &Request, now: Instant) -> bool {
        let Some((_, connections)) = &mut self.running else { return false };
        let Some(connection) = connections.iter_mut().find(|connection| connection.flight.is_none()) else {
            return false;
        };
        connection.flight = Some(Flight { ticket, head_only: request.head_only, since: now });
        // A few hundred bytes into an empty buffer: if they don't fit whole, the connection is no good.
        connection.broken |= connection.socket.write(&request.rewritten).ok() != Some(request.rewritten.len());
        true
    }

    /// The descriptors to be watched for input, in the order that [`receive`](Upstreams::receive) counts them.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.running.iter().flat_map(|(_, connections)| connections.iter().map(|c| c.socket.as_raw_fd()))
    }

    /// Reads from a connection; when an answer is whole, hands it to `deliver` and frees the connection.
    pub(super) fn receive(&mut self, at: usize, scratch: &mut [u8], deliver: impl FnOnce(Ticket, Answer<'_>)) {
        let Some(connection) = self.running.as_mut().and_then(|(_, connections)| connections.get_mut(at)) else {
            return;
        };
        match connection.receive(scratch) {
            Ok(false) => {}
            Ok(true) => {
                self.restart_after = RESTART.0;
                if let Some((flight, answer)) = connection.answer() {
                    deliver(flight.ticket, answer);
                }
                connection.clear();
            }
            Err(error) if is_for_now(&error) => {}
            Err(_) => connection.broken = true,
        }
    }

    /// Replaces a tiny_http that has died or does not answer. Whoever was waiting for it is handed to `lost`.
    pub(super) fn tend(&mut self, now: Instant, mut lost: impl FnMut(Ticket)) {
        if let Some((backend, connections)) = &self.running {
            let late = |flight: &Flight| now.duration_since(flight.since) >= self.patience;
            if !backend.is_dead() && !connections.iter().any(|c| c.broken || c.flight.as_ref().is_some_and(late)) {
                return;
            }
            log::warn!("the HTTP server behind the door has died or does not answer; starting another");
            connections.iter().filter_map(|connection| connection.flight.as_ref()).for_each(|f| lost(f.ticket));
            self.running = None;
            self.restart_at.get_or_insert(now);
        }
        if self.restart_at.is_none_or(|at| now < at) {
            return;
        }
        match begin(&self.answerer, &self.control) {
            Ok(running) => self.running = Some(running),
            Err(error) => log::warn!("cannot start the HTTP server behind the door: {error}; trying again"),
        }
        self.restart_at = Some(now + self.restart_after);
        self.restart_after = (self.restart_after * 2).min(RESTART.1);
    }

    /// When [`tend`](Upstreams::tend) will have something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.running {
            Some((_, connections)) => {
                connections.iter().filter_map(|c| c.flight.as_ref()).map(|flight| flight.since + self.patience).min()
            }
            None => self.restart_at,
        }
    }
}

fn begin(answerer: &Answerer, control: &Arc<Control>) -> io::Result<(Backend, Vec<Connection>)> {
    let waker = Arc::clone(control);
    let backend = Backend::start(Arc::clone(answerer), move || waker.wake())?;
    let connections = (0..CONNECTIONS).map(|_| Connection::open(&backend)).collect::<io::Result<_>>()?;
    Ok((backend, connections))
}

/// A whole answer of tiny_http.
pub(super) struct Answer<'a> {
    /// Status line and fields, without the empty line.
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

struct Flight {
    ticket: Ticket,
    head_only: bool,
    since: Instant,
}

struct Connection {
    socket: UnixStream,
    received: Vec<u8>,
    head_length: usize,
    flight: Option<Flight>,
    broken: bool,
}

impl Connection {
    fn open(backend: &Backend) -> io::Result<Connection> {
        let mut socket = backend.connect()?;
        socket.set_read_timeout(Some(FIRST_ANSWER))?;
        socket.write_all(b"HEAD * HTTP/1.1\r\nHost: leasehold\r\n\r\n")?;
        let mut connection = Connection { socket, received: Vec::new(), head_length: 0, flight: None, broken: false };
        while !connection.receive(&mut [0; 1024])? {}
        connection.clear();
        connection.socket.set_nonblocking(true)?;
        Ok(connection)
    }

    /// Reads once. Whether an answer is whole.
    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let count = self.socket.read(scratch)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&scratch[..count]);
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut fields);
        match parsed.parse(&self.received) {
            Ok(httparse::Status::Complete(head_length)) => {
                let length = content_length(parsed.headers).ok_or(ErrorKind::InvalidData)?;
                let head_only = self.flight.as_ref().is_none_or(|flight| flight.head_only);
                let whole = head_length.saturating_add(if head_only { 0 } else { length });
                if whole > ANSWER_MAX || self.received.len() > whole {
                    return Err(ErrorKind::InvalidData.into());
                }
                self.head_length = head_length;
                Ok(self.received.len() == whole)
            }
            Ok(httparse::Status::Partial) if self.received.len() < ANSWER_MAX => Ok(false),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    fn answer(&self) -> Option<(&Flight, Answer<'_>)> {
        let (head, body) = self.received.split_at(self.head_length);
        Some((self.flight.as_ref()?, Answer { head: head.strip_suffix(b"\r\n")?, body }))
    }

    fn clear(&mut self) {
        self.flight = None;
        self.received.clear();
        self.received.shrink_to(BUFFER_KEPT);
    }
}

/// Whether a non-blocking call has merely had nothing to do.
pub(super) fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn content_length(fields: &[httparse::Header<'_>]) -> Option<usize> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
    std::str::from_utf8(field.value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::http::answer::Reply;
    use crate::program::http::head::{self, Head};
    use std::sync::Mutex;
    use std::sync::mpsc;

    fn request(path: &str) -> Request {
        match head::read(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()) {
            Head::Whole(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whoever_waited_for_a_tiny_http_that_died_is_told_and_the_next_one_answers() {
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel();
        let (begun, may_go) = (Mutex::new(begun), Mutex::new(may_go));
        let answerer: Answerer = Arc::new(move |question| {
            if question.path == "/first" {
                begun.lock().unwrap().send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
            }
            Reply::plain(200, question.path.to_owned())
        });
        let mut upstreams = Upstreams::start(
            answerer,
            Arc::new(Control::new(UnixStream::pair().unwrap().0).unwrap()),
            Duration::from_secs(60),
        )
        .unwrap();
        let now = Instant::now();
        let (first, second) = (Ticket { slot: 1, serial: 1 }, Ticket { slot: 2, serial: 2 });
        assert!(upstreams.ask(first, &request("/first"), now));
        has_begun.recv().unwrap();
        upstreams.running.as_ref().unwrap().0.stop();
        assert!(upstreams.ask(second, &request("/second"), now));
        assert!(!upstreams.ask(second, &request("/third"), now), "there are two connections");
        // Twice, as the first may be lost with its answer and asked again.
        go.send(()).unwrap();
        go.send(()).unwrap();
        let mut answered = Vec::new();
        while answered.len() < 2 {
            // What is lost and what still answered depends on who was quicker; in the end both are answered.
            let mut lost = Vec::new();
            upstreams.tend(Instant::now(), |ticket| lost.push(ticket));
            for ticket in lost {
                let again = request(if ticket == first { "/first" } else { "/second" });
                while !upstreams.ask(ticket, &again, Instant::now()) {
                    upstreams.tend(Instant::now(), |_| {});
                }
            }
            for at in 0..CONNECTIONS {
                upstreams.receive(at, &mut [0; 64], |ticket, answer| {
                    assert!(answer.head.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.head.ends_with(b"\r\n"));
                    answered.push((ticket.slot, String::from_utf8(answer.body.to_vec()).unwrap()));
                });
            }
        }
        answered.sort();
        assert_eq!(answered, [(1, "/first".to_owned()), (2, "/second".to_owned())]);
    }
}
