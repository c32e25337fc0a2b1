//! `leasehold status`: the Lease and the Service at one moment, or each change of them.
//!
//! IO: calls, and standard output.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{CALL_LIMIT, Outcome, get_lease, print_line, whom, with_client};
use crate::election::{Record, Snapshot, Version};
use crate::kube::pod::label_value;
use crate::kube::{Client, Lease, Purpose, Service, WatchEvent, request};
use crate::program::config::{ServiceConfig, StatusConfig};
use crate::runtime::inbox::Inbox;
use crate::runtime::{WatchChange, Watcher};
use crate::sys;
use crate::time::{WallTime, human};

/// Between looks where a watch is not allowed, and after one broke.
const POLL: Duration = Duration::from_secs(2);

/// The two objects of `--watch`.
const LEASE: usize = 0;
const SERVICE: usize = 1;

/// A line, and the beginning of the term that it is about.
type Fact = (String, Option<WallTime>);

/// `leasehold status`.
///
/// # Errors
///
/// What could not be read, and why.
pub(in crate::program) fn status(config: &StatusConfig) -> Outcome {
    with_client(&config.access, &config.log, |client| {
        if config.watch {
            return follow(config, &client);
        }
        let now = LeaseStatus::read(config, &client)?;
        print_line(&if config.json { now.to_json().to_string() } else { now.to_text() })
    })
}

/// What is known at one moment.
#[derive(Clone, Debug)]
struct LeaseStatus<'a> {
    config: &'a StatusConfig,
    lease: Option<Snapshot>,
    /// `Err`: why it is not known. `None`: no Service is configured.
    service: Option<Result<Service, String>>,
    wall: WallTime,
}

impl LeaseStatus<'_> {
    fn read<'a>(config: &'a StatusConfig, client: &Client) -> Result<LeaseStatus<'a>, String> {
        let lease = get_lease(&config.access, client, Purpose::Status)?.map(|lease| lease.snapshot);
        let service = config.service.as_ref().map(|service| {
            let request = request::get_service(&config.access.namespace, &service.name, Purpose::Status);
            let read = client.call(&request, CALL_LIMIT).and_then(|reply| reply.parse(&request, Service::parse));
            read.map_err(|error| error.to_string())
        });
        Ok(LeaseStatus { config, lease, service, wall: sys::now().wall })
    }

    /// The Service's name, and the Pod that it points at.
    fn target(&self) -> Option<(&str, Result<Option<&str>, &String>)> {
        let ServiceConfig { name, route_label } = self.config.service.as_ref()?;
        let read = self.service.as_ref()?.as_ref();
        Some((name, read.map(|service| service.selector_value(route_label))))
    }

    fn agrees(&self) -> Option<bool> {
        let target = self.target()?.1.ok()?;
        let leader = self.lease.as_ref().and_then(|lease| lease.record.holder.as_deref()).map(label_value);
        Some(leader.as_deref() == target)
    }

    /// Time since a leader wrote this, by this machine's clock: for people, who know that clocks differ.
    fn since(&self, at: WallTime) -> Duration {
        Duration::from_micros(u64::try_from(self.wall.0 - at.0).unwrap_or(0))
    }

    fn to_json(&self) -> Value {
        let lease = self.lease.clone().unwrap_or_default();
        let time = |at: Option<WallTime>| at.map(|at| at.to_string());
        json!({
            "lease": self.config.access.lease(),
            "exists": self.lease.is_some(),
            "leader": lease.record.holder,
            "acquireTime": time(lease.record.acquire_time),
            "renewTime": time(lease.record.renew_time),
            "leaseDurationSeconds": lease.record.lease_duration_seconds,
            "transitions": lease.record.transitions,
            "fencingToken": lease.annotations.token,
            "successor": lease.successor(),
            "yieldTo": lease.annotations.yield_to,
            "service": self.target().map(|(name, target)| json!({
                "name": name,
                "target": target.ok().flatten(),
                "agrees": self.agrees(),
                "error": target.err(),
            })),
        })
    }

    fn to_text(&self) -> String {
        let lease = self.lease.clone().unwrap_or_default();
        let Snapshot { record, annotations, coordinated, .. } = &lease;
        let held = record.holder.is_some();
        let nobody = if self.lease.is_some() { "nobody" } else { "nobody: there is no such Lease yet" };
        let since = record.acquire_time.filter(|_| held);
        // No write can state the version it will get, and that version is the token.
        let unpublished = (held && annotations.incarnation.is_some())
            .then(|| "not published yet: the leader's first renewal publishes it".to_owned());
        let asked = annotations.yield_to.as_deref().map(|to| format!("to hand over to {}", whom(to)));
        let service = self.target().map(|(name, target)| match target {
            Err(error) => format!("{name} -> {error}"),
            Ok(None) => format!("{name} -> no Pod in particular"),
            Ok(Some(target)) if self.agrees() == Some(true) => format!("{name} -> {target} (the leader)"),
            Ok(Some(target)) => format!("{name} -> {target} (NOT the leader)"),
        });
        let rows = [
            ("Lease", Some(self.config.access.lease())),
            ("leader", Some(record.holder.clone().unwrap_or_else(|| nobody.into()))),
            ("held for", since.map(|since| format!("{} (since {since})", human(self.since(since))))),
            ("renewed", held.then(|| self.renewed(record))),
            ("transitions", self.lease.is_some().then(|| record.transitions.to_string())),
            ("fencing token", annotations.token.clone().or(unpublished)),
            ("successor", lease.successor().map(str::to_owned)),
            ("asked", asked),
            ("strategy", coordinated.then(|| "set: coordinated leader election names the holder".into())),
            ("Service", service),
        ];
        let lines = rows.into_iter().filter_map(|(name, value)| Some(format!("{name:14}{}", value?)));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn renewed(&self, record: &Record) -> String {
        let Some(age) = record.renew_time.map(|at| self.since(at)) else { return "never".into() };
        let duration = Duration::from_secs(record.lease_duration_seconds.unwrap_or_default().into());
        match duration.checked_sub(age) {
            Some(left) => format!("{} ago, lasts {} more", human(age), human(left)),
            None => format!("{} ago: EXPIRED, it lasts {}", human(age), human(duration)),
        }
    }

    /// A line for each thing that is worth one when it changes. A term of the same holder is another term.
    fn facts(&self) -> Vec<Fact> {
        let Snapshot { record, annotations, .. } = self.lease.clone().unwrap_or_default();
        let leader = match record.holder {
            Some(holder) => format!("{holder} leads (transitions: {})", record.transitions),
            None if self.lease.is_none() => "there is no Lease".into(),
            None => "nobody leads".into(),
        };
        let asked = annotations.yield_to.map(|to| format!("the leader is asked to hand over to {}", whom(&to)));
        let service = self.target().map(|(name, target)| match target {
            Ok(Some(target)) => format!("Service {name} points at {target}"),
            Ok(None) => format!("Service {name} points at no Pod in particular"),
            Err(error) => format!("Service {name}: {error}"),
        });
        let mut facts = vec![(leader, record.acquire_time)];
        facts.extend(asked.into_iter().chain(service).map(|fact| (fact, None)));
        facts
    }

    /// The facts that were none before, one line each.
    fn changes(&self, before: &[Fact]) -> Vec<String> {
        self.facts().into_iter().filter(|fact| !before.contains(fact)).map(|(line, _)| line).collect()
    }

    /// Takes in what a watch brought. A new watch may begin with a version that is known already, or older.
    fn apply(&mut self, which: usize, event: WatchEvent) {
        match (which, event) {
            (_, WatchEvent::Modified(version, _)) if Some(version) <= self.versions()[which] => {}
            (LEASE, WatchEvent::Modified(_, object)) => {
                let read = Lease::from_object(object).map(|lease| lease.snapshot);
                self.lease = read.ok().or(self.lease.take());
            }
            (_, WatchEvent::Modified(_, object)) => self.service = Some(Service::from_object(&object)),
            (LEASE, WatchEvent::Deleted(_)) => self.lease = None,
            (_, WatchEvent::Deleted(_)) => self.service = Some(Err("it was deleted".into())),
            (_, WatchEvent::Bookmark(_)) => {}
        }
    }

    fn versions(&self) -> [Option<Version>; 2] {
        let service = self.service.as_ref().and_then(|read| read.as_ref().ok());
        [self.lease.as_ref().map(|lease| lease.version), service.map(|service| service.version)]
    }
}

/// `--watch`: prints a line for each change, forever. Two watches bring the changes: a poll would miss a short vacancy.
fn follow(config: &StatusConfig, client: &Arc<Client>) -> Outcome {
    let inbox = Inbox::new().map_err(|error| error.to_string())?;
    let watcher = |which: usize, name: &str| {
        let (namespace, name, inbox) = (config.access.namespace.clone(), name.to_owned(), inbox.clone());
        let watch = move |from, lasting| match which {
            LEASE => request::watch_lease(&namespace, &name, from, lasting, Purpose::Status),
            _ => request::watch_service(&namespace, &name, from, lasting, Purpose::Status),
        };
        Watcher::new(Arc::clone(client), watch, POLL, move |update| inbox.post((which, update)))
    };
    let mut watchers = vec![watcher(LEASE, &config.access.lease_name)];
    watchers.extend(config.service.as_ref().map(|service| watcher(SERVICE, &service.name)));
    let mut status = LeaseStatus::read(config, client)?;
    let mut printed = Vec::new();
    loop {
        let changes = status.changes(&printed);
        if !config.json {
            changes.iter().try_for_each(|change| print_line(&format!("{}  {change}", status.wall)))?;
        } else if !changes.is_empty() {
            print_line(&status.to_json().to_string())?;
        }
        printed = status.facts();

        let now = sys::boot_time();
        for (watcher, version) in watchers.iter_mut().zip(status.versions()) {
            watcher.tend(version, now);
        }
        let watched = watchers.iter().all(Watcher::is_running);
        let update = inbox.take_until((!watched).then(|| now + POLL));
        match update.map(|(which, update)| (which, watchers[which].note(update))) {
            Some((which, Some(WatchChange::Event(event)))) => status.apply(which, event),
            // After the end of a watch only a call shows what it would have brought.
            None | Some((_, Some(WatchChange::Down(_)))) => {
                status = LeaseStatus::read(config, client).unwrap_or(status)
            }
            Some((_, None | Some(WatchChange::Up))) => {}
        }
        status.wall = sys::now().wall;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Annotations;
    use crate::program::config::{Invocation, parse};

    const NOON: i64 = 1_795_348_800_000_000;

    fn config() -> &'static StatusConfig {
        let set = [("LEASE_NAME", "web"), ("SERVICE_NAME", "front"), ("KUBE_API_URL", "http://127.0.0.1:8001")];
        let env = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        match parse(&["status".into()], &env, &|_| Ok("ns".into())) {
            Ok(Invocation::Status(config)) => Box::leak(Box::new(config)),
            other => panic!("{other:?}"),
        }
    }

    fn status_of(holder: Option<&str>, target: Option<&str>) -> LeaseStatus<'static> {
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
        let selector = target.map(|target| ("pod".into(), target.into())).into_iter().collect();
        LeaseStatus {
            config: config(),
            lease: Some(lease),
            service: Some(Ok(Service { version: 1, uid: "u".into(), fence: None, selector })),
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
        assert_eq!(a.changes(&[]), ["pod-a leads (transitions: 3)", "Service front points at pod-a"]);
        assert_eq!(a.changes(&a.facts()), Vec::<String>::new());
        assert_eq!(b.changes(&a.facts()), ["pod-b leads (transitions: 3)"]);
        let gone = LeaseStatus { lease: None, ..b.clone() };
        assert_eq!(gone.changes(&b.facts()), ["there is no Lease"]);
    }
}
