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
use std::io;
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
    let rest = if value.chars().nth(LONGEST).is_some() { "..." } else { "" };
    value.chars().take(LONGEST).flat_map(char::escape_debug).chain(rest.chars()).collect()
}

/// Reads variables and gathers what is wrong with them. Where a mistake was noted, what a method returns stands for
/// nothing: look at [`Reader::mistakes`] in the end.
pub struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    namespace_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// What is wrong with those read so far.
    pub mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// `env` looks a variable up; `namespace_file` reads the file at the given path, or says why it can't.
    pub fn new(
        env: &'a dyn Fn(&str) -> Option<OsString>,
        namespace_file: &'a dyn Fn(&Path) -> io::Result<String>,
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
        let service_account_dir = self.read(&SERVICE_ACCOUNT_DIR, |text| Ok(PathBuf::from(text)));
        let namespace = self.namespace(&service_account_dir).unwrap_or_default();
        let api_url = self.api_url().unwrap_or_default();
        let audit_log = self.read(&AUDIT_LOG, value::audit_target);
        LeaseAccess { lease_name, namespace, api_url, service_account_dir, audit_log }
    }

    fn namespace(&mut self, service_account_dir: &Path) -> Option<String> {
        if self.given(&LEASE_NAMESPACE).is_some() {
            return self.optional(&LEASE_NAMESPACE, value::dns_label);
        }
        let path = service_account_dir.join("namespace");
        let read = (self.namespace_file)(&path).map_err(|error| error.to_string()).and_then(|text| {
            let text = text.trim();
            value::dns_label(text).map_err(|problem| format!("it holds \"{}\", {problem}", shown(text)))
        });
        let note = |problem| {
            let path = shown(&path.to_string_lossy());
            let problem =
                format!("not set, and {path} cannot be used ({problem}). Set it to the namespace of the Lease");
            self.note(LEASE_NAMESPACE.name, None, problem);
        };
        read.map_err(note).ok()
    }

    fn api_url(&mut self) -> Option<String> {
        if self.given(&KUBE_API_URL).is_some() {
            return self.optional(&KUBE_API_URL, value::api_url);
        }
        let needed = [&KUBERNETES_SERVICE_HOST, &KUBERNETES_SERVICE_PORT];
        if let Some(missing) = needed.into_iter().find(|variable| self.given(variable).is_none()) {
            self.note(missing.name, None, NOT_IN_A_POD);
            return None;
        }
        // Some platforms (Gardener) set the host to a name. The kubelet sets the address as well, by another variable, so
        // no name has to be resolved.
        let host = self.given(&KUBERNETES_SERVICE_HOST).and_then(|host| host.into_string().ok());
        let is_address = host.is_some_and(|host| value::service_host(&host).is_ok());
        let address = &KUBERNETES_PORT_443_TCP_ADDR;
        let host = if is_address || self.given(address).is_none() { &KUBERNETES_SERVICE_HOST } else { address };
        let host = self.optional(host, value::service_host);
        let port = self.optional(&KUBERNETES_SERVICE_PORT, value::port);
        Some(format!("https://{}:{}", host?, port?))
    }

    /// POD_NAME, else HOSTNAME. Where it must also be a Pod's name, `names_a_pod`.
    pub fn identity(&mut self, names_a_pod: bool) -> String {
        let parse = if names_a_pod { value::dns_subdomain } else { value::visible };
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
        // One that cannot be read must not hide what is wrong between the others: one that fits them stands in for it.
        let known = deadline.is_some();
        let lease = lease.unwrap_or(Duration::from_secs(i32::MAX as u64));
        let deadline = deadline.unwrap_or(lease - Duration::from_nanos(1));
        let timing = Timing::new(lease, deadline, retry.unwrap_or(Duration::from_nanos(1)), interval);
        let mut errors = timing.as_ref().err().cloned().unwrap_or_default();
        errors.retain(|error| known || error.setting == LEASE_DURATION.name);
        if with_command && known && lease > deadline && lease - deadline < ROOM_TO_STOP {
            let problem = format!(
                "leaves no room to stop COMMAND: RENEWAL_DEADLINE ({deadline:?}) must be at least {ROOM_TO_STOP:?} before \
                 it; raise it, or set RENEWAL_DEADLINE to {:?} or less",
                lease.saturating_sub(ROOM_TO_STOP)
            );
            errors.push(TimingError { setting: LEASE_DURATION.name, value: lease, problem });
        }
        for TimingError { setting, value, problem } in errors {
            let given =
                (self.env)(setting).and_then(|given| given.into_string().ok()).filter(|given| !given.is_empty());
            self.note(setting, Some(&given.unwrap_or_else(|| format!("{value:?}"))), problem);
        }
        timing.unwrap_or_default()
    }
}

/// From the renewal deadline to the lease duration a COMMAND is asked to stop, and half-way killed and reaped. Each half is
/// enough to schedule a program, let it close its files and reap it on a busy node of one core.
const ROOM_TO_STOP: Duration = Duration::from_millis(500);

const NOT_IN_A_POD: &str = "not set, though every Pod has it. If this process is not running in a Pod, run kubectl proxy \
                            and set KUBE_API_URL=http://127.0.0.1:8001";

const NO_IDENTITY: &str =
    "not set, nor is HOSTNAME. Set it by the downward API: valueFrom.fieldRef.fieldPath: metadata.name";
