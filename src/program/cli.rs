//! `leasehold status` and `leasehold yield`: one look at the Lease, or one word to its holder, for people.
//!
//! IO: calls, and standard output. Takes no part in the election.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::election::{Annotations, Content, Snapshot, Version};
use crate::environment::LeaseAccess;
use crate::kube::audit::AT_THE_END;
use crate::kube::pod::label_value;
use crate::kube::{Client, Failure, Lease, Purpose, Resource, Service, request};
use crate::program::config::{StatusConfig, YieldConfig};
use crate::runtime::inbox::Inbox;
use crate::runtime::{WatchUpdate, Watched, Watcher};
use crate::sys;
use crate::time::WallTime;

const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Between looks while a hand-over is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// Where a watch is not allowed, and after one broke.
const POLL: Duration = Duration::from_secs(2);
/// So often a request to yield is written again on a Lease that is changed at the same time.
const YIELD_TRIES: u32 = 5;

type Outcome = Result<(), String>;

/// `leasehold status`.
///
/// # Errors
///
/// What could not be read, and why.
pub fn status(config: &StatusConfig) -> Outcome {
    with_client(&config.access, |client| {
        if config.watch { follow(config, client) } else { print(&look(config, &client)?, config.json) }
    })
}

/// `leasehold yield`: asks the leader to hand over, and waits until it has.
///
/// # Errors
///
/// Purpose there was no hand-over.
pub fn hand_over(config: &YieldConfig) -> Outcome {
    with_client(&config.access, |client| {
        let to = config.to.as_deref().unwrap_or_default();
        let holder = ask_to_yield(&config.access, &client, to)?;
        if holder.name == to {
            return say(&format!("{to} leads already"));
        }
        say(&format!("asked {} to hand over to {}", holder.name, if to.is_empty() { "anyone else" } else { to }))?;
        await_hand_over(&config.access, &client, &holder)
    })
}

/// Connects, does it, and sees the audit log's lines written.
fn with_client(access: &LeaseAccess, work: impl FnOnce(Arc<Client>) -> Outcome) -> Outcome {
    let mut options = access.client_options()?;
    options.credentials = access.credentials().map_err(|error| error.to_string())?;
    let audit = options.audit.clone();
    let outcome = Client::new(options).and_then(|client| work(Arc::new(client)));
    if let Some(audit) = audit {
        audit.flush(AT_THE_END);
    }
    outcome
}

fn get_lease(access: &LeaseAccess, client: &Client, why: Purpose) -> Result<Option<Lease>, String> {
    let request = request::get_lease(&access.namespace, &access.lease_name, why);
    match client.call(&request, CALL_LIMIT).and_then(|reply| reply.parse(&request, Lease::parse)) {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.failure == Failure::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn say(line: &str) -> Outcome {
    writeln!(io::stdout().lock(), "{line}").map_err(|error| format!("standard output: {error}"))
}

// ---------------------------------------------------------------------------------------------------- status

/// What there is to be seen at one moment.
#[derive(Clone, Debug)]
struct Look {
    lease_name: String,
    lease: Option<Snapshot>,
    /// The Service's name, and where it points; `Err`: why that could not be read.
    service: Option<(String, Result<Pointed, String>)>,
    wall: WallTime,
}

#[derive(Clone, PartialEq, Debug)]
struct Pointed {
    target: Option<String>,
    version: Version,
}

impl Pointed {
    fn of(service: &Service, key: &str) -> Pointed {
        Pointed { target: service.selector_value(key).map(str::to_owned), version: service.version() }
    }
}

fn look(config: &StatusConfig, client: &Client) -> Result<Look, String> {
    let LeaseAccess { namespace, lease_name, .. } = &config.access;
    let lease = get_lease(&config.access, client, Purpose::Status)?.map(|lease| lease.snapshot());
    let service = config.service.as_ref().map(|service| {
        let request = request::get_service(namespace, &service.name, Purpose::Status);
        let read = client.call(&request, CALL_LIMIT).and_then(|reply| reply.parse(&request, Service::parse));
        let pointed = read.map(|read| Pointed::of(&read, &service.route_label));
        (service.name.clone(), pointed.map_err(|error| error.to_string()))
    });
    Ok(Look { lease_name: format!("{namespace}/{lease_name}"), lease, service, wall: sys::now().wall })
}

fn print(look: &Look, as_json: bool) -> Outcome {
    say(&if as_json { look.to_json().to_string() } else { look.to_text() })
}

impl Look {
    fn holder(&self) -> Option<&str> {
        self.lease.as_ref().and_then(|lease| lease.record.holder.as_deref())
    }

    /// Time since a time that a leader wrote, by this machine's clock: for people, who know that clocks differ.
    fn since(&self, at: Option<WallTime>) -> Option<Duration> {
        at.map(|at| Duration::from_micros(u64::try_from(self.wall.0 - at.0).unwrap_or(0)))
    }

    fn agrees(&self) -> Option<bool> {
        Some(self.holder().map(label_value) == self.pointed()?.target)
    }

    fn to_json(&self) -> Value {
        let record = self.lease.as_ref().map(|lease| lease.record.clone()).unwrap_or_default();
        let annotations = self.lease.as_ref().map(|lease| lease.annotations.clone()).unwrap_or_default();
        let time = |at: Option<WallTime>| at.map(|at| at.to_string());
        json!({
            "lease": self.lease_name,
            "exists": self.lease.is_some(),
            "leader": record.holder,
            "acquireTime": time(record.acquire_time),
            "renewTime": time(record.renew_time),
            "leaseDurationSeconds": record.lease_duration_seconds,
            "transitions": record.transitions,
            "fencingToken": annotations.token,
            "yieldTo": annotations.yield_to,
            "service": self.service.as_ref().map(|(name, target)| json!({
                "name": name,
                "target": target.as_ref().ok().and_then(|pointed| pointed.target.clone()),
                "agrees": self.agrees(),
                "error": target.as_ref().err(),
            })),
        })
    }

    fn to_text(&self) -> String {
        let mut rows = vec![("Lease", self.lease_name.clone())];
        match &self.lease {
            None => rows.push(("leader", "nobody: there is no such Lease yet".into())),
            Some(lease) => self.lease_rows(lease, &mut rows),
        }
        if let Some((name, target)) = &self.service {
            let target = match (target, self.agrees()) {
                (Err(error), _) => error.clone(),
                (Ok(Pointed { target: None, .. }), _) => "no Pod in particular".into(),
                (Ok(Pointed { target: Some(target), .. }), Some(true)) => format!("{target} (the leader)"),
                (Ok(Pointed { target: Some(target), .. }), _) => format!("{target} (NOT the leader)"),
            };
            rows.push(("Service", format!("{name} -> {target}")));
        }
        rows.iter().map(|(name, value)| format!("{name:14}{value}")).collect::<Vec<_>>().join("\n")
    }

    fn lease_rows(&self, lease: &Snapshot, rows: &mut Vec<(&'static str, String)>) {
        let record = &lease.record;
        match &record.holder {
            None => rows.push(("leader", "nobody".into())),
            Some(holder) => {
                rows.push(("leader", holder.clone()));
                if let (Some(held), Some(since)) = (self.since(record.acquire_time), record.acquire_time) {
                    rows.push(("held for", format!("{} (since {since})", people(held))));
                }
                rows.push(("renewed", self.renewed(lease)));
            }
        }
        rows.push(("transitions", record.transitions.to_string()));
        if let Some(token) = &lease.annotations.token {
            rows.push(("fencing token", token.clone()));
        }
        if let Some(to) = &lease.annotations.yield_to {
            rows.push(("asked", if to.is_empty() { "to hand over".into() } else { format!("to hand over to {to}") }));
        }
        if lease.coordinated {
            rows.push(("strategy", "set: coordinated leader election names the holder".into()));
        }
    }

    fn renewed(&self, lease: &Snapshot) -> String {
        let Some(age) = self.since(lease.record.renew_time) else { return "never".into() };
        let lasts = Duration::from_secs(lease.record.lease_duration_seconds.unwrap_or_default().into());
        match lasts.checked_sub(age) {
            Some(left) => format!("{} ago, lasts {} more", people(age), people(left)),
            None => format!("{} ago: EXPIRED, it lasts {}", people(age), people(lasts)),
        }
    }
}

/// `2.1s`, `3m 12s`, `5h 3m`, `2d 4h`.
fn people(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

// ---------------------------------------------------------------------------------------------------- --watch

enum Message {
    Lease(WatchUpdate),
    Service(WatchUpdate),
}

/// Prints a line for each change of holder, of the Service's target, and of what is asked of the leader; for ever.
fn follow(config: &StatusConfig, client: Arc<Client>) -> Outcome {
    let inbox = Inbox::new().map_err(|error| error.to_string())?;
    let LeaseAccess { namespace, lease_name, .. } = &config.access;
    let watcher = |watched, post: fn(WatchUpdate) -> Message| {
        let inbox = inbox.clone();
        Watcher::new(Arc::clone(&client), watched, POLL, move |update| inbox.post(post(update)))
    };
    let lease = Watched {
        resource: Resource::Lease,
        namespace: namespace.clone(),
        name: lease_name.clone(),
        purpose: Purpose::Status,
    };
    let mut lease = watcher(lease, Message::Lease);
    let mut service = config.service.as_ref().map(|service| {
        let (namespace, name) = (namespace.clone(), service.name.clone());
        watcher(Watched { resource: Resource::Service, namespace, name, purpose: Purpose::Status }, Message::Service)
    });
    let mut seen = look(config, &client)?;
    show_changes(None, &seen, config.json)?;
    loop {
        let now = sys::boot_time();
        lease.tend(seen.lease.as_ref().map(|lease| lease.version), now);
        if let Some(service) = &mut service {
            service.tend(seen.pointed().map(|pointed| pointed.version), now);
        }
        let watched = lease.is_running() && service.as_ref().is_none_or(Watcher::is_running);
        let before = seen.clone();
        match inbox.take_until((!watched).then(|| now + POLL)) {
            Some(Message::Lease(update)) => {
                let Some(update) = lease.note(update) else { continue };
                seen = seen.with(update, config, &client, Look::take_lease);
            }
            Some(Message::Service(update)) => {
                let Some(update) = service.as_mut().and_then(|service| service.note(update)) else { continue };
                seen = seen.with(update, config, &client, |seen, update| seen.take_service(update, config));
            }
            None => seen = look(config, &client).unwrap_or(seen),
        }
        seen.wall = sys::now().wall;
        show_changes(Some(&before), &seen, config.json)?;
    }
}

impl Look {
    fn pointed(&self) -> Option<&Pointed> {
        self.service.as_ref().and_then(|(_, pointed)| pointed.as_ref().ok())
    }

    /// With what a watch told. When it has ended there may be more to be seen than it told, and its version may be
    /// forgotten: only a look mends that.
    fn with(
        self,
        update: WatchUpdate,
        config: &StatusConfig,
        client: &Client,
        take: impl FnOnce(&mut Look, WatchUpdate),
    ) -> Look {
        if matches!(update, WatchUpdate::Down { .. }) {
            return look(config, client).unwrap_or(self);
        }
        let mut seen = self;
        take(&mut seen, update);
        seen
    }

    /// A watch that begins anew may tell what is known already, or what a cache of the server still has.
    fn take_lease(&mut self, update: WatchUpdate) {
        match update {
            WatchUpdate::Object { object, .. } => {
                let lease = Lease::from_object(object).map(|lease| lease.snapshot());
                let known = self.lease.as_ref().map(|known| known.version);
                if let Some(lease) = lease.ok().filter(|lease| known < Some(lease.version)) {
                    self.lease = Some(lease);
                }
            }
            WatchUpdate::Deleted { .. } => self.lease = None,
            WatchUpdate::Up { .. } | WatchUpdate::Down { .. } => {}
        }
    }

    fn take_service(&mut self, update: WatchUpdate, config: &StatusConfig) {
        let (Some((_, pointed)), Some(service)) = (&mut self.service, &config.service) else { return };
        match update {
            WatchUpdate::Object { object, .. } => {
                let read = Service::from_object(object).map(|read| Pointed::of(&read, &service.route_label));
                let known = pointed.as_ref().ok().map(|known| known.version);
                if let Some(read) = read.ok().filter(|read| known < Some(read.version)) {
                    *pointed = Ok(read);
                }
            }
            WatchUpdate::Deleted { .. } => *pointed = Err("it was deleted".into()),
            WatchUpdate::Up { .. } | WatchUpdate::Down { .. } => {}
        }
    }

    /// What has changed since `before`, for people: one clause each.
    fn changes(&self, before: Option<&Look>) -> Vec<String> {
        let mut changes = Vec::new();
        let record = |look: &Look| look.lease.as_ref().map(|lease| lease.record.clone()).unwrap_or_default();
        let (new, old) = (record(self), before.map(record));
        let acquisition = |record: &crate::election::Record| (record.holder.clone(), record.acquire_time);
        if old.as_ref().map(acquisition) != Some(acquisition(&new)) {
            changes.push(match &new.holder {
                Some(holder) => format!("{holder} leads (transitions: {})", new.transitions),
                None if self.lease.is_none() => "there is no Lease".into(),
                None => "nobody leads".into(),
            });
        }
        let asked = |look: &Look| look.lease.as_ref().and_then(|lease| lease.annotations.yield_to.clone());
        if let Some(to) = asked(self).filter(|to| before.and_then(asked).as_ref() != Some(to)) {
            changes.push(format!(
                "the leader is asked to hand over to {}",
                if to.is_empty() { "anyone else" } else { &to }
            ));
        }
        let target = |look: &Look| look.service.clone().map(|(_, pointed)| pointed.map(|pointed| pointed.target));
        if let Some((name, pointed)) = self.service.as_ref().filter(|_| before.and_then(target) != target(self)) {
            changes.push(match pointed {
                Ok(Pointed { target: Some(target), .. }) => format!("Service {name} points at {target}"),
                Ok(Pointed { target: None, .. }) => format!("Service {name} points at no Pod in particular"),
                Err(error) => format!("Service {name}: {error}"),
            });
        }
        changes
    }
}

fn show_changes(before: Option<&Look>, seen: &Look, as_json: bool) -> Outcome {
    let changes = seen.changes(before);
    if as_json && !changes.is_empty() {
        return say(&seen.to_json().to_string());
    }
    changes.iter().try_for_each(|change| say(&format!("{}  {change}", seen.wall)))
}

// ----------------------------------------------------------------------------------------------------- yield

/// Whom was asked, and for how many seconds its record lasts.
struct Holder {
    name: String,
    lasts: Duration,
}

/// Annotations the Lease with the request (P17). The holder sees it through its watch.
fn ask_to_yield(access: &LeaseAccess, client: &Client, to: &str) -> Result<Holder, String> {
    let name = format!("{}/{}", access.namespace, access.lease_name);
    for _ in 0..YIELD_TRIES {
        let lease = get_lease(access, client, Purpose::Yield)?.ok_or_else(|| format!("there is no Lease {name}"))?;
        let Snapshot { record, annotations, .. } = lease.snapshot();
        let holder = record.holder.clone().ok_or_else(|| format!("nobody leads {name}: there is nobody to ask"))?;
        let lasts = Duration::from_secs(record.lease_duration_seconds.unwrap_or_default().into());
        if holder == to {
            return Ok(Holder { name: holder, lasts });
        }
        let content = Content { record, annotations: Annotations { yield_to: Some(to.to_owned()), ..annotations } };
        let request =
            request::replace_lease(&access.namespace, &access.lease_name, &lease.with(&content), Purpose::Yield);
        match client.call(&request, CALL_LIMIT) {
            Ok(_) => return Ok(Holder { name: holder, lasts }),
            Err(error) if error.failure == Failure::Conflict => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("the Lease {name} is being changed too often: it was not asked; try again"))
}

/// A holder that does not know the request goes on renewing: after two of its lease durations nothing will come of it.
fn await_hand_over(access: &LeaseAccess, client: &Client, holder: &Holder) -> Outcome {
    let began = sys::boot_time();
    let until = began + holder.lasts * 2 + CALL_LIMIT;
    loop {
        let now = get_lease(access, client, Purpose::Yield)?.and_then(|lease| lease.snapshot().record.holder);
        match now {
            Some(leader) if leader != holder.name => {
                return say(&format!("{leader} leads, after {}", people(sys::boot_time().since(began))));
            }
            _ if sys::boot_time() >= until => {
                let name = &holder.name;
                return Err(format!(
                    "nobody else has taken over from {name} in {}: is there another candidate, and is {name} a leasehold?",
                    people(sys::boot_time().since(began))
                ));
            }
            _ => thread::sleep(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Record;

    const NOON: i64 = 1_795_348_800_000_000;

    fn look(holder: Option<&str>, target: Option<&str>) -> Look {
        let record = Record {
            holder: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            acquire_time: Some(WallTime(NOON)),
            renew_time: Some(WallTime(NOON + 190_000_000)),
            transitions: 3,
        };
        let annotations = Annotations { token: Some("8123".into()), ..Annotations::default() };
        let lease = Snapshot { uid: "u".into(), version: 9, record, annotations, coordinated: false };
        Look {
            lease_name: "ns/web".into(),
            lease: Some(lease),
            service: Some(("front".into(), Ok(Pointed { target: target.map(str::to_owned), version: 1 }))),
            wall: WallTime(NOON + 192_000_000),
        }
    }

    #[test]
    fn a_look_reads_at_a_glance() {
        assert_eq!(
            look(Some("pod-b"), Some("pod-b")).to_text(),
            "Lease         ns/web\n\
             leader        pod-b\n\
             held for      3m 12s (since 2026-11-22T12:00:00.000000Z)\n\
             renewed       2.0s ago, lasts 13.0s more\n\
             transitions   3\n\
             fencing token 8123\n\
             Service       front -> pod-b (the leader)"
        );
        let mut late = look(Some("pod-b"), Some("pod-a"));
        late.wall = WallTime(NOON + 300_000_000);
        let text = late.to_text();
        assert!(text.contains("renewed       1m 50s ago: EXPIRED, it lasts 15.0s"), "{text}");
        assert!(text.contains("front -> pod-a (NOT the leader)"), "{text}");
    }

    #[test]
    fn the_json_says_the_same() {
        let json = look(Some("pod-b"), Some("pod-a")).to_json();
        assert_eq!(json["leader"], "pod-b");
        assert_eq!(json["service"]["agrees"], false);
        assert_eq!(json["fencingToken"], "8123");
        let vacant = look(None, None).to_json();
        assert_eq!((vacant["leader"].clone(), vacant["service"]["agrees"].clone()), (Value::Null, json!(true)));
    }

    #[test]
    fn each_change_is_told_once() {
        let (a, b) = (look(Some("pod-a"), Some("pod-a")), look(Some("pod-b"), Some("pod-a")));
        assert_eq!(a.changes(None), ["pod-a leads (transitions: 3)", "Service front points at pod-a"]);
        assert_eq!(a.changes(Some(&a)), Vec::<String>::new());
        assert_eq!(b.changes(Some(&a)), ["pod-b leads (transitions: 3)"]);
        let gone = Look { lease: None, ..b.clone() };
        assert_eq!(gone.changes(Some(&b)), ["there is no Lease"]);
    }

    #[test]
    fn spans_are_told_as_people_tell_them() {
        for (seconds, expected) in [(0, "0.0s"), (59, "59.0s"), (192, "3m 12s"), (18_180, "5h 3m"), (187_200, "2d 4h")]
        {
            assert_eq!(people(Duration::from_secs(seconds)), expected);
        }
    }
}
