//! What is answered to which method and path.
//!
//! IO, but only to read: what the [`View`] shows, the wall clock for the page, `/proc` for the metrics.

use crate::program::http::counters::Counters;
use crate::program::http::{LeadershipView, View, head, page, process};
use crate::program::metrics::Text;
use crate::sys;
use serde::Serialize;
use serde_json::json;
use tiny_http::Request;

/// What the front answers by itself: the status line's end, and a line for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal(&'static str, &'static str);

pub(super) const MALFORMED: Refusal = Refusal("400 Bad Request", "not an HTTP/1 request");
pub(super) const TOO_SLOW: Refusal = Refusal("408 Request Timeout", "the head took too long");
pub(super) const TOO_LARGE: Refusal = Refusal("431 Request Header Fields Too Large", "the head is too large");
pub(super) const UNAVAILABLE: Refusal = Refusal("503 Service Unavailable", "no answer in time; try again");

impl From<Refusal> for Vec<u8> {
    fn from(Refusal(status, reason): Refusal) -> Vec<u8> {
        let length = reason.len() + 1;
        let text = format!(
            "HTTP/1.1 {status}\r\nServer: leasehold\r\nContent-Type: {PLAIN}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{reason}\n"
        );
        text.into_bytes()
    }
}

/// A status, a body, and the header fields that depend on them.
#[derive(Debug)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    content_type: &'static str,
    more: &'static [(&'static str, &'static str)],
}

const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

const VARIES: &[(&str, &str)] = &[("Vary", "Accept")];
const PAGE_FIELDS: &[(&str, &str)] = &[
    ("Vary", "Accept"),
    ("Content-Security-Policy", page::POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
];

impl HttpAnswer {
    fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> HttpAnswer {
        HttpAnswer { status, body: body.into(), content_type, more: &[] }
    }

    /// One line for people.
    fn plain(status: u16, body: impl Into<Vec<u8>>) -> HttpAnswer {
        HttpAnswer::new(status, PLAIN, body)
    }

    /// Itself, unless its body is too large: a Lease takes a holder's name of any length.
    pub(super) fn within(self, bytes: usize) -> HttpAnswer {
        if self.body.len() <= bytes { self } else { HttpAnswer::plain(500, "the answer is too large\n") }
    }

    /// Its header fields, but for those that tiny_http adds (Date, Content-Length).
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        // Every answer is true at one moment only.
        let always = [
            ("Server", "leasehold"),
            ("Content-Type", self.content_type),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        always.into_iter().chain(self.more.iter().copied())
    }
}

/// The answer to `request` at this moment.
pub(super) fn answer(request: &Request, view: &dyn View, counters: &Counters) -> HttpAnswer {
    let path = head::path_of(request.url());
    if !matches!(path, "/" | "/leader" | "/leading" | "/healthz" | "/readyz" | "/metrics") {
        return HttpAnswer::plain(404, "not found\n");
    }
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        let more = &[("Allow", "GET, HEAD")];
        return HttpAnswer { more, ..HttpAnswer::plain(405, "only GET and HEAD are served\n") };
    }
    match path {
        // A rewritten head has no other field.
        "/" if !request.headers().is_empty() => {
            // The wall clock is for people to read on the page; nothing is decided by it.
            let body = page::render(&view.leadership(), &view.health(), sys::now().wall);
            HttpAnswer { more: PAGE_FIELDS, ..HttpAnswer::new(200, HTML, body) }
        }
        "/" => HttpAnswer { more: VARIES, ..json_answer(&json!({ "hostname": view.leadership().pod })) },
        "/leader" => leader(&view.leadership()),
        "/leading" if view.leadership().is_leader => HttpAnswer::plain(200, "leading\n"),
        "/leading" => HttpAnswer::plain(503, "not leading\n"),
        "/healthz" => match view.health() {
            Ok(()) => HttpAnswer::plain(200, "ok\n"),
            Err(reason) => HttpAnswer::plain(503, format!("{reason}\n")),
        },
        "/readyz" if view.ready() => HttpAnswer::plain(200, "ok\n"),
        "/readyz" => HttpAnswer::plain(503, "the API server has not answered yet\n"),
        _ => HttpAnswer::new(200, PROMETHEUS, metrics(view, counters)),
    }
}

/// The body of `/leader`. Each field is always there; what is unknown is null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaderBody<'a> {
    lease: &'a str,
    leader: Option<&'a str>,
    is_leader: bool,
    transitions: u32,
    /// A string, because JavaScript and jq round integers above 2^53.
    fencing_token: Option<String>,
    valid_for_millis: u128,
    successor: Option<&'a str>,
}

fn leader(view: &LeadershipView) -> HttpAnswer {
    json_answer(&LeaderBody {
        lease: &view.lease,
        leader: view.leader.as_deref(),
        is_leader: view.is_leader,
        transitions: view.transitions,
        fencing_token: view.fencing_token.map(|token| token.to_string()),
        valid_for_millis: view.valid_for.as_millis(),
        successor: view.successor.as_deref(),
    })
}

fn json_answer(body: &impl Serialize) -> HttpAnswer {
    match serde_json::to_vec(body) {
        Ok(text) => HttpAnswer::new(200, JSON, text),
        // Strings, numbers and nulls always serialize; were that ever to change, it is an answer and no panic.
        Err(error) => HttpAnswer::plain(500, format!("{error}\n")),
    }
}

fn metrics(view: &dyn View, counters: &Counters) -> String {
    let mut more = Text::default();
    counters.write(&mut more);
    process::write(&mut more);
    view.metrics() + &more.into_string()
}
