//! The HTTP side: who leads, health, metrics, and a page for people.
//!
//! tiny_http answers; the `door` stands before it and is what clients meet. It bounds everything a client can make
//! the process spend: connections, bytes, time. `docs/adr` says why there are two.
//!
//! THREADS, IO. Nothing here is ever waited for by the election: the two share only what a [`View`] reads.

mod answer;
mod backend;
mod client;
mod counters;
mod door;
mod head;
mod page;
mod process;
mod upstream;

use crate::election::Version;
use crate::time::WallTime;
use answer::Question;
use counters::Counters;
use door::Door;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the HTTP side shows. Each is asked anew for every request, and answers for the moment it is asked.
///
/// An implementation must not hold, while it makes a call or waits, any lock that these take.
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
    /// Who has held the Lease since; `None`: nobody.
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
pub struct Limits {
    /// Connections open at a time. One more closes the one that is missed least: the longest idle, as a rule.
    pub clients: usize,
    /// How long a connection is safe from being closed to make room while its first request is on its way.
    pub fresh: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// From a head's first byte to its last.
    pub head: Duration,
    /// From an answer, or from the connection's beginning, to the next request's first byte.
    pub idle: Duration,
    /// From a head's last byte until the server behind the door has answered.
    pub answer: Duration,
    /// From an answer's first byte to its last.
    pub write: Duration,
    /// After a refusal: how long what the client is still sending is read and thrown away, so that it reads the
    /// refusal and not a reset connection.
    pub linger: Duration,
    /// Bytes owed to clients that are slow to take them, over all connections. Beyond, the slowest is closed.
    pub owed_bytes: usize,
    /// From [`Web::stop`] to its return, at most.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            clients: 64,
            fresh: Duration::from_millis(20),
            head_bytes: 8 << 10,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            answer: Duration::from_secs(5),
            write: Duration::from_secs(5),
            linger: Duration::from_secs(1),
            owed_bytes: 256 << 10,
            stop: Duration::from_secs(2),
        }
    }
}

/// Serves `view` on `listener`, within the default [`Limits`].
pub fn serve(listener: TcpListener, view: Arc<dyn View>) -> io::Result<Web> {
    serve_within(Limits::default(), listener, view)
}

/// Serves `view` on `listener`, within `limits`.
pub fn serve_within(limits: Limits, listener: TcpListener, view: Arc<dyn View>) -> io::Result<Web> {
    let (waker, woken) = UnixStream::pair()?;
    let control = Arc::new(Control::new(waker)?);
    let shown = Arc::clone(&control);
    let answerer = move |question: &Question<'_>| answer::answer(question, &*view, &shown.counters);
    let door = Door::new(limits, listener, woken, Arc::clone(&control), Arc::new(answerer))?;
    let thread = thread::Builder::new().name("http-door".to_owned()).spawn(move || door.run())?;
    Ok(Web { control, thread: Some(thread) })
}

/// For the properties in `fuzz/` only: once what was received is a whole head that is served, its length and the head
/// that goes to the server behind the door; else the status of the refusal, or `None` while it is the beginning of one.
#[doc(hidden)]
pub fn read_head(received: &[u8]) -> Option<Result<(usize, Vec<u8>), u16>> {
    match head::read(received) {
        head::Head::Partial => None,
        head::Head::Whole(request) => Some(Ok((request.length, request.rewritten))),
        head::Head::Refused(refusal) => Some(Err(refusal.status)),
    }
}

/// A running HTTP side. Dropping it tells it to stop; [`stop`](Web::stop) also waits until it has.
#[derive(Debug)]
pub struct Web {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// From now on each answer is its connection's last, so that clients which keep connections open come back through
    /// the Service, to wherever it points by then.
    pub fn drain(&self) {
        self.control.enter(Stage::Draining);
    }

    /// Accepts no more connections, answers what has been asked, and returns when that is done (or in
    /// [`Limits::stop`]).
    pub fn stop(mut self) {
        self.control.enter(Stage::Stopping);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the HTTP door had ended in a panic");
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.control.enter(Stage::Stopping);
    }
}

/// What the door is about to do. It only ever moves on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Serving = 0,
    Draining = 1,
    Stopping = 2,
}

/// What the door shares with other threads.
#[derive(Debug)]
struct Control {
    stage: AtomicU8,
    waker: UnixStream,
    counters: Counters,
}

impl Control {
    fn new(waker: UnixStream) -> io::Result<Control> {
        waker.set_nonblocking(true)?;
        Ok(Control { stage: AtomicU8::new(Stage::Serving as u8), waker, counters: Counters::default() })
    }

    fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, SeqCst);
        self.wake();
    }

    fn stage(&self) -> Stage {
        match self.stage.load(SeqCst) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Stopping,
        }
    }

    /// Has the door look around.
    fn wake(&self) {
        // Full means that it has been told already; closed, that there is no door any more.
        let _ = (&self.waker).write(&[1]);
    }
}
