//! Reads arguments and variables one by one, and gathers what is wrong with them.
//!
//! PURE.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Config, Health, Invocation, LogConfig, ServiceConfig, StatusConfig, YieldConfig, value};
use crate::environment::value::{dns_label, dns_subdomain, duration, identity, interval, visible_id};
use crate::environment::*;

impl Reader<'_> {
    fn argument(&mut self, given: &str, problem: impl Into<String>) {
        self.note(&format!("argument \"{}\"", shown(given)), None, problem);
    }

    /// What the arguments ask for, with what it needs from the environment.
    pub(super) fn invocation(&mut self, args: &[OsString]) -> Option<Invocation> {
        let (before, command) = match args.iter().position(|arg| arg == "--") {
            Some(at) => (&args[..at], Some(args[at + 1..].to_vec())),
            None => (args, None),
        };
        let words: Vec<_> = before.iter().map(|arg| arg.to_string_lossy()).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        for word in &words {
            match *word {
                "--help" | "-h" => return Some(Invocation::Help),
                "--version" | "-V" => return Some(Invocation::Version),
                _ => {}
            }
        }
        if command.is_some() && matches!(words[..], ["status" | "yield" | "install", ..]) {
            self.argument("--", "a COMMAND goes with no subcommand: leasehold -- COMMAND ARG...");
        }
        match words[..] {
            ["status", ref options @ ..] => self.status(options).map(Invocation::Status),
            ["yield", ref options @ ..] => self.hand_over(options).map(Invocation::Yield),
            ["install", ..] => self.install_folder(&before[1..]).map(Invocation::Install),
            _ => {
                words.iter().for_each(|word| self.unknown(word));
                self.run(command).map(Invocation::Run)
            }
        }
    }

    fn status(&mut self, options: &[&str]) -> Option<StatusConfig> {
        for word in options.iter().filter(|word| !matches!(**word, "--json" | "--watch")) {
            self.argument(word, "unknown; status takes --json and --watch");
        }
        let (json, watch) = (options.contains(&"--json"), options.contains(&"--watch"));
        let (access, log, service) = (self.lease_access(), self.log(false), self.service());
        Some(StatusConfig { access: access?, log: log?, service, json, watch })
    }

    fn hand_over(&mut self, options: &[&str]) -> Option<YieldConfig> {
        let to = self.yield_to(options);
        let (access, log) = (self.lease_access(), self.log(false));
        Some(YieldConfig { access: access?, log: log?, to })
    }

    fn yield_to(&mut self, options: &[&str]) -> Option<String> {
        let (mut words, mut to) = (options.iter(), None);
        while let Some(word) = words.next() {
            let name = match word.strip_prefix("--to") {
                Some("") => words.next().copied().unwrap_or_default(),
                Some(rest) if rest.starts_with('=') => &rest[1..],
                _ => {
                    self.argument(word, "unknown; yield takes --to POD");
                    continue;
                }
            };
            match identity(name) {
                Ok(name) => to = Some(name),
                Err(_) if name.is_empty() => {
                    self.argument(word, "lacks a name; write --to POD, or leave it out for anyone");
                }
                Err(problem) => self.note("--to", Some(name), problem),
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

    fn run(&mut self, command: Option<Vec<OsString>>) -> Option<Config> {
        if command.as_ref().is_some_and(|command| command.first().is_none_or(|program| program.is_empty())) {
            self.argument("--", "nothing to run after it; write leasehold -- COMMAND ARG...");
        }
        let access = self.lease_access();
        let log = self.log(command.is_some());
        let service = self.service();
        // With routing the identity is also the name of the Pod to label.
        let identity = self.identity(self.given(&SERVICE_NAME).is_some());
        let pod_uid = self.read(&POD_UID, visible_id);
        let pod_revision = self.read(&POD_REVISION, visible_id);
        let timing = self.timing(command.is_some());
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

    fn lease_access(&mut self) -> Option<LeaseAccess> {
        let lease_name = self.read(&LEASE_NAME, dns_subdomain);
        self.access(lease_name)
    }

    /// With a COMMAND RUST_LOG is the COMMAND's too, and other loggers read more into it than ours.
    fn log(&mut self, with_command: bool) -> Option<LogConfig> {
        let parse = if with_command { |text: &str| Ok(text.to_owned()) } else { value::log_filter };
        let filter = self.read(&RUST_LOG, parse);
        let format = self.read(&LOG_FORMAT, value::log_format);
        Some(LogConfig { filter: filter?, format: format? })
    }

    fn service(&mut self) -> Option<ServiceConfig> {
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
}
