//! What is done beside the election: routing the Service, telling Events.
//!
//! THREADS. One thread, with a client of its own: however slow these calls are, no renewal waits for them (P7).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use log::{debug, info, warn};

use crate::kube::client::MAX_IDLE;
use crate::kube::event::{self, Post, Subject};
use crate::kube::{CallError, Client, Failure, Fence, Pod, Purpose, Reply, Resource, Service, pod, request, service};
use crate::program::routing::{
    ObservedService, RouteEvent, RouteFailure, RouteInput, RouteOutput, RouteReply, RouteRequest, Routing,
};
use crate::runtime::Leadership;
use crate::runtime::inbox::Inbox;
use crate::runtime::{ErrorLog, STACK, WatchUpdate, Watched, Watcher};
use crate::sys;
use crate::time::BootTime;

/// What comes to the thread.
pub(crate) enum RoutingMessage {
    /// A term has begun.
    Lead(Leadership),
    /// It has ended.
    Lost,
    /// Tell this in an RouteEvent on the Lease of that uid.
    Tell { lease_uid: String, message: String },
    /// From the Service's watch.
    Watch(WatchUpdate),
    /// Stay until the Service points elsewhere, at most until this instant; then end.
    Drain { until: BootTime },
}

/// What became of a route, for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Routed {
    Updated,
    Conflict,
    SteppedBack,
    Failed,
}

/// What the routing need.
pub(crate) struct RoutingOptions {
    pub(crate) namespace: String,
    pub(crate) lease: String,
    pub(crate) identity: String,
    /// The Service's name and the key of label and selector; none: no routing.
    pub(crate) service: Option<(String, String)>,
    pub(crate) events: bool,
    pub(crate) retry_period: Duration,
    pub(crate) limit: Duration,
    pub(crate) client: Arc<Client>,
    pub(crate) watch: Arc<Client>,
    /// Told of each route.
    pub(crate) routed: Box<dyn Fn(Routed) + Send>,
    /// Told where the Service points.
    pub(crate) target: Box<dyn Fn(Option<String>) + Send>,
}

/// The routing' thread.
pub(crate) struct RoutingWorker {
    inbox: Inbox<RoutingMessage>,
    drained: Receiver<bool>,
}

impl RoutingWorker {
    pub(crate) fn start(setup: RoutingOptions) -> io::Result<RoutingWorker> {
        let inbox = Inbox::new()?;
        let (done, drained) = mpsc::sync_channel(1);
        let runner = Runner::new(setup, inbox.clone());
        thread::Builder::new().name("routing".into()).stack_size(STACK).spawn(move || {
            let elsewhere = runner.run();
            let _ = done.send(elsewhere); // Whoever does not wait does not care.
        })?;
        Ok(RoutingWorker { inbox, drained })
    }

    /// Something to do. Never waits.
    pub(crate) fn post(&self, errand: RoutingMessage) {
        self.inbox.post(errand);
    }

    /// Waits until the Service points elsewhere and all Events are told, for at most `limit` (and one call).
    /// Whether it does point elsewhere.
    pub(crate) fn drain(self, limit: Duration, call: Duration) -> bool {
        self.inbox.post(RoutingMessage::Drain { until: sys::boot_time() + limit });
        self.drained.recv_timeout(limit + call).unwrap_or(false)
    }
}

struct Runner {
    setup: RoutingOptions,
    inbox: Inbox<RoutingMessage>,
    route: Option<Route>,
    leadership: Option<Leadership>,
    events: event::Events,
    to_tell: VecDeque<(String, String)>,
    may_tell: bool,
    errors: ErrorLog,
    draining: Option<BootTime>,
    drained: Option<bool>,
    /// When the kept connection will not be used any more.
    idle_at: Option<BootTime>,
}

struct Route {
    routing: Routing,
    watcher: Watcher,
    service: String,
    key: String,
    value: String,
}

impl Runner {
    fn new(setup: RoutingOptions, inbox: Inbox<RoutingMessage>) -> Runner {
        let route = setup.service.clone().map(|(service, key)| {
            let value = pod::label_value(&setup.identity);
            let watched = Watched {
                resource: Resource::Service,
                namespace: setup.namespace.clone(),
                name: service.clone(),
                purpose: Purpose::Route,
            };
            let update = inbox.clone();
            let listener = move |item| update.post(RoutingMessage::Watch(item));
            Route {
                routing: Routing::new(value.clone(), setup.retry_period),
                watcher: Watcher::new(Arc::clone(&setup.watch), watched, setup.retry_period, listener),
                service,
                key,
                value,
            }
        });
        let may_tell = setup.events;
        Runner {
            setup,
            inbox,
            route,
            leadership: None,
            events: event::Events::default(),
            to_tell: VecDeque::new(),
            may_tell,
            errors: ErrorLog::default(),
            draining: None,
            drained: None,
            idle_at: None,
        }
    }

    /// Until drained; whether the Service points elsewhere.
    fn run(mut self) -> bool {
        let mut wake = self.route(RouteInput::Timer);
        loop {
            self.tend_watch();
            let late = self.draining.is_some_and(|until| sys::boot_time() >= until);
            match self.drained {
                Some(elsewhere) if self.to_tell.is_empty() || late => return elsewhere,
                _ => {}
            }
            if let Some((uid, message)) = self.to_tell.pop_front() {
                self.tell(&uid, &message);
            }
            let due = [wake, self.idle_at].into_iter().flatten().min();
            let instant = if self.to_tell.is_empty() { due } else { Some(BootTime(0)) };
            wake = match self.inbox.take_until(instant) {
                Some(errand) => self.take(errand, wake),
                None => {
                    self.close_idle();
                    self.route(RouteInput::Timer)
                }
            };
        }
    }

    fn close_idle(&mut self) {
        if self.idle_at.take_if(|at| *at <= sys::boot_time()).is_some() {
            self.setup.client.close_idle();
        }
    }

    fn take(&mut self, errand: RoutingMessage, wake: Option<BootTime>) -> Option<BootTime> {
        match errand {
            RoutingMessage::Lead(leadership) => {
                let fence = Fence::of(leadership.term());
                self.leadership = Some(leadership);
                self.route(RouteInput::Lead(fence))
            }
            RoutingMessage::Lost => {
                self.leadership = None;
                self.route(RouteInput::Lost)
            }
            RoutingMessage::Tell { lease_uid, message } => {
                if self.may_tell {
                    self.to_tell.push_back((lease_uid, message));
                }
                wake
            }
            RoutingMessage::Watch(update) => self.watched(update, wake),
            RoutingMessage::Drain { until } => {
                self.draining = Some(until);
                if self.route.is_none() {
                    self.drained = Some(true);
                }
                self.route(RouteInput::Drain { until })
            }
        }
    }

    fn watched(&mut self, update: WatchUpdate, wake: Option<BootTime>) -> Option<BootTime> {
        let Some(route) = &mut self.route else { return wake };
        let Some(update) = route.watcher.note(update) else { return wake };
        let input = match update {
            WatchUpdate::Up { .. } => RouteInput::Watching(true),
            WatchUpdate::Down { .. } => RouteInput::Watching(false),
            WatchUpdate::Deleted { .. } => RouteInput::Deleted,
            WatchUpdate::Object { object, .. } => match Service::from_object(object) {
                Ok(service) => RouteInput::Seen(view(&service, &route.key)),
                Err(malformed) => {
                    warn!("the watch on Service {} brought something else: {malformed}", route.service);
                    return wake;
                }
            },
        };
        self.route(input)
    }

    fn tend_watch(&mut self) {
        let Some(route) = &mut self.route else { return };
        match route.routing.watch_from() {
            Some(version) => route.watcher.tend(Some(version), sys::boot_time()),
            None if route.watcher.is_running() => {
                route.watcher.stop();
                self.route(RouteInput::Watching(false));
            }
            None => {}
        }
    }

    /// Hands the routing one input and does all that it asks. When it wants to be woken.
    fn route(&mut self, input: RouteInput) -> Option<BootTime> {
        let Some(mut route) = self.route.take() else { return self.draining };
        route.routing.handle(sys::boot_time(), input);
        let wake = loop {
            match route.routing.poll() {
                RouteOutput::Call { call, request } => {
                    let result = self.call(&route, &request);
                    route.routing.handle(sys::boot_time(), RouteInput::Reply { call, result });
                }
                RouteOutput::Report(event) => self.report(&route, &event),
                RouteOutput::Drained { elsewhere } => self.drained = Some(elsewhere),
                RouteOutput::WaitUntil(instant) => break instant,
            }
        };
        (self.setup.target)(route.routing.service().and_then(|service| service.target.clone()));
        self.route = Some(route);
        wake
    }

    fn call(&mut self, route: &Route, asked: &RouteRequest) -> Result<RouteReply, RouteFailure> {
        let (namespace, pod) = (self.setup.namespace.as_str(), self.setup.identity.as_str());
        let labelled = |pod: Pod| RouteReply::Pod { labelled: pod.label(&route.key) == Some(route.value.as_str()) };
        let routed = |service: Service| RouteReply::Service(view(&service, &route.key));
        match asked {
            RouteRequest::GetPod => self.ask(&request::get_pod(namespace, pod), Pod::parse).map(labelled),
            RouteRequest::LabelPod => {
                self.ask(&request::label_pod(namespace, pod, &route.key, &route.value), Pod::parse).map(labelled)
            }
            RouteRequest::GetService => {
                let why = if self.draining.is_some() { Purpose::Drain } else { Purpose::Route };
                self.ask(&request::get_service(namespace, &route.service, why), Service::parse).map(routed)
            }
            RouteRequest::PatchService { version, uid, fence } => {
                let patch = service::selector_patch(*version, uid, &route.key, &route.value, fence);
                let request = request::patch_service(namespace, &route.service, &patch);
                // Right before it is sent: is it still this process's to say?
                if !self.leadership.as_ref().is_some_and(Leadership::is_held) {
                    return Err(RouteFailure::NotSent);
                }
                self.ask(&request, Service::parse).map(routed)
            }
        }
    }

    fn ask<T>(
        &mut self,
        request: &request::Request,
        parse: fn(&[u8]) -> Result<T, crate::kube::Malformed>,
    ) -> Result<T, RouteFailure> {
        let result = self.send(request).and_then(|reply| reply.parse(request, parse));
        match &result {
            Ok(_) => self.errors.settled(request),
            Err(error) => self.errors.about(request, error),
        }
        if let Some(error) = result.as_ref().err().filter(|_| request.purpose == Purpose::Route) {
            (self.setup.routed)(if error.failure == Failure::Conflict { Routed::Conflict } else { Routed::Failed });
        }
        result.map_err(|error| match error.failure {
            Failure::NotFound => RouteFailure::NotFound,
            Failure::Conflict => RouteFailure::Conflict,
            Failure::Forbidden(_) => RouteFailure::Forbidden,
            _ => RouteFailure::Failed,
        })
    }

    fn send(&mut self, request: &request::Request) -> Result<Reply, CallError> {
        let result = self.setup.client.call(request, self.setup.limit);
        self.idle_at = Some(sys::boot_time() + MAX_IDLE);
        result
    }

    fn report(&self, route: &Route, event: &RouteEvent) {
        let Route { service, key, value, .. } = route;
        match event {
            RouteEvent::PodLabelled { patched: true } => info!("updated pod label: {key}={value}"),
            RouteEvent::PodLabelled { patched: false } => debug!("the pod bears the label {key}={value} already"),
            RouteEvent::ServiceUpdated => {
                (self.setup.routed)(Routed::Updated);
                info!("updated Service {service}: its selector has {key}={value}");
            }
            RouteEvent::SelectorChanged { target } => {
                let target = target.as_deref().unwrap_or("nothing");
                warn!(
                    "somebody pointed Service {service} at {key}={target} while this process leads: putting it right"
                );
            }
            RouteEvent::SteppedBack { theirs } => {
                (self.setup.routed)(Routed::SteppedBack);
                warn!("Service {service} bears the fence of a later term ({theirs}): leaving it alone");
            }
        }
    }

    fn tell(&mut self, lease_uid: &str, message: &str) {
        let RoutingOptions { namespace, lease, identity, .. } = &self.setup;
        let subject = Subject {
            namespace: namespace.clone(),
            name: lease.clone(),
            uid: lease_uid.to_owned(),
            identity: identity.clone(),
        };
        // A second try when the RouteEvent to be counted on is gone: the API server forgets Events after an hour.
        for _ in 0..2 {
            let post = self.events.tell(&subject, message, sys::now(), sys::random_u64());
            let (name, request) = match post {
                Post::Create { name, object } => {
                    let request = request::create_event(&subject.namespace, &name, &object);
                    (name, request)
                }
                Post::Patch { name, patch } => {
                    let request = request::patch_event(&subject.namespace, &name, &patch);
                    (name, request)
                }
            };
            let Err(error) = self.send(&request) else { return };
            self.events.forget(&name);
            match error.failure {
                Failure::Forbidden(_) => {
                    let rule = request.missing_rule();
                    info!("no Events will be written (EVENTS=off says so without asking): {error}; {rule}");
                    self.may_tell = false;
                    return self.to_tell.clear();
                }
                Failure::NotFound if request.verb == request::Verb::Patch => {}
                _ => return debug!("an RouteEvent could not be written: {error}"),
            }
        }
    }
}

fn view(service: &Service, key: &str) -> ObservedService {
    ObservedService {
        uid: service.uid().to_owned(),
        version: service.version(),
        target: service.selector_value(key).map(str::to_owned),
        fence: service.fence().cloned(),
    }
}
