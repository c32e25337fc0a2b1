//! Counters of what the program does, and their form in Prometheus' text format.
//!
//! PURE: one mutex held for a few instructions; what changes with time (who leads, for how long yet) comes in as
//! [`StateView`] when the text is asked for, so it is never stale.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::program::state::StateView;
use crate::sys;

/// Upper bounds of the request histogram, in seconds: those of Kubernetes' own `rest_client_request_duration_seconds`,
/// so that its dashboards fit.
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// What a process counts. One for each process, shared by the client, the driver and the HTTP side.
#[derive(Debug)]
pub struct Metrics {
    lease: String,
    counts: Mutex<Counts>,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Counts {
    /// Renewals for which a leader had to read the Lease first: client-go's slow path.
    pub slow_paths: u64,
    /// Times that one holder of the Lease was seen to follow another.
    pub transitions: u64,
    /// Writes of the Lease that were answered 409.
    pub conflicts: u64,
    /// Times that the Lease's watch ended.
    pub watch_restarts: u64,
    /// Tries at renewing the Lease, by [`TryResult`].
    pub renewals: [u64; RESULTS.len() - 1],
    /// Tries at pointing the Service here, by [`TryResult`].
    pub route_updates: [u64; RESULTS.len()],
    /// Client connections of the HTTP side that are open.
    pub http_connections: usize,
    /// Requests with a well-formed head.
    pub http_requests: u64,
    http_rejections: [u64; REJECTIONS.len()],
    /// By method and host. They are few, and a status has three digits.
    calls: BTreeMap<(String, String), CallCounts>,
}

/// How one try at renewing the Lease, or at pointing the Service here, ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryResult {
    /// Acknowledged; the Service points here.
    Ok,
    /// Answered 409: another write came first.
    Conflict,
    /// Anything else: no answer, or an error.
    Failed,
    /// The Service bears a greater fence: a later leader's.
    Outranked,
}

const RESULTS: [&str; 4] = ["ok", "conflict", "failed", "outranked"];

/// Why a client's connection or request got no answer, or an error before it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The head was malformed or too large.
    Refused,
    /// The head took longer than its limit.
    Slow,
    /// The connection was closed to make room for another.
    Crowded,
    /// The client did not take its answer, or did not close, within the limit.
    Stalled,
    /// tiny_http did not answer.
    Unavailable,
    /// A connection could not be accepted.
    Accept,
}

const REJECTIONS: [&str; 6] = ["refused", "slow", "crowded", "stalled", "unavailable", "accept"];

#[derive(Debug, Default)]
struct CallCounts {
    by_code: BTreeMap<String, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
}

impl Metrics {
    /// Everything at zero. `lease` is the Lease's name, the `name` label of client-go's metrics.
    pub fn new(lease: &str) -> Metrics {
        Metrics { lease: lease.to_owned(), counts: Mutex::default() }
    }

    /// The counters, to be read or added to at once.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        sys::lock(&self.counts)
    }

    /// One call to the API server: its method (`GET`), the answer's status (`<error>`: there was no answer), the API
    /// server's address, and how long it took.
    pub fn request(&self, method: &str, code: String, host: &str, duration: Duration) {
        let mut counts = self.counts();
        let calls = counts.calls.entry((method.to_owned(), host.to_owned())).or_default();
        *calls.by_code.entry(code).or_default() += 1;
        calls.seconds += duration.as_secs_f64();
        for (bucket, bound) in calls.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(duration.as_secs_f64() <= bound);
        }
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn text(&self, now: &StateView) -> String {
        let (mut text, counts, lease) = (Text::default(), self.counts(), self.lease.as_str());
        let help = "1 while this process leads, else 0.";
        text.labelled("leader_election_master_status", help, "name", [(lease, u8::from(now.is_leader))]);
        let help = "Renewals that had to read the lease first.";
        text.labelled("leader_election_slowpath_total", help, "name", [(lease, counts.slow_paths)]);
        counts.write_calls(&mut text);
        let help = "Always 1; the version is in the label.";
        text.labelled("leasehold_build_info", help, "version", [(env!("CARGO_PKG_VERSION"), 1)]);
        text.single("leasehold_transitions_total", "Changes from one holder to another.", Some(counts.transitions));
        text.single("leasehold_conflicts_total", "Writes of the Lease answered 409.", Some(counts.conflicts));
        text.single("leasehold_watch_restarts_total", "Times the watch was opened anew.", Some(counts.watch_restarts));
        let help = "Tries at renewing the lease, by result.";
        text.labelled("leasehold_renewals_total", help, "result", RESULTS.into_iter().zip(counts.renewals));
        let help = "Tries at pointing the Service at this pod, by result.";
        text.labelled("leasehold_route_updates_total", help, "result", RESULTS.into_iter().zip(counts.route_updates));
        let is_successor = !now.is_leader && now.successor.as_ref() == Some(&now.pod);
        let help = "1 while the Lease names this process as the next in line, else 0.";
        text.single("leasehold_is_successor", help, Some(u8::from(is_successor)));
        let help = "How much longer this process may lead without another renewal.";
        text.single("leasehold_valid_seconds", help, Some(now.valid_for.as_secs_f64()));
        let help = "Since the last acknowledged write was sent; absent unless leading.";
        text.single("leasehold_renewal_age_seconds", help, now.renewal_age.map(|age| age.as_secs_f64()));
        let help = "How long this term has lasted; absent unless leading.";
        text.single("leasehold_term_seconds", help, now.term.map(|term| term.as_secs_f64()));
        let help = "This term's fencing token; absent unless leading.";
        text.single("leasehold_fencing_token", help, now.fencing_token.filter(|_| now.is_leader));
        text.single("leasehold_http_connections", "Client connections open.", Some(counts.http_connections));
        text.single("leasehold_http_requests_total", "Requests with a well-formed head.", Some(counts.http_requests));
        let help = "Connections and requests that were turned away, by reason.";
        let rejections = REJECTIONS.into_iter().zip(counts.http_rejections);
        text.labelled("leasehold_http_rejected_total", help, "reason", rejections);
        text.0
    }
}

impl Counts {
    /// Counts what got no answer.
    pub fn reject(&mut self, reason: Rejection) {
        self.http_rejections[reason as usize] += 1;
    }

    fn write_calls(&self, text: &mut Text) {
        let name = "rest_client_requests_total";
        text.family(name, "counter", "Calls to the API server, by status code, method and host.");
        for ((method, host), calls) in &self.calls {
            for (code, count) in &calls.by_code {
                text.sample(name, &[("code", code), ("method", method), ("host", host)], count);
            }
        }
        let name = "rest_client_request_duration_seconds";
        text.family(name, "histogram", "How long calls to the API server took, by verb and host.");
        for ((verb, host), calls) in &self.calls {
            let (labels, count) = ([("verb", verb.as_str()), ("host", host)], calls.by_code.values().sum::<u64>());
            let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(calls.buckets.into_iter().chain([count])) {
                text.sample(&format!("{name}_bucket"), &[labels[0], labels[1], ("le", &bound)], count);
            }
            text.sample(&format!("{name}_sum"), &labels, calls.seconds);
            text.sample(&format!("{name}_count"), &labels, count);
        }
    }
}

/// Prometheus' text format, a family at a time.
#[derive(Debug, Default)]
pub struct Text(pub String);

impl Text {
    /// Begins a family with its `HELP` and `TYPE` lines. `help` is one line without backslashes.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
    }

    /// Adds a counter (its name ends in `_total`) or a gauge without labels. `None`: its value is not known.
    pub fn single(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        self.family(name, kind(name), help);
        if let Some(value) = value {
            self.sample(name, &[], value);
        }
    }

    /// Adds a counter (its name ends in `_total`) or a gauge with one label.
    pub fn labelled<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        rows: impl IntoIterator<Item = (&'a str, impl Display)>,
    ) {
        self.family(name, kind(name), help);
        for (row, value) in rows {
            self.sample(name, &[(label, row)], value);
        }
    }

    /// Adds a sample of the family begun last. A label's value may hold anything.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn kind(name: &str) -> &'static str {
    if name.ends_with("_total") { "counter" } else { "gauge" }
}

#[cfg(test)]
mod tests;
