//! One connection: TLS, requests one after another, faults, answers.
//!
//! IO, on a thread of its own.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::http::{self, Extent, Incoming, Reading};
use super::recorded::Recorded;
use super::state::{Command, OpenWatch, Shared, State};
use super::watching;
use crate::faults::{Action, FaultId, Reply};
use crate::store::{self, Request, Response, User, Watch};

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
        }
    }
}

/// What becomes of the connection after a request.
enum Next {
    Request,
    Close,
    Reset,
}

/// Serves a connection until it ends. What goes wrong on it is the client's to notice.
pub(super) fn serve(shared: &Shared, socket: TcpStream, number: u64, tls: Option<Arc<ServerConfig>>) {
    let wire = match tls {
        Some(config) => handshake(socket, config),
        None => Ok(Wire::Plain(socket)),
    };
    let Ok(mut wire) = wire else {
        shared.change(|state| {
            state.failed_handshakes += 1;
            state.connections.remove(&number)
        });
        return;
    };
    let ended = converse(shared, &mut wire, number);
    if let Ok(Next::Reset) = ended {
        // With nothing to linger for, the kernel answers the peer with a reset.
        let _ = socket2::SockRef::from(wire.socket()).set_linger(Some(Duration::ZERO));
    }
    // The registry's handle goes first, or the socket would outlive this thread's.
    shared.change(|state| state.connections.remove(&number));
}

fn handshake(mut socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Wire> {
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Wire::Tls(Box::new(StreamOwned::new(connection, socket))))
}

fn converse(shared: &Shared, wire: &mut Wire, number: u64) -> io::Result<Next> {
    let mut buffer = Vec::new();
    loop {
        let incoming = match http::read_request(wire, &mut buffer)? {
            Reading::Request(incoming) => incoming,
            Reading::End => return Ok(Next::Close),
            Reading::Refused(code, why) => {
                let reply = Reply::bytes(code, "text/plain; charset=utf-8", why);
                http::write_reply(wire, &reply, Extent::Whole, true)?;
                return Ok(Next::Close);
            }
        };
        let close = incoming.wants_close();
        match Exchange::begin(shared, number, incoming).run(wire)? {
            Next::Request if !close => {}
            Next::Request => return Ok(Next::Close),
            other => return Ok(other),
        }
    }
}

/// One request and what is done about it.
struct Exchange<'a> {
    shared: &'a Shared,
    /// Its place in the record.
    index: usize,
    audit_id: String,
    request: Request,
    /// Whether its credentials (or the lack of any) are acceptable.
    authentic: bool,
    strike: Option<(FaultId, Action)>,
}

impl<'a> Exchange<'a> {
    /// Records the request, finds out who asks, and whether a fault meets it.
    fn begin(shared: &'a Shared, connection: u64, incoming: Incoming) -> Exchange<'a> {
        let authorization = incoming.header("authorization").map(str::to_owned);
        let content_type = incoming.header("content-type").unwrap_or("").to_owned();
        let mut request = Request {
            method: incoming.method,
            path: incoming.target,
            content_type,
            body: incoming.body,
            user: User::Anonymous,
        };
        let verb = request.verb();
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let mut recorded = Recorded {
            connection,
            method: request.method.clone(),
            verb: verb.clone(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: incoming
                .headers
                .into_iter()
                .filter(|(name, _)| !name.eq_ignore_ascii_case("authorization"))
                .collect(),
            has_credentials: authorization.is_some(),
            body: request.body.clone(),
            request_version: version_in(&request.body),
            received_ns: shared.nanos(),
            ..Recorded::default()
        };
        shared.change(|state| {
            let user = authenticate(shared, state, authorization.as_deref());
            recorded.user = user.as_ref().map_or("", User::name).to_owned();
            let strike = state.faults.strike(&recorded.user, &verb, &request.path);
            recorded.fault = strike.as_ref().map(|(id, _)| *id);
            let index = state.requests.len();
            let audit_id = format!("00000000-0000-4000-8000-{index:012x}");
            (recorded.number, recorded.audit_id) = (index, audit_id.clone());
            let authentic = user.is_some();
            request.user = user.unwrap_or(User::Anonymous);
            state.requests.push(recorded);
            Exchange { shared, index, audit_id, request, authentic, strike }
        })
    }

    fn run(self, wire: &mut Wire) -> io::Result<Next> {
        match &self.strike {
            Some((_, Action::DelayBefore(span))) if !self.shared.pause(*span) => return Ok(Next::Close),
            Some((id, Action::HangBefore)) if !self.shared.hold(*id) => return Ok(Next::Close),
            Some((_, Action::ResetBefore)) => return Ok(Next::Reset),
            Some((_, Action::Answer(reply))) => return self.answer(wire, reply, Extent::Whole),
            _ => {}
        }
        let mut response = self.handle();
        if matches!(self.strike, Some((_, Action::Duplicate))) {
            let _ = self.handle();
        }
        let watch = response.watch.take();
        let mut reply = Reply::from_response(&response).header(http::AUDIT_ID, &self.audit_id);
        let mut extent = if self.request.method == "HEAD" { Extent::HeadOnly } else { Extent::Whole };
        match &self.strike {
            Some((_, Action::DelayAfter(span))) if !self.shared.pause(*span) => return Ok(Next::Close),
            Some((id, Action::HangAfter)) if !self.shared.hold(*id) => return Ok(Next::Close),
            Some((_, Action::DropReply)) => return Ok(Next::Close),
            Some((_, Action::AnswerAfter(other))) => return self.answer(wire, other, extent),
            Some((_, Action::CutReply(length))) => extent = Extent::Cut(*length),
            Some((_, Action::TruncateBody(length))) => reply.body.truncate(*length),
            _ => {}
        }
        match watch {
            Some(watch) => self.stream(wire, watch),
            None => self.answer(wire, &reply, extent),
        }
    }

    /// Lets the store handle the request.
    fn handle(&self) -> Response {
        let now = self.shared.now_wall_micros();
        self.shared.change(|state| {
            let response = if self.authentic { state.store.handle(&self.request, now) } else { store::unauthorized() };
            let recorded = &mut state.requests[self.index];
            recorded.applied = true;
            recorded.response_version = recorded.response_version.or(response.resource_version());
            response
        })
    }

    fn answer(&self, wire: &mut Wire, reply: &Reply, extent: Extent) -> io::Result<Next> {
        self.note_answer(reply.status);
        http::write_reply(wire, reply, extent, false)?;
        Ok(if matches!(extent, Extent::Cut(_)) || reply.closes() { Next::Close } else { Next::Request })
    }

    fn stream(&self, wire: &mut Wire, watch: Watch) -> io::Result<Next> {
        let number = self.index as u64;
        let socket = wire.socket().try_clone()?;
        self.note_answer(200);
        self.shared.change(|state| {
            let open = OpenWatch {
                user: self.request.user.name().to_owned(),
                path: self.request.path.clone(),
                silent: state.silence_new,
                commands: matches!(self.strike, Some((_, Action::EndWatch)))
                    .then_some(Command::End)
                    .into_iter()
                    .collect(),
            };
            state.watches.insert(number, open)
        });
        let goes_on = watching::serve(self.shared, wire, &socket, (number, &self.audit_id), watch);
        self.shared.change(|state| state.watches.remove(&number));
        Ok(if goes_on? { Next::Request } else { Next::Close })
    }

    fn note_answer(&self, status: u16) {
        let now = self.shared.nanos();
        self.shared.change(|state| {
            let recorded = &mut state.requests[self.index];
            recorded.status = Some(status);
            recorded.answered_ns = Some(now);
        });
    }
}

/// Who asks; `None` if credentials were given that nobody has.
fn authenticate(shared: &Shared, state: &State, authorization: Option<&str>) -> Option<User> {
    let Some(authorization) = authorization else { return Some(shared.unauthenticated.clone()) };
    let token = authorization.strip_prefix("Bearer ")?.trim();
    let known = state.tokens.get(token)?;
    let valid = known.expires.is_none_or(|expires| Instant::now() < expires);
    valid.then(|| known.user.clone())
}

fn version_in(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get("metadata")?.get("resourceVersion")?.as_str()?.to_owned())
}
