//! The exact calls for each thing that the program does, against the files in `tests/transcripts/`.
//!
//! What differs from run to run is numbered in the order in which it comes: `<version 1>`, `<time 1>`, `<uid 1>`; a time
//! without fraction is just `<second>`, as two of them may be the same or not. Headers that only carry a length or an
//! address are left out. `UPDATE_TRANSCRIPTS=1 cargo test --test it transcripts` writes the
//! files anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use leasehold_apiserver::{Action, Fault, Options, Recorded, Server};
use serde_json::{Value, json};

use crate::process::{LIMIT, Pace, Program, World};

/// Seven digits, so that versions can be told from other numbers.
const FIRST_VERSION: u64 = 5_000_000;
const POD: &str = "leasehold-7d4b9c6f5-x2x7k";

fn world() -> World {
    World::on(Server::start(Options { resource_version: FIRST_VERSION, ..Options::default() }).expect("a server"))
}

/// One that neither polls nor renews unless it is told to.
fn candidate(world: &World) -> Program {
    world.candidate(POD, Pace::Hours).with("RETRY_PERIOD", "1h").with("DRAIN_TIMEOUT", "0")
}

fn on_the_lease(request: &Recorded) -> bool {
    request.path.contains("/leases") && request.verb != "watch"
}

/// Waits until the program has made so many calls that `are_meant`, and been answered; those.
fn calls(world: &World, count: usize, are_meant: impl Fn(&Recorded) -> bool) -> Vec<Recorded> {
    let user = world.user(POD);
    let server = world.memory().expect("a server in memory");
    let meant = |request: &&Recorded| request.user == user && are_meant(request) && request.status.is_some();
    let found = server.wait_for(LIMIT, |view| {
        let calls: Vec<_> = view.requests.iter().filter(meant).take(count).cloned().collect();
        (calls.len() == count).then_some(calls)
    });
    found.unwrap_or_else(|| panic!("there are no {count} such calls in {:#?}", server.requests()))
}

#[test]
fn acquire_from_absent() {
    let world = world();
    let _process = candidate(&world).start();
    compare("acquire-from-absent", "Acquiring a Lease that does not exist", &calls(&world, 2, on_the_lease));
}

#[test]
fn acquire_from_vacant() {
    let world = world();
    world.make_lease(&json!({ "holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 3 }));
    world.patch_lease(&json!({ "metadata": { "labels": { "team": "a" } } }));
    let _process = candidate(&world).start();
    compare("acquire-from-vacant", "Acquiring a Lease that was released", &calls(&world, 2, on_the_lease));
}

#[test]
fn acquire_from_expired() {
    let world = world();
    world.make_lease(&json!({
        "holderIdentity": "another-pod", "leaseDurationSeconds": 1, "leaseTransitions": 3,
        "acquireTime": "2026-11-22T15:00:00.000000Z", "renewTime": "2026-11-22T15:00:10.000000Z",
    }));
    let _process = candidate(&world).start();
    let title = "Acquiring a Lease whose holder gives no sign of life for as long as its record states";
    compare("acquire-from-expired", title, &calls(&world, 2, on_the_lease));
}

#[test]
fn renew() {
    let world = world();
    let _process = candidate(&world).with("RENEW_INTERVAL", "100ms").start();
    let renewals = calls(&world, 2, |request| request.method == "PUT");
    compare("renew", "Renewing: the first renewal writes the term's fencing token down, too", &renewals);
}

#[test]
fn conflict() {
    let world = world();
    let server = world.memory().expect("a server in memory");
    server.watches().silence(true);
    // The first renewal is on its way while the Lease is edited.
    let held = server.faults().add(Fault::new(Action::HangBefore).verb("update").user(&world.user(POD)));
    let _process = candidate(&world).with("RENEW_INTERVAL", "100ms").start();
    assert!(server.faults().wait_fired(held, 1, LIMIT), "it renews");
    world.patch_lease(&json!({ "metadata": { "labels": { "edited": "by-hand" } } }));
    server.faults().remove(held);
    let conflict = calls(&world, 1, |request| request.status == Some(409)).remove(0);
    let after = calls(&world, 3, |request| on_the_lease(request) && request.number >= conflict.number);
    compare("conflict", "Renewing after an operator has edited the Lease: refused, looked at, tried again", &after);
}

#[test]
fn release() {
    let world = world();
    let process = candidate(&world).start();
    process.wait_until_it_leads();
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);
    compare("release", "Releasing the Lease", &calls(&world, 1, |request| request.method == "PUT"));
}

#[test]
fn label() {
    let world = world();
    let _process = candidate(&world).start();
    compare("label", "Labelling the own Pod", &calls(&world, 2, |request| request.path.contains("/pods")));
}

#[test]
fn selector_patch() {
    let world = world();
    world.make_service();
    let _process = candidate(&world).start();
    let routed = calls(&world, 2, |request| request.path.contains("/services") && request.verb != "watch");
    compare("selector-patch", "Pointing the Service at the leader", &routed);
}

#[test]
fn watch() {
    let world = world();
    world.make_service();
    let _process = candidate(&world).start();
    let mut watches = calls(&world, 2, |request| request.verb == "watch");
    watches.sort_by(|a, b| a.path.cmp(&b.path).reverse());
    compare("watch", "Watching the Lease, and while leading the Service", &watches);
}

#[test]
fn events() {
    let world = world();
    let process = candidate(&world).start();
    process.wait_until_it_leads();
    let _told = calls(&world, 1, |request| request.path.contains("/events"));
    process.signal("TERM");
    let events = calls(&world, 2, |request| request.path.contains("/events"));
    compare("events", "Telling the story: leadership won, and given up", &events);
}

// --- what a transcript looks like --------------------------------------------------------------------------------------

fn compare(name: &str, title: &str, calls: &[Recorded]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/transcripts/{name}.txt"));
    let actual = transcript(title, calls);
    if std::env::var("UPDATE_TRANSCRIPTS").is_ok_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        return std::fs::write(&path, actual).expect("the transcript");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{name} is not what {} says (- written there, + seen now; UPDATE_TRANSCRIPTS=1 writes it anew):\n{}",
        path.display(),
        difference(&expected, &actual)
    );
}

/// The lines between the common beginning and the common end.
fn difference(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same_start;
    let same_end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let of = |lines: &[&str], sign: &str| -> String {
        lines[same_start..lines.len() - same_end].iter().map(|line| format!("{sign} {line}\n")).collect()
    };
    format!("from line {} on:\n{}{}", same_start + 1, of(&old, "-"), of(&new, "+"))
}

fn transcript(title: &str, calls: &[Recorded]) -> String {
    let mut names = Names::default();
    let mut text = format!("# {title}\n");
    for call in calls {
        let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "\n{} {}{}\n", call.method, call.path, names.replace(&without_lasting(&query)));
        for (name, value) in &call.headers {
            if !["host", "content-length", "accept-encoding"].contains(&name.to_lowercase().as_str()) {
                let _ = writeln!(text, "{}: {}", in_one_case(name), header(value));
            }
        }
        if call.has_credentials {
            text.push_str("Authorization: Bearer <token>\n");
        }
        if !call.body.is_empty() {
            let body = serde_json::to_string_pretty(&sorted(call.json())).expect("it was JSON");
            let _ = write!(text, "\n{}\n", names.replace(&body));
        }
        let version = call.response_version.filter(|_| call.verb != "watch" && call.status.is_some_and(|s| s < 300));
        let version = version.map(|version| names.replace(&format!(", resourceVersion {version}"))).unwrap_or_default();
        let _ = writeln!(text, "\n=> {}{version}", call.status.expect("it was answered"));
    }
    text
}

/// The same whatever order a map keeps: metadata first would be nicer, but sorted is certain.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn in_one_case(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..].to_lowercase();
    name.split('-').map(capital).collect::<Vec<_>>().join("-")
}

/// How long a watch is asked to last is drawn by lot.
fn without_lasting(query: &str) -> String {
    let (before, after) = query.split_once("timeoutSeconds=").unwrap_or((query, ""));
    if after.is_empty() { before.to_owned() } else { format!("{before}timeoutSeconds=<seconds>") }
}

fn header(value: &str) -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let agent = format!("leasehold/{} ({os}/{arch})", env!("CARGO_PKG_VERSION"));
    value.replace(&agent, "leasehold/<version> (<os>/<arch>)")
}

/// Gives what differs from run to run a name that does not.
#[derive(Default)]
struct Names(Vec<(&'static str, String)>);

impl Names {
    fn replace(&mut self, text: &str) -> String {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let fresh = !replaced.ends_with(|c: char| c.is_ascii_alphanumeric());
            match kind_of_start(rest).filter(|_| fresh) {
                Some((kind, length)) => {
                    replaced.push_str(&self.name(kind, &rest[..length]));
                    rest = &rest[length..];
                }
                None => {
                    replaced.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        replaced
    }

    fn name(&mut self, kind: &'static str, text: &str) -> String {
        if kind == "second" {
            return "<second>".to_owned();
        }
        let known = self.0.iter().position(|(_, known)| known == text);
        let at = known.unwrap_or_else(|| {
            self.0.push((kind, text.to_owned()));
            self.0.len() - 1
        });
        let number = self.0[..=at].iter().filter(|(other, _)| *other == kind).count();
        format!("<{kind} {number}>")
    }
}

/// What the text begins with, and how long that is.
fn kind_of_start(text: &str) -> Option<(&'static str, usize)> {
    let length = |is: fn(char) -> bool| text.find(|c| !is(c)).unwrap_or(text.len());
    let hex = length(|c| c.is_ascii_hexdigit());
    let uid = length(|c| c.is_ascii_hexdigit() || c == '-');
    let time = length(|c| c.is_ascii_digit() || "-:.TZ".contains(c));
    let digits = length(|c| c.is_ascii_digit());
    if uid == 36 && text[..36].split('-').map(str::len).eq([8, 4, 4, 4, 12]) {
        Some(("uid", 36))
    } else if (20..=27).contains(&time) && text.starts_with("20") && text[..time].ends_with('Z') {
        Some((if time == 20 { "second" } else { "time" }, time))
    } else if hex == 16 {
        Some(("random", 16))
    } else if digits == 7 && text[..7].parse().is_ok_and(|number: u64| number >= FIRST_VERSION) && hex == 7 {
        Some(("version", 7))
    } else {
        None
    }
}

#[test]
fn names_are_given_in_order_and_kept() {
    let mut names = Names::default();
    let text =
        "5000001 2026-11-22T15:00:00.000001Z/0b1f6a52-2f0e-4f0e-9d7c-0d8a4c1d2e3f/5000002 00ff00ff00ff00ff 5000001";
    assert_eq!(names.replace(text), "<version 1> <time 1>/<uid 1>/<version 2> <random 1> <version 1>");
    assert_eq!(names.replace("2026-11-22T15:00:00Z/x"), "<second>/x");
    assert_eq!(names.replace("10800 x5000003 2026"), "10800 x5000003 2026", "what only looks like one");
}

#[test]
fn a_difference_is_shown_where_it_is() {
    assert_eq!(difference("a\nb\nc\n", "a\nx\nc\n"), "from line 2 on:\n- b\n+ x\n");
    assert_eq!(difference("", "a\n"), "from line 1 on:\n+ a\n");
}
