//! Reads arguments and variables one by one, and gathers what is wrong with them.
//!
//! PURE.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::variables::*;
use super::{Access, ApiEndpoint, Config, Fallback, Health, Mistake, ServiceConfig, Variable, shown, value};
use crate::election::{Timing, TimingError};

/// What the arguments alone say.
pub(super) enum Asked {
    Run { command: Option<Vec<OsString>> },
    Status { json: bool, watch: bool },
    Yield { to: Option<String> },
    Install { folder: Option<PathBuf> },
    Help,
    Version,
}

/// Reads variables and gathers what is wrong with them. A method that returns `None` has either noted a mistake or
/// found nothing set where nothing need be.
pub(super) struct Reader<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn note(&mut self, name: &str, value: Option<&str>, problem: impl Into<String>) {
        self.mistakes.push(Mistake::new(name, value, problem));
    }

    fn argument(&mut self, given: &str, problem: impl Into<String>) {
        self.note(&format!("argument \"{}\"", shown(given)), None, problem);
    }

    /// An empty value counts as unset: manifests and `docker run -e` leave those behind.
    fn given(&self, variable: &Variable) -> Option<OsString> {
        (self.env)(variable.name).filter(|value| !value.is_empty())
    }

    fn read<T>(&mut self, variable: &Variable, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
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

    /// For what is wrong with a variable that could be read: shows what was set, or else its default.
    fn note_as_given(&mut self, variable: &Variable, problem: String) {
        let given = self.given(variable).map(|value| value.to_string_lossy().into_owned());
        let text = given.unwrap_or_else(|| variable.default.text().to_owned());
        self.note(variable.name, Some(&text), problem);
    }

    pub(super) fn arguments(&mut self, args: &[OsString]) -> Asked {
        let (before, command) = match args.iter().position(|arg| arg == "--") {
            Some(at) => (&args[..at], Some(args[at + 1..].to_vec())),
            None => (args, None),
        };
        for arg in before {
            match arg.to_str() {
                Some("--help" | "-h") => return Asked::Help,
                Some("--version" | "-V") => return Asked::Version,
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
                Asked::Status { json, watch }
            }
            Some("yield") => Asked::Yield { to: self.yield_to(words) },
            Some("install") => Asked::Install { folder: self.install_folder(&before[1..]) },
            _ => {
                for word in form.into_iter().chain(words) {
                    self.unknown(&word);
                }
                Asked::Run { command: self.command(command) }
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
            match value::identity(&name) {
                Ok(name) => to = Some(name),
                Err(_) if name.is_empty() => {
                    self.argument(&word, "names nobody; write --to POD, or leave it out for anyone");
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
        let mend = match word {
            "--json" | "--watch" => "belongs to status: leasehold status [--json] [--watch]",
            _ if word.starts_with("--to") => "belongs to yield: leasehold yield [--to POD]",
            _ if word.starts_with('-') => "unknown; there are --help, --version and -- COMMAND ARG...",
            _ => {
                "unknown; there are status, yield, install, --help and --version. To run a program: leasehold -- COMMAND ARG..."
            }
        };
        self.argument(word, mend);
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
        let access = self.access(namespace_file, command.is_some());
        let service = self.service();
        let identity = self.identity();
        let pod_uid = self.read(&POD_UID, value::pod_uid);
        let timing = self.timing(command.is_some());
        let port = self.read(&PORT, value::port_or_zero);
        let task_interval = self.read(&TASK_INTERVAL, value::interval);
        let health = self.health();
        let events = self.read(&EVENTS, value::switch);
        let drain_timeout = self.read(&DRAIN_TIMEOUT, value::duration);
        Some(Config {
            access: access?,
            identity: identity?,
            pod_uid,
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

    pub(super) fn access(
        &mut self,
        namespace_file: &dyn Fn(&Path) -> Result<String, String>,
        with_command: bool,
    ) -> Option<Access> {
        let lease_name = self.read(&LEASE_NAME, value::dns_subdomain);
        let service_account_dir = self.read(&SERVICE_ACCOUNT_DIR, value::path);
        let namespace = self.namespace(service_account_dir.as_deref(), namespace_file);
        let api = self.api();
        let audit_log = self.read(&AUDIT_LOG, value::audit_target);
        // With a COMMAND the variable is the COMMAND's too, and other loggers read more into it than ours.
        let log_filter =
            self.read(&RUST_LOG, if with_command { |text: &str| Ok(text.to_owned()) } else { value::log_filter });
        let log_format = self.read(&LOG_FORMAT, value::log_format);
        Some(Access {
            lease_name: lease_name?,
            namespace: namespace?,
            api: api?,
            service_account_dir: service_account_dir?,
            audit_log: audit_log?,
            log_filter: log_filter?,
            log_format: log_format?,
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

    fn api(&mut self) -> Option<ApiEndpoint> {
        if self.given(&KUBE_API_URL).is_some() {
            return self.read(&KUBE_API_URL, value::api_url);
        }
        let (host, port) = (&KUBERNETES_SERVICE_HOST, &KUBERNETES_SERVICE_PORT);
        match (self.given(host).is_some(), self.given(port).is_some()) {
            (true, true) => {}
            (false, false) => {
                self.note(
                    host.name,
                    None,
                    "not set, so this is no Pod. Outside of one, run kubectl proxy and set \
                     KUBE_API_URL=http://127.0.0.1:8001",
                );
                return None;
            }
            (true, false) => self.note(port.name, None, "not set; every Pod has it beside KUBERNETES_SERVICE_HOST"),
            (false, true) => self.note(host.name, None, "not set; every Pod has it beside KUBERNETES_SERVICE_PORT"),
        }
        let (host, port) = (self.read(host, value::service_host), self.read(port, value::port));
        Some(ApiEndpoint::Https { host: host?, port: port? })
    }

    /// With routing the identity is also the name of the Pod to label, so it must be one.
    fn identity(&mut self) -> Option<String> {
        let parse = if self.given(&SERVICE_NAME).is_some() { value::dns_subdomain } else { value::identity };
        let variable = if self.given(&POD_NAME).is_some() { &POD_NAME } else { &HOSTNAME };
        if self.given(variable).is_none() {
            let mend =
                "not set, nor is HOSTNAME. Set it by the downward API: valueFrom.fieldRef.fieldPath: metadata.name";
            self.note(POD_NAME.name, None, mend);
        }
        self.read(variable, parse)
    }

    pub(super) fn service(&mut self) -> Option<ServiceConfig> {
        let name = self.read(&SERVICE_NAME, value::dns_label);
        let route_label = self.read(&ROUTE_LABEL, value::label_key);
        Some(ServiceConfig { name: name?, route_label: route_label? })
    }

    fn health(&mut self) -> Option<Health> {
        let url = self.read(&HEALTH_URL, value::health_url);
        let interval = self.read(&HEALTH_INTERVAL, value::interval);
        let failures = self.read(&HEALTH_FAILURES, value::count);
        Some(Health { url: url?, interval: interval?, failures: failures? })
    }

    fn timing(&mut self, with_command: bool) -> Option<Timing> {
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
        if let (true, Some(lease), Some(deadline)) = (with_command, lease, deadline) {
            self.room_to_stop(lease, deadline);
        }
        timing.ok()
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
}

/// The mistake in the words of the variables, with both values and the mend.
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

/// The least time between SIGTERM and SIGKILL, and between SIGKILL and a rival's earliest start: enough to schedule a
/// program, let it close its files and reap it on a busy node of one core.
const LEAST_ROOM: Duration = Duration::from_millis(250);
