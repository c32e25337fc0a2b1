//! The one table of variables, and the help text made from it.
//!
//! PURE. `parse` reads the environment through this table only, `--help` prints it, and a test holds
//! `docs/reference.md` to it: what is documented, what is read and what applies when nothing is set are one thing.

use std::fmt::Write as _;

use crate::environment::Fallback::{Described, Required, Value};
use crate::environment::{
    AUDIT_LOG, HOSTNAME, KUBE_API_URL, KUBERNETES_PORT_443_TCP_ADDR, KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT,
    LEASE_DURATION, LEASE_NAMESPACE, POD_NAME, POD_REVISION, POD_UID, RENEW_INTERVAL, RENEWAL_DEADLINE, RETRY_PERIOD,
    SERVICE_ACCOUNT_DIR, Variable,
};

variables! {
    LEASE_NAME: Required,
        "The Lease to elect through. It has no default: two programs that share one by accident would silence each other.";
    SERVICE_NAME: Described("none: no routing"),
        "The Service to point at the leader.";
    ROUTE_LABEL: Value("pod"),
        "The label key on Pods, and the selector key on the Service.";
    PORT: Value("8080"),
        "The HTTP port. 0 takes any free one and logs it.";
    TASK_INTERVAL: Value("1"),
        "The wait between two runs of the built-in leader loop.";
    HEALTH_URL: Described("none: no health gate"),
        "Campaign, and go on leading, only while this answers 2xx. http:// to a loopback address.";
    HEALTH_INTERVAL: Value("2"),
        "The wait between two health checks.";
    HEALTH_FAILURES: Value("3"),
        "How many failed checks in a row make a leader yield.";
    EVENTS: Value("on"),
        "Kubernetes Events on the Lease: on or off.";
    DRAIN_TIMEOUT: Value("5"),
        "How long HTTP is still answered after a release while the Service points here. 0: not at all.";
    RUST_LOG: Value("info"),
        "What is logged: off, error, warn, info, debug or trace, or MODULE=LEVEL, separated by commas.";
    LOG_FORMAT: Value("text"),
        "How it is logged: text, or json for machines.";
}

/// Every variable that leasehold reads, in the order in which people look for them.
pub const VARIABLES: &[Variable] = &[
    LEASE_NAME,
    LEASE_NAMESPACE,
    LEASE_DURATION,
    RENEWAL_DEADLINE,
    RETRY_PERIOD,
    RENEW_INTERVAL,
    POD_NAME,
    HOSTNAME,
    POD_UID,
    POD_REVISION,
    SERVICE_NAME,
    ROUTE_LABEL,
    PORT,
    TASK_INTERVAL,
    HEALTH_URL,
    HEALTH_INTERVAL,
    HEALTH_FAILURES,
    EVENTS,
    DRAIN_TIMEOUT,
    KUBERNETES_SERVICE_HOST,
    KUBERNETES_SERVICE_PORT,
    KUBERNETES_PORT_443_TCP_ADDR,
    KUBE_API_URL,
    SERVICE_ACCOUNT_DIR,
    AUDIT_LOG,
    RUST_LOG,
    LOG_FORMAT,
];

/// The forms in which the program is called, and what each does.
pub(super) const USAGE: &[(&str, &str)] = &[
    ("leasehold", "elect, route, run the leader loop, serve HTTP"),
    ("leasehold -- COMMAND ARG...", "the same, with COMMAND in the leader loop's place: it runs only while leading"),
    ("leasehold status [--json] [--watch]", "one look at the Lease and the Service; --watch follows them"),
    ("leasehold yield [--to POD]", "ask the leader to hand over, to POD or to anyone"),
    ("leasehold install FOLDER", "copy this binary into FOLDER, for a container of another image to run"),
    ("leasehold --help | --version", "this text, or the version"),
];

/// What `leasehold --help` prints.
pub fn help() -> String {
    let mut text = String::from("Leader election for any container on Kubernetes.\n\nUsage:\n");
    // Writing to a String cannot fail, here and below.
    for (form, meaning) in USAGE {
        let _ = writeln!(text, "  {form}\n      {meaning}");
    }
    text.push_str("\nSettings, from the environment (an empty value counts as unset):\n");
    for variable in VARIABLES {
        let _ = writeln!(text, "  {} [{}]", variable.name, variable.default.text());
        for line in wrapped(variable.meaning, 90) {
            let _ = writeln!(text, "      {line}");
        }
    }
    text.push_str(
        "\nDurations are seconds (15, 0.5) or a number with ms, s, m or h. It must hold that\n\
         LEASE_DURATION > RENEWAL_DEADLINE > 1.2 x RETRY_PERIOD > 0, and that RENEW_INTERVAL is at most\n\
         half of RENEWAL_DEADLINE.\n\n\
         Exit codes: 0 after SIGTERM or SIGINT; 2 when the configuration is wrong; with a COMMAND, its own\n\
         (128 + n for a signal, 126 or 127 when it can't be started).\n",
    );
    text
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        let gap = if line.is_empty() { "" } else { " " };
        line = line + gap + word;
    }
    lines.push(line);
    lines
}

/// Names that are probably meant to be one of ours (`LEASE_DURATON`), each with the one that is read.
///
/// A misspelt variable is otherwise a setting silently dropped. It is a hint for the log and no mistake: the name may
/// belong to another program. Names under eight letters are left alone, as they resemble too much.
pub fn misspelt<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, &'static str)> {
    let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
    let meant = |name: &str| {
        VARIABLES.iter().map(|variable| variable.name).find(|ours| ours.len() >= 8 && edits(name, ours) <= 2)
    };
    names.into_iter().filter(|name| !known(name)).filter_map(|name| Some((name, meant(name)?))).collect()
}

/// Levenshtein's distance, in bytes.
fn edits(from: &str, to: &str) -> usize {
    if from.len().abs_diff(to.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let cost = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised() {
        let names =
            ["LEASE_DURATON", "PATH", "LEASE_NAME", "PORTS", "SERVICE_NAMES", "DEMO_SERVICE_HOST", "LEASENAME", ""];
        assert_eq!(
            misspelt(names),
            [("LEASE_DURATON", "LEASE_DURATION"), ("SERVICE_NAMES", "SERVICE_NAME"), ("LEASENAME", "LEASE_NAME")]
        );
    }
}
