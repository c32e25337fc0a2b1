//! Reads arguments and variables one by one, and gathers what is wrong with them.
//!
//! PURE.

use std::ffi::OsString;

use super::{Config, Health, Invocation, LogConfig, ServiceConfig, StatusConfig, YieldConfig, value};
use crate::environment::value::{dns_label, dns_subdomain, duration, interval, visible};
use crate::environment::*;

const UNKNOWN: &str = "unknown; there are status [--json] [--watch], yield [--to POD], install FOLDER, --help and --version. \
                       To run a program: leasehold -- COMMAND ARG...";

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
        let words: Vec<&str> = before.iter().map(|arg| arg.to_str().unwrap_or("(not UTF-8)")).collect();
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
            ["install", folder] if !folder.is_empty() && !folder.starts_with('-') => {
                Invocation::Install(before[1].clone().into())
            }
            ["install", ..] => {
                self.argument("install", "takes one folder, to put the binary into: leasehold install FOLDER");
                Invocation::Help
            }
            _ => {
                for word in &words {
                    self.argument(word, UNKNOWN);
                }
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
        let name = match options {
            [] => return None,
            ["--to", name] => name,
            [option] if option.starts_with("--to=") => &option["--to=".len()..],
            _ => {
                self.argument(&options.join(" "), "unknown; yield takes --to POD, or nothing for anyone");
                return None;
            }
        };
        visible(name).map_err(|problem| self.note("--to", Some(name), problem)).ok()
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
            pod_uid: self.optional(&POD_UID, visible),
            pod_revision: self.optional(&POD_REVISION, visible),
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
