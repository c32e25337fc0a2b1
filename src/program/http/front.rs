//! The limits in front of tiny_http: one thread, which owns the listener and every client's connection. THREADS, IO.
//!
//! It waits in poll(2) and nowhere else, so no client can hold up another. A connection carries one request: its head is
//! read, and its answer written in one go, for the socket's buffer takes the whole of it. What the client still sends
//! then is discarded until it closes.

use crate::program::http::HttpLimits;
use crate::program::http::backend::Backend;
use crate::program::metrics::Rejection;
use crate::sys;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
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
    pub(super) listener: TcpListener,
    /// Ends when the front is to stop.
    pub(super) stop: UnixStream,
    pub(super) backend: Backend,
    /// In the order in which they were accepted.
    pub(super) connections: Vec<ClientConnection>,
}

pub(super) struct ClientConnection {
    socket: TcpStream,
    /// When it was accepted; then, when it was answered.
    since: Instant,
    /// What has come of it.
    head: Vec<u8>,
    answered: bool,
    discarded: usize,
}

impl Front {
    /// Until the other end of `stop` is closed; what is asked by then is answered.
    pub(super) fn run(mut self) {
        loop {
            self.expire(Instant::now());
            self.backend.metrics.counts().http_connections = self.connections.len();
            let mut polled = self.polled();
            if let Err(error) = sys::poll(&mut polled, self.wait()) {
                log::warn!("cannot wait for HTTP connections: {error}; trying again");
                thread::sleep(PAUSE);
                continue;
            }
            let now = Instant::now();
            let mut ready = polled.iter().map(|polled| polled.revents != 0);
            let (stop, listener) = (ready.next() == Some(true), ready.next() == Some(true));
            // Before the listener: a request that has arrived is answered before room is made for another.
            self.connections
                .retain_mut(|one| ready.next() != Some(true) || one.advance(&mut self.backend, now).is_ok());
            if listener {
                self.accept(now);
            }
            if stop {
                return;
            }
        }
    }

    /// The stop, the listener, and then each connection.
    fn polled(&self) -> Vec<libc::pollfd> {
        let connections = self.connections.iter().map(|connection| connection.socket.as_raw_fd());
        let all = [self.stop.as_raw_fd(), self.listener.as_raw_fd()].into_iter().chain(connections);
        all.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect()
    }

    /// Until the next connection reaches its limit.
    fn wait(&self) -> Option<Duration> {
        let first = self.connections.iter().map(|connection| connection.since).min()?;
        Some((first + self.limits.time).saturating_duration_since(Instant::now()))
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((socket, _)) => self.admit(ClientConnection::new(socket, now)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Most likely for want of a descriptor.
                Err(error) => {
                    self.backend.metrics.counts().reject(Rejection::Accept);
                    if !self.make_room() {
                        log::warn!("cannot accept HTTP connections: {error}; trying again");
                        return thread::sleep(PAUSE);
                    }
                }
            }
        }
    }

    fn admit(&mut self, mut connection: ClientConnection) {
        let now = connection.since;
        // Its request has usually arrived already.
        if connection.socket.set_nonblocking(true).and_then(|()| connection.advance(&mut self.backend, now)).is_ok() {
            if self.connections.len() >= self.limits.connections {
                self.make_room(); // Before it is one of them: it may be the only one that has its answer.
            }
            self.connections.push(connection);
        }
    }

    /// Closes one that has its answer, else the one that has been unfinished longest; whether there was one.
    fn make_room(&mut self) -> bool {
        if self.connections.is_empty() {
            return false;
        }
        let answered = self.connections.iter().position(|connection| connection.answered);
        if answered.is_none() {
            self.backend.metrics.counts().reject(Rejection::Crowded);
        }
        self.connections.remove(answered.unwrap_or(0)).reset();
        true
    }

    /// Closes what has reached its limit.
    fn expire(&mut self, now: Instant) {
        for connection in self.connections.extract_if(.., |one| one.since + self.limits.time <= now) {
            let reason = if connection.answered { Rejection::Stalled } else { Rejection::Slow };
            self.backend.metrics.counts().reject(reason);
            connection.reset();
        }
    }
}

impl ClientConnection {
    fn new(socket: TcpStream, now: Instant) -> ClientConnection {
        ClientConnection { socket, since: now, head: Vec::new(), answered: false, discarded: 0 }
    }

    /// Takes what has come; an error is its end.
    fn advance(&mut self, backend: &mut Backend, now: Instant) -> io::Result<()> {
        let mut chunk = [0; 4096];
        let came = match self.socket.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            outcome => &chunk[..outcome?],
        };
        if self.answered {
            // Closing a socket with unread bytes resets the connection, and the client might lose its answer.
            self.discarded += came.len();
            return if self.discarded > DISCARD_MAX { Err(ErrorKind::FileTooLarge.into()) } else { Ok(()) };
        }
        // Empty lines before a request mean nothing.
        self.head.extend_from_slice(if self.head.is_empty() { came.trim_ascii_start() } else { came });
        if let Some(answer) = backend.answer(&self.head) {
            self.socket.write_all(&answer?)?;
            self.socket.shutdown(Shutdown::Write)?;
            (self.head, self.answered, self.since) = (Vec::new(), true, now);
        }
        Ok(())
    }

    /// Closes it before the client does: the kernel is to keep nothing of an answer that is not taken.
    fn reset(self) {
        // It can fail only for a connection that is gone, and then there is nothing to discard.
        let _ = sys::discard_when_closed(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::metrics::Metrics;
    use crate::program::state::StateView;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    /// A front, and what stops it when dropped.
    fn front() -> (Front, UnixStream) {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let backend = Backend::new(Box::new(StateView::default), Arc::new(Metrics::new("web"))).unwrap();
        (Front { limits: HttpLimits::DEFAULT, listener, stop: stopped, backend, connections: Vec::new() }, stop)
    }

    /// A connection that was answered more than its client takes, and that client.
    fn answered(now: Instant) -> (ClientConnection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sys::bound_socket_buffers(&listener, 4 << 10, 4 << 10).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let client = listener.accept().unwrap().0;
        let mut connection = ClientConnection::new(socket, now);
        connection.socket.set_nonblocking(true).unwrap();
        assert!(connection.socket.write_all(&[b'x'; 16 << 20]).is_err());
        connection.answered = true;
        (connection, client)
    }

    fn is_reset(mut client: TcpStream) -> bool {
        client.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_is_reset_at_its_limit() {
        let (now, limit) = (Instant::now(), HttpLimits::DEFAULT.time);
        let (mut front, _stop) = front();
        let (connection, client) = answered(now);
        front.connections.push(connection);
        front.expire(now + limit - Duration::from_nanos(1));
        assert_eq!(front.connections.len(), 1);
        front.expire(now + limit);
        assert!(front.connections.is_empty() && is_reset(client));
        let text = front.backend.metrics.text(&StateView::default());
        assert!(text.contains("{reason=\"stalled\"} 1\n"));
    }

    #[test]
    fn room_is_made_by_the_oldest_unless_another_has_its_answer() {
        let (mut front, _stop) = front();
        let now = Instant::now();
        let mut clients = Vec::new();
        for (number, is_answered) in [false, false, true].into_iter().enumerate() {
            let (mut connection, client) = answered(now);
            (connection.answered, connection.discarded) = (is_answered, number);
            front.connections.push(connection);
            clients.push(client);
        }
        let left = |front: &Front| front.connections.iter().map(|one| one.discarded).collect::<Vec<_>>();
        assert!(front.make_room() && left(&front) == [0, 1]);
        assert!(front.make_room() && left(&front) == [1]);
        assert!(front.make_room() && !front.make_room());
        assert!(clients.into_iter().all(is_reset), "the kernel keeps nothing of their answers");
    }

    #[test]
    fn a_newcomer_that_has_its_answer_is_not_the_one_that_makes_room() {
        let (mut front, _stop) = front();
        front.limits.connections = 2;
        front.listener.set_nonblocking(false).unwrap();
        let connect = |front: &Front| {
            let client = TcpStream::connect(front.listener.local_addr().unwrap()).unwrap();
            (ClientConnection::new(front.listener.accept().unwrap().0, Instant::now()), client)
        };
        let ((first, oldest), (second, _silent)) = (connect(&front), connect(&front));
        front.admit(first);
        front.admit(second);
        let (connection, mut client) = connect(&front);
        client.write_all(b"GET /leading HTTP/1.1\r\n\r\n").unwrap();
        connection.socket.peek(&mut [0]).unwrap(); // Its request has arrived.
        front.admit(connection);
        assert_eq!(front.connections.iter().map(|one| one.answered).collect::<Vec<_>>(), [false, true]);
        assert!(is_reset(oldest));
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_does_not_delay_the_end() {
        let (mut front, stop) = front();
        let (connection, _client) = answered(Instant::now());
        front.connections.push(connection);
        drop(stop);
        front.run();
    }
}
