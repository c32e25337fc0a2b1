//! Reads arguments and variables one by one, and gathers what is wrong with them.
//!
//! PURE.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::variables::*;
use super::{Config, Health, LogConfig, ServiceConfig, value};
use crate::environment::value::{dns_label, dns_subdomain, duration, identity, interval, visible_id};
use crate::environment::{LEASE_DURATION, LeaseAccess, POD_REVISION, POD_UID, RENEWAL_DEADLINE, Reader, shown};

/// What the arguments alone say.
pub(super) enum Arguments {
    Run { command: Option<Vec<OsString>> },
    Status { json: bool, watch: bool },
    Yield { to: Option<String> },
    Install { folder: Option<PathBuf> },
    Help,
    Version,
}

impl Reader<'_> {
    fn argument(&mut self, given: &str, problem: impl Into<String>) {
        self.note(&format!("argument \"{}\"", shown(given)), None, problem);
    }

    pub(super) fn arguments(&mut self, args: &[OsString]) -> Arguments {
        let (before, command) = match args.iter().position(|arg| arg == "--") {
            Some(at) => (&args[..at], Some(args[at + 1..].to_vec())),
            None => (args, None),
        };
        for arg in before {
            match arg.to_str() {
                Some("--help" | "-h") => return Arguments::Help,
                Some("--version" | "-V") => return Arguments::Version,
                _ => {}
            }
        }
        let mut words = before.iter().map(|arg| arg.to_string_lossy().into_owned());
        let form = words.next();
        if command.is_some() && matches!(form.as_deref(), Some("status" | "yield" | "install")) {
            self.argument("--", "a COMMAND goes with no subcommand: leasehold -- COMMAND ARG...");
        }
        match form.as_deref() {
            Some("status") => {
                let (mut json, mut watch) = (false, false);
                for word in words {
                    match word.as_str() {
                        "--json" => json = true,
                        "--watch" => watch = true,
                        _ => self.argument(&word, "unknown; status takes --json and --watch"),
                    }
                }
                Arguments::Status { json, watch }
            }
            Some("yield") => Arguments::Yield { to: self.yield_to(words) },
            Some("install") => Arguments::Install { folder: self.install_folder(&before[1..]) },
            _ => {
                for word in form.into_iter().chain(words) {
                    self.unknown(&word);
                }
                Arguments::Run { command: self.command(command) }
            }
        }
    }

    fn yield_to(&mut self, mut words: impl Iterator<Item = String>) -> Option<String> {
        let mut to = None;
        while let Some(word) = words.next() {
            let name = match word.strip_prefix("--to") {
                Some("") => words.next().unwrap_or_default(),
                Some(rest) if rest.starts_with('=') => rest[1..].to_owned(),
                _ => {
                    self.argument(&word, "unknown; yield takes --to POD");
                    continue;
                }
            };
            match identity(&name) {
                Ok(name) => to = Some(name),
                Err(_) if name.is_empty() => {
                    self.argument(&word, "lacks a name; write --to POD, or leave it out for anyone");
                }
                Err(problem) => self.note("--to", Some(&name), problem),
            }
        }
        to
    }

    fn install_folder(&mut self, given: &[OsString]) -> Option<PathBuf> {
        if let [folder] = given
            && !folder.is_empty()
            && !folder.to_string_lossy().starts_with('-')
        {
            return Some(folder.into());
        }
        self.argument("install", "takes one folder, to put the binary into: leasehold install FOLDER");
        None
    }

    fn unknown(&mut self, word: &str) {
        let hint = match word {
            "--json" | "--watch" => "belongs to status: leasehold status [--json] [--watch]",
            _ if word.starts_with("--to") => "belongs to yield: leasehold yield [--to POD]",
            _ if word.starts_with('-') => "unknown; there are --help, --version and -- COMMAND ARG...",
            _ => {
                "unknown; there are status, yield, install, --help and --version. To run a program: leasehold -- COMMAND ARG..."
            }
        };
        self.argument(word, hint);
    }

    fn command(&mut self, command: Option<Vec<OsString>>) -> Option<Vec<OsString>> {
        let command = command?;
        match command.first() {
            Some(program) if !program.is_empty() => Some(command),
            _ => {
                self.argument("--", "nothing to run after it; write leasehold -- COMMAND ARG...");
                None
            }
        }
    }

    pub(super) fn run(
        &mut self,
        command: Option<Vec<OsString>>,
        namespace_file: &dyn Fn(&Path) -> Result<String, String>,
    ) -> Option<Config> {
        let access = self.lease_access(namespace_file);
        let log = self.log(command.is_some());
        let service = self.service();
        // With routing the identity is also the name of the Pod to label.
        let identity = self.identity(self.given(&SERVICE_NAME).is_some());
        let pod_uid = self.read(&POD_UID, visible_id);
        let pod_revision = self.read(&POD_REVISION, visible_id);
        let timing = self.timing();
        if command.is_some() {
            self.room_to_stop();
        }
        let port = self.read(&PORT, value::port_or_zero);
        let task_interval = self.read(&TASK_INTERVAL, interval);
        let health = self.health();
        let events = self.read(&EVENTS, value::switch);
        let drain_timeout = self.read(&DRAIN_TIMEOUT, duration);
        Some(Config {
            access: access?,
            log: log?,
            identity: identity?,
            pod_uid,
            pod_revision,
            timing: timing?,
            service,
            port: port?,
            task_interval: task_interval?,
            health,
            events: events?,
            drain_timeout: drain_timeout?,
            command,
        })
    }

    pub(super) fn lease_access(
        &mut self,
        namespace_file: &dyn Fn(&Path) -> Result<String, String>,
    ) -> Option<LeaseAccess> {
        let lease_name = self.read(&LEASE_NAME, dns_subdomain);
        self.access(lease_name, namespace_file)
    }

    /// With a COMMAND RUST_LOG is the COMMAND's too, and other loggers read more into it than ours.
    pub(super) fn log(&mut self, with_command: bool) -> Option<LogConfig> {
        let parse = if with_command { |text: &str| Ok(text.to_owned()) } else { value::log_filter };
        let filter = self.read(&RUST_LOG, parse);
        let format = self.read(&LOG_FORMAT, value::log_format);
        Some(LogConfig { filter: filter?, format: format? })
    }

    pub(super) fn service(&mut self) -> Option<ServiceConfig> {
        let name = self.read(&SERVICE_NAME, dns_label);
        let route_label = self.read(&ROUTE_LABEL, value::label_key);
        Some(ServiceConfig { name: name?, route_label: route_label? })
    }

    fn health(&mut self) -> Option<Health> {
        let url = self.read(&HEALTH_URL, value::health_url);
        let interval = self.read(&HEALTH_INTERVAL, interval);
        let failures = self.read(&HEALTH_FAILURES, value::count);
        Some(Health { url: url?, interval: interval?, failures: failures? })
    }

    /// Between the renewal deadline and the lease duration a COMMAND is asked to stop, then killed and reaped
    /// (`Timing::kill_after` is half-way).
    fn room_to_stop(&mut self) {
        let read = [&LEASE_DURATION, &RENEWAL_DEADLINE].map(|variable| self.peek(variable, interval));
        let [Some(lease), Some(deadline)] = read else { return };
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
}

/// The least time between SIGTERM and SIGKILL, and between SIGKILL and a rival's earliest start: enough to schedule a
/// program, let it close its files and reap it on a busy node of one core.
const LEAST_ROOM: Duration = Duration::from_millis(250);
