//! tiny_http: reads the rewritten head, and writes what [`routes`] answers. THREADS, IO.
//!
//! It serves one connection, which is made before it starts and lasts as long as the process. Its listener is shut down
//! before it accepts that connection, so nothing else can ever connect, not even from the same network namespace. Having
//! no more to accept, all its threads but the one that serves the connection end within five seconds.

use crate::program::http::{View, head, routes};
use crate::program::metrics::{Metrics, Rejection};
use crate::sys;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;
use tiny_http::{Request, Server};

/// Only a defect in tiny_http can make it take this long.
const LIMIT: Duration = Duration::from_secs(5);

/// A running tiny_http, and what it shows.
pub(super) struct Backend {
    tiny_http: ManuallyDrop<Server>,
    connection: UnixStream,
    view: View,
    pub(super) metrics: Arc<Metrics>,
}

impl Backend {
    pub(super) fn new(view: View, metrics: Arc<Metrics>) -> io::Result<Backend> {
        let (tiny_http, connection) = start()?;
        Ok(Backend { tiny_http, connection, view, metrics })
    }

    /// All that is sent to a client for the bytes that came from it; `None` while they are no whole head.
    pub(super) fn answer(&mut self, received: &[u8]) -> Option<io::Result<Vec<u8>>> {
        let head = head::read(received)?;
        let answer = match &head {
            Ok(head) => {
                self.metrics.counts().http_requests += 1;
                self.ask(head, |request| routes::answer(request, &*self.view, &self.metrics))
            }
            Err((status, reason)) => {
                self.metrics.counts().reject(Rejection::Refused);
                self.ask("GET / HTTP/1.1\r\n\r\n", |_| routes::plain(*status, *reason))
            }
        };
        if let Err(error) = &answer {
            log::error!("no answer from tiny_http: {error}; starting it again");
            self.metrics.counts().reject(Rejection::Unavailable);
            match start() {
                Ok(started) => (self.tiny_http, self.connection) = started,
                Err(error) => log::error!("cannot start tiny_http: {error}"),
            }
        }
        Some(answer)
    }

    fn ask(&self, head: &str, route: impl FnOnce(&Request) -> routes::HttpAnswer) -> io::Result<Vec<u8>> {
        let mut connection = &self.connection;
        connection.write_all(head.as_bytes())?;
        let request = self.tiny_http.recv_timeout(LIMIT)?.ok_or(ErrorKind::TimedOut)?;
        let answer = route(&request);
        // It returns when all is written, and the connection takes all of it.
        request.respond(answer)?;
        let mut answer = Vec::new();
        match connection.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => return Err(outcome.err().unwrap_or(ErrorKind::UnexpectedEof.into())),
        }
        let end = head::end(&answer).ok_or(ErrorKind::InvalidData)?;
        // tiny_http lets no answer carry this field.
        answer.splice(end - 2..end - 2, *b"Connection: close\r\n");
        Ok(answer)
    }
}

fn start() -> io::Result<(ManuallyDrop<Server>, UnixStream)> {
    // An abstract name needs no file system: the root of a scratch image is read-only.
    let name = format!("leasehold-http-{:016x}{:016x}", sys::random_u64(), sys::random_u64());
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let connection = UnixStream::connect_addr(&address)?;
    connection.set_nonblocking(true)?;
    // To the kernel a listener and a stream are the same; a stream has std's shutdown.
    UnixStream::from(OwnedFd::from(listener.try_clone()?)).shutdown(Shutdown::Both)?;
    // Dropping a Server panics if its address is abstract. It has nothing to free but a few bytes.
    let tiny_http = ManuallyDrop::new(Server::from_listener(listener, None).map_err(io::Error::other)?);
    match tiny_http.recv_timeout(LIMIT) {
        Err(_closed) => Ok((tiny_http, connection)),
        Ok(_) => Err(io::Error::other("tiny_http accepts from a listener that is shut down")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::state::StateView;

    fn backend() -> Backend {
        Backend::new(Box::new(StateView::default), Arc::new(Metrics::new("web"))).unwrap()
    }

    #[test]
    fn nothing_else_can_connect() {
        let address = backend().connection.peer_addr().unwrap();
        assert_eq!(UnixStream::connect_addr(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_tiny_http_that_has_ended_costs_one_answer() {
        let mut backend = backend();
        let ask = |backend: &mut Backend| backend.answer(b"GET /leader HTTP/1.1\r\n\r\n").unwrap();
        assert!(ask(&mut backend).unwrap().starts_with(b"HTTP/1.1 200"));
        backend.connection.shutdown(Shutdown::Both).unwrap();
        assert!(ask(&mut backend).is_err());
        assert!(ask(&mut backend).unwrap().starts_with(b"HTTP/1.1 200"));
    }
}
