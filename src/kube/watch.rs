//! One long answer: the changes of one object, as they happen.
//!
//! IO: reads from a connection of its own until the server ends the watch, the connection breaks, or another thread
//! says stop. A watch is an accelerator (P12): who relies on its silence is wrong.

use std::collections::VecDeque;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::{Agent, BodyReader, Error};

use crate::kube::answer::transport_failure;
use crate::kube::client::Client;
use crate::kube::request::Request;
use crate::kube::status::{CallError, Failure, Transport, TransportKind};
use crate::kube::watch_line::{Lines, TooLong, WatchEvent};
use crate::sys;

/// Ends watches from another thread, at once, whether they are being opened or read.
///
/// One is enough for all the watches that a thread opens one after the other: once stopped, it stops those to come.
#[derive(Clone, Default)]
pub struct WatchStop(Arc<Mutex<Stop>>);

#[derive(Default)]
struct Stop {
    stopped: bool,
    agent: Option<Agent>,
}

impl WatchStop {
    /// Not stopped yet.
    pub fn new() -> WatchStop {
        WatchStop::default()
    }

    /// Ends the watch that is open, and every later one.
    pub fn stop(&self) {
        let agent = {
            let mut stop = self.lock();
            stop.stopped = true;
            stop.agent.take()
        };
        if let Some(agent) = agent {
            agent.shutdown();
        }
    }

    /// Whether [`stop`](WatchStop::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    fn register(&self, agent: &Agent) {
        let mut stop = self.lock();
        if stop.stopped {
            agent.clone().shutdown();
        } else {
            stop.agent = Some(agent.clone());
        }
    }

    fn forget(&self) {
        self.lock().agent = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Stop> {
        sys::lock(&self.0)
    }
}

impl fmt::Debug for WatchStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStop").field("stopped", &self.is_stopped()).finish()
    }
}

/// A watch that is open. It is an iterator of [`WatchEvent`]s that ends when the watch does; [`WatchEvent::Gone`] and
/// [`WatchEvent::Failed`] are the last of their watch.
pub struct Watch {
    reader: BodyReader<'static>,
    lines: Lines,
    pending: VecDeque<WatchEvent>,
    ended: bool,
    stop: WatchStop,
}

impl Watch {
    /// Opens the watch that `request` describes; `limit` is the time until its answer begins. It then lasts for as
    /// long as the request asks, and `limit` more if the server fails to end it (a connection can die unseen).
    pub fn open(client: &Client, request: &Request, limit: Duration, stop: &WatchStop) -> Result<Watch, CallError> {
        let opened = client.open(request, limit, |agent| stop.register(agent));
        let reader = opened.map_err(|error| match error.failure {
            Failure::Transport(transport) if stop.is_stopped() => {
                let transport = Transport { kind: TransportKind::Stopped, ..transport };
                CallError { failure: Failure::Transport(transport), ..error }
            }
            _ => error,
        })?;
        Ok(Watch { reader, lines: Lines::default(), pending: VecDeque::new(), ended: false, stop: stop.clone() })
    }

    /// Reads once, for as long as nothing comes.
    fn read(&mut self) {
        let mut piece = [0; 4096];
        match self.reader.read(&mut piece) {
            // A line that was begun is lost with the connection; the next watch starts from the last whole one.
            Ok(0) => self.ended = true,
            Ok(length) => {
                self.lines.push(&piece[..length]);
                self.take_lines();
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.ended = true;
                if !self.stop.is_stopped() {
                    self.pending.push_back(WatchEvent::Failed(transport_failure(Error::from(error))));
                }
            }
        }
    }

    fn take_lines(&mut self) {
        while !self.ended {
            let event = match self.lines.next_line() {
                Ok(None) => return,
                Ok(Some(line)) => WatchEvent::parse(line),
                Err(TooLong) => WatchEvent::Failed(Failure::Malformed("a watch event without end".to_owned())),
            };
            self.ended = matches!(event, WatchEvent::Gone | WatchEvent::Failed(_));
            self.pending.push_back(event);
        }
    }
}

impl Iterator for Watch {
    type Item = WatchEvent;

    /// Blocks until something happens.
    fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.read();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.forget();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("ended", &self.ended).finish_non_exhaustive()
    }
}
