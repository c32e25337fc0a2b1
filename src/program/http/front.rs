//! The limits in front of tiny_http: one thread, which owns the listener and every client's connection. THREADS, IO.
//!
//! It waits in poll(2) and nowhere else, so no client can hold up another. A connection carries one request:
//!
//! ```text
//!   Reading ── head whole, or refused ──▶ Writing ── answer taken ──▶ Closing ──▶ closed
//! ```

use crate::program::http::backend::Backend;
use crate::program::http::counters::{Counters, Rejection};
use crate::program::http::head;
use crate::program::http::{HttpLimits, View, routes};
use crate::sys;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Connections accepted before those that are open get a turn.
const ACCEPTS_PER_TURN: usize = 32;

/// Pace of what has failed: accept(2), poll(2).
const PAUSE: Duration = Duration::from_secs(1);

/// Bound on what is read and discarded after the answer.
const DISCARD_MAX: usize = 1 << 20;

pub(super) struct Front {
    pub(super) limits: HttpLimits,
    /// `None` once it stops.
    pub(super) listener: Option<TcpListener>,
    /// Ends when the front is to stop.
    pub(super) stop: UnixStream,
    pub(super) backend: Backend,
    pub(super) view: Arc<dyn View>,
    pub(super) counters: Counters,
    /// In the order in which they were accepted.
    pub(super) connections: Vec<ClientConnection>,
    /// While accept(2) fails or the front stops: until when.
    pub(super) until: Option<Instant>,
}

pub(super) struct ClientConnection {
    socket: TcpStream,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    /// Of the head, what has come; of the answer, what has yet to go.
    bytes: Vec<u8>,
    discarded: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    Writing,
    /// The answer has gone. What still comes is discarded: closing a socket with unread bytes resets the connection, and
    /// the client might lose its answer.
    Closing,
}

impl Front {
    /// Until the other end of `stop` is closed.
    pub(super) fn run(mut self) {
        let mut polled = Vec::new();
        loop {
            let now = Instant::now();
            self.expire(now);
            if self.listener.is_none() && (self.connections.is_empty() || self.until.is_some_and(|until| until <= now))
            {
                return;
            }
            self.counters.connections = self.connections.len();
            self.list(&mut polled);
            if let Err(error) = sys::poll(&mut polled, self.wait(now)) {
                log::warn!("cannot wait for HTTP connections: {error}; trying again");
                thread::sleep(PAUSE);
                continue;
            }
            self.turn(&polled, Instant::now());
        }
    }

    /// Waits for the stop, the listener, and then each connection.
    fn list(&self, polled: &mut Vec<libc::pollfd>) {
        polled.clear();
        let mut add = |fd: RawFd, events: i16| polled.push(libc::pollfd { fd, events, revents: 0 });
        // poll(2) passes over a negative descriptor.
        let listener = self.listener.as_ref().filter(|_| self.until.is_none());
        add(if self.listener.is_some() { self.stop.as_raw_fd() } else { -1 }, libc::POLLIN);
        add(listener.map_or(-1, AsRawFd::as_raw_fd), libc::POLLIN);
        for connection in &self.connections {
            let events = if connection.phase == Phase::Writing { libc::POLLOUT } else { libc::POLLIN };
            add(connection.socket.as_raw_fd(), events);
        }
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        let limits = self.connections.iter().map(|connection| connection.since + connection.limit(&self.limits));
        limits.chain(self.until).min().map(|first| first.saturating_duration_since(now))
    }

    /// Connections come before the listener: a request that has arrived is answered before room is made for another.
    fn turn(&mut self, polled: &[libc::pollfd], now: Instant) {
        let mut ready = polled.iter().map(|polled| polled.revents != 0);
        let (stop, listener) = (ready.next().unwrap_or(false), ready.next().unwrap_or(false));
        let mut connections = mem::take(&mut self.connections);
        connections.retain_mut(|connection| !ready.next().unwrap_or(false) || self.advance(connection, now).is_ok());
        self.connections = connections;
        if listener || stop {
            self.accept(now);
        }
        if stop {
            (self.listener, self.until) = (None, Some(now + self.limits.stop));
        }
        if self.listener.is_none() {
            self.connections.retain(|connection| connection.phase == Phase::Writing);
        }
    }

    /// One step of a connection; an error is its end.
    fn advance(&mut self, connection: &mut ClientConnection, now: Instant) -> io::Result<()> {
        match connection.phase {
            Phase::Reading => {
                let known = connection.bytes.len();
                connection.receive(self.limits.head_bytes)?;
                match self.answer(&connection.bytes, known) {
                    Some(answer) => connection.send(answer, now),
                    None => Ok(()),
                }
            }
            Phase::Writing => connection.transmit(now),
            Phase::Closing => connection.discard(),
        }
    }

    /// The answer to what was received, of which `known` bytes are no whole head; `None` while it is none yet.
    fn answer(&mut self, received: &[u8], known: usize) -> Option<Vec<u8>> {
        let refusal = match (received.first()?, head::end(received, known)) {
            // A TLS client says hello without an empty line, and waits.
            (first, _) if !first.is_ascii_graphic() => routes::MALFORMED,
            (_, Some(end)) => match head::rewrite(&received[..end]) {
                Some(head) => return Some(self.ask(&head)),
                None => routes::MALFORMED,
            },
            (_, None) if received.len() >= self.limits.head_bytes => routes::TOO_LARGE,
            (_, None) => return None,
        };
        self.counters.reject(Rejection::Refused);
        Some(refusal.into())
    }

    fn ask(&mut self, head: &str) -> Vec<u8> {
        self.counters.requests += 1;
        let answered = self.backend.ask(head, |request| routes::answer(request, &*self.view, &self.counters));
        answered.unwrap_or_else(|error| {
            log::error!("no answer from tiny_http: {error}; starting it again");
            match Backend::start() {
                Ok(backend) => self.backend = backend,
                Err(error) => log::error!("cannot start tiny_http: {error}"),
            }
            self.counters.reject(Rejection::Unavailable);
            routes::UNAVAILABLE.into()
        })
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((socket, _)) => self.admit(socket, now),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // Most likely for want of a descriptor.
                    _ => {
                        self.counters.reject(Rejection::Accept);
                        if !self.make_room() {
                            log::warn!("cannot accept HTTP connections: {error}; trying again");
                            self.until = Some(now + PAUSE);
                            return;
                        }
                    }
                },
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, now: Instant) {
        if socket.set_nonblocking(true).is_err() {
            return;
        }
        let mut connection = ClientConnection::new(socket, now);
        // Its request has usually arrived already.
        if self.advance(&mut connection, now).is_ok() {
            self.connections.push(connection);
            if self.connections.len() > self.limits.connections {
                self.make_room();
            }
        }
    }

    /// Closes one that has its answer, else the one that has been unfinished longest; whether there was one.
    fn make_room(&mut self) -> bool {
        let answered = self.connections.iter().position(|connection| connection.phase == Phase::Closing);
        if self.connections.is_empty() {
            return false;
        }
        if answered.is_none() {
            self.counters.reject(Rejection::Crowded);
        }
        self.connections.remove(answered.unwrap_or(0)).close();
        true
    }

    /// Ends what has reached its limit.
    fn expire(&mut self, now: Instant) {
        if self.listener.is_some() {
            self.until = self.until.filter(|until| *until > now);
        }
        let (limits, mut connections) = (self.limits, mem::take(&mut self.connections));
        for mut connection in connections.extract_if(.., |one| one.since + one.limit(&limits) <= now) {
            match connection.phase {
                Phase::Reading if !connection.bytes.is_empty() => {
                    self.counters.reject(Rejection::Slow);
                    if connection.send(routes::TOO_SLOW.into(), now).is_ok() {
                        self.connections.push(connection);
                    }
                }
                Phase::Writing => {
                    self.counters.reject(Rejection::Stalled);
                    connection.close();
                }
                Phase::Reading | Phase::Closing => {}
            }
        }
        self.connections.append(&mut connections);
    }
}

impl ClientConnection {
    fn new(socket: TcpStream, now: Instant) -> ClientConnection {
        ClientConnection { socket, phase: Phase::Reading, since: now, bytes: Vec::new(), discarded: 0 }
    }

    fn limit(&self, limits: &HttpLimits) -> Duration {
        match self.phase {
            Phase::Reading => limits.head,
            Phase::Writing => limits.write,
            Phase::Closing => limits.closing,
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        (self.phase, self.since) = (phase, now);
    }

    /// Reads once, to no more than `limit` bytes in all.
    fn receive(&mut self, limit: usize) -> io::Result<()> {
        let known = self.bytes.len();
        self.bytes.resize(limit, 0);
        let outcome = self.socket.read(&mut self.bytes[known..]);
        self.bytes.truncate(known + outcome.as_ref().copied().unwrap_or_default());
        self.bytes.shrink_to_fit();
        if known == 0 {
            // Empty lines before a request mean nothing.
            let blank = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.bytes.drain(..blank);
        }
        taken(outcome).map(drop)
    }

    fn send(&mut self, answer: Vec<u8>, now: Instant) -> io::Result<()> {
        self.bytes = answer;
        self.enter(Phase::Writing, now);
        self.transmit(now)
    }

    fn transmit(&mut self, now: Instant) -> io::Result<()> {
        let count = taken(self.socket.write(&self.bytes))?;
        self.bytes.drain(..count);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
            self.enter(Phase::Closing, now);
            self.socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    fn discard(&mut self) -> io::Result<()> {
        self.discarded += taken(self.socket.read(&mut [0; 4096]))?;
        if self.discarded > DISCARD_MAX { Err(ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }

    /// Before the client has taken its answer: the kernel is to keep nothing of it.
    fn close(self) {
        if self.phase == Phase::Writing {
            // It can fail only for a connection that is gone, and then there is nothing to discard.
            let _ = sys::discard_when_closed(&self.socket);
        }
    }
}

/// Bytes moved by one call: none if it would have to wait, and an error at the stream's end.
fn taken(outcome: io::Result<usize>) -> io::Result<usize> {
    match outcome {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::http::LeadershipView;
    use std::net::Ipv4Addr;

    struct Nothing;

    impl View for Nothing {
        fn leadership(&self) -> LeadershipView {
            LeadershipView::default()
        }
        fn health(&self) -> Result<(), String> {
            Ok(())
        }
        fn ready(&self) -> bool {
            true
        }
        fn metrics(&self) -> String {
            String::new()
        }
    }

    /// A front, and what stops it when dropped.
    fn front(limits: HttpLimits) -> (Front, UnixStream) {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let front = Front {
            limits,
            listener: Some(listener),
            stop: stopped,
            backend: Backend::start().unwrap(),
            view: Arc::new(Nothing),
            counters: Counters::default(),
            connections: Vec::new(),
            until: None,
        };
        (front, stop)
    }

    /// A connection whose client does not take its answer, and that client.
    fn stalled(now: Instant) -> (ClientConnection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sys::bound_socket_buffers(&listener, 4 << 10, 4 << 10).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let client = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        let mut connection = ClientConnection::new(socket, now);
        connection.send(vec![b'x'; 16 << 20], now).unwrap();
        assert!(connection.phase == Phase::Writing && !connection.bytes.is_empty());
        (connection, client)
    }

    fn is_reset(mut client: TcpStream) -> bool {
        client.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_is_reset_at_its_limit() {
        let (now, limits) = (Instant::now(), HttpLimits::default());
        let (mut front, _stop) = front(limits);
        let (connection, client) = stalled(now);
        front.connections.push(connection);
        front.expire(now + limits.write - Duration::from_nanos(1));
        assert_eq!(front.connections.len(), 1);
        front.expire(now + limits.write);
        assert!(front.connections.is_empty() && is_reset(client));
        let mut text = crate::program::metrics::Text::default();
        front.counters.write(&mut text);
        assert!(text.into_string().contains("{reason=\"stalled\"} 1\n"));
    }

    #[test]
    fn room_is_made_by_the_oldest_unless_another_has_its_answer() {
        let (mut front, _stop) = front(HttpLimits::default());
        let now = Instant::now();
        let mut clients = Vec::new();
        for phase in [Phase::Writing, Phase::Reading, Phase::Closing] {
            let (mut connection, client) = stalled(now);
            connection.phase = phase;
            front.connections.push(connection);
            clients.push(client);
        }
        let phases = |front: &Front| front.connections.iter().map(|one| one.phase).collect::<Vec<_>>();
        assert!(front.make_room() && phases(&front) == [Phase::Writing, Phase::Reading]);
        assert!(front.make_room() && phases(&front) == [Phase::Reading]);
        assert!(front.make_room() && !front.make_room());
    }

    #[test]
    fn a_tiny_http_that_has_ended_costs_one_answer() {
        let (mut front, _stop) = front(HttpLimits::default());
        let status = |front: &mut Front| front.ask("GET /leader HTTP/1.1\r\n\r\n")[..12].to_vec();
        assert_eq!(status(&mut front), b"HTTP/1.1 200");
        front.backend.connection.shutdown(Shutdown::Both).unwrap();
        assert_eq!(status(&mut front), b"HTTP/1.1 503");
        assert_eq!(status(&mut front), b"HTTP/1.1 200");
    }

    #[test]
    fn stopping_ends_at_its_limit_whoever_does_not_take_an_answer() {
        let (mut front, stop) = front(HttpLimits { stop: Duration::ZERO, ..HttpLimits::default() });
        let (connection, _client) = stalled(Instant::now());
        front.connections.push(connection);
        drop(stop);
        front.run();
    }
}
