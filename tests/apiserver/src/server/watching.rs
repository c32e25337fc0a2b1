//! A watch's stream: what the store has for it, and what a test does to it.
//!
//! THREADS: runs on the connection's own thread, which is the only user of the socket meanwhile.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::http;
use super::state::{Command, Shared, Split, State};
use crate::store::{EventType, Watch};

/// How often a quiet stream looks whether its client is still there.
const PEER_CHECK: Duration = Duration::from_millis(100);

/// A last bookmark comes so long before the end, for the watch that follows to start from.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// What is to be done next.
enum Step {
    Write(Vec<Vec<u8>>),
    /// Like [`Step::Write`], and then the end.
    WriteAndEnd(Vec<Vec<u8>>),
    /// The proper end of the stream.
    End,
    /// The connection is to be closed as it is.
    Abort,
    /// Nothing has happened for a while.
    Quiet,
}

/// Serves the stream of the request with this number and audit ID until it ends. `true`: the connection can go on with
/// another request.
pub(super) fn serve(
    shared: &Shared,
    stream: &mut impl Write,
    socket: &TcpStream,
    (number, audit_id): (u64, &str),
    mut watch: Watch,
) -> io::Result<bool> {
    http::write_stream_head(stream, audit_id)?;
    let begun = Instant::now();
    let timeout = watch.timeout_seconds().map_or(shared.watch_timeout, Duration::from_secs);
    let mut next_bookmark = bookmark_after(shared, begun, begun + timeout);
    loop {
        let split = shared.lock().split;
        match next_step(shared, number, &mut watch, begun + timeout, &mut next_bookmark) {
            Step::Write(lines) => write_lines(shared, stream, &lines, split)?,
            Step::WriteAndEnd(lines) => {
                write_lines(shared, stream, &lines, split)?;
                http::write_stream_end(stream)?;
                return Ok(true);
            }
            Step::End => {
                http::write_stream_end(stream)?;
                return Ok(true);
            }
            Step::Abort => return Ok(false),
            Step::Quiet if peer_is_gone(socket)? => return Ok(false),
            Step::Quiet => {}
        }
    }
}

fn next_step(shared: &Shared, number: u64, watch: &mut Watch, end: Instant, next_bookmark: &mut Instant) -> Step {
    let mut state = shared.lock();
    let quiet_until = Instant::now() + PEER_CHECK;
    loop {
        if let Some(step) = step_now(&mut state, number, watch) {
            return step;
        }
        let now = Instant::now();
        if now >= end {
            return Step::End;
        }
        if watch.wants_bookmarks() && now >= *next_bookmark {
            *next_bookmark = bookmark_after(shared, now, end);
            if !is_silent(&state, number) {
                return Step::Write(bookmark(&state, watch));
            }
        }
        if now >= quiet_until {
            return Step::Quiet;
        }
        let wake = quiet_until.min(end);
        state = shared.wait(state, wake.saturating_duration_since(now));
    }
}

/// When the bookmark after `now` is due, in a stream that ends at `end`.
fn bookmark_after(shared: &Shared, now: Instant, end: Instant) -> Instant {
    let regular = now + shared.bookmark_period;
    match end.checked_sub(LAST_BOOKMARK) {
        Some(last) if now < last => regular.min(last),
        _ => regular,
    }
}

fn bookmark(state: &State, watch: &Watch) -> Vec<Vec<u8>> {
    state.store.bookmark(watch).iter().map(|event| event.line()).collect()
}

fn is_silent(state: &State, number: u64) -> bool {
    state.watches.get(&number).is_some_and(|open| open.silent)
}

/// What there is to do without waiting.
fn step_now(state: &mut State, number: u64, watch: &mut Watch) -> Option<Step> {
    if state.stopping {
        return Some(Step::Abort);
    }
    let command = state.watches.get_mut(&number).and_then(|open| open.commands.pop_front());
    match command {
        Some(Command::Bookmark) => return Some(Step::Write(bookmark(state, watch))),
        Some(Command::Expire) => return Some(Step::WriteAndEnd(vec![state.store.gone(watch).line()])),
        Some(Command::Inject(bytes)) => return Some(Step::Write(vec![bytes])),
        Some(Command::End) => return Some(Step::End),
        Some(Command::Cut) => return Some(Step::Abort),
        None => {}
    }
    // A silent stream reads nothing: all it missed comes when it may speak again.
    if is_silent(state, number) {
        return None;
    }
    let events = state.store.read_watch(watch);
    let lines: Vec<Vec<u8>> = events.iter().map(|event| event.line()).collect();
    match events.last().map(|event| event.event) {
        Some(EventType::Error) => Some(Step::WriteAndEnd(lines)),
        Some(_) => Some(Step::Write(lines)),
        None if watch.is_over() => Some(Step::Abort),
        None => None,
    }
}

fn write_lines(shared: &Shared, stream: &mut impl Write, lines: &[Vec<u8>], split: Option<Split>) -> io::Result<()> {
    for line in lines {
        let Some(split) = split else {
            http::write_chunk(stream, line)?;
            continue;
        };
        for (index, piece) in line.chunks(split.bytes.max(1)).enumerate() {
            if index > 0 && !shared.pause(split.pause) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            http::write_chunk(stream, piece)?;
        }
    }
    Ok(())
}

/// A client says nothing while it watches; whatever can be read is its farewell.
fn peer_is_gone(socket: &TcpStream) -> io::Result<bool> {
    socket.set_nonblocking(true)?;
    let seen = socket.peek(&mut [0]);
    socket.set_nonblocking(false)?;
    match seen {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Ok(_) | Err(_) => Ok(true),
    }
}
