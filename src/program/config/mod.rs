//! Arguments and environment → what to do, or everything that is wrong with them.
//!
//! PURE. The environment and the namespace file come in through closures, so that the whole of it can be tried in a
//! test. Values are parsed, not validated: what comes out can't be wrong any more, and no other file reads a variable.
//! Mistakes are collected instead of returned one by one, because each round trip through a manifest, a rollout and a
//! crash loop costs minutes.

mod help;
mod reader;
mod value;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::help::{help, misspelt};
use crate::election::Timing;
pub use crate::environment::VARIABLES;
use crate::environment::{LeaseAccess, Mistakes, Reader};

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
    pub access: LeaseAccess,
    /// The log.
    pub log: LogConfig,
    /// holderIdentity: POD_NAME, else HOSTNAME.
    pub identity: String,
    /// This Pod's uid, by which a restarted container is known again.
    pub pod_uid: Option<String>,
    /// This Pod's revision, by which a candidate ranks in the succession.
    pub pod_revision: Option<String>,
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

/// Where to say what happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Which lines are written, in RUST_LOG's syntax.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// What `leasehold status` is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusConfig {
    /// Which Lease, and how to reach it.
    pub access: LeaseAccess,
    /// The log.
    pub log: LogConfig,
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
    pub access: LeaseAccess,
    /// The log.
    pub log: LogConfig,
    /// The candidate that is to lead next; none: anyone else.
    pub to: Option<String>,
}

/// The Service to point at the leader.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ServiceConfig {
    /// Its name.
    pub name: String,
    /// The label key on Pods, and the selector key on the Service.
    pub route_label: String,
}

/// The health gate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// Answers 2xx while the workload is healthy: `http://`, a loopback address or localhost, port, path.
    pub url: String,
    /// Between two checks.
    pub interval: Duration,
    /// How many failures in a row make a leader yield; at least 1.
    pub failures: u32,
}

/// The form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads the whole configuration. `args` are the arguments without the program's name; `env` looks a variable up;
/// `namespace_file` reads the file at the given path, or says why it can't.
pub fn parse(
    args: &[OsString],
    env: &dyn Fn(&str) -> Option<OsString>,
    namespace_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Invocation, Mistakes> {
    let mut reader = Reader::new(env, namespace_file);
    let invocation = reader.invocation(args);
    if reader.mistakes.is_empty() { Ok(invocation) } else { Err(Mistakes(reader.mistakes)) }
}
