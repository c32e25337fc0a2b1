//! The one table of variables, and the help text made from it.
//!
//! PURE. `parse` reads the environment through this table only, `--help` prints it, and a test holds
//! `docs/reference.md` to it: what is documented, what is read and what applies when nothing is set are one thing.

use std::fmt::Write as _;

/// One environment variable that leasehold reads.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name in the environment.
    pub name: &'static str,
    /// What holds when it is unset or empty.
    pub default: Fallback,
    /// What it is for, in a sentence or two.
    pub meaning: &'static str,
}

/// What holds when a variable is unset or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing can stand in for it.
    Required,
    /// This text, read exactly as if it had been set.
    Value(&'static str),
    /// Something that depends on the rest, in words.
    Described(&'static str),
}

impl Fallback {
    /// As it stands in the column "default".
    pub fn text(self) -> &'static str {
        match self {
            Fallback::Required => "required",
            Fallback::Value(text) | Fallback::Described(text) => text,
        }
    }
}

use Fallback::{Described, Required, Value};

macro_rules! variables {
    ($($name:ident: $default:expr, $meaning:literal;)*) => {
        $(pub(super) const $name: Variable =
            Variable { name: stringify!($name), default: $default, meaning: $meaning };)*

        /// Every variable that leasehold reads, in the order in which people look for them.
        pub const VARIABLES: &[Variable] = &[$($name),*];
    };
}

variables! {
    LEASE_NAME: Required,
        "The Lease to elect through. It has no default: two programs that share one by accident would silence each other.";
    LEASE_NAMESPACE: Described("the service account's namespace file"),
        "The namespace of the Lease, and of the Pod and the Service.";
    LEASE_DURATION: Value("15"),
        "How long rivals wait without a sign of life before they take over. Whole seconds.";
    RENEWAL_DEADLINE: Value("10"),
        "How long a leader tries to renew, counted from its last successful write, before it stops.";
    RETRY_PERIOD: Value("2"),
        "The wait between tries after a failure, and between polls where a watch is not possible.";
    RENEW_INTERVAL: Described("half of RENEWAL_DEADLINE"),
        "The wait between renewals.";
    POD_NAME: Described("HOSTNAME"),
        "The identity, as shown in the Lease's HOLDER column. Give it by the downward API (metadata.name).";
    HOSTNAME: Described("none"),
        "The identity when POD_NAME is unset. The container runtime sets it.";
    POD_UID: Described("none"),
        "This Pod's uid by the downward API (metadata.uid): a restarted container takes its lease back at once.";
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
    KUBERNETES_SERVICE_HOST: Described("set in every Pod"),
        "The API server's address: an IPv4 or IPv6 address or localhost, as names are not resolved.";
    KUBERNETES_SERVICE_PORT: Described("set in every Pod"),
        "The API server's port.";
    KUBE_API_URL: Described("none"),
        "The API server's URL in place of the two above: https://ADDRESS:PORT, or http://LOOPBACK:PORT for kubectl proxy, to which no token is sent.";
    SERVICE_ACCOUNT_DIR: Value("/var/run/secrets/kubernetes.io/serviceaccount"),
        "The directory that holds token, ca.crt and namespace.";
    AUDIT_LOG: Value("off"),
        "One JSON line for each API call: off, stdout, stderr or a file.";
    RUST_LOG: Value("info"),
        "What is logged: off, error, warn, info, debug or trace, or MODULE=LEVEL, separated by commas.";
    LOG_FORMAT: Value("text"),
        "How it is logged: text, or json for machines.";
}

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
