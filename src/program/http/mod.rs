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
mod counters;
mod front;
mod head;
mod page;
mod process;
mod routes;

use crate::election::Version;
use crate::sys;
use crate::time::WallTime;
use backend::Backend;
use counters::Counters;
use front::Front;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes the kernel may buffer for a connection, out and in (it takes twice as much, for its own bookkeeping).
const SOCKET_BUFFERS: (u32, u32) = (16 << 10, 8 << 10);

/// Seconds for which the kernel keeps a connection on which nothing has arrived yet.
const DEFER_SECONDS: i32 = 5;

/// What the HTTP side shows. Each is asked anew for every request, and answers for the moment it is asked.
///
/// One thread asks and serves every client: an implementation must not wait, nor hold a lock that these take while it waits.
pub trait View: Send + Sync {
    /// Who leads, and for how long yet.
    fn leadership(&self) -> LeadershipView;
    /// Whether the process is alive; else why it should be restarted.
    fn health(&self) -> Result<(), String>;
    /// Whether the API server has ever answered.
    fn ready(&self) -> bool;
    /// [`Metrics::text`](crate::program::metrics::Metrics::text); the HTTP side adds its own families and those of the process.
    fn metrics(&self) -> String;
}

/// Leadership at one moment, as one process sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeadershipView {
    /// The Lease, as `namespace/name`.
    pub lease: String,
    /// This pod: its identity in the Lease.
    pub pod: String,
    /// The holder, if there is one.
    pub leader: Option<String>,
    /// Whether this process leads.
    pub is_leader: bool,
    /// The Lease's `leaseTransitions`.
    pub transitions: u32,
    /// The term's fencing token, where it is known.
    pub fencing_token: Option<Version>,
    /// How much longer this process may lead without another renewal; zero when it does not lead.
    pub valid_for: Duration,
    /// Since this process's last acknowledged write was sent, while it leads.
    pub renewal_age: Option<Duration>,
    /// How long this process's term has lasted, while it leads.
    pub term: Option<Duration>,
    /// The candidate that is next in line, where the Lease names one.
    pub successor: Option<String>,
    /// When the leader acquired the Lease, by the clock it wrote.
    pub leader_since: Option<WallTime>,
    /// Changes of holder that this process has seen, the earliest first.
    pub history: Vec<TransitionView>,
    /// The Service that follows the leader, if one does.
    pub service: Option<ServiceView>,
}

/// A change of holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitionView {
    /// When it was seen.
    pub at: WallTime,
    /// The holder since then; `None` if there is none.
    pub leader: Option<String>,
}

/// Where a Service points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// The pod its selector names, where that is known.
    pub target: Option<String>,
}

/// Bounds on what clients can make the HTTP side spend. The defaults suit a pod with 8 MiB of memory.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections open at a time. One more closes the one that has been unfinished longest.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// From accepting a connection to its head's last byte.
    pub head: Duration,
    /// From an answer's first byte to its last.
    pub write: Duration,
    /// After the answer: how long what the client still sends is discarded, so that it reads the answer and not a reset.
    pub closing: Duration,
    /// From [`HttpServer::stop`] to its return, at most.
    pub stop: Duration,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            connections: 32,
            head_bytes: 8 << 10,
            head: Duration::from_secs(5),
            write: Duration::from_secs(5),
            closing: Duration::from_secs(1),
            stop: Duration::from_secs(2),
        }
    }
}

/// Serves `view` on `listener`, within `limits`.
pub fn serve(limits: HttpLimits, listener: TcpListener, view: Arc<dyn View>) -> io::Result<HttpServer> {
    listener.set_nonblocking(true)?;
    sys::bound_socket_buffers(&listener, SOCKET_BUFFERS.0, SOCKET_BUFFERS.1)?;
    sys::defer_accept(&listener, DEFER_SECONDS)?;
    let (stop, stopped) = UnixStream::pair()?;
    let front = Front {
        limits,
        listener: Some(listener),
        stop: stopped,
        backend: Backend::start()?,
        view,
        counters: Counters::default(),
        connections: Vec::new(),
        until: None,
    };
    let thread = thread::Builder::new().name("http".to_owned()).spawn(move || front.run())?;
    Ok(HttpServer { stop, thread })
}

/// For the properties in `fuzz/` only: once what was received begins with a whole head, its length, and the head that
/// tiny_http is given for it, if any.
#[doc(hidden)]
pub fn read_head(received: &[u8]) -> Option<(usize, Option<String>)> {
    head::end(received, 0).map(|end| (end, head::rewrite(&received[..end])))
}

/// A running HTTP side. Dropping it tells it to stop; [`stop`](HttpServer::stop) also waits until it has.
#[derive(Debug)]
pub struct HttpServer {
    /// The front stops when this is closed.
    stop: UnixStream,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Accepts no more connections, answers the requests that have arrived, and returns when that is done (or in
    /// [`HttpLimits::stop`]).
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the HTTP thread panicked");
        }
    }
}
