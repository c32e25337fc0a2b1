//! What is answered to which method and path.
//!
//! IO, but only to read: what the [`View`] shows, the wall clock for the page, `/proc` for the metrics.

use crate::program::http::counters::Counters;
use crate::program::http::{LeadershipView, View, page, process};
use crate::program::metrics::Text;
use crate::sys;
use serde::Serialize;

/// Bound on a body. The metrics have a few tens of KiB at most; but a Lease takes a holder's name of any length.
pub(super) const BODY_MAX: usize = 256 << 10;

/// A request, as far as it decides the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    /// Without its query.
    pub(super) path: &'a str,
    /// Whether the client would rather have HTML than JSON.
    pub(super) html: bool,
}

#[derive(Debug)]
pub(super) struct Reply {
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

impl Reply {
    fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), content_type, more: &[] }
    }

    /// One line for people.
    pub(super) fn plain(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(status, PLAIN, body)
    }

    /// Itself, unless it is larger than any answer may be.
    fn bounded(self) -> Reply {
        if self.body.len() <= BODY_MAX { self } else { Reply::plain(500, "the answer is too large\n") }
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

/// Whether the answer to `question` is the same for as long as the process lives.
pub(super) fn is_constant(question: &Question<'_>) -> bool {
    matches!(question, Question { method: "GET", path: "/", html: false })
}

/// The answer to `question` at this moment.
pub(super) fn answer(question: &Question<'_>, view: &dyn View, counters: &Counters) -> Reply {
    let known = matches!(question.path, "/" | "/leader" | "/leading" | "/healthz" | "/readyz" | "/metrics");
    if !known {
        return Reply::plain(404, "not found\n");
    }
    if !matches!(question.method, "GET" | "HEAD") {
        let more = &[("Allow", "GET, HEAD")];
        return Reply { more, ..Reply::plain(405, "only GET and HEAD are served\n") };
    }
    let reply = match question.path {
        "/" if question.html => {
            // The wall clock is for people to read on the page; nothing is decided by it.
            let body = page::render(&view.leadership(), &view.health(), sys::now().wall);
            Reply { more: PAGE_FIELDS, ..Reply::new(200, HTML, body) }
        }
        "/" => Reply { more: VARIES, ..json(&HostnameBody { hostname: &view.leadership().pod }) },
        "/leader" => json(&LeaderBody::of(&view.leadership())),
        "/leading" if view.leadership().is_leader => Reply::plain(200, "leading\n"),
        "/leading" => Reply::plain(503, "not leading\n"),
        "/healthz" => match view.health() {
            Ok(()) => Reply::plain(200, "ok\n"),
            Err(why) => Reply::plain(503, format!("{why}\n")),
        },
        "/readyz" if view.ready() => Reply::plain(200, "ok\n"),
        "/readyz" => Reply::plain(503, "the API server has not answered yet\n"),
        _ => Reply::new(200, PROMETHEUS, metrics(view, counters)),
    };
    reply.bounded()
}

#[derive(Serialize)]
struct HostnameBody<'a> {
    hostname: &'a str,
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
    valid_for_millis: u64,
}

impl<'a> LeaderBody<'a> {
    fn of(view: &'a LeadershipView) -> LeaderBody<'a> {
        LeaderBody {
            lease: &view.lease,
            leader: view.leader.as_deref(),
            is_leader: view.is_leader,
            transitions: view.transitions,
            fencing_token: view.fencing_token.map(|token| token.to_string()),
            valid_for_millis: u64::try_from(view.valid_for.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn json(body: &impl Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(text) => Reply::new(200, JSON, text),
        // Strings, numbers and nulls always serialize; were that ever to change, it is an answer and no panic.
        Err(error) => Reply::plain(500, format!("{error}\n")),
    }
}

fn metrics(view: &dyn View, counters: &Counters) -> String {
    let mut more = Text::default();
    counters.write(&mut more);
    process::write(&mut more);
    view.metrics() + &more.into_string()
}
