//! Keeps a watch on one object, on a thread of its own.
//!
//! THREADS. The watch is an accelerator (P12): its owner must be right without it. So it may fail at any time, and says so.

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

/// A watch that ends sooner is a broken one, even if it ends in good order.
const SHORTEST: Duration = Duration::from_secs(1);

/// Pause before a forbidden watch is tried again (the rule may have been granted), and the longest Retry-After that is
/// honoured.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// From asking for a watch to its beginning, at most.
const OPENING: Duration = Duration::from_secs(10);

/// Between two warnings that a watch has failed: a proxy may cut each one that is quiet.
const WARN_AGAIN: Duration = Duration::from_secs(600);

/// The version to begin at when the server has forgotten the known one: it begins with the object as it is, or as a cache
/// of its own has it. (Without a version it would ask etcd, in some releases.)
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

/// What a watch brings. `run` is the number of the watch: updates of one that was stopped are ignored.
#[derive(Debug)]
pub enum WatchUpdate {
    /// It is open.
    Up { run: u64 },
    /// The object, as it now is.
    Object { run: u64, version: Version, object: Value },
    /// The object was deleted.
    Deleted { run: u64, version: Version },
    /// It has ended, and must not begin again before this pause is over.
    Down { run: u64, pause: Duration, end: WatchEnd },
}

/// How a watch has ended.
#[derive(Debug)]
pub enum WatchEnd {
    /// The server has forgotten the version that the watch began at or had reached.
    Gone(Version),
    /// A rule is missing: in words.
    Forbidden(String),
    /// It failed, or could not begin: in words.
    Failed(String),
    /// It was stopped: it does not bring the version that its owner knows.
    Stale,
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
    begun: BootTime,
    /// The newest version of the object that the present watch began at or has brought.
    seen: Version,
    /// Since when a newer version is known.
    behind_since: Option<BootTime>,
    not_before: BootTime,
    /// The newest version that the server has forgotten. The object may still have it: one that does not change, after
    /// the server was restarted or its history compacted.
    forgotten: Version,
    /// The last watch ended because of that.
    gone: bool,
    forbidden: bool,
    /// A failure was logged, and no watch has worked since.
    failed: bool,
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
            begun: BootTime(0),
            seen: 0,
            behind_since: None,
            not_before: BootTime(0),
            forgotten: ANY,
            gone: false,
            forbidden: false,
            failed: false,
            warned: None,
        }
    }

    /// Begins a watch when there is none, from the version `known`; restarts one that is stale.
    pub(crate) fn tend(&mut self, known: Option<Version>, now: BootTime) {
        let Some(known) = known else { return };
        if self.running.is_none() {
            if now >= self.not_before {
                self.begin(self.begins_at(known), now);
            }
            return;
        }
        self.behind_since = (known > self.seen).then(|| self.behind_since.unwrap_or(now));
        if !self.up || self.stale_at(known).is_none_or(|at| now < at) {
            return;
        }
        info!("the watch on {} is stale at version {}: restarting it from {known}", self.watched, self.seen);
        self.stop();
        (self.listener)(WatchUpdate::Down { run: self.runs, pause: Duration::ZERO, end: WatchEnd::Stale });
    }

    /// When the watch counts as stale, if it brings nothing until then.
    fn stale_at(&self, known: Version) -> Option<BootTime> {
        if known < self.seen {
            // A backup was restored: the server is silent until it reaches the watch's version again.
            return Some(self.begun + self.retry_period);
        }
        self.behind_since.map(|since| since + self.retry_period)
    }

    /// Takes note of an update; `None`: it is from a watch that was stopped.
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
                if std::mem::take(&mut self.failed) {
                    info!("the watch on {} works again", self.watched);
                }
                self.up = true;
            }
            WatchUpdate::Object { version, .. } | WatchUpdate::Deleted { version, .. } => {
                self.seen = self.seen.max(*version)
            }
            WatchUpdate::Down { pause, end, .. } => {
                let now = sys::boot_time();
                self.note_end(end, now);
                self.running = None;
                self.up = false;
                // Without the forgotten version the next watch can begin at once; a server that repeats itself waits.
                let again = std::mem::replace(&mut self.gone, matches!(end, WatchEnd::Gone(_)));
                self.not_before = if self.gone && !again { now } else { now + *pause };
            }
        }
        Some(update)
    }

    /// Logs each failure once. A forgotten version is none: the next watch begins without it.
    fn note_end(&mut self, end: &WatchEnd, now: BootTime) {
        let watched = &self.watched;
        match end {
            WatchEnd::Gone(version) => self.forgotten = *version,
            WatchEnd::Forbidden(why) if !std::mem::replace(&mut self.forbidden, true) => {
                warn!("cannot watch {watched}, polling instead: {why}");
            }
            WatchEnd::Failed(why) if !self.failed && self.warned.is_none_or(|at| now.since(at) >= WARN_AGAIN) => {
                warn!("the watch on {watched} failed, polling until it works again: {why}");
                (self.failed, self.warned) = (true, Some(now));
            }
            WatchEnd::Failed(why) => debug!("the watch on {watched} failed: {why}"),
            WatchEnd::Forbidden(_) | WatchEnd::Stale => {}
        }
    }

    /// When to call [`tend`](Watcher::tend) next, should nothing be learnt until then.
    pub(crate) fn wake(&self, known: Option<Version>) -> Option<BootTime> {
        let known = known?;
        match &self.running {
            None => Some(self.not_before),
            Some(_) => self.stale_at(known).filter(|_| self.up),
        }
    }

    /// Where to begin when this version is known.
    fn begins_at(&self, known: Version) -> Version {
        if known > self.forgotten { known } else { ANY }
    }

    /// Whether a watch is open or being opened.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends the watch, if there is one. Its updates are ignored from now on.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        self.up = false;
        self.behind_since = None;
    }

    fn begin(&mut self, from: Version, now: BootTime) {
        self.runs += 1;
        self.seen = from;
        self.begun = now;
        let stop = WatchStop::default();
        let run = WatchRun {
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
                self.not_before = now + self.retry_period;
            }
        }
    }
}

impl Drop for Watcher {
    /// Or its thread would go on asking for nothing.
    fn drop(&mut self) {
        self.stop();
    }
}

/// One watch, opened again as often as the server ends it in good order.
struct WatchRun {
    number: u64,
    client: Arc<Client>,
    watched: Watched,
    listener: Listener,
    jitter: Jitter,
    retry_period: Duration,
    stop: WatchStop,
}

impl WatchRun {
    fn go(mut self, mut from: Version) {
        let mut up = false;
        let (pause, end) = loop {
            let request = self.watched.request(from, LASTING + self.jitter.up_to(LASTING));
            let begun = sys::boot_time();
            let ended = Watch::open(&self.client, &request, OPENING, &self.stop).and_then(|watch| {
                if !std::mem::replace(&mut up, true) {
                    (self.listener)(WatchUpdate::Up { run: self.number });
                }
                self.listen(watch, &mut from).map_err(|failure| CallError::in_watch(&request, failure))
            });
            if self.stop.is_stopped() {
                return;
            }
            let lasted = sys::boot_time().since(begun);
            match ended {
                Ok(()) if lasted >= SHORTEST.max(self.retry_period) => {}
                Ok(()) => {
                    let why = format!("GET {}: the server ended it after {lasted:.1?}", request.path);
                    break (self.jitter.around(self.retry_period), WatchEnd::Failed(why));
                }
                Err(error) => break self.failed(&request, &error, from),
            }
        };
        (self.listener)(WatchUpdate::Down { run: self.number, pause, end });
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

    fn failed(&mut self, request: &Request, error: &CallError, from: Version) -> (Duration, WatchEnd) {
        let pause = self.jitter.around(self.retry_period);
        let asked = error.failure.retry_after().unwrap_or_default().min(LONGEST_PAUSE);
        match &error.failure {
            Failure::Gone => (pause, WatchEnd::Gone(from)),
            Failure::Forbidden(_) => {
                (LONGEST_PAUSE, WatchEnd::Forbidden(format!("{error}; {}", request.missing_rule())))
            }
            _ => (pause.max(asked), WatchEnd::Failed(error.to_string())),
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

    const RETRY_PERIOD: Duration = Duration::from_secs(2);

    fn watcher() -> Watcher {
        let client = Client::new(ClientOptions::new("http://127.0.0.1:1")).expect("a client that makes no call");
        let (namespace, name) = ("ns".into(), "web".into());
        let watched = Watched { resource: Resource::Lease, namespace, name, purpose: Purpose::Observe };
        Watcher::new(Arc::new(client), watched, RETRY_PERIOD, |_| {})
    }

    /// An open one that has just begun and brought version 50.
    fn open_watcher(now: BootTime) -> Watcher {
        let mut watcher = watcher();
        (watcher.up, watcher.begun, watcher.seen, watcher.running) = (true, now, 50, Some(WatchStop::new()));
        watcher
    }

    #[test]
    fn a_watch_that_fails_again_and_again_is_warned_of_every_ten_minutes_at_most() {
        let mut watcher = watcher();
        let begin = BootTime(1);
        let mut warned = 0;
        for second in 0..1800 {
            let failed = WatchEnd::Failed("GET /: cut: connection reset".into());
            watcher.note_end(&failed, begin + Duration::from_secs(second));
            warned += usize::from(watcher.failed);
            watcher.note(WatchUpdate::Up { run: 0 });
            assert!(!watcher.failed, "it works again, and that was said if a warning was");
        }
        assert_eq!(warned, 3);
    }

    #[test]
    fn only_versions_that_are_not_forgotten_are_begun_at() {
        let mut watcher = watcher();
        watcher.note_end(&WatchEnd::Gone(41), BootTime(1));
        for (known, from) in [(40, ANY), (41, ANY), (42, 42)] {
            assert_eq!(watcher.begins_at(known), from);
        }
        assert!(!watcher.failed && watcher.warned.is_none(), "nothing to warn of");
    }

    #[test]
    fn a_server_that_forgets_again_and_again_is_not_asked_without_a_pause() {
        let mut watcher = watcher();
        let gone = || WatchUpdate::Down { run: 0, pause: RETRY_PERIOD, end: WatchEnd::Gone(41) };
        for (end, paused) in [(gone(), false), (gone(), true), (gone(), true)] {
            let before = sys::boot_time();
            watcher.note(end);
            assert_eq!(watcher.not_before >= before + RETRY_PERIOD, paused);
        }
    }

    #[test]
    fn a_watch_is_stale_when_it_lacks_a_version_or_is_ahead_of_the_server() {
        let begin = BootTime(1_000);
        for known in [49, 51] {
            let mut watcher = open_watcher(begin);
            watcher.tend(Some(known), begin);
            assert_eq!(watcher.wake(Some(known)), Some(begin + RETRY_PERIOD));
            watcher.tend(Some(known), begin + RETRY_PERIOD - Duration::from_nanos(1));
            assert!(watcher.is_running(), "{known}");
            watcher.tend(Some(known), begin + RETRY_PERIOD);
            assert!(!watcher.is_running(), "{known}");
        }
        let mut watcher = open_watcher(begin);
        watcher.tend(Some(50), begin);
        assert_eq!(watcher.wake(Some(50)), None);
        watcher.tend(Some(51), begin);
        watcher.note(WatchUpdate::Object { run: 0, version: 51, object: Value::Null });
        watcher.tend(Some(51), begin + RETRY_PERIOD);
        assert!(watcher.is_running(), "it has caught up");
    }

    #[test]
    fn every_failure_of_a_watch_is_followed_by_a_pause() {
        let stop = WatchStop::new();
        let watcher = watcher();
        let mut run = WatchRun {
            number: 1,
            client: watcher.client.clone(),
            watched: watcher.watched.clone(),
            listener: watcher.listener.clone(),
            jitter: Jitter::new(1),
            retry_period: RETRY_PERIOD,
            stop,
        };
        let request = run.watched.request(41, LASTING);
        let mut pause = |status| {
            let error = CallError::from_answer(&request, status, Some("3600"), b"");
            run.failed(&request, &error, 41).0
        };
        for status in [400, 401, 404, 410, 422] {
            assert!((RETRY_PERIOD..=LONGEST_PAUSE).contains(&pause(status)), "{status}");
        }
        for status in [403, 429, 503] {
            assert_eq!(pause(status), LONGEST_PAUSE, "Retry-After counts up to a minute");
        }
    }
}
