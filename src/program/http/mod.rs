//! The HTTP side: who leads, health, metrics, and a page for people. THREADS, IO.
//!
//! tiny_http answers; `front` stands before it, because tiny_http alone has no limits: a thread for each connection, a
//! head of any length that may take for ever, and heads that make it panic (`head`), which ends the process that leads.
//! The front bounds what clients can make the process spend: connections, bytes, time. A connection carries one request.
//! `docs/adr/0003-limits-in-front-of-tiny-http.md` says what was tried.
//!
//! The front's thread also asks tiny_http and makes the answers, one after the other. So nothing here may wait, and
//! nothing does: a [`View`] copies what the election's thread has shared. The election never waits for anything here.

mod backend;
mod front;
#[doc(hidden)]
pub mod head; // For the properties in `fuzz/`.
mod page;
mod process;
mod routes;

use crate::program::metrics::Metrics;
use crate::program::state::StateView;
use crate::sys;
use backend::Backend;
use front::Front;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes the kernel may buffer for a connection (it takes twice as much, for its own bookkeeping). Out: a whole answer.
const SEND_BUFFER: u32 = 64 << 10;
const RECEIVE_BUFFER: u32 = 8 << 10;

/// Seconds for which the kernel keeps a connection on which nothing has arrived yet.
const DEFER_SECONDS: i32 = 5;

/// Says what is known at the moment it is asked, for every request anew.
///
/// One thread asks and serves every client: it must not wait, nor hold a lock that others take while they wait.
pub type View = Box<dyn Fn() -> StateView + Send>;

/// Bounds on what clients can make the HTTP side spend.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections open at a time. One more closes the one that has been unfinished longest.
    pub connections: usize,
    /// From accepting a connection to its head's last byte; and from the answer until the client closes.
    pub time: Duration,
}

impl HttpLimits {
    /// They suit a pod with 8 MiB of memory.
    pub const DEFAULT: HttpLimits = HttpLimits { connections: 32, time: Duration::from_secs(5) };
}

/// Serves `view` and `metrics` on `listener`, within `limits`.
pub fn serve(limits: HttpLimits, listener: TcpListener, metrics: Arc<Metrics>, view: View) -> io::Result<HttpServer> {
    listener.set_nonblocking(true)?;
    sys::bound_socket_buffers(&listener, SEND_BUFFER, RECEIVE_BUFFER)?;
    sys::defer_accept(&listener, DEFER_SECONDS)?;
    let (stop, stopped) = UnixStream::pair()?;
    let backend = Backend::new(view, metrics)?;
    let front = Front { limits, listener, stop: stopped, backend, connections: Vec::new() };
    let thread = thread::Builder::new().name("http".to_owned()).spawn(move || front.run())?;
    Ok(HttpServer { stop, thread })
}

/// A running HTTP side. Dropping it tells it to stop; [`stop`](HttpServer::stop) also waits until it has.
#[derive(Debug)]
pub struct HttpServer {
    /// The front stops when this is closed.
    stop: UnixStream,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Accepts no more connections, and returns when the requests that have arrived are answered.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the HTTP thread panicked");
        }
    }
}
