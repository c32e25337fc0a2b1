//! One client's connection: what it has sent, what it is owed, and how long it may take. IO.
//!
//! ```text
//!            first byte           head whole            answered
//!   Idle ───────────────▶ Reading ──────────▶ Waiting ──────────▶ Writing ──▶ Idle, or the next request at once
//!                            └── refused ─────────────────────────▶ Writing ──▶ Lingering ──▶ closed
//! ```

use crate::program::http::Limits;
use crate::program::http::head::{self, Head, Persistence, Refusal, Request};
use crate::program::http::upstream::is_for_now;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Bound on what is read and thrown away after a refusal.
const LINGER_BYTES: usize = 1 << 20;

pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) serial: u64,
    pub(super) phase: Phase,
    /// When its phase began.
    pub(super) since: Instant,
    /// While [`Phase::Waiting`]: what it waits for an answer to.
    pub(super) request: Option<Request>,
    /// How often its request has been lost with a tiny_http that died.
    pub(super) losses: u8,
    received: Vec<u8>,
    owed: Vec<u8>,
    answered_before: bool,
    last_answer: bool,
    drained: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of a next request has come.
    Idle,
    /// A part of a head has come.
    Reading,
    /// A whole head has come; what comes after it stays in the kernel.
    Waiting,
    /// A part of an answer has gone.
    Writing,
    /// The last answer has gone; what still comes is thrown away.
    Lingering,
}

/// What is to be done with a client after it was given a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait.
    Nothing,
    /// Its request is to be passed on.
    Ask,
    /// Its head was refused (and told so).
    Refused,
    /// It is to be closed.
    Close,
}

impl Client {
    pub(super) fn new(socket: TcpStream, serial: u64, now: Instant) -> Client {
        Client {
            socket,
            serial,
            phase: Phase::Idle,
            since: now,
            request: None,
            losses: 0,
            received: Vec::new(),
            owed: Vec::new(),
            answered_before: false,
            last_answer: false,
            drained: 0,
        }
    }

    /// The events it waits for.
    pub(super) fn events(&self) -> i16 {
        match self.phase {
            Phase::Idle | Phase::Reading | Phase::Lingering => libc::POLLIN,
            Phase::Waiting => 0,
            Phase::Writing => libc::POLLOUT,
        }
    }

    /// How long its phase may last.
    pub(super) fn limit(&self, limits: &Limits) -> Duration {
        match self.phase {
            Phase::Idle => limits.idle,
            Phase::Reading => limits.head,
            Phase::Waiting => limits.answer,
            Phase::Writing => limits.write,
            Phase::Lingering => limits.linger,
        }
    }

    /// How little it would be missed, the least first: one that has all it is going to get; one between two requests,
    /// as clients expect such a connection to close and try again; one that has asked for nothing yet; one that does
    /// not take its answer. Never one that waits for its answer.
    pub(super) fn dispensability(&self) -> Option<u8> {
        match self.phase {
            Phase::Lingering => Some(0),
            Phase::Idle if self.answered_before => Some(1),
            Phase::Idle | Phase::Reading => Some(2),
            Phase::Writing => Some(3),
            Phase::Waiting => None,
        }
    }

    /// From when on it may be closed to make room for another.
    pub(super) fn dispensable_from(&self, limits: &Limits) -> Option<Instant> {
        Some(if self.dispensability()? < 2 { self.since } else { self.since + limits.fresh })
    }

    /// Bytes it has yet to take.
    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Its socket has something: reads once.
    pub(super) fn receive(&mut self, scratch: &mut [u8], limits: &Limits, now: Instant) -> Next {
        let room = scratch.len().min(limits.head_bytes.saturating_sub(self.received.len())).max(1);
        match self.socket.read(&mut scratch[..room]) {
            Ok(0) => Next::Close,
            Ok(count) if self.phase == Phase::Lingering => {
                self.drained += count;
                if self.drained > LINGER_BYTES { Next::Close } else { Next::Nothing }
            }
            Ok(count) => {
                let known = self.received.len();
                self.received.extend_from_slice(&scratch[..count]);
                let seam = known.saturating_sub(2);
                if known == 0 || head::may_end_in(&self.received[seam..]) || self.is_full(limits) {
                    self.consider(limits, now)
                } else {
                    Next::Nothing
                }
            }
            Err(error) if is_for_now(&error) => Next::Nothing,
            Err(_) => Next::Close,
        }
    }

    fn is_full(&self, limits: &Limits) -> bool {
        self.received.len() >= limits.head_bytes
    }

    /// Judges what has been received since the last request.
    fn consider(&mut self, limits: &Limits, now: Instant) -> Next {
        if self.received.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            // Empty lines between requests are allowed and mean nothing.
            self.received.clear();
            return Next::Nothing;
        }
        match head::read(&self.received) {
            Head::Partial if self.is_full(limits) => self.refuse(head::TOO_LARGE, now),
            Head::Partial => {
                if self.phase != Phase::Reading {
                    self.enter(Phase::Reading, now);
                }
                Next::Nothing
            }
            Head::Whole(request) => {
                self.received.drain(..request.length);
                self.received.shrink_to(0);
                self.request = Some(request);
                self.losses = 0;
                self.enter(Phase::Waiting, now);
                Next::Ask
            }
            Head::Refused(refusal) => self.refuse(refusal, now),
        }
    }

    /// Answers by itself, and for the last time.
    pub(super) fn refuse(&mut self, refusal: Refusal, now: Instant) -> Next {
        let Refusal { status, phrase, why } = refusal;
        let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let (length, headless) = (why.len() + 1, self.request.take().is_some_and(|request| request.head_only));
        let body = if headless { String::new() } else { format!("{why}\n") };
        let text = format!(
            "HTTP/1.1 {status} {phrase}\r\nServer: leasehold\r\n{allow}Content-Type: text/plain; charset=utf-8\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        self.received = Vec::new();
        self.last_answer = true;
        match self.send(text.as_bytes(), now) {
            Next::Close => Next::Close,
            _ => Next::Refused,
        }
    }

    /// Sends an answer of tiny_http, put together in `outgoing`.
    pub(super) fn answer(
        &mut self,
        head: &[u8],
        body: &[u8],
        last: bool,
        outgoing: &mut Vec<u8>,
        now: Instant,
    ) -> Next {
        let persistence = self.request.take().map_or(Persistence::Close, |request| request.persistence);
        self.last_answer = last || persistence == Persistence::Close;
        let connection: &[u8] = match persistence {
            _ if self.last_answer => b"Connection: close\r\n\r\n",
            Persistence::KeepConfirmed => b"Connection: keep-alive\r\n\r\n",
            _ => b"\r\n",
        };
        outgoing.clear();
        for part in [head, connection, body] {
            outgoing.extend_from_slice(part);
        }
        self.send(outgoing, now)
    }

    fn send(&mut self, bytes: &[u8], now: Instant) -> Next {
        self.enter(Phase::Writing, now);
        match self.socket.write(bytes) {
            Ok(count) if count == bytes.len() => self.finish_answer(now),
            Ok(count) => {
                self.owed = bytes[count..].to_vec();
                Next::Nothing
            }
            Err(error) if is_for_now(&error) => {
                self.owed = bytes.to_vec();
                Next::Nothing
            }
            Err(_) => Next::Close,
        }
    }

    /// Its socket takes bytes again: writes once. [`Next::Ask`] is not among what it returns: see
    /// [`next_request`](Client::next_request).
    pub(super) fn transmit(&mut self, now: Instant) -> Next {
        match self.socket.write(&self.owed) {
            Ok(count) => {
                self.owed.drain(..count);
                if self.owed.is_empty() { self.finish_answer(now) } else { Next::Nothing }
            }
            Err(error) if is_for_now(&error) => Next::Nothing,
            Err(_) => Next::Close,
        }
    }

    fn finish_answer(&mut self, now: Instant) -> Next {
        self.owed = Vec::new();
        self.answered_before = true;
        if !self.last_answer {
            self.enter(Phase::Idle, now);
            return Next::Nothing;
        }
        // Closed with something unread, the kernel would reset the connection and the client might lose its answer.
        self.enter(Phase::Lingering, now);
        if self.socket.shutdown(Shutdown::Write).is_err() { Next::Close } else { Next::Nothing }
    }

    /// The next request, if it came along with the one that has just been answered.
    pub(super) fn next_request(&mut self, limits: &Limits, now: Instant) -> Next {
        if self.phase == Phase::Idle && !self.received.is_empty() { self.consider(limits, now) } else { Next::Nothing }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }
}
