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
    pub(super) fn invocation(&mut self, args: &[OsString]) -> Invocation {
        let (before, command) = match args.iter().position(|arg| arg == "--") {
            Some(at) => (&args[..at], Some(args[at + 1..].to_vec())),
            None => (args, None),
        };
        let words: Vec<_> = before.iter().map(|arg| arg.to_string_lossy()).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        for word in &words {
            match *word {
                "--help" | "-h" => return Invocation::Help,
                "--version" | "-V" => return Invocation::Version,
                _ => {}
            }
        }
        if command.is_some() && matches!(words[..], ["status" | "yield" | "install", ..]) {
            self.argument("--", "a COMMAND goes with no subcommand: leasehold -- COMMAND ARG...");
        }
        match words[..] {
            ["status", ref options @ ..] => Invocation::Status(self.status(options)),
            ["yield", ref options @ ..] => Invocation::Yield(self.hand_over(options)),
            ["install", ..] => Invocation::Install(self.install_folder(&before[1..])),
            _ => {
                words.iter().for_each(|word| self.unknown(word));
                Invocation::Run(self.run(command))
            }
        }
    }

    fn status(&mut self, options: &[&str]) -> StatusConfig {
        for word in options.iter().filter(|word| !matches!(**word, "--json" | "--watch")) {
            self.argument(word, "unknown; status takes --json and --watch");
        }
        StatusConfig {
            access: self.lease_access(),
            log: self.log(false),
            service: self.service(),
            json: options.contains(&"--json"),
            watch: options.contains(&"--watch"),
        }
    }

    fn hand_over(&mut self, options: &[&str]) -> YieldConfig {
        YieldConfig { to: self.yield_to(options), access: self.lease_access(), log: self.log(false) }
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

    fn install_folder(&mut self, given: &[OsString]) -> PathBuf {
        match given {
            [folder] if !folder.is_empty() && !folder.to_string_lossy().starts_with('-') => folder.into(),
            _ => {
                self.argument("install", "takes one folder, to put the binary into: leasehold install FOLDER");
                PathBuf::new()
            }
        }
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

    fn run(&mut self, command: Option<Vec<OsString>>) -> Config {
        if command.as_ref().is_some_and(|command| command.first().is_none_or(|program| program.is_empty())) {
            self.argument("--", "nothing to run after it; write leasehold -- COMMAND ARG...");
        }
        Config {
            access: self.lease_access(),
            log: self.log(command.is_some()),
            // With routing the identity is also the name of the Pod to label.
            identity: self.identity(self.given(&SERVICE_NAME).is_some()),
            pod_uid: self.optional(&POD_UID, visible_id),
            pod_revision: self.optional(&POD_REVISION, visible_id),
            timing: self.timing(command.is_some()),
            service: self.service(),
            port: self.read(&PORT, value::port_or_zero),
            task_interval: self.read(&TASK_INTERVAL, interval),
            health: self.health(),
            events: self.read(&EVENTS, value::switch),
            drain_timeout: self.read(&DRAIN_TIMEOUT, duration),
            command,
        }
    }

    fn lease_access(&mut self) -> LeaseAccess {
        let lease_name = self.read(&LEASE_NAME, dns_subdomain);
        self.access(lease_name)
    }

    /// With a COMMAND RUST_LOG is the COMMAND's too, and other loggers read more into it than ours.
    fn log(&mut self, with_command: bool) -> LogConfig {
        let parse = if with_command { |text: &str| Ok(text.to_owned()) } else { value::log_filter };
        LogConfig { filter: self.read(&RUST_LOG, parse), format: self.read(&LOG_FORMAT, value::log_format) }
    }

    fn service(&mut self) -> Option<ServiceConfig> {
        let name = self.optional(&SERVICE_NAME, dns_label);
        let route_label = self.read(&ROUTE_LABEL, value::label_key);
        Some(ServiceConfig { name: name?, route_label })
    }

    fn health(&mut self) -> Option<Health> {
        let url = self.optional(&HEALTH_URL, value::health_url);
        let interval = self.read(&HEALTH_INTERVAL, interval);
        let failures = self.read(&HEALTH_FAILURES, value::count);
        Some(Health { url: url?, interval, failures })
    }
}
