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
use crate::election::{Jitter, Version};
use crate::kube::{Client, Failure, Request, Watch, WatchEvent, WatchStop, Why, request};
use crate::sys;
use crate::time::BootTime;

/// How long the server is asked to keep one watch open, at least; up to twice as long. client-go asks the same.
const LASTING: Duration = Duration::from_secs(300);

/// A watch that is forbidden is tried again after so long: somebody may have granted the rule.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(60);

/// From asking for a watch to its beginning, at most.
const OPENING: Duration = Duration::from_secs(10);

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) enum Watched {
    Lease { namespace: String, name: String },
    Service { namespace: String, name: String },
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watched::Lease { namespace, name } => write!(f, "Lease {namespace}/{name}"),
            Watched::Service { namespace, name } => write!(f, "Service {namespace}/{name}"),
        }
    }
}

impl Watched {
    fn request(&self, from: Version, lasting: Duration) -> Request {
        let from = from.to_string();
        match self {
            Watched::Lease { namespace, name } => request::watch_lease(namespace, name, &from, lasting),
            Watched::Service { namespace, name } => request::watch_service(namespace, name, &from, lasting, Why::Route),
        }
    }
}

/// What a watch tells. `run` is the number of the watch: what an ended one still says is not listened to.
#[derive(Debug)]
pub(crate) enum News {
    /// It stands.
    Up { run: u64 },
    /// The object, as it now is.
    Object { run: u64, version: Version, object: Value },
    /// The object was deleted.
    Deleted { run: u64, version: Version },
    /// It has ended; not to be begun again before this pause. What was forbidden, if that is why.
    Down { run: u64, pause: Duration, forbidden: Option<String> },
}

type Listener = Arc<dyn Fn(News) + Send + Sync>;

/// At most one watch at a time.
pub(crate) struct Watcher {
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
    forbidden: bool,
}

impl Watcher {
    pub(crate) fn new(
        client: Arc<Client>,
        watched: Watched,
        retry_period: Duration,
        listener: impl Fn(News) + Send + Sync + 'static,
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
            forbidden: false,
        }
    }

    /// Begins a watch where none stands, from the version `known`; and ends one that, after a retry period, has not
    /// told of a version that was learnt by other means: a stream can die without a word.
    pub(crate) fn tend(&mut self, known: Option<Version>, now: BootTime) {
        let Some(known) = known else { return };
        if self.running.is_none() {
            if now >= self.not_before {
                self.begin(known);
            }
            return;
        }
        if !self.up || known <= self.seen {
            self.behind_since = None;
        } else if now.since(*self.behind_since.get_or_insert(now)) > self.retry_period {
            info!("the watch on {} keeps quiet about version {known}: beginning anew", self.watched);
            self.stop();
            (self.listener)(News::Down { run: self.runs, pause: Duration::ZERO, forbidden: None });
        }
    }

    /// Takes note of news; `None`: it is from a watch that was ended.
    pub(crate) fn note(&mut self, news: News) -> Option<News> {
        let (News::Up { run } | News::Object { run, .. } | News::Deleted { run, .. } | News::Down { run, .. }) = &news;
        if *run != self.runs {
            return None;
        }
        match &news {
            News::Up { .. } => {
                if std::mem::take(&mut self.forbidden) {
                    info!("the watch on {} is allowed now", self.watched);
                }
                self.up = true;
            }
            News::Object { version, .. } | News::Deleted { version, .. } => self.seen = self.seen.max(*version),
            News::Down { pause, forbidden, .. } => {
                self.note_forbidden(forbidden.as_deref());
                self.running = None;
                self.up = false;
                self.not_before = sys::boot_time() + *pause;
            }
        }
        Some(news)
    }

    fn note_forbidden(&mut self, forbidden: Option<&str>) {
        if let Some(message) = forbidden.filter(|_| !self.forbidden) {
            self.forbidden = true;
            warn!("{} cannot be watched, so it is polled and changes are seen later: {message}", self.watched);
        }
    }

    /// Whether a watch stands or is being opened.
    pub(crate) fn is_running(&self) -> bool {
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
        let begun_from = from;
        let (mut up, mut forbidden) = (false, None);
        let failure = loop {
            let lasting = LASTING + self.jitter.up_to(LASTING);
            let request = self.watched.request(from, lasting);
            let opened = Watch::open(&self.client, &request, OPENING, &self.stop);
            debug!("GET {}: {}", request.path, opened.as_ref().err().map_or("open".into(), ToString::to_string));
            let watch = match opened {
                Ok(watch) => watch,
                Err(error) => {
                    if matches!(error.failure, Failure::Forbidden(_)) {
                        forbidden = Some(format!("{error}; {}", request.missing_rule()));
                    }
                    break error.failure;
                }
            };
            if !std::mem::replace(&mut up, true) {
                (self.listener)(News::Up { run: self.number });
            }
            if let Err(failure) = self.listen(watch, &mut from) {
                break failure;
            }
        };
        if !self.stop.is_stopped() {
            debug!("the watch on {} has ended: {failure:?}", self.watched);
            let (run, pause) = (self.number, self.pause(&failure, from > begun_from));
            (self.listener)(News::Down { run, pause, forbidden });
        }
    }

    /// Until the server ends it in good order; then `from` is where to go on.
    fn listen(&self, watch: Watch, from: &mut Version) -> Result<(), Failure> {
        for event in watch {
            match event {
                WatchEvent::Modified(object) => {
                    *from = version_of(&object)?;
                    (self.listener)(News::Object { run: self.number, version: *from, object });
                }
                WatchEvent::Deleted(object) => {
                    *from = version_of(&object)?;
                    (self.listener)(News::Deleted { run: self.number, version: *from });
                }
                WatchEvent::Bookmark(version) => *from = version,
                WatchEvent::Gone => return Err(Failure::Gone),
                WatchEvent::Failed(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// A version that is forgotten is mended by a look, at once; but not if the object still has that very version, as
    /// after a restart of the API server: then the next watch would end likewise. What is forbidden stays so for a while.
    fn pause(&mut self, failure: &Failure, told: bool) -> Duration {
        match failure {
            Failure::Gone if told => Duration::ZERO,
            Failure::Forbidden(_) => FORBIDDEN_PAUSE,
            other => self.jitter.around(self.retry_period).max(other.retry_after().unwrap_or_default()),
        }
    }
}

fn version_of(object: &Value) -> Result<Version, Failure> {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Failure::Malformed("in a watch: no resourceVersion".into()))
}
