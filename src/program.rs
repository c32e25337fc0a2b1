//! The program: an election, and around it what a configuration asks for.
//!
//! THREADS. Puts the parts together and takes them apart again, in the right order: work stopped, Lease released,
//! HTTP answered until the Service points elsewhere, then the end.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use log::{debug, error, info, warn};

use crate::board::{Board, Facts};
use crate::config::{Access, ApiEndpoint, Config};
use crate::driver::{self, Audience, Driver, Letter, Pulse, STACK, describe};
use crate::election::{Ending, Event, Identity, Snapshot, Version};
use crate::elector::open_audit;
use crate::errands::{self, Errand, Errands, Routed};
use crate::health;
use crate::incarnation::Incarnation;
use crate::kube::audit::AT_THE_END;
use crate::kube::event::{became_leader, stopped_leading};
use crate::kube::{Call, CallError, Client, ClientOptions, Credentials, Failure, Why};
use crate::leadership::Leadership;
use crate::mailbox::Mailbox;
use crate::metrics::{Metrics, Renewal, RouteUpdate};
use crate::sys::{self, Signal, Signals};
use crate::web;
use crate::work::Work;

/// How long a node may send connections here after the Service has been pointed elsewhere: the change goes through the
/// endpoints controller and each node's kube-proxy, which takes 0.2 to 1 s and is not to be seen from here. A Pod
/// that ends sooner refuses what still comes. More than needed only makes a rollout slower. DRAIN_TIMEOUT bounds it.
const PROPAGATION: Duration = Duration::from_secs(2);

/// What went wrong before the election began.
type Trouble = String;

/// Takes part in the election until a signal or the command's end; the process's exit code.
pub fn run(config: &Config, signals: Signals) -> ExitCode {
    match try_run(config, signals) {
        Ok(code) => code,
        Err(trouble) => {
            error!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(config: &Config, signals: Signals) -> Result<ExitCode, Trouble> {
    let Access { namespace, lease_name, .. } = &config.access;
    let lease = format!("{namespace}/{lease_name}");
    let metrics = Arc::new(Metrics::new(lease_name));
    let pulse = Arc::new(Pulse::default());
    let board = Arc::new(Board::new(facts(config, &lease), Arc::clone(&metrics), Arc::clone(&pulse)));
    let mailbox = Mailbox::new().map_err(|error| format!("the election's mailbox: {error}"))?;
    let exit = Arc::new(AtomicI32::new(0));

    let work = Work::new(config, &lease, &signals, &mailbox, &exit)?;
    listen_to_signals(signals, mailbox.clone(), work.clone())?;
    let web = serve(config.port, &board)?;
    let incarnation = Incarnation::of(config.pod_uid.as_deref(), &lease);
    info!("candidate {} for the Lease {lease} at {}", config.identity, config.access.api.url());

    let Some(options) = client_options(config, &metrics, &mailbox)? else {
        web.stop();
        return Ok(ExitCode::SUCCESS); // Told to end before there was anything to take part with.
    };
    // Not before: what waits for the credentials reads the election's mail, and would throw its verdicts away.
    if let Some(health) = config.health.clone() {
        health::watch_over(health, mailbox.clone()).map_err(|error| format!("the thread for HEALTH_URL: {error}"))?;
    }
    let client = || Client::new(options.clone());
    let errands = start_errands(config, &options, &metrics, &board)?;
    let setup = driver::Setup {
        namespace: namespace.clone(),
        lease: lease_name.clone(),
        identity: Identity { name: config.identity.clone(), incarnation: incarnation.name.clone() },
        timing: config.timing,
        calls: client()?,
        watch: Arc::new(client()?),
        mailbox,
        pulse,
    };
    let stage = Stage { config, work, errands, board, metrics, has_led: false, leads: false };
    let driver = Driver::new(setup, stage).map_err(|error| format!("the election's threads: {error}"))?;
    let stage = driver.run();
    stage.leave(web);
    if let Some(audit) = &options.audit {
        audit.flush(AT_THE_END);
    }
    Ok(ExitCode::from(u8::try_from(exit.load(Ordering::SeqCst)).unwrap_or(1)))
}

fn facts(config: &Config, lease: &str) -> Facts {
    Facts {
        lease: lease.to_owned(),
        pod: config.identity.clone(),
        service: config.service.as_ref().map(|service| service.name.clone()),
        lease_duration: config.timing.lease_duration(),
        renewal_deadline: config.timing.renewal_deadline(),
    }
}

fn serve(port: u16, board: &Arc<Board>) -> Result<web::Web, Trouble> {
    let unusable = |error| format!("PORT {port} cannot be listened on: {error}; set PORT to one that is free");
    let listener = web::listen(port).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let web = web::serve(listener, Arc::clone(board) as Arc<dyn web::View>).map_err(unusable)?;
    info!("HTTP on port {}", address.port());
    Ok(web)
}

/// A signal asks for the end; a second one does not ask. A COMMAND gets the others.
fn listen_to_signals(signals: Signals, mailbox: Mailbox<Letter>, work: Work) -> Result<(), Trouble> {
    let listen = move || {
        let mut ending = false;
        loop {
            let signal = signals.wait();
            if !asks_for_the_end(signal, &work) {
                debug!("{}", signal.name());
            } else if ending {
                warn!("{} again: ending at once", signal.name());
                sys::terminate_now(128 + signal.number());
            } else {
                info!("{}: shutting down", signal.name());
                ending = true;
                work.stop_with(signal);
                mailbox.post(Letter::Shutdown);
            }
        }
    };
    let thread = thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(listen);
    thread.map(drop).map_err(|error| format!("the thread for signals: {error}"))
}

/// Passes on what the COMMAND may want to interpret for itself. Where none runs, a signal does what it would do to
/// any program that does not care about it.
fn asks_for_the_end(signal: Signal, work: &Work) -> bool {
    match signal {
        Signal::Terminate | Signal::Interrupt => true,
        _ if work.forward(signal) => false,
        Signal::Quit => true,
        Signal::HangUp => matches!(work, Work::Loop { .. }),
        _ => false,
    }
}

/// The credentials may come later than the process (a volume that is still being mounted): it waits for them.
/// `None`: told to end while waiting.
fn client_options(
    config: &Config,
    metrics: &Arc<Metrics>,
    mailbox: &Mailbox<Letter>,
) -> Result<Option<ClientOptions>, Trouble> {
    let access = &config.access;
    let mut options = ClientOptions::new(&access.api.url());
    options.audit = open_audit(access)?;
    let metrics = Arc::clone(metrics);
    options.observer = Some(Arc::new(move |call: &Call<'_>| {
        metrics.request(call.request.verb.method(), call.status, call.host, call.duration);
    }));
    if matches!(access.api, ApiEndpoint::Https { .. }) {
        let Some(credentials) = wait_for_credentials(config, mailbox) else { return Ok(None) };
        options.credentials = Some(Arc::new(credentials));
    }
    Ok(Some(options))
}

fn wait_for_credentials(config: &Config, mailbox: &Mailbox<Letter>) -> Option<Credentials> {
    let mut last = None;
    loop {
        match Credentials::open(&config.access.service_account_dir) {
            Ok(credentials) => return Some(credentials),
            Err(error) if last.as_ref() == Some(&error) => debug!("still: {error}"),
            Err(error) => {
                error!("{error}; trying again");
                last = Some(error);
            }
        }
        let again = sys::boot_time() + config.timing.retry_period();
        if let Some(Letter::Shutdown) = mailbox.take_until(Some(again)) {
            return None;
        }
    }
}

fn start_errands(
    config: &Config,
    options: &ClientOptions,
    metrics: &Arc<Metrics>,
    board: &Arc<Board>,
) -> Result<Option<Errands>, Trouble> {
    if config.service.is_none() && !config.events {
        return Ok(None);
    }
    let (metrics, board) = (Arc::clone(metrics), Arc::clone(board));
    let setup = errands::Setup {
        namespace: config.access.namespace.clone(),
        lease: config.access.lease_name.clone(),
        identity: config.identity.clone(),
        service: config.service.as_ref().map(|service| (service.name.clone(), service.route_label.clone())),
        events: config.events,
        retry_period: config.timing.retry_period(),
        limit: config.timing.call_limit(),
        client: Arc::new(Client::new(options.clone())?),
        watch: Arc::new(Client::new(options.clone())?),
        routed: Box::new(move |routed| {
            metrics.route_update(match routed {
                Routed::Updated => RouteUpdate::Ok,
                Routed::Conflict => RouteUpdate::Conflict,
                Routed::SteppedBack => RouteUpdate::Outranked,
                Routed::Failed => RouteUpdate::Failed,
            });
        }),
        target: Box::new(move |target| board.service_points_at(target)),
    };
    Errands::start(setup).map(Some).map_err(|error| format!("the thread for errands: {error}"))
}

/// Where the election's events go.
struct Stage<'a> {
    config: &'a Config,
    work: Work,
    errands: Option<Errands>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    /// Whether the Service may ever have pointed here.
    has_led: bool,
    leads: bool,
}

impl Audience for Stage<'_> {
    fn start_work(&mut self, leadership: Leadership) {
        (self.has_led, self.leads) = (true, true);
        self.board.term_began(leadership.clone());
        self.tell(&leadership, became_leader(&self.config.identity));
        self.errand(Errand::Lead(leadership.clone()));
        self.work.start(leadership);
    }

    fn stop_work(&mut self) {
        self.leads = false;
        self.work.stop();
    }

    fn event(&mut self, event: &Event) {
        let (me, lease) = (&self.config.identity, &self.config.access.lease_name);
        match event {
            Event::LeaderChanged(leader) => self.leader_changed(leader.as_deref()),
            Event::StartedLeading { token } => info!("{me} became leader of {lease} (fencing token {token})"),
            Event::StoppedLeading { why, .. } => self.stopped_leading(why),
            Event::Renewed => debug!("renewed"),
            Event::Released => info!("released the Lease {lease}"),
            Event::ReleaseFailed => warn!("the Lease {lease} could not be released: others must wait until it expires"),
            Event::AcquiredTooLate => warn!("the Lease {lease} was acquired too late to lead: releasing it"),
            Event::DuplicateIdentity => warn!(
                "another process holds the Lease {lease} with this one's identity {me}: POD_NAME must be unique to each \
                 candidate; waiting as for any rival"
            ),
            Event::Coordinated => warn!(
                "the Lease {lease} has spec.strategy set, so coordinated leader election names its holders: not \
                 campaigning; use another LEASE_NAME, or remove spec.strategy"
            ),
            Event::AlreadyLeading => info!("asked to hand over to {me}, which leads already"),
        }
    }

    fn lease(&mut self, lease: Option<&Snapshot>, token: Option<Version>) {
        self.board.lease(lease, token);
    }

    fn called(&mut self, why: Why, error: Option<&CallError>) {
        let conflict = error.is_some_and(|error| error.failure == Failure::Conflict);
        if error.is_none_or(|error| error.status.is_some()) {
            self.board.answered();
        }
        if conflict {
            self.metrics.conflict();
        }
        if self.leads && why == Why::Observe {
            self.metrics.slow_path();
        }
        if why == Why::Renew {
            self.metrics.renewal(match error {
                None => Renewal::Ok,
                Some(_) if conflict => Renewal::Conflict,
                Some(_) => Renewal::Failed,
            });
        }
    }

    fn watch_ended(&mut self) {
        self.metrics.watch_restart();
    }
}

impl Stage<'_> {
    fn leader_changed(&self, leader: Option<&str>) {
        self.board.leader_changed(leader, sys::now());
        self.metrics.transition();
        match leader {
            Some(leader) => info!("new leader {leader}"),
            None => info!("nobody leads"),
        }
    }

    fn stopped_leading(&self, why: &Ending) {
        let why = describe(why);
        info!("{} stopped being leader: {why}", self.config.identity);
        if let Some(leadership) = self.board.term_ended() {
            self.tell(&leadership, stopped_leading(&self.config.identity, &why));
        }
        self.errand(Errand::Lost);
    }

    fn tell(&self, leadership: &Leadership, message: String) {
        if self.config.events {
            self.errand(Errand::Tell { lease_uid: leadership.term().lease_uid.clone(), message });
        }
    }

    fn errand(&self, errand: Errand) {
        if let Some(errands) = &self.errands {
            errands.post(errand);
        }
    }

    /// The Lease is released. HTTP is answered until the Service points elsewhere and the nodes have heard of it: no
    /// request need be lost that another can answer.
    fn leave(self, web: web::Web) {
        web.drain();
        if let Some(errands) = self.errands {
            let until = sys::boot_time() + self.config.drain_timeout;
            let elsewhere = errands.drain(self.config.drain_timeout, self.config.timing.call_limit());
            debug!("drained: the Service points {}", if elsewhere { "elsewhere" } else { "here still" });
            if elsewhere && self.has_led && self.config.service.is_some() {
                thread::sleep(PROPAGATION.min(until.since(sys::boot_time())));
            }
        }
        web.stop();
    }
}
