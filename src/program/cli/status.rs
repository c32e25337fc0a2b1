//! `leasehold status`: the Lease and the Service at one moment, or each change of them.
//!
//! IO: calls, and standard output.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{CALL_LIMIT, Outcome, get_lease, print_line, with_client};
use crate::election::{Record, Snapshot, Version};
use crate::environment::LeaseAccess;
use crate::kube::pod::label_value;
use crate::kube::{Client, Lease, Purpose, Resource, Service, request};
use crate::program::config::StatusConfig;
use crate::runtime::inbox::Inbox;
use crate::runtime::{WatchUpdate, Watched, Watcher};
use crate::sys;
use crate::time::{WallTime, human};

/// Between looks where a watch is not allowed, and after one broke.
const POLL: Duration = Duration::from_secs(2);

/// `leasehold status`.
///
/// # Errors
///
/// What could not be read, and why.
pub(in crate::program) fn status(config: &StatusConfig) -> Outcome {
    with_client(&config.access, |client| {
        if config.watch {
            return follow(config, &client);
        }
        let now = LeaseStatus::read(config, &client)?;
        print_line(&if config.json { now.to_json().to_string() } else { now.to_text() })
    })
}

/// What is known at one moment.
#[derive(Clone, Debug)]
struct LeaseStatus {
    lease_name: String,
    lease: Option<Snapshot>,
    /// The Service's name, and where it points; `Err`: why that is not known.
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
        Pointed { target: service.selector_value(key).map(str::to_owned), version: service.version }
    }
}

impl LeaseStatus {
    fn read(config: &StatusConfig, client: &Client) -> Result<LeaseStatus, String> {
        let LeaseAccess { namespace, lease_name, .. } = &config.access;
        let lease = get_lease(&config.access, client, Purpose::Status)?.map(|lease| lease.snapshot());
        let service = config.service.as_ref().map(|service| {
            let request = request::get_service(namespace, &service.name, Purpose::Status);
            let read = client.call(&request, CALL_LIMIT).and_then(|reply| reply.parse(&request, Service::parse));
            let pointed = read.map(|read| Pointed::of(&read, &service.route_label));
            (service.name.clone(), pointed.map_err(|error| error.to_string()))
        });
        Ok(LeaseStatus { lease_name: format!("{namespace}/{lease_name}"), lease, service, wall: sys::now().wall })
    }

    fn record(&self) -> Record {
        self.lease.as_ref().map(|lease| lease.record.clone()).unwrap_or_default()
    }

    fn pointed(&self) -> Option<&Pointed> {
        self.service.as_ref().and_then(|(_, pointed)| pointed.as_ref().ok())
    }

    fn agrees(&self) -> Option<bool> {
        Some(self.record().holder.as_deref().map(label_value) == self.pointed()?.target)
    }

    /// Time since a leader wrote this, by this machine's clock: for people, who know that clocks differ.
    fn since(&self, at: WallTime) -> Duration {
        Duration::from_micros(u64::try_from(self.wall.0 - at.0).unwrap_or(0))
    }

    fn to_json(&self) -> Value {
        let record = self.record();
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
            "successor": self.lease.as_ref().and_then(Snapshot::successor),
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
        if let Some((name, pointed)) = &self.service {
            let target = match pointed.as_ref().map(|pointed| pointed.target.as_deref()) {
                Err(error) => error.clone(),
                Ok(None) => "no Pod in particular".into(),
                Ok(Some(target)) if self.agrees() == Some(true) => format!("{target} (the leader)"),
                Ok(Some(target)) => format!("{target} (NOT the leader)"),
            };
            rows.push(("Service", format!("{name} -> {target}")));
        }
        rows.iter().map(|(name, value)| format!("{name:14}{value}")).collect::<Vec<_>>().join("\n")
    }

    fn lease_rows(&self, lease: &Snapshot, rows: &mut Vec<(&'static str, String)>) {
        let Snapshot { record, annotations, coordinated, .. } = lease;
        rows.push(("leader", record.holder.clone().unwrap_or_else(|| "nobody".into())));
        if record.holder.is_some() {
            if let Some(since) = record.acquire_time {
                rows.push(("held for", format!("{} (since {since})", human(self.since(since)))));
            }
            rows.push(("renewed", self.renewed(record)));
        }
        rows.push(("transitions", record.transitions.to_string()));
        match &annotations.token {
            Some(token) => rows.push(("fencing token", token.clone())),
            // No write can state the version it will get, and that version is the token.
            None if record.holder.is_some() && annotations.incarnation.is_some() => {
                rows.push(("fencing token", "not published yet: the leader's first renewal publishes it".into()));
            }
            None => {}
        }
        if let Some(successor) = lease.successor() {
            rows.push(("successor", successor.to_owned()));
        }
        if let Some(to) = &annotations.yield_to {
            rows.push(("asked", if to.is_empty() { "to hand over".into() } else { format!("to hand over to {to}") }));
        }
        if *coordinated {
            rows.push(("strategy", "set: coordinated leader election names the holder".into()));
        }
    }

    fn renewed(&self, record: &Record) -> String {
        let Some(age) = record.renew_time.map(|at| self.since(at)) else { return "never".into() };
        let duration = Duration::from_secs(record.lease_duration_seconds.unwrap_or_default().into());
        match duration.checked_sub(age) {
            Some(left) => format!("{} ago, lasts {} more", human(age), human(left)),
            None => format!("{} ago: EXPIRED, it lasts {}", human(age), human(duration)),
        }
    }

    /// What has changed since `before`, one line each.
    fn changes(&self, before: Option<&LeaseStatus>) -> Vec<String> {
        let mut changes = Vec::new();
        let new = self.record();
        let term = |status: &LeaseStatus| (status.record().holder, status.record().acquire_time);
        if before.map(term) != Some(term(self)) {
            changes.push(match &new.holder {
                Some(holder) => format!("{holder} leads (transitions: {})", new.transitions),
                None if self.lease.is_none() => "there is no Lease".into(),
                None => "nobody leads".into(),
            });
        }
        let asked = |status: &LeaseStatus| status.lease.as_ref().and_then(|lease| lease.annotations.yield_to.clone());
        if let Some(to) = asked(self).filter(|to| before.and_then(asked).as_ref() != Some(to)) {
            let whom = if to.is_empty() { "anyone else" } else { &to };
            changes.push(format!("the leader is asked to hand over to {whom}"));
        }
        let target =
            |status: &LeaseStatus| status.service.clone().map(|(_, pointed)| pointed.map(|pointed| pointed.target));
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

// ---------------------------------------------------------------------------------------------------- --watch

/// Prints a line for each change, forever. Two watches bring the changes: a poll would miss a short vacancy.
fn follow(config: &StatusConfig, client: &Arc<Client>) -> Outcome {
    let inbox = Inbox::new().map_err(|error| error.to_string())?;
    let watcher = |resource: Resource, name: &str| {
        let inbox = inbox.clone();
        let (namespace, name) = (config.access.namespace.clone(), name.to_owned());
        let watched = Watched { resource, namespace, name, purpose: Purpose::Status };
        Watcher::new(Arc::clone(client), watched, POLL, move |update| inbox.post((resource, update)))
    };
    let mut lease = watcher(Resource::Lease, &config.access.lease_name);
    let mut service = config.service.as_ref().map(|service| watcher(Resource::Service, &service.name));
    let mut seen = LeaseStatus::read(config, client)?;
    print_changes(None, &seen, config.json)?;
    loop {
        let now = sys::boot_time();
        lease.tend(seen.lease.as_ref().map(|lease| lease.version), now);
        if let Some(service) = &mut service {
            service.tend(seen.pointed().map(|pointed| pointed.version), now);
        }
        let watched = lease.is_running() && service.as_ref().is_none_or(Watcher::is_running);
        let before = seen.clone();
        let update = match inbox.take_until((!watched).then(|| now + POLL)) {
            Some((Resource::Lease, update)) => lease.note(update).map(|update| (Resource::Lease, Some(update))),
            Some((resource, update)) => {
                service.as_mut().and_then(|service| service.note(update)).map(|update| (resource, Some(update)))
            }
            None => Some((Resource::Lease, None)),
        };
        match update {
            None => continue, // From a watch that has ended.
            // After the end of a watch only a call shows what it would have brought.
            Some((_, None | Some(WatchUpdate::Down { .. }))) => {
                seen = LeaseStatus::read(config, client).unwrap_or(seen)
            }
            Some((resource, Some(update))) => seen.apply(resource, update, config),
        }
        seen.wall = sys::now().wall;
        print_changes(Some(&before), &seen, config.json)?;
    }
}

impl LeaseStatus {
    /// A new watch may begin with a version that is known already, or older.
    fn apply(&mut self, resource: Resource, update: WatchUpdate, config: &StatusConfig) {
        match (resource, update) {
            (Resource::Lease, WatchUpdate::Object { object, .. }) => {
                let known = self.lease.as_ref().map(|lease| lease.version);
                let lease = Lease::from_object(object).ok().map(|lease| lease.snapshot());
                self.lease = lease.filter(|lease| known < Some(lease.version)).or(self.lease.take());
            }
            (Resource::Lease, WatchUpdate::Deleted { .. }) => self.lease = None,
            (_, WatchUpdate::Object { object, .. }) => {
                let known = self.pointed().map(|pointed| pointed.version);
                if let (Some((_, pointed)), Some(service)) = (&mut self.service, &config.service)
                    && let Ok(read) = Service::from_object(object)
                    && known < Some(read.version)
                {
                    *pointed = Ok(Pointed::of(&read, &service.route_label));
                }
            }
            (_, WatchUpdate::Deleted { .. }) => {
                if let Some((_, pointed)) = &mut self.service {
                    *pointed = Err("it was deleted".into());
                }
            }
            (_, WatchUpdate::Up { .. } | WatchUpdate::Down { .. }) => {}
        }
    }
}

fn print_changes(before: Option<&LeaseStatus>, seen: &LeaseStatus, as_json: bool) -> Outcome {
    let changes = seen.changes(before);
    if as_json && !changes.is_empty() {
        return print_line(&seen.to_json().to_string());
    }
    changes.iter().try_for_each(|change| print_line(&format!("{}  {change}", seen.wall)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Annotations;

    const NOON: i64 = 1_795_348_800_000_000;

    fn status_of(holder: Option<&str>, target: Option<&str>) -> LeaseStatus {
        let record = Record {
            holder: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            acquire_time: Some(WallTime(NOON)),
            renew_time: Some(WallTime(NOON + 190_000_000)),
            transitions: 3,
        };
        let (token, successor) = (Some("8123".into()), Some("pod-c".into()));
        let annotations = Annotations { token, successor, ..Annotations::default() };
        let lease = Snapshot { uid: "u".into(), version: 9, record, annotations, coordinated: false };
        LeaseStatus {
            lease_name: "ns/web".into(),
            lease: Some(lease),
            service: Some(("front".into(), Ok(Pointed { target: target.map(str::to_owned), version: 1 }))),
            wall: WallTime(NOON + 192_000_000),
        }
    }

    #[test]
    fn the_text_has_one_row_for_each_fact() {
        assert_eq!(
            status_of(Some("pod-b"), Some("pod-b")).to_text(),
            "Lease         ns/web\n\
             leader        pod-b\n\
             held for      3m 12s (since 2026-11-22T12:00:00.000000Z)\n\
             renewed       2.0s ago, lasts 13.0s more\n\
             transitions   3\n\
             fencing token 8123\n\
             successor     pod-c\n\
             Service       front -> pod-b (the leader)"
        );
        let mut late = status_of(Some("pod-b"), Some("pod-a"));
        late.wall = WallTime(NOON + 300_000_000);
        let text = late.to_text();
        assert!(text.contains("renewed       1m 50s ago: EXPIRED, it lasts 15.0s"), "{text}");
        assert!(text.contains("front -> pod-a (NOT the leader)"), "{text}");
    }

    #[test]
    fn before_the_first_renewal_the_fencing_token_is_not_published() {
        let mut status = status_of(Some("pod-b"), None);
        let annotations = &mut status.lease.as_mut().unwrap().annotations;
        *annotations = Annotations { incarnation: Some("i".into()), ..Annotations::default() };
        assert!(status.to_text().contains("fencing token not published yet"), "{}", status.to_text());
        assert_eq!(status.to_json()["fencingToken"], Value::Null);
        status.lease.as_mut().unwrap().annotations = Annotations::default();
        assert!(!status.to_text().contains("fencing token"), "a holder that is no leasehold publishes none");
    }

    #[test]
    fn the_json_says_the_same() {
        let json = status_of(Some("pod-b"), Some("pod-a")).to_json();
        assert_eq!(json["leader"], "pod-b");
        assert_eq!(json["service"]["agrees"], false);
        assert_eq!((&json["fencingToken"], &json["successor"]), (&json!("8123"), &json!("pod-c")));
        let vacant = status_of(None, None).to_json();
        assert_eq!((vacant["leader"].clone(), vacant["service"]["agrees"].clone()), (Value::Null, json!(true)));
    }

    #[test]
    fn each_change_is_printed_once() {
        let (a, b) = (status_of(Some("pod-a"), Some("pod-a")), status_of(Some("pod-b"), Some("pod-a")));
        assert_eq!(a.changes(None), ["pod-a leads (transitions: 3)", "Service front points at pod-a"]);
        assert_eq!(a.changes(Some(&a)), Vec::<String>::new());
        assert_eq!(b.changes(Some(&a)), ["pod-b leads (transitions: 3)"]);
        let gone = LeaseStatus { lease: None, ..b.clone() };
        assert_eq!(gone.changes(Some(&b)), ["there is no Lease"]);
    }
}
