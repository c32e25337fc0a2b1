//! Counters of what the program does, and their form in Prometheus' text format.
//!
//! PURE: counting is an atomic addition, or one mutex held for a few instructions; what changes with time (who leads,
//! for how long yet) comes in as [`Reading`] when the text is asked for, so it is never stale.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::election::Version;

/// Upper bounds of the request histogram, in seconds: those of Kubernetes' own `rest_client_request_duration_seconds`,
/// so that its dashboards fit.
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// Bound on the rows of one table. Methods, codes and hosts are few; should an API server answer with ever new codes,
/// the surplus is counted as `other`.
const ROWS_MAX: usize = 64;

/// What a process counts. One for each process, shared by the client, the driver and the HTTP side.
#[derive(Debug)]
pub struct Metrics {
    lease: String,
    slow_paths: AtomicU64,
    transitions: AtomicU64,
    conflicts: AtomicU64,
    watch_restarts: AtomicU64,
    renewals: [AtomicU64; Renewal::ALL.len()],
    route_updates: [AtomicU64; RouteUpdate::ALL.len()],
    requests: Mutex<Vec<CallCount>>,
    durations: Mutex<Vec<CallDurations>>,
}

/// How one try at renewing the lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// Acknowledged.
    Ok,
    /// Answered 409: another write came first.
    Conflict,
    /// Anything else: no answer, or an error.
    Failed,
}

/// How one try at pointing the Service here ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteUpdate {
    /// The Service points here.
    Ok,
    /// Answered 409: read and decide again.
    Conflict,
    /// The Service bears a greater fence: a later leader's.
    Outranked,
    /// Anything else: no answer, or an error.
    Failed,
}

impl Renewal {
    const ALL: [(Renewal, &'static str); 3] =
        [(Renewal::Ok, "ok"), (Renewal::Conflict, "conflict"), (Renewal::Failed, "failed")];
}

impl RouteUpdate {
    const ALL: [(RouteUpdate, &'static str); 4] = [
        (RouteUpdate::Ok, "ok"),
        (RouteUpdate::Conflict, "conflict"),
        (RouteUpdate::Outranked, "outranked"),
        (RouteUpdate::Failed, "failed"),
    ];
}

/// What is true at the moment of asking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Whether this process leads.
    pub is_leader: bool,
    /// Whether the Lease names this process as the next in line.
    pub is_successor: bool,
    /// How much longer the term is valid; zero when this process does not lead.
    pub valid_for: Duration,
    /// Since the last acknowledged write was sent; absent when this process does not lead.
    pub renewal_age: Option<Duration>,
    /// How long the term has lasted; absent when this process does not lead.
    pub term: Option<Duration>,
    /// The term's fencing token; absent when this process does not lead.
    pub fencing_token: Option<Version>,
}

#[derive(Debug)]
struct CallCount {
    method: String,
    code: String,
    host: String,
    count: u64,
}

#[derive(Debug)]
struct CallDurations {
    verb: String,
    host: String,
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

impl Metrics {
    /// Everything at zero. `lease` is the Lease's name, the `name` label of client-go's metrics.
    pub fn new(lease: &str) -> Metrics {
        Metrics {
            lease: lease.to_owned(),
            slow_paths: AtomicU64::new(0),
            transitions: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            watch_restarts: AtomicU64::new(0),
            renewals: Default::default(),
            route_updates: Default::default(),
            requests: Mutex::default(),
            durations: Mutex::default(),
        }
    }

    /// One call to the API server: its method (`GET`), the answer's status (`None`: there was no answer), the API
    /// server's address, and how long it took.
    pub fn request(&self, method: &str, code: Option<u16>, host: &str, duration: Duration) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        count_request(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner), method, &code, host);
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        record_duration(&mut durations, method, host, duration.as_secs_f64());
    }

    /// One try at renewing the lease.
    pub fn renewal(&self, result: Renewal) {
        self.renewals[result as usize].fetch_add(1, Relaxed);
    }

    /// One try at pointing the Service here.
    pub fn route_update(&self, result: RouteUpdate) {
        self.route_updates[result as usize].fetch_add(1, Relaxed);
    }

    /// One holder of the Lease was seen to follow another.
    pub fn transition(&self) {
        self.transitions.fetch_add(1, Relaxed);
    }

    /// A write of the Lease was answered 409.
    pub fn conflict(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    /// The watch on the Lease had to be opened anew.
    pub fn watch_restart(&self) {
        self.watch_restarts.fetch_add(1, Relaxed);
    }

    /// A leader had to read the Lease before it could renew it: client-go's slow path.
    pub fn slow_path(&self) {
        self.slow_paths.fetch_add(1, Relaxed);
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn text(&self, now: &Reading) -> String {
        let mut text = Text::default();
        self.write_client_go(&mut text, now);
        self.write_requests(&mut text);
        self.write_counters(&mut text);
        self.write_reading(&mut text, now);
        text.into_string()
    }

    fn write_client_go(&self, text: &mut Text, now: &Reading) {
        let name = [("name", self.lease.as_str())];
        text.family("leader_election_master_status", MetricKind::Gauge, "1 while this process leads, else 0.");
        text.sample("leader_election_master_status", &name, u8::from(now.is_leader));
        let help = "Renewals that had to read the lease first.";
        text.family("leader_election_slowpath_total", MetricKind::Counter, help);
        text.sample("leader_election_slowpath_total", &name, self.slow_paths.load(Relaxed));
    }

    fn write_requests(&self, text: &mut Text) {
        let help = "Calls to the API server, by status code, method and host.";
        text.family("rest_client_requests_total", MetricKind::Counter, help);
        for row in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("code", row.code.as_str()), ("method", &row.method), ("host", &row.host)];
            text.sample("rest_client_requests_total", &labels, row.count);
        }
        let help = "How long calls to the API server took, by verb and host.";
        text.family("rest_client_request_duration_seconds", MetricKind::Histogram, help);
        for row in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            row.write(text);
        }
    }

    fn write_counters(&self, text: &mut Text) {
        text.family("leasehold_build_info", MetricKind::Gauge, "Always 1; the version is in the label.");
        text.sample("leasehold_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        for (name, help, counter) in [
            (
                "leasehold_transitions_total",
                "Times that one holder of the Lease was seen to follow another.",
                &self.transitions,
            ),
            ("leasehold_conflicts_total", "Writes of the Lease that were answered 409.", &self.conflicts),
            ("leasehold_watch_restarts_total", "Times the watch was opened anew.", &self.watch_restarts),
        ] {
            text.family(name, MetricKind::Counter, help);
            text.sample(name, &[], counter.load(Relaxed));
        }
        text.family("leasehold_renewals_total", MetricKind::Counter, "Tries at renewing the lease, by result.");
        for (result, label) in Renewal::ALL {
            let count = self.renewals[result as usize].load(Relaxed);
            text.sample("leasehold_renewals_total", &[("result", label)], count);
        }
        let help = "Tries at pointing the Service at this pod, by result.";
        text.family("leasehold_route_updates_total", MetricKind::Counter, help);
        for (result, label) in RouteUpdate::ALL {
            let count = self.route_updates[result as usize].load(Relaxed);
            text.sample("leasehold_route_updates_total", &[("result", label)], count);
        }
    }

    fn write_reading(&self, text: &mut Text, now: &Reading) {
        let help = "1 while the Lease names this process as the next in line, else 0.";
        text.family("leasehold_is_successor", MetricKind::Gauge, help);
        text.sample("leasehold_is_successor", &[], u8::from(now.is_successor));
        let seconds = |span: Duration| span.as_secs_f64();
        for (name, help, value) in [
            (
                "leasehold_valid_seconds",
                "How much longer this process may lead without another renewal.",
                Some(seconds(now.valid_for)),
            ),
            (
                "leasehold_renewal_age_seconds",
                "Since the last acknowledged write was sent; absent unless leading.",
                now.renewal_age.map(seconds),
            ),
            ("leasehold_term_seconds", "How long this term has lasted; absent unless leading.", now.term.map(seconds)),
        ] {
            text.family(name, MetricKind::Gauge, help);
            if let Some(value) = value {
                text.sample(name, &[], value);
            }
        }
        text.family("leasehold_fencing_token", MetricKind::Gauge, "This term's fencing token; absent unless leading.");
        if let Some(token) = now.fencing_token {
            text.sample("leasehold_fencing_token", &[], token);
        }
    }
}

fn count_request(rows: &mut Vec<CallCount>, method: &str, code: &str, host: &str) {
    let same = |row: &CallCount| row.method == method && row.code == code && row.host == host;
    if let Some(row) = rows.iter_mut().find(|row| same(row)) {
        row.count += 1;
    } else if rows.len() < ROWS_MAX {
        rows.push(CallCount { method: method.to_owned(), code: code.to_owned(), host: host.to_owned(), count: 1 });
    } else if let Some(last) = rows.last_mut() {
        (last.method, last.code, last.host) = ("other".to_owned(), "other".to_owned(), "other".to_owned());
        last.count += 1;
    }
}

fn record_duration(rows: &mut Vec<CallDurations>, verb: &str, host: &str, seconds: f64) {
    let found = rows.iter().position(|row| row.verb == verb && row.host == host);
    let at = found.unwrap_or_else(|| {
        if rows.len() < ROWS_MAX {
            rows.push(CallDurations {
                verb: verb.to_owned(),
                host: host.to_owned(),
                buckets: [0; BUCKETS.len()],
                count: 0,
                seconds: 0.0,
            });
        } else if let Some(last) = rows.last_mut() {
            (last.verb, last.host) = ("other".to_owned(), "other".to_owned());
        }
        rows.len() - 1
    });
    let row = &mut rows[at];
    row.count += 1;
    row.seconds += seconds;
    for (bucket, bound) in row.buckets.iter_mut().zip(BUCKETS) {
        *bucket += u64::from(seconds <= bound);
    }
}

impl CallDurations {
    fn write(&self, text: &mut Text) {
        let labels = [("verb", self.verb.as_str()), ("host", self.host.as_str())];
        for (count, bound) in self.buckets.iter().zip(BUCKETS) {
            let bound = bound.to_string();
            let labels = [labels[0], labels[1], ("le", bound.as_str())];
            text.sample("rest_client_request_duration_seconds_bucket", &labels, count);
        }
        let infinite = [labels[0], labels[1], ("le", "+Inf")];
        text.sample("rest_client_request_duration_seconds_bucket", &infinite, self.count);
        text.sample("rest_client_request_duration_seconds_sum", &labels, self.seconds);
        text.sample("rest_client_request_duration_seconds_count", &labels, self.count);
    }
}

/// What a metric is, to Prometheus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

/// Prometheus' text format, a family at a time: [`family`](Text::family) first, then its samples.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family with its `HELP` and `TYPE` lines. `help` is one line without backslashes.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.0.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
    }

    /// Adds a sample of the family begun last. A label's value may hold anything.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.0.extend([if at == 0 { "{" } else { "," }, label, "=\""]);
            for character in value.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, " {value}");
    }

    /// The text so far.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests;
