//! Runs an [`Election`]: clock, calls, watch, timers, on plain threads.
//!
//! THREADS. One thread owns the election and never does anything that could take long: it sleeps on its inbox until
//! the instant the election named. Another makes the Lease's calls, one at a time, so a socket that hangs cannot
//! delay a deadline. A third reads the watch. What leads is told to an `Observer`, on the election's thread.

mod error_log;
pub mod inbox;
pub(crate) mod incarnation;
mod leadership;
pub mod lease_store;
mod watcher;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use log::{Level, warn};

pub(crate) use self::error_log::ErrorLog;
use self::inbox::Inbox;
pub use self::leadership::Leadership;
use self::lease_store::LeaseStore;
pub use self::watcher::{WatchChange, WatchUpdate, Watcher};
use crate::election::{
    self, CallFailure, CallKind, Election, Event, Identity, Input, LeaseRequest, Output, Snapshot, Timing, Version,
};
use crate::kube::client::MAX_IDLE;
use crate::kube::{CallError, Client, Purpose, Reply, Request, WatchEvent, request};
use crate::sys;
use crate::time::BootTime;

/// Threads that do little need little.
pub(crate) const STACK: usize = 256 * 1024;

/// Whom an election tells what happens, in order, each thing once. Called on the election's thread: answer at once.
pub(crate) trait Observer {
    /// A term has begun. When all that is started for it has ended, and not before, post [`Message::WorkStopped`].
    fn start_work(&mut self, leadership: Leadership);
    /// The term has ended: its [`Leadership`] says by when the work must be dead, which the work may ask instead.
    fn stop_work(&mut self) {}
    /// Something that people want to know.
    fn event(&mut self, event: &Event);
    /// The newest version of the Lease known (`None`: there is no Lease), and the present term's token where known.
    fn lease(&mut self, _lease: Option<&Snapshot>, _token: Option<Version>) {}
    /// A call on the Lease has ended: for what purpose it was made, and what went wrong with it.
    fn called(&mut self, _why: Purpose, _error: Option<&CallError>) {}
    /// The watch has ended; another is opened.
    fn watch_ended(&mut self) {}
    /// By when the election's thread, or the call that it waits for, must turn again: for a liveness probe.
    fn due(&mut self, _at: Option<BootTime>) {}
}

/// What comes to the election's thread.
pub enum Message {
    /// A call has ended.
    Called(Box<LeaseCall>, Result<Reply, CallError>),
    /// From the watch.
    Watch(WatchUpdate),
    /// All that was started for the term has ended.
    WorkStopped(Version),
    /// Whether the workload is fit to lead.
    Fit(bool),
    /// End it.
    Shutdown,
    /// A line for the log, from a thread that must not wait for standard error.
    Log(Level, String),
}

/// A call on the Lease.
pub struct LeaseCall {
    number: u64,
    request: Request,
    limit: Duration,
}

/// What a driver needs.
pub(crate) struct Setup {
    pub(crate) namespace: String,
    pub(crate) lease: String,
    pub(crate) identity: Identity,
    pub(crate) timing: Timing,
    /// For the Lease alone: no other traffic can delay a renewal (P7). A watch has a connection of its own.
    pub(crate) client: Arc<Client>,
    pub(crate) inbox: Inbox<Message>,
}

/// An election being run.
pub(crate) struct Driver<A> {
    election: Election,
    lease_store: LeaseStore,
    observer: A,
    lease_name: String,
    inbox: Inbox<Message>,
    calls: SyncSender<Box<LeaseCall>>,
    watcher: Watcher,
    leadership: Option<Leadership>,
    wake: Option<BootTime>,
    call_due: Option<BootTime>,
    errors: ErrorLog,
    done: bool,
}

impl<A: Observer> Driver<A> {
    pub(crate) fn new(setup: Setup, observer: A) -> io::Result<Driver<A>> {
        let Setup { namespace, lease, identity, timing, client, inbox } = setup;
        let (calls, queue) = mpsc::sync_channel(1); // The election makes one call at a time, so this never blocks.
        let (caller, answers) = (Arc::clone(&client), inbox.clone());
        let run = move || make_calls(&caller, &queue, &answers);
        thread::Builder::new().name("lease-calls".into()).stack_size(STACK).spawn(run)?;
        let updates = inbox.clone();
        let (lease_store, lease_name) = (LeaseStore::new(&namespace, &lease), format!("{namespace}/{lease}"));
        let watch = move |from, lasting| request::watch_lease(&namespace, &lease, from, lasting, Purpose::Observe);
        let watcher = Watcher::new(client, watch, timing.retry_period(), move |update| {
            updates.post(Message::Watch(update));
        });
        Ok(Driver {
            election: Election::new(identity, timing, sys::random_u64()),
            lease_store,
            observer,
            lease_name,
            inbox,
            calls,
            watcher,
            leadership: None,
            wake: None,
            call_due: None,
            errors: ErrorLog::default(),
            done: false,
        })
    }

    /// Takes part until told to shut down and everything is in order; gives the observer back.
    pub(crate) fn run(mut self) -> A {
        self.input(Input::Timer);
        while !self.done {
            let known = self.election.lease().map(|lease| lease.version);
            let watch_due = self.watcher.tend(known, sys::boot_time());
            self.observer.due(self.call_due.or(self.wake));
            match self.inbox.take_until([self.wake, watch_due].into_iter().flatten().min()) {
                Some(message) => self.read(message),
                None => self.input(Input::Timer),
            }
        }
        self.observer
    }

    fn read(&mut self, message: Message) {
        match message {
            Message::Called(call, result) => self.called(&call, result),
            Message::Watch(update) => self.watched(update),
            Message::WorkStopped(token) => {
                // The Lease is about to be released: from now on no clone may count as held.
                if let Some(leadership) = self.leadership.take() {
                    leadership.end();
                }
                self.input(Input::WorkStopped(token));
            }
            Message::Fit(fit) => self.input(Input::Fit(fit)),
            Message::Shutdown => self.input(Input::Shutdown),
            Message::Log(level, line) => log::log!(level, "{line}"),
        }
    }

    fn input(&mut self, input: Input) {
        self.election.handle(sys::now(), input);
        // Before anything is asked to stop: it asks the term by when.
        if let (Some(leadership), Some(validity)) = (&self.leadership, self.election.validity()) {
            leadership.set_validity(validity);
        }
        // Publish the Lease before announcing the term.
        self.observer.lease(self.election.lease(), self.election.token());
        loop {
            match self.election.poll() {
                Output::Call { call, request, purpose, limit } => self.call(call, &request, purpose, limit),
                Output::StartWork(term) => self.start_work(term),
                Output::StopWork(_) => {
                    self.leadership.iter().for_each(Leadership::end);
                    self.observer.stop_work();
                }
                Output::Report(event) => self.observer.event(&event),
                Output::Done => self.done = true,
                Output::WaitUntil(instant) => {
                    self.wake = instant;
                    break;
                }
            }
        }
    }

    fn start_work(&mut self, term: election::Term) {
        let Some(validity) = self.election.validity() else { return };
        let leadership = Leadership::new(term, self.lease_name.clone(), validity);
        self.leadership = Some(leadership.clone());
        self.observer.start_work(leadership);
    }

    fn call(&mut self, number: u64, asked: &LeaseRequest, purpose: CallKind, limit: Duration) {
        match self.lease_store.request(asked, purpose) {
            Some(request) => {
                self.call_due = Some(sys::boot_time() + limit);
                // The thread at the other end lives as long as this one.
                let _ = self.calls.send(Box::new(LeaseCall { number, request, limit }));
            }
            // The version to be replaced is not at hand, so it is not the newest.
            None => self.input(Input::Reply { call: number, result: Err(CallFailure::Conflict) }),
        }
    }

    fn called(&mut self, LeaseCall { number, request, .. }: &LeaseCall, result: Result<Reply, CallError>) {
        self.call_due = None;
        let answer = self.lease_store.read(request, result);
        match &answer {
            Ok(_) => self.errors.settled(request),
            Err(error) => self.errors.about(request, error),
        }
        self.observer.called(request.purpose, answer.as_ref().err());
        self.input(Input::Reply { call: *number, result: answer.or_else(|error| lease_store::failure(&error)) });
    }

    fn watched(&mut self, update: WatchUpdate) {
        match self.watcher.note(update) {
            None | Some(WatchChange::Event(WatchEvent::Bookmark(_))) => {}
            Some(WatchChange::Up) => self.input(Input::Watching(true)),
            Some(WatchChange::Event(WatchEvent::Modified(_, object))) => match self.lease_store.seen(object) {
                Ok(lease) => self.input(Input::Seen(lease)),
                Err(malformed) => warn!("the watch on Lease {} brought something else: {malformed}", self.lease_name),
            },
            Some(WatchChange::Event(WatchEvent::Deleted(version))) => self.input(Input::Deleted(version)),
            Some(WatchChange::Down(_)) => {
                self.observer.watch_ended();
                self.input(Input::Watching(false));
            }
        }
    }
}

/// Makes the Lease's calls, one at a time. A panic of a library user's observer ends in the client.
fn make_calls(client: &Client, calls: &Receiver<Box<LeaseCall>>, answers: &Inbox<Message>) {
    let next = || {
        calls.recv_timeout(MAX_IDLE).or_else(|_| {
            client.close_idle();
            calls.recv()
        })
    };
    while let Ok(call) = next() {
        let result = client.call(&call.request, call.limit);
        answers.post(Message::Called(call, result));
    }
}

/// Says how an election goes, in the words of the log. The terms' ends come with their reasons.
pub(crate) fn describe(why: &election::Ending) -> String {
    use election::Ending;
    match why {
        Ending::Shutdown => "shutting down".into(),
        Ending::Yielded(to) if to.is_empty() => "asked to hand over".into(),
        Ending::Yielded(to) => format!("asked to hand over to {to}"),
        Ending::Unfit => "the workload fails its health check".into(),
        Ending::WorkEnded => "the work has ended by itself".into(),
        Ending::DeadlinePassed => "no renewal was acknowledged before the deadline".into(),
        Ending::Superseded(holder) => format!("{holder} holds the Lease now"),
        Ending::Vacated => "the holder was cleared by hand".into(),
        Ending::Deleted => "the Lease was deleted".into(),
        Ending::Coordinated => "the Lease was handed to coordinated leader election".into(),
    }
}
