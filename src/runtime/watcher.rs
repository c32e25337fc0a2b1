//! Keeps a watch on one object, on a thread of its own.
//!
//! THREADS. The watch is an accelerator (P12): its owner must be right without it. So it may fail at any time, and says so.

use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{debug, info, warn};

use super::STACK;
use crate::election::{Jitter, Version};
use crate::kube::{CallError, Client, Request, TransportKind, Watch, WatchEvent, WatchStop};
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

/// What the thread of a watch tells its owner, who passes it to `Watcher::note`.
pub struct WatchUpdate {
    /// Of which watch: what comes late from one that was stopped is ignored.
    watch: WatchStop,
    change: WatchChange,
}

/// What a watch brings.
pub enum WatchChange {
    /// It is open.
    Up,
    /// Something has happened to the object, or nothing for a while.
    Event(WatchEvent),
    /// It could not begin, or has ended; another is opened. `None`: in good order.
    Down(Option<CallError>),
}

/// At most one watch at a time, and none sooner than a retry period after the one before has begun.
pub struct Watcher {
    client: Arc<Client>,
    /// The call that watches the object from this version, for this time.
    request: Box<dyn Fn(Version, Duration) -> Request + Send>,
    retry_period: Duration,
    listener: Arc<dyn Fn(WatchUpdate) + Send + Sync>,
    /// The object, in words.
    watched: String,
    running: Option<WatchStop>,
    thread: Option<JoinHandle<()>>,
    up: bool,
    /// The version of the object that the present watch began at or has brought last.
    seen: Version,
    /// How far the present watch has come. The one after it goes on there if it ends in good order.
    reached: Option<Version>,
    /// Since when the owner knows another version.
    differs_since: Option<BootTime>,
    not_before: BootTime,
    /// The newest version that the server has forgotten. The object may still have it: one that does not change, after
    /// the server was restarted or its history compacted.
    forgotten: Version,
    /// These were logged, and no watch has worked since.
    forbidden: bool,
    failed: bool,
    warned: Option<BootTime>,
}

impl Watcher {
    pub(crate) fn new(
        client: Arc<Client>,
        request: impl Fn(Version, Duration) -> Request + Send + 'static,
        retry_period: Duration,
        listener: impl Fn(WatchUpdate) + Send + Sync + 'static,
    ) -> Watcher {
        let Request { resource, namespace, name, .. } = request(ANY, LASTING);
        Watcher {
            client,
            request: Box::new(request),
            retry_period,
            listener: Arc::new(listener),
            watched: format!("{resource:?} {namespace}/{name}"),
            running: None,
            thread: None,
            up: false,
            seen: ANY,
            reached: None,
            differs_since: None,
            not_before: BootTime(0),
            forgotten: ANY,
            forbidden: false,
            failed: false,
            warned: None,
        }
    }

    /// Begins a watch when there is none, from the version `known`; restarts one that is stale: it lacks that version, or
    /// is ahead of it (a backup was restored, and the server is silent until it reaches the watch's version again).
    /// When to call this again, should nothing be learnt until then.
    pub(crate) fn tend(&mut self, known: Option<Version>, now: BootTime) -> Option<BootTime> {
        // One that has ended in good order goes on even where the object is gone.
        let known = known.or(self.reached.filter(|_| self.running.is_none()))?;
        if self.running.is_some() {
            let differs = self.up && known != self.seen;
            self.differs_since = differs.then(|| self.differs_since.unwrap_or(now));
            let stale_at = self.differs_since? + self.retry_period;
            if now < stale_at {
                return Some(stale_at);
            }
            info!("the watch on {} is stale at version {}: restarting it from {known}", self.watched, self.seen);
            self.stop();
        }
        if now >= self.not_before {
            self.begin(known, now);
        }
        self.running.is_none().then_some(self.not_before)
    }

    fn begin(&mut self, known: Version, now: BootTime) {
        let mut jitter = Jitter::new(sys::random_u64());
        self.not_before = now + jitter.around(self.retry_period);
        let from = self.reached.unwrap_or(if known > self.forgotten { known } else { ANY });
        if self.reached.is_none() {
            self.seen = from;
        }
        let request = (self.request)(from, LASTING + jitter.up_to(LASTING));
        let (client, listener, watch) = (Arc::clone(&self.client), Arc::clone(&self.listener), WatchStop::default());
        self.running = Some(watch.clone());
        let (asked, stop) = (request.clone(), watch.clone());
        let run = move || read(&client, &asked, &stop, &*listener);
        match thread::Builder::new().name("watch".into()).stack_size(STACK).spawn(run) {
            Ok(thread) => self.thread = Some(thread),
            // As a watch that fails: the owner is told, and polls.
            Err(error) => {
                let text = format!("no thread for it: {error}");
                let error = CallError::transport(&request, TransportKind::Connect, false, &text);
                (self.listener)(WatchUpdate { watch, change: WatchChange::Down(Some(error)) });
            }
        }
    }

    /// Takes note of an update. `None`: its owner need not; it is from a watch that was stopped, say.
    pub(crate) fn note(&mut self, WatchUpdate { watch, change }: WatchUpdate) -> Option<WatchChange> {
        if watch.is_stopped() {
            return None;
        }
        if let WatchChange::Down(_) = change {
            // It ends right after it has said so; the next one gets its stack.
            let _ = self.thread.take().map(JoinHandle::join);
        }
        match &change {
            WatchChange::Up => {
                self.up = true;
                if mem::take(&mut self.failed) | mem::take(&mut self.forbidden) {
                    info!("the watch on {} works again", self.watched);
                }
                if self.reached.is_some() {
                    return None; // It goes on where the one before it has ended in good order.
                }
                self.reached = Some(self.seen);
            }
            WatchChange::Event(WatchEvent::Modified(version, _) | WatchEvent::Deleted(version)) => {
                (self.seen, self.reached) = (*version, Some(*version));
            }
            WatchChange::Event(WatchEvent::Bookmark(version)) => {
                self.reached = Some(*version);
                return None;
            }
            WatchChange::Down(None) => {
                (self.running, self.up) = (None, false);
                return None;
            }
            WatchChange::Down(Some(error)) => {
                self.stop();
                self.note_end(error, sys::boot_time());
            }
        }
        Some(change)
    }

    /// Logs each failure once, and sees to the pause that it calls for.
    fn note_end(&mut self, error: &CallError, now: BootTime) {
        let watched = &self.watched;
        match error.status {
            // No failure: the next watch begins without that version.
            Some(410) => self.forgotten = self.seen,
            Some(403) => {
                self.not_before = now + LONGEST_PAUSE;
                if !mem::replace(&mut self.forbidden, true) {
                    let rule = (self.request)(self.seen, LASTING).missing_rule();
                    warn!("cannot watch {watched}, polling instead: {error}; {rule}");
                }
            }
            _ => {
                let asked = error.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
                self.not_before = self.not_before.max(now + asked);
                if self.failed || self.warned.is_some_and(|at| now.since(at) < WARN_AGAIN) {
                    return debug!("the watch on {watched} failed: {error}");
                }
                warn!("the watch on {watched} failed, polling until it works again: {error}");
                (self.failed, self.warned) = (true, Some(now));
            }
        }
    }

    /// Whether a watch is open or being opened.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends the watch, if there is one. Its updates are ignored from now on.
    pub(crate) fn stop(&mut self) {
        (self.up, self.reached, self.differs_since) = (false, None, None);
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

impl Drop for Watcher {
    /// Or its thread would go on asking for nothing.
    fn drop(&mut self) {
        self.stop();
    }
}

/// One watch, from its opening to its end.
fn read(client: &Client, request: &Request, watch: &WatchStop, listener: &dyn Fn(WatchUpdate)) {
    let tell = |change| listener(WatchUpdate { watch: watch.clone(), change });
    let begun = sys::boot_time();
    let ended = Watch::open(client, request, OPENING, watch).and_then(|events| {
        tell(WatchChange::Up);
        for event in events {
            tell(WatchChange::Event(event?));
        }
        let lasted = sys::boot_time().since(begun);
        if lasted < SHORTEST {
            let text = format!("the server ended it after {lasted:.1?}");
            return Err(CallError::transport(request, TransportKind::Cut, true, &text));
        }
        Ok(())
    });
    tell(WatchChange::Down(ended.err()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::{ClientOptions, Purpose, request};
    use serde_json::Value;

    const RETRY_PERIOD: Duration = Duration::from_secs(2);
    const BEGIN: BootTime = BootTime(1_000);

    fn watch(from: Version, lasting: Duration) -> Request {
        request::watch_lease("ns", "web", from, lasting, Purpose::Observe)
    }

    fn watcher() -> Watcher {
        let client = Client::new(ClientOptions::new("http://127.0.0.1:1")).expect("a client without a server");
        Watcher::new(Arc::new(client), watch, RETRY_PERIOD, |_| {})
    }

    /// An open one that has brought version 50.
    fn open_watcher() -> (Watcher, WatchStop) {
        let mut watcher = watcher();
        let stop = WatchStop::default();
        (watcher.up, watcher.seen, watcher.running) = (true, 50, Some(stop.clone()));
        (watcher, stop)
    }

    fn answered(status: u16) -> CallError {
        CallError::from_answer(&watch(41, LASTING), status, Some("3600"), b"")
    }

    fn cut() -> CallError {
        CallError::transport(&watch(41, LASTING), TransportKind::Cut, true, "connection reset")
    }

    #[test]
    fn a_watch_that_fails_again_and_again_is_warned_of_every_ten_minutes_at_most() {
        let (mut watcher, watch) = open_watcher();
        let mut warned = 0;
        for second in 0..1800 {
            watcher.note_end(&cut(), BEGIN + Duration::from_secs(second));
            warned += usize::from(watcher.failed);
            watcher.note(WatchUpdate { watch: watch.clone(), change: WatchChange::Up });
            assert!(!watcher.failed, "it works again, and that was said if a warning was");
        }
        assert_eq!(warned, 3);
    }

    #[test]
    fn only_versions_that_are_not_forgotten_are_begun_at() {
        for (known, from) in [(40, ANY), (41, ANY), (42, 42)] {
            let mut watcher = watcher();
            watcher.seen = 41;
            watcher.note_end(&answered(410), BEGIN);
            assert!(!watcher.failed && watcher.warned.is_none(), "nothing to warn of");
            watcher.tend(Some(known), BEGIN);
            assert_eq!((watcher.is_running(), watcher.seen), (true, from));
        }
    }

    #[test]
    fn whatever_ends_a_watch_the_next_begins_a_retry_period_after_it_at_the_earliest() {
        for error in [cut(), answered(410), answered(400), answered(401), answered(404), answered(422)] {
            let mut watcher = watcher();
            assert_eq!(watcher.tend(Some(50), BEGIN), None);
            assert!(watcher.is_running());
            watcher.stop();
            watcher.note_end(&error, BEGIN + Duration::from_millis(1));
            let again = watcher.tend(Some(50), BEGIN + RETRY_PERIOD - Duration::from_nanos(1)).expect("an instant");
            assert!(!watcher.is_running() && again >= BEGIN + RETRY_PERIOD && again <= BEGIN + RETRY_PERIOD * 6 / 5);
            watcher.tend(Some(50), again);
            assert!(watcher.is_running(), "{error}");
        }
    }

    #[test]
    fn a_pause_that_the_server_asks_for_counts_up_to_a_minute_and_a_forbidden_watch_waits_as_long() {
        for status in [403, 429, 503] {
            let mut watcher = watcher();
            watcher.note_end(&answered(status), BEGIN);
            assert_eq!(watcher.tend(Some(50), BEGIN), Some(BEGIN + LONGEST_PAUSE), "{status}");
            assert!(!watcher.is_running());
        }
    }

    #[test]
    fn a_watch_is_stale_when_it_lacks_a_version_or_is_ahead_of_the_server() {
        for known in [49, 51] {
            let (mut watcher, stop) = open_watcher();
            assert_eq!(watcher.tend(Some(known), BEGIN), Some(BEGIN + RETRY_PERIOD));
            watcher.tend(Some(known), BEGIN + RETRY_PERIOD - Duration::from_nanos(1));
            assert!(!stop.is_stopped(), "{known}");
            watcher.tend(Some(known), BEGIN + RETRY_PERIOD);
            assert!(stop.is_stopped() && watcher.is_running(), "{known}: another is opened");
            assert_eq!(watcher.seen, known);
        }
        let (mut watcher, stop) = open_watcher();
        assert_eq!(watcher.tend(Some(50), BEGIN), None);
        watcher.tend(Some(51), BEGIN);
        watcher.note(WatchUpdate {
            watch: stop.clone(),
            change: WatchChange::Event(WatchEvent::Modified(51, Value::Null)),
        });
        watcher.tend(Some(51), BEGIN + RETRY_PERIOD);
        assert!(!stop.is_stopped(), "it has caught up");
    }

    #[test]
    fn a_watch_that_ends_in_good_order_goes_on_where_it_was_and_its_owner_need_not_know() {
        let bookmark = || Some(WatchChange::Event(WatchEvent::Bookmark(900)));
        for (brought, known, from) in [(bookmark(), Some(50), 900), (bookmark(), None, 900), (None, None, 50)] {
            goes_on(brought, known, from);
        }
    }

    fn goes_on(brought: Option<WatchChange>, known: Option<Version>, from: Version) {
        let (mut watcher, stop) = open_watcher();
        let (asked, asks) = std::sync::mpsc::channel();
        watcher.request = Box::new(move |from, lasting| {
            asked.send(from).expect("the test reads it");
            watch(from, lasting)
        });
        assert!(watcher.note(WatchUpdate { watch: stop.clone(), change: WatchChange::Up }).is_some());
        for change in brought.into_iter().chain([WatchChange::Down(None)]) {
            assert!(watcher.note(WatchUpdate { watch: stop.clone(), change }).is_none());
        }
        assert_eq!(watcher.tend(known, BEGIN), None);
        assert_eq!((asks.try_recv(), watcher.seen), (Ok(from), 50), "and the object is of version 50 still");
        let watch = watcher.running.clone().expect("it is being opened");
        assert!(watcher.note(WatchUpdate { watch, change: WatchChange::Up }).is_none());
        assert_eq!(watcher.tend(known, BEGIN + RETRY_PERIOD), None, "it is no stale one");
        assert!(watcher.is_running() && asks.try_recv().is_err());
        watcher.stop();
        watcher.tend(Some(50), BEGIN + RETRY_PERIOD * 2);
        assert_eq!(asks.try_recv(), Ok(50), "after any other end the known version counts");
    }

    #[test]
    fn what_a_stopped_watch_still_brings_is_ignored() {
        let (mut watcher, stop) = open_watcher();
        watcher.stop();
        assert!(
            watcher
                .note(WatchUpdate { watch: stop, change: WatchChange::Event(WatchEvent::Modified(51, Value::Null)) })
                .is_none()
        );
        assert_eq!(watcher.seen, 50);
    }
}
