//! Keeps a watch on one object, on a thread of its own.
//!
//! THREADS. The watch is an accelerator (P12): whoever listens must be right without it. So this may give up at any
//! time, and says so.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{debug, info, warn};
use serde_json::Value;

use super::STACK;
use crate::election::{Jitter, Version, parse_version};
use crate::kube::{CallError, Client, Failure, Purpose, Request, Resource, Watch, WatchEvent, WatchStop, request};
use crate::sys;
use crate::time::BootTime;

/// How long the server is asked to keep one watch open, at least; up to twice as long. client-go asks the same.
const LASTING: Duration = Duration::from_secs(300);

/// A watch that is forbidden is tried again after so long: somebody may have granted the rule.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(60);

/// From asking for a watch to its beginning, at most.
const OPENING: Duration = Duration::from_secs(10);

/// Between two warnings that a watch has broken: something between us and the server may cut each that is quiet.
const WARN_AGAIN: Duration = Duration::from_secs(600);

/// The version to begin at where the one that is known has been forgotten: the server begins with the object as it is,
/// or as some cache of its own still has it. (Without a version it would ask etcd, in some releases.)
const ANY: Version = 0;

/// What is watched, and for what purpose.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// A Lease or a Service.
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.resource, self.namespace, self.name)
    }
}

impl Watched {
    fn request(&self, from: Version, lasting: Duration) -> Request {
        let Watched { resource, namespace, name, purpose } = self;
        match resource {
            Resource::Service => request::watch_service(namespace, name, from, lasting, *purpose),
            _ => request::watch_lease(namespace, name, from, lasting, *purpose),
        }
    }
}

/// What a watch tells. `run` is the number of the watch: what an ended one still says is not listened to.
#[derive(Debug)]
pub(crate) enum WatchUpdate {
    /// It stands.
    Up { run: u64 },
    /// The object, as it now is.
    Object { run: u64, version: Version, object: Value },
    /// The object was deleted.
    Deleted { run: u64, version: Version },
    /// It has ended; not to be begun again before this pause.
    Down { run: u64, pause: Duration, how: Ended },
}

impl WatchUpdate {
    /// The version that it brings.
    pub(crate) fn version(&self) -> Option<Version> {
        match self {
            WatchUpdate::Object { version, .. } | WatchUpdate::Deleted { version, .. } => Some(*version),
            WatchUpdate::Up { .. } | WatchUpdate::Down { .. } => None,
        }
    }
}

/// How a watch has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The server has forgotten the version that it was to begin at, or to go on from.
    Gone(Version),
    /// A rule is missing: in words.
    Forbidden(String),
    /// It broke, or could not be begun: in words.
    Broken(String),
    /// It kept quiet.
    Quiet,
}

type Listener = Arc<dyn Fn(WatchUpdate) + Send + Sync>;

/// At most one watch at a time.
pub struct Watcher {
    client: Arc<Client>,
    watched: Watched,
    retry_period: Duration,
    listener: Listener,
    jitter: Jitter,
    runs: u64,
    running: Option<WatchStop>,
    up: bool,
    seen: Version,
    behind_since: Option<BootTime>,
    not_before: BootTime,
    /// The newest version that the server has said it has forgotten. An object may bear it still: one that does not
    /// change, after the server was restarted or its history compacted.
    forgotten: Version,
    forbidden: bool,
    /// It was said that it has broken, and not yet that one stands again.
    broken: bool,
    warned: Option<BootTime>,
}

impl Watcher {
    pub(crate) fn new(
        client: Arc<Client>,
        watched: Watched,
        retry_period: Duration,
        listener: impl Fn(WatchUpdate) + Send + Sync + 'static,
    ) -> Watcher {
        Watcher {
            client,
            watched,
            retry_period,
            listener: Arc::new(listener),
            jitter: Jitter::new(sys::random_u64()),
            runs: 0,
            running: None,
            up: false,
            seen: 0,
            behind_since: None,
            not_before: BootTime(0),
            forgotten: ANY,
            forbidden: false,
            broken: false,
            warned: None,
        }
    }

    /// Begins a watch where none stands, from the version `known`; and ends one that, after a retry period, has not
    /// told of a version that was learnt by other means: a stream can die without a word.
    pub(crate) fn tend(&mut self, known: Option<Version>, now: BootTime) {
        let Some(known) = known else { return };
        if self.running.is_none() {
            if now >= self.not_before {
                self.begin(self.begins_at(known));
            }
            return;
        }
        if !self.up || known <= self.seen {
            self.behind_since = None;
        } else if now.since(*self.behind_since.get_or_insert(now)) >= self.retry_period {
            info!("the watch on {} keeps quiet about version {known}: beginning anew", self.watched);
            self.stop();
            (self.listener)(WatchUpdate::Down { run: self.runs, pause: Duration::ZERO, how: Ended::Quiet });
        }
    }

    /// Takes note of update; `None`: it is from a watch that was ended.
    pub(crate) fn note(&mut self, update: WatchUpdate) -> Option<WatchUpdate> {
        let (WatchUpdate::Up { run }
        | WatchUpdate::Object { run, .. }
        | WatchUpdate::Deleted { run, .. }
        | WatchUpdate::Down { run, .. }) = &update;
        if *run != self.runs {
            return None;
        }
        match &update {
            WatchUpdate::Up { .. } => {
                if std::mem::take(&mut self.forbidden) {
                    info!("the watch on {} is allowed now", self.watched);
                }
                if std::mem::take(&mut self.broken) {
                    info!("a watch on {} stands again", self.watched);
                }
                self.up = true;
            }
            WatchUpdate::Object { version, .. } | WatchUpdate::Deleted { version, .. } => {
                self.seen = self.seen.max(*version)
            }
            WatchUpdate::Down { pause, how, .. } => {
                let now = sys::boot_time();
                self.note_end(how, now);
                self.running = None;
                self.up = false;
                self.not_before = now + *pause;
            }
        }
        Some(update)
    }

    /// Each trouble is said once; a version that is forgotten is none, as the next watch begins without it.
    fn note_end(&mut self, how: &Ended, now: BootTime) {
        let watched = &self.watched;
        match how {
            Ended::Gone(version) => self.forgotten = *version,
            Ended::Forbidden(message) if !std::mem::replace(&mut self.forbidden, true) => {
                warn!("{watched} cannot be watched, so it is polled and changes are seen later: {message}");
            }
            Ended::Broken(why) if !self.broken && self.warned.is_none_or(|at| now.since(at) >= WARN_AGAIN) => {
                warn!("the watch on {watched} has broken, so it is polled until one stands again: {why}");
                (self.broken, self.warned) = (true, Some(now));
            }
            Ended::Broken(why) => debug!("the watch on {watched} has broken: {why}"),
            Ended::Forbidden(_) | Ended::Quiet => {}
        }
    }

    /// When to [`tend`](Watcher::tend) it next, should nothing be learnt until then.
    pub(crate) fn wake(&self, known: Option<Version>) -> Option<BootTime> {
        known?;
        if self.running.is_none() { Some(self.not_before) } else { self.behind_since.map(|at| at + self.retry_period) }
    }

    /// Where to begin when this version is known.
    fn begins_at(&self, known: Version) -> Version {
        if known > self.forgotten { known } else { ANY }
    }

    /// Whether a watch stands or is being opened.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends the watch, if there is one. It is not listened to any more.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        self.up = false;
        self.behind_since = None;
    }

    fn begin(&mut self, from: Version) {
        self.runs += 1;
        self.seen = from;
        let stop = WatchStop::default();
        let run = Run {
            number: self.runs,
            client: Arc::clone(&self.client),
            watched: self.watched.clone(),
            listener: Arc::clone(&self.listener),
            jitter: self.jitter.clone(),
            retry_period: self.retry_period,
            stop: stop.clone(),
        };
        self.jitter.up_to(LASTING);
        let started = thread::Builder::new().name("watch".into()).stack_size(STACK).spawn(move || run.go(from));
        match started {
            Ok(_) => self.running = Some(stop),
            Err(error) => {
                warn!("no thread for the watch on {}: {error}", self.watched);
                self.not_before = sys::boot_time() + self.retry_period;
            }
        }
    }
}

impl Drop for Watcher {
    /// Or its thread would go on asking, and nobody listen.
    fn drop(&mut self) {
        self.stop();
    }
}

/// One watch, re-opened as often as the server ends it in good order.
struct Run {
    number: u64,
    client: Arc<Client>,
    watched: Watched,
    listener: Listener,
    jitter: Jitter,
    retry_period: Duration,
    stop: WatchStop,
}

impl Run {
    fn go(mut self, mut from: Version) {
        let mut up = false;
        let (request, error) = loop {
            let lasting = LASTING + self.jitter.up_to(LASTING);
            let request = self.watched.request(from, lasting);
            let watch = match Watch::open(&self.client, &request, OPENING, &self.stop) {
                Ok(watch) => watch,
                Err(error) => break (request, error),
            };
            if !std::mem::replace(&mut up, true) {
                (self.listener)(WatchUpdate::Up { run: self.number });
            }
            if let Err(failure) = self.listen(watch, &mut from) {
                let error = CallError::in_watch(&request, failure);
                break (request, error);
            }
            if self.stop.is_stopped() {
                return;
            }
        };
        if !self.stop.is_stopped() {
            let pause = self.pause(&error.failure, from);
            let how = match &error.failure {
                Failure::Gone => Ended::Gone(from),
                Failure::Forbidden(_) => Ended::Forbidden(format!("{error}; {}", request.missing_rule())),
                _ => Ended::Broken(error.to_string()),
            };
            (self.listener)(WatchUpdate::Down { run: self.number, pause, how });
        }
    }

    /// Until the server ends it in good order; then `from` is where to go on.
    fn listen(&self, watch: Watch, from: &mut Version) -> Result<(), Failure> {
        for event in watch {
            match event {
                WatchEvent::Modified(object) => {
                    *from = version_of(&object)?;
                    (self.listener)(WatchUpdate::Object { run: self.number, version: *from, object });
                }
                WatchEvent::Deleted(object) => {
                    *from = version_of(&object)?;
                    (self.listener)(WatchUpdate::Deleted { run: self.number, version: *from });
                }
                WatchEvent::Bookmark(version) => *from = version,
                WatchEvent::Gone => return Err(Failure::Gone),
                WatchEvent::Failed(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Who is told that a version is forgotten can begin without one at once; a server that then says the same again is
    /// left alone for a while. What is forbidden stays so for longer.
    fn pause(&mut self, failure: &Failure, from: Version) -> Duration {
        match failure {
            Failure::Gone if from != ANY => Duration::ZERO,
            Failure::Forbidden(_) => FORBIDDEN_PAUSE,
            other => self.jitter.around(self.retry_period).max(other.retry_after().unwrap_or_default()),
        }
    }
}

fn version_of(object: &Value) -> Result<Version, Failure> {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    text.and_then(parse_version).ok_or_else(|| Failure::Malformed("in a watch: no resourceVersion".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::ClientOptions;

    fn watcher() -> Watcher {
        let client = Client::new(ClientOptions::new("http://127.0.0.1:1")).expect("a client that makes no call");
        let watched = Watched {
            resource: Resource::Lease,
            namespace: "ns".into(),
            name: "web".into(),
            purpose: Purpose::Observe,
        };
        Watcher::new(Arc::new(client), watched, Duration::from_secs(2), |_| {})
    }

    fn broken() -> Ended {
        Ended::Broken("GET /: cut: connection reset".into())
    }

    #[test]
    fn a_watch_that_breaks_again_and_again_is_warned_of_every_ten_minutes_at_most() {
        let mut watcher = watcher();
        let begin = BootTime(1);
        let mut warned = 0;
        for second in 0..1800 {
            watcher.note_end(&broken(), begin + Duration::from_secs(second));
            warned += usize::from(watcher.broken);
            watcher.note(WatchUpdate::Up { run: 0 });
            assert!(!watcher.broken, "it stands again, and that was said if there was something to take back");
        }
        assert_eq!(warned, 3);
    }

    #[test]
    fn only_versions_that_are_not_forgotten_are_begun_at() {
        let mut watcher = watcher();
        watcher.note_end(&Ended::Gone(41), BootTime(1));
        for (known, from) in [(40, ANY), (41, ANY), (42, 42)] {
            assert_eq!(watcher.begins_at(known), from);
        }
        assert!(!watcher.broken && watcher.warned.is_none(), "nothing to warn of");
    }
}
