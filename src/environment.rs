//! What a Pod's environment says: its names, the election's durations, the API server, the ServiceAccount directory.
//! `Elector` and the program both read it here.
//!
//! PURE. The environment and the namespace file come in through closures, so that tests can try all of it. Values are
//! parsed, not validated: what comes out can't be wrong any more. Mistakes are collected instead of returned one by
//! one, because each round trip through a manifest, a rollout and a crash loop costs minutes.

pub(crate) mod connect;
pub mod value;

use core::net::SocketAddr;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::value::Host;
use crate::election::{Timing, TimingError};
use crate::kube::AuditTarget;

/// One environment variable.
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
    /// The text of the column "default".
    pub fn text(self) -> &'static str {
        match self {
            Fallback::Required => "required",
            Fallback::Value(text) | Fallback::Described(text) => text,
        }
    }
}

/// Declares variables as constants: name, default, meaning.
macro_rules! variables {
    ($($name:ident: $default:expr, $meaning:literal;)*) => {
        $(#[allow(missing_docs, reason = "the meaning says it")]
        pub const $name: $crate::environment::Variable =
            $crate::environment::Variable { name: stringify!($name), default: $default, meaning: $meaning };)*
    };
}
use Fallback::{Described, Value};

variables! {
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
    POD_REVISION: Described("none"),
        "This Pod's revision by the downward API (the label pod-template-hash or controller-revision-hash): in a rollout the Lease goes to a Pod that stays.";
    KUBERNETES_SERVICE_HOST: Described("set in every Pod"),
        "The API server's address: an IPv4 or IPv6 address or localhost. Where it is a name, which is not resolved, KUBERNETES_PORT_443_TCP_ADDR is used.";
    KUBERNETES_SERVICE_PORT: Described("set in every Pod"),
        "The API server's port.";
    KUBERNETES_PORT_443_TCP_ADDR: Described("set in every Pod"),
        "The API server's address where KUBERNETES_SERVICE_HOST is a name.";
    KUBE_API_URL: Described("none"),
        "The API server's URL in place of the three above: https://ADDRESS:PORT, or http://LOOPBACK:PORT for kubectl proxy, to which no token is sent.";
    SERVICE_ACCOUNT_DIR: Value("/var/run/secrets/kubernetes.io/serviceaccount"),
        "The directory that holds token, ca.crt and namespace.";
    AUDIT_LOG: Value("off"),
        "One JSON line for each API call: off, stdout, stderr or a file.";
}

/// One Lease, and the way to the API server that has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseAccess {
    /// The Lease's name.
    pub lease_name: String,
    /// Its namespace, and the Pod's and the Service's.
    pub namespace: String,
    /// Where the API server listens.
    pub api: ApiEndpoint,
    /// Why `api` is another address than KUBERNETES_SERVICE_HOST, for the log.
    pub api_note: Option<String>,
    /// Holds token, ca.crt and namespace.
    pub service_account_dir: PathBuf,
    /// Where API calls are recorded, if anywhere.
    pub audit_log: Option<AuditTarget>,
}

/// Where the API server listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiEndpoint {
    /// With TLS, verified against the service account's CA, and with its token.
    Https {
        /// An address, or localhost.
        host: Host,
        /// The port.
        port: u16,
    },
    /// `kubectl proxy` on this machine. No token is sent: it never travels in the clear.
    Http {
        /// A loopback address, or localhost.
        host: Host,
        /// The port.
        port: u16,
    },
}

impl ApiEndpoint {
    /// Scheme, host and port, to which a path can be appended: `https://[fd00::1]:443`.
    pub fn url(&self) -> String {
        let (scheme, host, port) = match self {
            ApiEndpoint::Https { host, port } => ("https", host, port),
            ApiEndpoint::Http { host, port } => ("http", host, port),
        };
        format!("{scheme}://{host}:{port}")
    }

    /// Where to connect to; no name is left to resolve.
    pub fn socket_address(&self) -> SocketAddr {
        let (ApiEndpoint::Https { host, port } | ApiEndpoint::Http { host, port }) = self;
        SocketAddr::new(host.ip(), *port)
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
        for (i, mistake) in self.0.iter().enumerate() {
            write!(f, "{}{mistake}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
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

/// Reads variables and gathers what is wrong with them. A method that returns `None` has either noted a mistake or
/// found nothing set where nothing need be.
pub struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    /// What is wrong with those read so far.
    pub mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// `env` looks a variable up.
    pub fn new(env: &'a dyn Fn(&str) -> Option<OsString>) -> Reader<'a> {
        Reader { env, mistakes: Vec::new() }
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
    pub fn read<T>(&mut self, variable: &Variable, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let given = self.given(variable);
        let text = match (&given, variable.default) {
            (Some(given), _) => match given.to_str() {
                Some(text) => text,
                None => {
                    self.note(variable.name, Some(&given.to_string_lossy()), "not valid UTF-8");
                    return None;
                }
            },
            (None, Value(text)) => text,
            (None, Fallback::Required) => {
                self.note(variable.name, None, format!("not set. {}", variable.meaning));
                return None;
            }
            (None, Described(_)) => return None,
        };
        parse(text).map_err(|problem| self.note(variable.name, Some(text), problem)).ok()
    }

    /// Something is wrong with a variable that could be read: shows what was set, or else its default.
    pub fn note_as_given(&mut self, variable: &Variable, problem: String) {
        let given = self.given(variable).map(|value| value.to_string_lossy().into_owned());
        let text = given.unwrap_or_else(|| variable.default.text().to_owned());
        self.note(variable.name, Some(&text), problem);
    }

    /// All but the Lease's name, which is `lease_name`. `namespace_file` reads the file at the given path, or says why
    /// it can't.
    pub fn access(
        &mut self,
        lease_name: Option<String>,
        namespace_file: &dyn Fn(&Path) -> Result<String, String>,
    ) -> Option<LeaseAccess> {
        let service_account_dir = self.read(&SERVICE_ACCOUNT_DIR, value::path);
        let namespace = self.namespace(service_account_dir.as_deref(), namespace_file);
        let (api, api_note) = self.api().unzip();
        let audit_log = self.read(&AUDIT_LOG, value::audit_target);
        Some(LeaseAccess {
            lease_name: lease_name?,
            namespace: namespace?,
            api: api?,
            api_note: api_note?,
            service_account_dir: service_account_dir?,
            audit_log: audit_log?,
        })
    }

    fn namespace(
        &mut self,
        service_account_dir: Option<&Path>,
        namespace_file: &dyn Fn(&Path) -> Result<String, String>,
    ) -> Option<String> {
        if self.given(&LEASE_NAMESPACE).is_some() {
            return self.read(&LEASE_NAMESPACE, value::dns_label);
        }
        let path = service_account_dir?.join("namespace");
        let shown_path = shown(&path.to_string_lossy());
        let problem = match namespace_file(&path) {
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

    fn api(&mut self) -> Option<(ApiEndpoint, Option<String>)> {
        if self.given(&KUBE_API_URL).is_some() {
            return Some((self.read(&KUBE_API_URL, value::api_url)?, None));
        }
        let (host, port) = (&KUBERNETES_SERVICE_HOST, &KUBERNETES_SERVICE_PORT);
        match (self.given(host).is_some(), self.given(port).is_some()) {
            (true, true) => {}
            (false, false) => {
                self.note(
                    host.name,
                    None,
                    "not set: this process is not running in a Pod. Elsewhere, run kubectl proxy and set \
                     KUBE_API_URL=http://127.0.0.1:8001",
                );
                return None;
            }
            (true, false) => self.note(port.name, None, "not set; every Pod has it beside KUBERNETES_SERVICE_HOST"),
            (false, true) => self.note(host.name, None, "not set; every Pod has it beside KUBERNETES_SERVICE_PORT"),
        }
        let (host, port) = (self.service_host(), self.read(port, value::port));
        let (host, note) = host?;
        Some((ApiEndpoint::Https { host, port: port? }, note))
    }

    /// Some platforms (Gardener) set KUBERNETES_SERVICE_HOST to a name. The kubelet sets the address as well, by
    /// another variable, so no name has to be resolved.
    fn service_host(&mut self) -> Option<(Host, Option<String>)> {
        let (host, address) = (&KUBERNETES_SERVICE_HOST, &KUBERNETES_PORT_443_TCP_ADDR);
        let name = self.given(host).and_then(|given| given.into_string().ok());
        match name.filter(|name| value::is_host_name(name)) {
            Some(name) if self.given(address).is_some() => {
                let read = self.read(address, value::service_host)?;
                let note = format!("{}={name} is a name: using {}={read}", host.name, address.name);
                Some((read, Some(note)))
            }
            _ => Some((self.read(host, value::service_host)?, None)),
        }
    }

    /// POD_NAME, else HOSTNAME. Where it must also be a Pod's name, `names_a_pod`.
    pub fn identity(&mut self, names_a_pod: bool) -> Option<String> {
        let parse = if names_a_pod { value::dns_subdomain } else { value::identity };
        let variable = if self.given(&POD_NAME).is_some() { &POD_NAME } else { &HOSTNAME };
        if self.given(variable).is_none() {
            let hint =
                "not set, nor is HOSTNAME. Set it by the downward API: valueFrom.fieldRef.fieldPath: metadata.name";
            self.note(POD_NAME.name, None, hint);
        }
        self.read(variable, parse)
    }

    /// The election's durations, checked against each other.
    pub fn timing(&mut self) -> Option<Timing> {
        let lease = self.read(&LEASE_DURATION, value::interval);
        let deadline = self.read(&RENEWAL_DEADLINE, value::interval);
        let retry = self.read(&RETRY_PERIOD, value::interval);
        let interval = self.read(&RENEW_INTERVAL, value::interval);
        // A value that can't be read must not hide what is wrong between the others: zero stands in for it, and what
        // is then said about zero is left out.
        let stand_in = Option::unwrap_or_default;
        let timing = Timing::new(stand_in(lease), stand_in(deadline), stand_in(retry), interval);
        for error in timing.as_ref().err().into_iter().flatten() {
            let (variable, readable) = match error {
                TimingError::LeaseDurationNotWholeSeconds(_) => (&LEASE_DURATION, lease.is_some()),
                TimingError::RetryPeriodZero => (&RETRY_PERIOD, retry.is_some()),
                TimingError::DeadlineNotBelowLeaseDuration { .. } => (&LEASE_DURATION, lease.and(deadline).is_some()),
                TimingError::DeadlineNotAboveRetryPeriod { .. } => (&RENEWAL_DEADLINE, deadline.and(retry).is_some()),
                TimingError::RenewIntervalOutOfRange { .. } => (&RENEW_INTERVAL, interval.and(deadline).is_some()),
            };
            if readable {
                self.note_as_given(variable, timing_problem(error));
            }
        }
        timing.ok()
    }

    /// A variable's value if it can be read; what is wrong with it is noted elsewhere.
    pub fn peek(&self, variable: &Variable, parse: impl FnOnce(&str) -> Result<Duration, String>) -> Option<Duration> {
        let given = self.given(variable);
        parse(given.as_ref().map_or(Some(variable.default.text()), |given| given.to_str())?).ok()
    }
}

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
