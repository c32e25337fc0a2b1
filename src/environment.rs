//! What a Pod's environment says: its names, the election's durations, the API server, the ServiceAccount directory.
//! `Elector` and the program both read it here.
//!
//! PURE. The environment and the namespace file come in through closures, so that tests can try all of it. Values are
//! parsed, not validated: what comes out can't be wrong any more. Mistakes are collected instead of returned one by
//! one, because each round trip through a manifest, a rollout and a crash loop costs minutes.

pub(crate) mod connect;
pub mod value;
mod variables;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::value::Host;
pub use self::variables::*;
use crate::election::{Timing, TimingError};
use crate::kube::AuditTarget;

/// One Lease, and the way to the API server that has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseAccess {
    /// The Lease's name.
    pub lease_name: String,
    /// Its namespace, and the Pod's and the Service's.
    pub namespace: String,
    /// The API server: scheme, address or localhost, port. Plain HTTP is for `kubectl proxy`, to which no token is sent.
    pub api_url: String,
    /// Why `api_url` is another address than KUBERNETES_SERVICE_HOST, for the log.
    pub api_note: Option<String>,
    /// Holds token, ca.crt and namespace.
    pub service_account_dir: PathBuf,
    /// Where API calls are recorded, if anywhere.
    pub audit_log: Option<AuditTarget>,
}

impl LeaseAccess {
    /// The Lease, as `namespace/name`.
    pub fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.lease_name)
    }
}

/// One thing that is wrong in the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// The variable, or the argument.
    pub name: String,
    /// Its value, fit to be shown; none when there is none.
    pub value: Option<String>,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl Mistake {
    pub(crate) fn new(name: &str, value: Option<&str>, problem: impl Into<String>) -> Mistake {
        Mistake { name: name.to_owned(), value: value.map(shown), problem: problem.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}=\"{value}\": {}", self.name, self.problem),
            None => write!(f, "{}: {}", self.name, self.problem),
        }
    }
}

/// All that is wrong in the configuration; at least one thing. Displays as a line for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// The value as a log may show it: one line, not too long, and without the password that a URL may hold.
pub fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    let from = value.find("://").map_or(0, |at| at + "://".len());
    let value = match value.rfind('@') {
        Some(to) if to > from => format!("{}...{}", &value[..from], &value[to..]),
        _ => value.to_owned(),
    };
    let mut text = String::new();
    for escaped in value.chars().map(|c| c.escape_debug().to_string()) {
        if text.len() + escaped.len() > LONGEST {
            return text + "...";
        }
        text.push_str(&escaped);
    }
    text
}

/// Reads variables and gathers what is wrong with them. Where a mistake was noted, what a method returns stands for
/// nothing: look at [`Reader::mistakes`] in the end.
pub struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    namespace_file: &'a dyn Fn(&Path) -> Result<String, String>,
    /// What is wrong with those read so far.
    pub mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// `env` looks a variable up; `namespace_file` reads the file at the given path, or says why it can't.
    pub fn new(
        env: &'a dyn Fn(&str) -> Option<OsString>,
        namespace_file: &'a dyn Fn(&Path) -> Result<String, String>,
    ) -> Reader<'a> {
        Reader { env, namespace_file, mistakes: Vec::new() }
    }

    /// Something is wrong.
    pub fn note(&mut self, name: &str, value: Option<&str>, problem: impl Into<String>) {
        self.mistakes.push(Mistake::new(name, value, problem));
    }

    /// An empty value counts as unset: manifests and `docker run -e` leave those behind.
    pub fn given(&self, variable: &Variable) -> Option<OsString> {
        (self.env)(variable.name).filter(|value| !value.is_empty())
    }

    /// The variable's value, its default where it is unset.
    pub fn read<T: Default>(&mut self, variable: &Variable, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        self.optional(variable, parse).unwrap_or_default()
    }

    /// Reads a variable that need not be set. `None`: it is unset and has no default, or there is a mistake.
    pub fn optional<T>(&mut self, variable: &Variable, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let given = self.given(variable);
        let text = match (&given, variable.default) {
            (Some(given), _) => match given.to_str() {
                Some(text) => text,
                None => {
                    self.note(variable.name, Some(&given.to_string_lossy()), "not valid UTF-8");
                    return None;
                }
            },
            (None, Fallback::Value(text)) => text,
            (None, Fallback::Required) => {
                self.note(variable.name, None, format!("not set. {}", variable.meaning));
                return None;
            }
            (None, Fallback::Described(_)) => return None,
        };
        parse(text).map_err(|problem| self.note(variable.name, Some(text), problem)).ok()
    }

    /// All but the Lease's name, which is `lease_name`.
    pub fn access(&mut self, lease_name: String) -> LeaseAccess {
        let service_account_dir = self.optional(&SERVICE_ACCOUNT_DIR, value::path);
        let namespace = self.namespace(service_account_dir.as_deref()).unwrap_or_default();
        let (api_url, api_note) = self.api().unwrap_or_default();
        let service_account_dir = service_account_dir.unwrap_or_default();
        let audit_log = self.read(&AUDIT_LOG, value::audit_target);
        LeaseAccess { lease_name, namespace, api_url, api_note, service_account_dir, audit_log }
    }

    fn namespace(&mut self, service_account_dir: Option<&Path>) -> Option<String> {
        if self.given(&LEASE_NAMESPACE).is_some() {
            return self.optional(&LEASE_NAMESPACE, value::dns_label);
        }
        let path = service_account_dir?.join("namespace");
        let shown_path = shown(&path.to_string_lossy());
        let problem = match (self.namespace_file)(&path) {
            Ok(text) => match value::dns_label(text.trim()) {
                Ok(namespace) => return Some(namespace),
                Err(problem) => format!("not set, and {shown_path} holds \"{}\": {problem}", shown(text.trim())),
            },
            Err(problem) => {
                format!("not set, and {shown_path} can't be read ({problem}). Set it to the namespace of the Lease")
            }
        };
        self.note(LEASE_NAMESPACE.name, None, problem);
        None
    }

    fn api(&mut self) -> Option<(String, Option<String>)> {
        if self.given(&KUBE_API_URL).is_some() {
            return Some((self.read(&KUBE_API_URL, value::api_url), None));
        }
        let (host, port) = (&KUBERNETES_SERVICE_HOST, &KUBERNETES_SERVICE_PORT);
        if self.given(host).is_none() && self.given(port).is_none() {
            self.note(host.name, None, NOT_IN_A_POD);
            return None;
        }
        for (variable, other) in [(host, port), (port, host)] {
            if self.given(variable).is_none() {
                self.note(variable.name, None, format!("not set; every Pod has it beside {}", other.name));
            }
        }
        let (host, port) = (self.service_host(), self.read(port, value::port));
        host.map(|(host, note)| (format!("https://{host}:{port}"), note))
    }

    /// Some platforms (Gardener) set KUBERNETES_SERVICE_HOST to a name. The kubelet sets the address as well, by
    /// another variable, so no name has to be resolved.
    fn service_host(&mut self) -> Option<(Host, Option<String>)> {
        let (host, address) = (&KUBERNETES_SERVICE_HOST, &KUBERNETES_PORT_443_TCP_ADDR);
        let name = self.given(host).and_then(|given| given.into_string().ok());
        match name.filter(|name| value::is_host_name(name)) {
            Some(name) if self.given(address).is_some() => {
                let read = self.optional(address, value::service_host)?;
                let note = format!("{}={name} is a name: using {}={read}", host.name, address.name);
                Some((read, Some(note)))
            }
            _ => Some((self.optional(host, value::service_host)?, None)),
        }
    }

    /// POD_NAME, else HOSTNAME. Where it must also be a Pod's name, `names_a_pod`.
    pub fn identity(&mut self, names_a_pod: bool) -> String {
        let parse = if names_a_pod { value::dns_subdomain } else { value::identity };
        let variable = if self.given(&POD_NAME).is_some() { &POD_NAME } else { &HOSTNAME };
        if self.given(variable).is_none() {
            self.note(POD_NAME.name, None, NO_IDENTITY);
        }
        self.read(variable, parse)
    }

    /// The election's durations, checked against each other; with a COMMAND, whether they leave room to stop it.
    pub fn timing(&mut self, with_command: bool) -> Timing {
        let [lease, deadline, retry, interval] = [&LEASE_DURATION, &RENEWAL_DEADLINE, &RETRY_PERIOD, &RENEW_INTERVAL]
            .map(|variable| self.optional(variable, value::interval));
        // A value that can't be read must not hide what is wrong between the others: zero stands in for it, and what
        // is then said about zero is left out.
        let [lease_or_zero, deadline_or_zero, retry_or_zero] = [lease, deadline, retry].map(Option::unwrap_or_default);
        let timing = Timing::new(lease_or_zero, deadline_or_zero, retry_or_zero, interval);
        for error in timing.as_ref().err().into_iter().flatten() {
            let (variable, read) = match error {
                TimingError::LeaseDurationNotWholeSeconds(_) => (&LEASE_DURATION, lease),
                TimingError::RetryPeriodZero => (&RETRY_PERIOD, retry),
                TimingError::DeadlineNotBelowLeaseDuration { .. } => (&LEASE_DURATION, lease.and(deadline)),
                TimingError::DeadlineNotAboveRetryPeriod { .. } => (&RENEWAL_DEADLINE, deadline.and(retry)),
                TimingError::RenewIntervalOutOfRange { .. } => (&RENEW_INTERVAL, interval.and(deadline)),
            };
            if read.is_some() {
                self.note_as_given(variable, timing_problem(error));
            }
        }
        if with_command && let (Some(lease), Some(deadline)) = (lease, deadline) {
            self.room_to_stop(lease, deadline);
        }
        timing.unwrap_or_default()
    }

    /// Between the renewal deadline and the lease duration a COMMAND is asked to stop, then killed and reaped
    /// (`Timing::kill_after` is half-way).
    fn room_to_stop(&mut self, lease: Duration, deadline: Duration) {
        let gap = lease.saturating_sub(deadline);
        if !gap.is_zero() && gap / 2 < LEAST_ROOM {
            let problem = format!(
                "leaves no room to stop COMMAND: of the {gap:?} from RENEWAL_DEADLINE ({deadline:?}) on, half is \
                 between SIGTERM and SIGKILL and half after it, each at least {LEAST_ROOM:?}; raise it, or set \
                 RENEWAL_DEADLINE to {:?} or less",
                lease.saturating_sub(LEAST_ROOM * 2)
            );
            self.note_as_given(&LEASE_DURATION, problem);
        }
    }

    /// Something is wrong with a variable that could be read: shows what was set, or else its default.
    fn note_as_given(&mut self, variable: &Variable, problem: String) {
        let given = self.given(variable).map(|value| value.to_string_lossy().into_owned());
        self.note(variable.name, Some(&given.unwrap_or_else(|| variable.default.text().to_owned())), problem);
    }
}

/// The least time between SIGTERM and SIGKILL, and between SIGKILL and a rival's earliest start: enough to schedule a
/// program, let it close its files and reap it on a busy node of one core.
const LEAST_ROOM: Duration = Duration::from_millis(250);

const NOT_IN_A_POD: &str = "not set: this process is not running in a Pod. Elsewhere, run kubectl proxy and set \
                            KUBE_API_URL=http://127.0.0.1:8001";

const NO_IDENTITY: &str =
    "not set, nor is HOSTNAME. Set it by the downward API: valueFrom.fieldRef.fieldPath: metadata.name";

/// The mistake in the words of the variables, with both values and a hint.
fn timing_problem(error: &TimingError) -> String {
    match error {
        TimingError::LeaseDurationNotWholeSeconds(lease) => {
            format!("must be whole seconds, as a Lease holds no fractions: {}s, for example", lease.as_secs() + 1)
        }
        TimingError::RetryPeriodZero => "must be more than zero".into(),
        TimingError::DeadlineNotBelowLeaseDuration { renewal_deadline, lease_duration } => format!(
            "must be more than RENEWAL_DEADLINE ({renewal_deadline:?}), or rivals take over from a leader that still \
             leads; raise it, or set RENEWAL_DEADLINE below {lease_duration:?}"
        ),
        TimingError::DeadlineNotAboveRetryPeriod { renewal_deadline, retry_period } => format!(
            "must be more than 1.2 x RETRY_PERIOD ({retry_period:?}), or a leader gives up before its second try; set \
             it above {:?}, or RETRY_PERIOD below {:?}",
            *retry_period * 6 / 5,
            *renewal_deadline * 5 / 6
        ),
        TimingError::RenewIntervalOutOfRange { renewal_deadline, .. } => format!(
            "must be at most half of RENEWAL_DEADLINE ({renewal_deadline:?}), or no time is left to try again; set it \
             to {:?} or less",
            *renewal_deadline / 2
        ),
    }
}
