//! tiny_http: reads the rewritten head, and writes what [`routes`](super::routes) answers. THREADS, IO.
//!
//! It serves one connection, which is made before it starts and lasts as long as the process. Its listener is shut down
//! before it accepts that connection, so nothing else can ever connect, not even from the same network namespace. Having
//! no more to accept, all its threads but the one that serves the connection end within five seconds.

use crate::program::http::head;
use crate::program::http::routes::HttpAnswer;
use crate::sys;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;
use tiny_http::{Header, Method, Request, Response, Server};

/// Only a defect in tiny_http can make it take this long.
const LIMIT: Duration = Duration::from_secs(5);

/// Room for an answer's head, in bytes.
const HEAD_ROOM: usize = 2 << 10;

/// A running tiny_http.
pub(super) struct Backend {
    server: ManuallyDrop<Server>,
    pub(super) connection: UnixStream,
    body_max: usize,
}

impl Backend {
    pub(super) fn start() -> io::Result<Backend> {
        // An abstract name needs no file system: the root of a scratch image is read-only.
        let name = format!("leasehold-http-{:016x}{:016x}", sys::random_u64(), sys::random_u64());
        let address = SocketAddr::from_abstract_name(name)?;
        let listener = UnixListener::bind_addr(&address)?;
        let connection = UnixStream::connect_addr(&address)?;
        connection.set_read_timeout(Some(LIMIT))?;
        connection.set_write_timeout(Some(LIMIT))?;
        // To the kernel a listener and a stream are the same; a stream has std's shutdown.
        UnixStream::from(OwnedFd::from(listener.try_clone()?)).shutdown(Shutdown::Both)?;
        // Dropping a Server panics if its address is abstract. It has nothing to free but a few bytes.
        let server = ManuallyDrop::new(Server::from_listener(listener, None).map_err(io::Error::other)?);
        match server.recv_timeout(LIMIT) {
            Err(_closed) => Ok(Backend { server, connection, body_max: socket_room()?.saturating_sub(HEAD_ROOM) }),
            Ok(_) => Err(io::Error::other("tiny_http accepts from a listener that is shut down")),
        }
    }

    /// Passes a [rewritten](head::rewrite) head on; the answer's bytes, which end the client's connection.
    pub(super) fn ask(&mut self, head: &str, route: impl FnOnce(&Request) -> HttpAnswer) -> io::Result<Vec<u8>> {
        self.connection.write_all(head.as_bytes())?;
        let request = self.server.recv_timeout(LIMIT)?.ok_or(ErrorKind::TimedOut)?;
        let answer = route(&request).within(self.body_max);
        let body = if *request.method() == Method::Head { 0 } else { answer.body.len() };
        request.respond(response(answer))?;
        self.read_answer(body)
    }

    fn read_answer(&mut self, body: usize) -> io::Result<Vec<u8>> {
        let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(end) = head::end(&answer, 0).filter(|end| answer.len() >= end + body) {
                // tiny_http lets no answer carry this field.
                answer.splice(end - 2..end - 2, *b"Connection: close\r\n");
                return Ok(answer);
            }
            match self.connection.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

/// Bytes that a local socket takes while nobody reads. An answer must fit: the thread that writes it also reads it.
fn socket_room() -> io::Result<usize> {
    let (mut writer, _reader) = UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    let mut room = 0;
    while let Ok(count) = writer.write(&[0; 1024]) {
        room += count;
    }
    Ok(room)
}

fn response(answer: HttpAnswer) -> Response<io::Cursor<Vec<u8>>> {
    let fields = answer.fields();
    let response = Response::from_data(answer.body).with_status_code(answer.status);
    // read_answer counts on a body that is not chunked.
    fields
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .fold(response.with_chunked_threshold(usize::MAX), |response, field| response.with_header(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_can_connect() {
        let backend = Backend::start().unwrap();
        let address = backend.connection.peer_addr().unwrap();
        assert_eq!(UnixStream::connect_addr(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
