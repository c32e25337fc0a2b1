//! What the server's threads share: one lock, one condition variable.
//!
//! THREADS. Everything that changes here is announced, so nothing polls for it.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;

use super::identity::Authority;
use super::recorded::Recorded;
use crate::faults::{FaultId, FaultTable};
use crate::store::{Store, User};

/// What a test tells an open watch.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Bookmark,
    /// An ERROR event with a 410, then the end.
    Expire,
    /// The connection closes in the middle of the stream.
    Cut,
    /// The stream ends as after its timeout.
    End,
    Inject(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct OpenWatch {
    pub user: String,
    pub path: String,
    pub silent: bool,
    pub commands: VecDeque<Command>,
}

/// How a line of a watch is cut into chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub bytes: usize,
    pub pause: Duration,
}

pub(super) struct Token {
    pub user: User,
    pub expires: Option<Instant>,
}

/// The state of the listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    Yes,
    No,
}

pub(super) struct State {
    pub store: Store,
    pub tokens: BTreeMap<String, Token>,
    pub faults: FaultTable,
    pub requests: Vec<Recorded>,
    pub watches: BTreeMap<u64, OpenWatch>,
    /// Whether watches to come are silent from the start.
    pub silence_new: bool,
    pub split: Option<Split>,
    /// A handle on each connection, to cut it from outside.
    pub connections: BTreeMap<u64, TcpStream>,
    pub connections_made: u64,
    /// Whether nothing is answered on new connections.
    pub holding: bool,
    /// How many connections wait for that to end.
    pub held: usize,
    pub failed_handshakes: u64,
    pub threads: Vec<JoinHandle<()>>,
    pub authority: Option<Authority>,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    pub listening_wanted: Listening,
    pub listening: Listening,
    pub stopping: bool,
}

/// The shared state and what never changes.
pub(super) struct Shared {
    state: Mutex<State>,
    activity: Condvar,
    pub started: Instant,
    pub bookmark_period: Duration,
    pub watch_timeout: Duration,
    /// Who is asking where there are no credentials.
    pub unauthenticated: User,
    /// Added to the wall clock that is written into objects.
    pub wall_offset_micros: i64,
}

impl Shared {
    pub(super) fn new(state: State, options: &super::Options) -> Shared {
        Shared {
            state: Mutex::new(state),
            activity: Condvar::new(),
            started: Instant::now(),
            bookmark_period: options.bookmark_period,
            watch_timeout: options.watch_timeout,
            unauthenticated: if options.plain_http { options.plain_http_user.clone() } else { User::Anonymous },
            wall_offset_micros: options.wall_offset_micros,
        }
    }

    /// The lock. A test's closure that panicked under it must not take the server down with it.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and announces it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.announce();
        outcome
    }

    /// Wakes all that wait for a change.
    pub(super) fn announce(&self) {
        self.activity.notify_all();
    }

    /// Waits for the next change, or so long.
    pub(super) fn wait<'a>(&self, guard: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.activity.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until `done` gives something; `None` when `limit` has passed without.
    pub(super) fn wait_for<T>(&self, limit: Duration, mut done: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(outcome) = done(&state) {
                return Some(outcome);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = self.wait(state, left);
        }
    }

    /// Lets `span` pass; `false` if the server is being stopped.
    pub(super) fn pause(&self, span: Duration) -> bool {
        self.wait_for(span, |state| state.stopping.then_some(())).is_none()
    }

    /// Waits until the fault is removed; `false` if the server is being stopped.
    pub(super) fn hold(&self, fault: FaultId) -> bool {
        let mut state = self.lock();
        while !state.stopping && state.faults.holds(fault) {
            state = self.wait(state, Duration::from_secs(60));
        }
        !state.stopping
    }

    pub(super) fn now_wall_micros(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX).saturating_add(self.wall_offset_micros)
    }

    pub(super) fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
