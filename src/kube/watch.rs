//! One long answer: the changes of one object, as they happen.
//!
//! IO: reads from a connection of its own until the server ends the watch, the connection breaks, or another thread
//! says stop. A watch is an accelerator (P12): who relies on its silence is wrong.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::{Agent, BodyReader, Error};

use crate::kube::answer::{ANSWER_LIMIT, transport_failure};
use crate::kube::client::Client;
use crate::kube::request::Request;
use crate::kube::status::CallError;
use crate::kube::watch_line::WatchEvent;
use crate::sys;

/// The longest line that is waited for: as much as any whole answer may be, and a little for the event around the object.
pub const LINE_LIMIT: u64 = ANSWER_LIMIT + 1024;

/// Ends watches from another thread, at once, whether they are being opened or read.
///
/// One is enough for all the watches that a thread opens one after the other: once stopped, it stops those to come.
#[derive(Clone, Default)]
pub struct WatchStop(Arc<Mutex<Stop>>);

#[derive(Default)]
struct Stop {
    stopped: bool,
    /// Makes the watch that was opened last.
    agent: Option<Agent>,
}

impl WatchStop {
    /// Ends the watch that is open, and every later one.
    pub fn stop(&self) {
        let agent = {
            let mut stop = sys::lock(&self.0);
            stop.stopped = true;
            stop.agent.take()
        };
        if let Some(agent) = agent {
            agent.shutdown();
        }
    }

    /// Whether [`stop`](WatchStop::stop) was called.
    pub fn is_stopped(&self) -> bool {
        sys::lock(&self.0).stopped
    }

    fn register(&self, agent: &Agent) {
        let mut stop = sys::lock(&self.0);
        if stop.stopped {
            agent.clone().shutdown();
        } else {
            stop.agent = Some(agent.clone());
        }
    }
}

/// A watch that is open: an iterator of its events, which ends when the watch does. An error is the last of its watch.
pub struct Watch {
    request: Request,
    lines: BufReader<BodyReader<'static>>,
    ended: bool,
    stop: WatchStop,
}

impl Watch {
    /// Opens the watch that `request` describes; `limit` is the time until its answer begins. It then lasts for as
    /// long as the request asks, and `limit` more if the server fails to end it (a connection can die unseen).
    pub fn open(client: &Client, request: &Request, limit: Duration, stop: &WatchStop) -> Result<Watch, CallError> {
        let reader = client.open(request, limit, |agent| stop.register(agent))?;
        let lines = BufReader::with_capacity(4096, reader);
        Ok(Watch { request: request.clone(), lines, ended: false, stop: stop.clone() })
    }
}

impl Iterator for Watch {
    type Item = Result<WatchEvent, CallError>;

    /// Blocks until something happens.
    fn next(&mut self) -> Option<Result<WatchEvent, CallError>> {
        if self.ended {
            return None;
        }
        let event = match next_line(&mut self.lines) {
            Ok(line) => line.map(|line| WatchEvent::parse(&self.request, &line)),
            Err(_) if self.stop.is_stopped() => None,
            Err(error) => Some(Err(transport_failure(&self.request, error))),
        };
        self.ended = !matches!(event, Some(Ok(_)));
        event
    }
}

/// The next line that is not blank. `None`: the stream has ended. A line that was begun is lost with it; the next watch
/// starts from the last whole one.
pub fn next_line(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut line = Vec::new();
        let length = stream.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let too_long = length as u64 == LINE_LIMIT;
            return if too_long { Err(Error::BodyExceedsLimit(LINE_LIMIT).into_io()) } else { Ok(None) };
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(stream: impl BufRead) -> Vec<Vec<u8>> {
        let mut stream = stream;
        std::iter::from_fn(|| next_line(&mut stream).unwrap()).collect()
    }

    #[test]
    fn lines_come_out_whole_wherever_they_were_cut() {
        let stream = "{\"a\":1}\n\n  \r\n{\"b\":\"é\"}\n{\"c\":3}\nrest".as_bytes();
        let expected: Vec<Vec<u8>> = ["{\"a\":1}\n", "{\"b\":\"é\"}\n", "{\"c\":3}\n"].map(|line| line.into()).to_vec();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let cut = stream[..first].chain(&stream[first..second]).chain(&stream[second..]);
                assert_eq!(lines(cut), expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut endless = BufReader::new(io::repeat(b'x'));
        assert!(matches!(next_line(&mut endless).map_err(Error::from), Err(Error::BodyExceedsLimit(LINE_LIMIT))));
        let longest = usize::try_from(LINE_LIMIT).unwrap();
        let line = |length| [vec![b'x'; length - 1], vec![b'\n']].concat();
        assert_eq!(lines(&line(longest)[..]), [line(longest)]);
        assert!(next_line(&mut &line(longest + 1)[..]).is_err());
    }
}
