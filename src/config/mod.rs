//! Arguments and environment → what to do, or everything that is wrong with them.
//!
//! PURE. The environment and the namespace file come in through closures, so that the whole of it can be tried in a
//! test. Values are parsed, not validated: what comes out can't be wrong any more, and no other file reads a variable.
//! Mistakes are collected instead of returned one by one, because each round trip through a manifest, a rollout and a
//! crash loop costs minutes.

mod reader;
mod value;
mod variables;

#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use value::Host;
pub use variables::{Fallback, VARIABLES, Variable, help, misspelt};

use crate::election::Timing;
pub use crate::kube::AuditTarget;
use reader::{Asked, Reader};

/// What the program was asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "a process makes one of them, once")]
pub enum Invocation {
    /// `leasehold` and `leasehold -- COMMAND`: take part in the election.
    Run(Config),
    /// `leasehold status`: look.
    Status(StatusConfig),
    /// `leasehold yield`: ask the leader to hand over.
    Yield(YieldConfig),
    /// `leasehold install`: put the binary into this folder.
    Install(PathBuf),
    /// `leasehold --help`.
    Help,
    /// `leasehold --version`.
    Version,
}

/// All that a candidate is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which Lease, and how to reach it.
    pub access: Access,
    /// holderIdentity: POD_NAME, else HOSTNAME.
    pub identity: String,
    /// This Pod's uid, by which a restarted container is known again.
    pub pod_uid: Option<String>,
    /// The election's durations, checked against each other.
    pub timing: Timing,
    /// The Service to point at the leader; none: no routing.
    pub service: Option<ServiceConfig>,
    /// Where HTTP is answered; 0 is any free port.
    pub port: u16,
    /// Between two runs of the built-in leader loop.
    pub task_interval: Duration,
    /// The health gate; none: always healthy.
    pub health: Option<Health>,
    /// Whether Kubernetes Events are written.
    pub events: bool,
    /// How long HTTP is still answered after a release.
    pub drain_timeout: Duration,
    /// What runs while leading, with its arguments; never empty. None: the built-in leader loop.
    pub command: Option<Vec<OsString>>,
}

/// What every form of the program needs: one Lease, a way to it, and where to say what happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// The Lease's name.
    pub lease_name: String,
    /// Its namespace, and the Pod's and the Service's.
    pub namespace: String,
    /// Where the API server listens.
    pub api: ApiEndpoint,
    /// Holds token, ca.crt and namespace.
    pub service_account_dir: PathBuf,
    /// Where API calls are recorded, if anywhere.
    pub audit_log: Option<AuditTarget>,
    /// Which log lines are written, in RUST_LOG's syntax.
    pub log_filter: String,
    /// In which form.
    pub log_format: LogFormat,
}

/// What `leasehold status` is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusConfig {
    /// Which Lease, and how to reach it.
    pub access: Access,
    /// The Service to compare with the holder, if any.
    pub service: Option<ServiceConfig>,
    /// For programs instead of people.
    pub json: bool,
    /// Follow changes instead of looking once.
    pub watch: bool,
}

/// What `leasehold yield` is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct YieldConfig {
    /// Which Lease, and how to reach it.
    pub access: Access,
    /// The candidate that shall lead next; none: anyone else.
    pub to: Option<String>,
}

/// The Service to point at the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceConfig {
    /// Its name.
    pub name: String,
    /// The label key on Pods, and the selector key on the Service.
    pub route_label: String,
}

/// The health gate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// Answers 2xx while the workload is healthy.
    pub url: LoopbackUrl,
    /// Between two checks.
    pub interval: Duration,
    /// How many failures in a row make a leader yield; at least 1.
    pub failures: u32,
}

/// An `http://` URL on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoopbackUrl {
    /// A loopback address, or localhost.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
}

impl fmt::Display for LoopbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
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

/// The form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
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
    fn new(name: &str, value: Option<&str>, problem: impl Into<String>) -> Mistake {
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
fn shown(value: &str) -> String {
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

/// What is wrong with a candidate's names where no variable gave them: with those of a [`crate::Elector`].
pub(crate) fn misnamed(namespace: &str, lease: &str, identity: &str, pod_uid: Option<&str>) -> Vec<Mistake> {
    let checks = [
        ("namespace", namespace, value::dns_label(namespace)),
        ("lease", lease, value::dns_subdomain(lease)),
        ("identity", identity, value::identity(identity)),
        ("pod_uid", pod_uid.unwrap_or_default(), pod_uid.map_or(Ok(String::new()), value::pod_uid)),
    ];
    let wrong = |(name, given, checked): (&str, &str, Result<String, String>)| {
        checked.err().map(|problem| Mistake::new(name, Some(given), problem))
    };
    checks.into_iter().filter_map(wrong).collect()
}

/// Reads the whole configuration. `args` are the arguments without the program's name; `env` looks a variable up;
/// `namespace_file` reads the file at the given path, or says why it can't.
pub fn parse(
    args: &[OsString],
    env: &dyn Fn(&str) -> Option<OsString>,
    namespace_file: &dyn Fn(&Path) -> Result<String, String>,
) -> Result<Invocation, Mistakes> {
    let mut reader = Reader { env, mistakes: Vec::new() };
    let invocation = match reader.arguments(args) {
        Asked::Help => return Ok(Invocation::Help),
        Asked::Version => return Ok(Invocation::Version),
        Asked::Install { folder } => folder.map(Invocation::Install),
        Asked::Run { command } => reader.run(command, namespace_file).map(Invocation::Run),
        Asked::Status { json, watch } => {
            let (access, service) = (reader.access(namespace_file, false), reader.service());
            access.map(|access| Invocation::Status(StatusConfig { access, service, json, watch }))
        }
        Asked::Yield { to } => {
            reader.access(namespace_file, false).map(|access| Invocation::Yield(YieldConfig { access, to }))
        }
    };
    match invocation {
        Some(invocation) if reader.mistakes.is_empty() => Ok(invocation),
        _ => Err(Mistakes(reader.mistakes)),
    }
}
