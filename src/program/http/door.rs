//! The public side: one thread that owns the listener and every client, in a poll(2) loop. THREADS, IO.
//!
//! It waits in poll(2) and nowhere else, so no client can hold up another. Only whole, sane requests pass to the server
//! behind it. It knows nothing of what they mean.

use crate::program::http::backend::Answerer;
use crate::program::http::client::{Client, Next, Phase};
use crate::program::http::counters::Rejection;
use crate::program::http::head::{self, Refusal};
use crate::program::http::upstream::{Answer, Ticket, Upstreams};
use crate::program::http::{Control, Limits, Stage};
use crate::sys;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes the kernel may buffer for a connection, out and in (it takes twice as much, for its own bookkeeping).
const SOCKET_BUFFERS: (u32, u32) = (16 << 10, 8 << 10);

/// Bytes read at a time.
const SCRATCH: usize = 8 << 10;

/// Connections accepted before those that are open get a turn.
const ACCEPTS_PER_TURN: usize = 32;

/// How long to leave the listener alone when a connection could not be accepted, or poll(2) failed.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an answer is kept: its Date counts whole seconds.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// Between two lines in the log about connections that could not be accepted.
const COMPLAINTS: Duration = Duration::from_secs(60);

pub(super) struct Door {
    limits: Limits,
    listener: Option<TcpListener>,
    woken: UnixStream,
    control: Arc<Control>,
    upstreams: Upstreams,
    clients: Vec<Option<Client>>,
    queue: VecDeque<Ticket>,
    serial: u64,
    accept_from: Option<Instant>,
    accept_complained: Option<Instant>,
    stop_by: Option<Instant>,
    scratch: Vec<u8>,
    outgoing: Vec<u8>,
    kept: Option<Kept>,
}

/// tiny_http's answer to what has one answer only, for whoever asks the same within a second. A flood of `GET /` then
/// costs a system call or two for each request, not three threads' turns.
struct Kept {
    head: Vec<u8>,
    body: Vec<u8>,
    until: Instant,
}

impl Kept {
    fn of(answer: &Answer<'_>, now: Instant) -> Option<Kept> {
        let good = answer.head.starts_with(b"HTTP/1.1 200 ");
        good.then(|| Kept { head: answer.head.to_vec(), body: answer.body.to_vec(), until: now + KEPT_FOR })
    }
}

/// Whose descriptor one of poll's is.
#[derive(Clone, Copy)]
enum Source {
    Waker,
    Listener,
    Upstream(usize),
    Client(usize),
}

impl Door {
    pub(super) fn new(
        limits: Limits,
        listener: TcpListener,
        woken: UnixStream,
        control: Arc<Control>,
        answerer: Answerer,
    ) -> io::Result<Door> {
        listener.set_nonblocking(true)?;
        sys::bound_socket_buffers(&listener, SOCKET_BUFFERS.0, SOCKET_BUFFERS.1)?;
        woken.set_nonblocking(true)?;
        let upstreams = Upstreams::start(answerer, Arc::clone(&control), limits.answer)?;
        Ok(Door {
            limits,
            listener: Some(listener),
            woken,
            control,
            upstreams,
            clients: Vec::new(),
            queue: VecDeque::new(),
            serial: 0,
            accept_from: None,
            accept_complained: None,
            stop_by: None,
            scratch: vec![0; SCRATCH],
            outgoing: Vec::new(),
            kept: None,
        })
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        let mut descriptors = Vec::new();
        let mut sources = Vec::new();
        loop {
            let now = Instant::now();
            self.expire(now);
            self.tend_upstreams(now);
            self.pass_on(now);
            if self.control.stage() == Stage::Stopping && self.is_done(now) {
                return;
            }
            self.list(&mut descriptors, &mut sources, now);
            if let Err(error) = sys::poll(&mut descriptors, self.wait(now)) {
                log::warn!("cannot wait for HTTP clients: {error}; trying again");
                thread::sleep(PAUSE);
                continue;
            }
            let now = Instant::now();
            let ready = descriptors.iter().zip(&sources).filter(|(descriptor, _)| descriptor.revents != 0);
            for (descriptor, source) in ready {
                self.turn(*source, descriptor.revents, now);
            }
            self.control.counters.set_connections(self.clients.iter().flatten().count());
        }
    }

    /// Lists what to wait for. Clients come before the listener, so that one whose request has already come is never
    /// taken for idle when room is made for another.
    fn list(&self, descriptors: &mut Vec<libc::pollfd>, sources: &mut Vec<Source>, now: Instant) {
        descriptors.clear();
        sources.clear();
        let mut add = |fd: RawFd, events: i16, source: Source| {
            descriptors.push(libc::pollfd { fd, events, revents: 0 });
            sources.push(source);
        };
        add(self.woken.as_raw_fd(), libc::POLLIN, Source::Waker);
        for (at, fd) in self.upstreams.descriptors().enumerate() {
            add(fd, libc::POLLIN, Source::Upstream(at));
        }
        for (slot, client) in self.clients.iter().enumerate() {
            if let Some(client) = client {
                add(client.socket.as_raw_fd(), client.events(), Source::Client(slot));
            }
        }
        if let Some(listener) = &self.listener
            && self.admits_from(now).is_some_and(|from| from <= now)
        {
            add(listener.as_raw_fd(), libc::POLLIN, Source::Listener);
        }
    }

    /// How long poll may wait: until the first limit is reached.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let clients = self.clients.iter().flatten().map(|client| client.since + client.limit(&self.limits));
        let admission = self.admits_from(now).filter(|from| self.listener.is_some() && *from > now);
        let others = [self.upstreams.deadline(), admission, self.stop_by];
        clients.chain(others.into_iter().flatten()).min().map(|first| first.saturating_duration_since(now))
    }

    fn turn(&mut self, source: Source, events: i16, now: Instant) {
        match source {
            Source::Waker => {
                // What it holds means nothing but that somebody wants the loop to come round.
                while matches!(self.woken.read(&mut self.scratch), Ok(count) if count == self.scratch.len()) {}
            }
            Source::Listener => self.accept(now),
            Source::Upstream(at) => self.receive_answer(at, now),
            Source::Client(slot) => self.turn_of_client(slot, events, now),
        }
    }

    fn turn_of_client(&mut self, slot: usize, events: i16, now: Instant) {
        let Door { clients, scratch, limits, .. } = self;
        let Some(client) = clients.get_mut(slot).and_then(Option::as_mut) else { return };
        let next = if client.phase == Phase::Waiting || events & libc::POLLNVAL != 0 {
            // Unasked for, only a hang-up or an error is reported.
            Next::Close
        } else if client.phase == Phase::Writing {
            client.transmit(now)
        } else {
            client.receive(scratch, limits, now)
        };
        self.follow(slot, next, now);
    }

    /// Does what a client's turn has led to.
    fn follow(&mut self, slot: usize, mut next: Next, now: Instant) {
        let Door { clients, limits, control, kept, outgoing, .. } = self;
        let last = control.stage() != Stage::Serving;
        let Some(client) = clients.get_mut(slot).and_then(Option::as_mut) else { return };
        loop {
            if next == Next::Nothing {
                next = client.next_request(limits, now);
            }
            match next {
                Next::Nothing => return,
                Next::Ask => {
                    control.counters.request();
                    let constant = client.request.as_ref().is_some_and(|request| request.constant);
                    let Some(kept) = kept.as_ref().filter(|kept| constant && now < kept.until) else { break };
                    next = client.answer(&kept.head, &kept.body, last, outgoing, now);
                }
                Next::Refused => return control.counters.reject(Rejection::Refused),
                Next::Close => return self.close(slot),
            }
        }
        self.queue.push_back(Ticket { slot, serial: client.serial });
        self.pass_on(now);
    }

    fn close(&mut self, slot: usize) {
        if let Some(client) = self.clients[slot].take() {
            if client.phase == Phase::Writing {
                // It can only fail for a connection that is gone, and then there is nothing to throw away.
                let _ = sys::discard_when_closed(&client.socket);
            }
            self.queue.retain(|ticket| ticket.serial != client.serial);
        }
    }

    fn holder_of(&mut self, ticket: Ticket) -> Option<&mut Client> {
        let client = self.clients.get_mut(ticket.slot)?.as_mut()?;
        (client.serial == ticket.serial && client.phase == Phase::Waiting).then_some(client)
    }

    /// Passes requests on while there are connections free for them.
    fn pass_on(&mut self, now: Instant) {
        while let Some(ticket) = self.queue.front().copied() {
            let client = self.clients.get(ticket.slot).and_then(Option::as_ref);
            let request = client.filter(|client| client.serial == ticket.serial && client.phase == Phase::Waiting);
            if let Some(request) = request.and_then(|client| client.request.as_ref())
                && !self.upstreams.ask(ticket, request, now)
            {
                return;
            }
            self.queue.pop_front();
        }
    }

    fn receive_answer(&mut self, at: usize, now: Instant) {
        let last = self.control.stage() != Stage::Serving;
        let Door { upstreams, clients, scratch, outgoing, kept, .. } = self;
        let mut answered = None;
        upstreams.receive(at, scratch, |ticket, answer| {
            let client = clients.get_mut(ticket.slot).and_then(Option::as_mut);
            let client = client.filter(|client| client.serial == ticket.serial && client.phase == Phase::Waiting);
            // A client that has hung up meanwhile is not there any more.
            if let Some(client) = client {
                if client.request.as_ref().is_some_and(|request| request.constant) {
                    *kept = Kept::of(&answer, now);
                }
                answered = Some((ticket.slot, client.answer(answer.head, answer.body, last, outgoing, now)));
            }
        });
        if let Some((slot, next)) = answered {
            self.follow(slot, next, now);
            self.collect_debts();
        }
        self.pass_on(now);
    }

    /// Closes the slowest takers while clients together are owed more than the limit.
    fn collect_debts(&mut self) {
        loop {
            let debts = || self.clients.iter().flatten().map(Client::owed).filter(|owed| *owed > 0);
            // One alone has its own limit, in time.
            if debts().sum::<usize>() <= self.limits.owed_bytes || debts().count() < 2 {
                return;
            }
            let Some(slot) = self.oldest(|client| client.phase == Phase::Writing) else { return };
            self.close(slot);
            self.control.counters.reject(Rejection::Stalled);
        }
    }

    fn tend_upstreams(&mut self, now: Instant) {
        let mut lost = Vec::new();
        self.upstreams.tend(now, |ticket| lost.push(ticket));
        for ticket in lost {
            let Some(client) = self.holder_of(ticket) else { continue };
            client.losses += 1;
            if client.losses == 1 {
                // GET and HEAD change nothing: asking again is safe.
                self.queue.push_front(ticket);
            } else {
                self.give_up(ticket.slot, now);
            }
        }
    }

    fn give_up(&mut self, slot: usize, now: Instant) {
        self.control.counters.reject(Rejection::Unavailable);
        self.refuse(slot, head::UNAVAILABLE, now);
    }

    fn refuse(&mut self, slot: usize, refusal: Refusal, now: Instant) {
        let Some(client) = self.clients[slot].as_mut() else { return };
        self.queue.retain(|ticket| ticket.serial != client.serial);
        if client.refuse(refusal, now) == Next::Close {
            self.close(slot);
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { return };
            if !self.has_room() && self.least_missed(now).is_none() {
                return;
            }
            match listener.accept() {
                Ok((socket, _)) => {
                    // Refused only for a connection that is gone already, as its first read will tell.
                    if socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).is_err() {
                        continue;
                    }
                    self.make_room(now);
                    self.serial += 1;
                    let slot = self.clients.iter().position(Option::is_none).unwrap_or_else(|| {
                        self.clients.push(None);
                        self.clients.len() - 1
                    });
                    self.clients[slot] = Some(Client::new(socket, self.serial, now));
                    // Its request is often there already; then the next connection can't take its place.
                    self.turn_of_client(slot, 0, now);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return self.survive(&error, now),
                },
            }
        }
    }

    /// A connection could not be accepted, most likely for want of a descriptor: frees one, and waits a little.
    fn survive(&mut self, error: &io::Error, now: Instant) {
        if self.accept_complained.is_none_or(|last| last + COMPLAINTS < now) {
            log::warn!("cannot accept HTTP connections: {error}; making room and trying again");
            self.accept_complained = Some(now);
        }
        self.control.counters.reject(Rejection::Accept);
        self.accept_from = Some(now + PAUSE);
        if let Some(slot) = self.least_missed(now) {
            self.close(slot);
            self.accept_from = None;
        }
    }

    fn has_room(&self) -> bool {
        self.clients.iter().flatten().count() < self.limits.clients
    }

    fn make_room(&mut self, now: Instant) {
        if self.has_room() {
            return;
        }
        if let Some(slot) = self.least_missed(now) {
            self.close(slot);
            self.control.counters.reject(Rejection::Crowded);
        }
    }

    /// The client whose connection can best be closed now.
    fn least_missed(&self, now: Instant) -> Option<usize> {
        let slots = self.clients.iter().enumerate().filter_map(|(slot, client)| Some((slot, client.as_ref()?)));
        let dispensable = slots.filter(|(_, client)| client.dispensable_from(&self.limits).is_some_and(|at| at <= now));
        dispensable
            .min_by_key(|(_, client)| (client.dispensability(), client.since, client.serial))
            .map(|(slot, _)| slot)
    }

    /// From when on there is room for another connection, or can be made.
    fn admits_from(&self, now: Instant) -> Option<Instant> {
        if self.has_room() {
            return Some(self.accept_from.unwrap_or(now));
        }
        let dispensable =
            self.clients.iter().flatten().filter_map(|client| client.dispensable_from(&self.limits)).min()?;
        Some(self.accept_from.map_or(dispensable, |from| from.max(dispensable)))
    }

    fn oldest(&self, among: impl Fn(&Client) -> bool) -> Option<usize> {
        let slots = self.clients.iter().enumerate();
        let candidates = slots.filter_map(|(slot, client)| Some((slot, client.as_ref().filter(|c| among(c))?)));
        candidates.min_by_key(|(_, client)| (client.since, client.serial)).map(|(slot, _)| slot)
    }

    /// Ends what has reached its limit.
    fn expire(&mut self, now: Instant) {
        self.accept_from = self.accept_from.filter(|from| *from > now);
        for slot in 0..self.clients.len() {
            let Some(client) = self.clients[slot].as_ref() else { continue };
            if now < client.since + client.limit(&self.limits) {
                continue;
            }
            match client.phase {
                Phase::Reading => {
                    self.control.counters.reject(Rejection::Slow);
                    self.refuse(slot, head::TOO_SLOW, now);
                }
                Phase::Waiting => self.give_up(slot, now),
                Phase::Writing => {
                    self.control.counters.reject(Rejection::Stalled);
                    self.close(slot);
                }
                Phase::Idle | Phase::Lingering => self.close(slot),
            }
        }
    }

    /// While stopping: whether nobody is owed anything any more, or the time is up.
    fn is_done(&mut self, now: Instant) -> bool {
        if self.stop_by.is_none() {
            self.stop_by = Some(now + self.limits.stop);
            // Those who have connected before, even if it was not noticed yet, are still answered.
            for _ in 0..=self.limits.clients / ACCEPTS_PER_TURN {
                self.accept(now);
            }
            self.listener = None;
        }
        for slot in 0..self.clients.len() {
            // The last chance: what an idle client has sent by now is answered.
            if self.clients[slot].as_ref().is_some_and(|client| client.phase == Phase::Idle) {
                self.turn_of_client(slot, 0, now);
            }
            if self.clients[slot].as_ref().is_some_and(|client| client.phase == Phase::Idle) {
                self.close(slot);
            }
        }
        self.clients.iter().all(Option::is_none) || self.stop_by.is_some_and(|by| by <= now)
    }
}
