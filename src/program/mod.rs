//! The program: an election, and around it what a configuration asks for.
//!
//! THREADS. Puts the parts together and takes them apart again, in the right order: work stopped, Lease released,
//! HTTP answered until the Service points elsewhere, then the end.

mod cli;
pub mod command;
pub mod config;
pub mod health;
pub mod http;
mod leader_loop;
mod log;
pub mod metrics;
mod observer;
pub mod routing;
pub mod state;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::log::{debug, error, info, warn};

use crate::election::Identity;
use crate::kube::audit::AT_THE_END;
use crate::kube::{Client, Credentials, ObservedCall};
use crate::program::config::{Config, Invocation};
use crate::program::http::HttpLimits;
use crate::program::leader_loop::Work;
use crate::program::observer::ProgramObserver;
use crate::program::routing::worker::{RoutingMessage, RoutingWorker};
use crate::program::state::SharedState;
use crate::runtime::inbox::Inbox;
use crate::runtime::incarnation::Incarnation;
use crate::runtime::{self, Driver, Message};
use crate::sys::{self, Signals};

/// How long a node may send connections here after the Service points elsewhere: the change goes through the endpoints
/// controller and each node's kube-proxy, which takes 0.2 to 1 s and can't be observed from here. A Pod that ends sooner
/// refuses these connections; one that ends later only makes a rollout slower. DRAIN_TIMEOUT bounds it.
const PROPAGATION: Duration = Duration::from_secs(2);

/// The configuration is wrong: nothing was tried.
const MISCONFIGURED: u8 = 2;

/// Arguments and environment → configuration → run → exit code.
pub fn main() -> ExitCode {
    sys::share_one_heap();
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    match config::parse(&arguments, &|name| env::var_os(name), &|path| fs::read_to_string(path)) {
        Ok(Invocation::Run(config)) => take_part(&config),
        Ok(Invocation::Status(config)) => finish(cli::status(&config)),
        Ok(Invocation::Yield(config)) => finish(cli::hand_over(&config)),
        Ok(Invocation::Install(folder)) => finish(cli::install(&folder)),
        Ok(Invocation::Help) => finish(cli::print_line(config::help().trim_end())),
        Ok(Invocation::Version) => finish(cli::print_line(concat!("leasehold ", env!("CARGO_PKG_VERSION")))),
        Err(mistakes) => {
            say(&format!("leasehold: the configuration is wrong:\n{mistakes}"));
            ExitCode::from(MISCONFIGURED)
        }
    }
}

fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(&format!("leasehold: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// To standard error, if anybody reads it: eprintln! would panic otherwise, and the exit code be lost.
fn say(problem: &str) {
    let _ = writeln!(io::stderr(), "{problem}");
}

/// Takes part in the election until a signal or the command's end; the process's exit code.
///
/// Signals are blocked before any thread starts, and here alone: `status --watch` ends at Ctrl-C as any program does.
fn take_part(config: &Config) -> ExitCode {
    let signals = Signals::block();
    log::start(&config.log);
    warn_of_misspelt_variables();
    try_run(config, signals).unwrap_or_else(|problem| {
        error!("{problem}");
        ExitCode::FAILURE
    })
}

fn warn_of_misspelt_variables() {
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if let Some(meant) = config::misspelt(&name) {
            warn!("the variable {name} is not known; is {meant} meant?");
        }
    }
}

fn try_run(config: &Config, signals: Signals) -> Result<ExitCode, String> {
    let lease = config.access.lease();
    let state = Arc::new(SharedState::new(config));
    let inbox = Inbox::new().map_err(|error| format!("the election's inbox: {error}"))?;
    let work = Work::new(config, &signals, &inbox)?;
    take_signals(signals, &inbox, work.clone()).map_err(|error| format!("signals: {error}"))?;
    let http = serve(config.port, &state)?;
    let incarnation = Incarnation::of(config.pod_uid.as_deref(), &lease);
    info!("candidate {} for the Lease {lease} at {}", config.identity, config.access.api_url);

    let mut options = config.access.client_options()?;
    let observed = Arc::clone(&state);
    options.observer = Some(Arc::new(move |call: &ObservedCall<'_>| {
        let code = call.status().map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        observed.metrics.request(call.request.verb.method(), code, call.host, call.duration);
    }));
    let Some(credentials) = wait_for_credentials(config, &inbox) else {
        http.stop();
        return Ok(ExitCode::SUCCESS); // Told to end before there was anything to take part with.
    };
    options.credentials = credentials;
    // Only now: the wait for the credentials reads the election's inbox, and would drop a message about health.
    if let Some(health) = config.health.clone() {
        health::watch_over(health, inbox.clone()).map_err(|error| format!("the thread for HEALTH_URL: {error}"))?;
    }
    let mut routing = None;
    if config.service.is_some() || config.events {
        let client = Arc::new(Client::new(options.clone())?);
        let worker = RoutingWorker::start(config.clone(), client, Arc::clone(&state));
        routing = Some(worker.map_err(|error| format!("the thread for routing: {error}"))?);
    }
    let setup = runtime::Setup {
        namespace: config.access.namespace.clone(),
        lease: config.access.lease_name.clone(),
        identity: Identity {
            name: config.identity.clone(),
            incarnation: incarnation.name.clone(),
            revision: config.pod_revision.clone(),
        },
        timing: config.timing,
        client: Arc::new(Client::new(options.clone())?),
        inbox,
    };
    let observer = ProgramObserver { config, work, routing, state, has_led: false };
    let driver = Driver::new(setup, observer).map_err(|error| format!("the election's threads: {error}"))?;
    let ProgramObserver { work, routing, state, has_led, .. } = driver.run();
    state.known().due = None; // The election has ended: /healthz need not wait for its thread.
    if let Some(routing) = routing {
        drain(config, routing, has_led);
    }
    http.stop();
    if let Some(audit) = &options.audit {
        audit.flush(AT_THE_END);
    }
    Ok(work.exit_code())
}

fn serve(port: u16, state: &Arc<SharedState>) -> Result<http::HttpServer, String> {
    let unusable = |error| format!("PORT {port} cannot be listened on: {error}; set PORT to one that is free");
    let listener = sys::listen(port).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let (metrics, state) = (Arc::clone(&state.metrics), Arc::clone(state));
    let view = Box::new(move || state.view());
    let server = http::serve(HttpLimits::DEFAULT, listener, metrics, view).map_err(unusable)?;
    info!("HTTP on port {}", address.port());
    Ok(server)
}

/// The election's thread takes the signals, between messages. The first that asks for the end begins an orderly
/// shutdown; a second SIGTERM or SIGINT ends the process whatever its threads are doing.
fn take_signals(signals: Signals, inbox: &Inbox<Message>, work: Work) -> io::Result<()> {
    let (descriptor, shutdown) = (signals.descriptor()?, inbox.clone());
    inbox.on_readable(descriptor, move || {
        while let Some(signal) = signals.take() {
            if !work.asks_for_the_end(signal) {
                debug!("{}", signal.name);
                continue;
            }
            info!("{}: shutting down", signal.name);
            signals.exit_at_the_next();
            work.stop(signal);
            shutdown.post(Message::Shutdown);
        }
    });
    Ok(())
}

/// The credentials may come later than the process (a volume that is still being mounted): it waits for them.
/// `None`: told to end while waiting.
fn wait_for_credentials(config: &Config, inbox: &Inbox<Message>) -> Option<Option<Arc<Credentials>>> {
    let mut last = None;
    loop {
        match config.access.credentials() {
            Ok(credentials) => return Some(credentials),
            Err(error) if last.as_ref() == Some(&error) => debug!("still: {error}"),
            Err(error) => {
                error!("{error}; trying again");
                last = Some(error);
            }
        }
        let again = sys::boot_time() + config.timing.retry_period();
        if let Some(Message::Shutdown) = inbox.take_until(Some(again)) {
            return None;
        }
    }
}

/// The Lease is released. HTTP answers until the Service points elsewhere and the nodes know it, so that no request is
/// lost which another replica can answer.
fn drain(config: &Config, routing: RoutingWorker, has_led: bool) {
    let until = sys::boot_time() + config.drain_timeout;
    routing.inbox.post(RoutingMessage::Drain { until });
    let elsewhere = routing.thread.join().unwrap_or(false);
    debug!("drained: the Service {}", if elsewhere { "points elsewhere" } else { "still points here" });
    if elsewhere && has_led && config.service.is_some() {
        thread::sleep(PROPAGATION.min(until.since(sys::boot_time())));
    }
}
