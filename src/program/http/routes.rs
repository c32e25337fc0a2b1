//! What is answered to which method and path.
//!
//! IO, but only to read: what the [`View`](super::View) shows, the wall clock for the page, `/proc` for the metrics.

use crate::program::http::{head, page, process};
use crate::program::metrics::Metrics;
use crate::program::state::StateView;
use crate::sys;
use serde::Serialize;
use serde_json::json;
use std::io::Cursor;
use tiny_http::{Header, Request, Response};

pub(super) type HttpAnswer = Response<Cursor<Vec<u8>>>;

/// Bytes of a body. A Lease takes a holder's name of any length, but an answer must fit in the buffers of a socket: the
/// thread that has tiny_http write it also reads it, and a client's socket takes it at once.
const BODY_MAX: usize = 60 << 10;

const PAGE_FIELDS: &[(&str, &str)] = &[
    ("Vary", "Accept"),
    ("Content-Security-Policy", page::POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
];

fn with_fields(answer: HttpAnswer, fields: &[(&str, &str)]) -> HttpAnswer {
    let fields = fields.iter().filter_map(|(name, value)| Header::from_bytes(*name, *value).ok());
    fields.fold(answer, Response::with_header)
}

fn answer_of(status: u16, content_type: &str, body: Vec<u8>) -> HttpAnswer {
    if body.len() > BODY_MAX {
        return plain(500, "the answer is too large\n");
    }
    let answer = Response::from_data(body).with_status_code(status).with_chunked_threshold(usize::MAX);
    let always = [
        ("Server", "leasehold"),
        ("Content-Type", content_type),
        // Every answer is true at one moment only.
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    with_fields(answer, &always)
}

/// One line for people.
pub(super) fn plain(status: u16, body: impl Into<Vec<u8>>) -> HttpAnswer {
    answer_of(status, "text/plain; charset=utf-8", body.into())
}

/// The answer to `request` at this moment.
pub(super) fn answer(request: &Request, view: &dyn Fn() -> StateView, metrics: &Metrics) -> HttpAnswer {
    let view = view();
    let answer = match head::path_of(request.url()) {
        // A rewritten head has no other field.
        "/" if !request.headers().is_empty() => {
            // The wall clock is for people to read on the page; nothing is decided by it.
            let body = page::render(&view, sys::now().wall);
            with_fields(answer_of(200, "text/html; charset=utf-8", body.into()), PAGE_FIELDS)
        }
        "/" => with_fields(json_answer(&json!({ "hostname": view.pod })), &[("Vary", "Accept")]),
        "/leader" => leader(&view),
        "/leading" if view.is_leader => plain(200, "leading\n"),
        "/leading" => plain(503, "not leading\n"),
        "/healthz" => match view.unhealthy {
            None => plain(200, "ok\n"),
            Some(reason) => plain(503, reason + "\n"),
        },
        "/readyz" if view.ready => plain(200, "ok\n"),
        "/readyz" => plain(503, "the API server has not answered yet\n"),
        "/metrics" => {
            let text = metrics.text(&view) + &process::metrics();
            answer_of(200, "text/plain; version=0.0.4; charset=utf-8", text.into())
        }
        _ => return plain(404, "not found\n"),
    };
    match request.method().as_str() {
        "GET" | "HEAD" => answer,
        _ => with_fields(plain(405, "only GET and HEAD are served\n"), &[("Allow", "GET, HEAD")]),
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

fn leader(view: &StateView) -> HttpAnswer {
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
    // Strings, numbers and nulls always serialize.
    answer_of(200, "application/json", serde_json::to_vec(body).unwrap_or_default())
}
