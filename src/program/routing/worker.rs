//! The routing worker: makes the calls about the own Pod and the Service, and writes Events.
//!
//! THREADS. One thread, with a client of its own: however slow these calls are, no renewal waits for them (P7).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use log::{debug, info, warn};

use super::events::Events;
use super::{CONFLICTS_IN_A_ROW, RouteEvent, RouteFailure, RouteInput, RouteOutput, RouteReply, RouteRequest, Routing};
use crate::kube::client::MAX_IDLE;
use crate::kube::event::{Subject, became_leader, stopped_leading};
use crate::kube::service::{FENCE, selector_patch};
use crate::kube::{CallError, Client, Failure, Fence, Malformed, Pod, Purpose, Reply, Request, Service, pod, request};
use crate::program::config::{Config, ServiceConfig};
use crate::program::metrics::TryResult;
use crate::program::state::SharedState;
use crate::runtime::inbox::Inbox;
use crate::runtime::{ErrorLog, Leadership, STACK, WatchChange, WatchUpdate, Watcher};
use crate::sys;
use crate::time::BootTime;

/// What is posted to the worker.
pub(crate) enum RoutingMessage {
    /// A term has begun.
    Lead(Leadership),
    /// It has ended: why, in words.
    Lost { why: String },
    /// From the Service's watch.
    Watch(WatchUpdate),
    /// Stay until the Service points elsewhere, at most until this instant; then end.
    Drain { until: BootTime },
}

/// What the worker needs.
pub(crate) struct RoutingOptions {
    pub(crate) config: Config,
    pub(crate) client: Arc<Client>,
    pub(crate) state: Arc<SharedState>,
}

/// The handle of the worker's thread.
pub(crate) struct RoutingWorker {
    inbox: Inbox<RoutingMessage>,
    drained: Receiver<bool>,
}

impl RoutingWorker {
    pub(crate) fn start(options: RoutingOptions) -> io::Result<RoutingWorker> {
        let inbox = Inbox::new()?;
        let (done, drained) = mpsc::sync_channel(1);
        let service = options.config.service.as_ref();
        let route = service.map(|service| Route::new(&options, service, inbox.clone()));
        let worker = Worker {
            options,
            inbox: inbox.clone(),
            route,
            leadership: None,
            events: Events::default(),
            errors: ErrorLog::default(),
            drain_until: None,
            drained: None,
            wake: None,
            idle_at: None,
        };
        thread::Builder::new().name("routing".into()).stack_size(STACK).spawn(move || {
            let elsewhere = worker.run();
            let _ = done.send(elsewhere); // The receiver may be gone.
        })?;
        Ok(RoutingWorker { inbox, drained })
    }

    /// Never waits.
    pub(crate) fn post(&self, message: RoutingMessage) {
        self.inbox.post(message);
    }

    /// Waits until the Service points elsewhere and all Events are sent, for at most `limit` (and one call).
    /// Whether the Service points elsewhere.
    pub(crate) fn drain(self, limit: Duration, call: Duration) -> bool {
        self.inbox.post(RoutingMessage::Drain { until: sys::boot_time() + limit });
        self.drained.recv_timeout(limit + call).unwrap_or(false)
    }
}

struct Worker {
    options: RoutingOptions,
    inbox: Inbox<RoutingMessage>,
    route: Option<Route>,
    leadership: Option<Leadership>,
    events: Events,
    errors: ErrorLog,
    drain_until: Option<BootTime>,
    drained: Option<bool>,
    /// When the routing wants to be woken.
    wake: Option<BootTime>,
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

impl Route {
    fn new(options: &RoutingOptions, service: &ServiceConfig, inbox: Inbox<RoutingMessage>) -> Route {
        let Config { access, identity, timing, .. } = &options.config;
        let (key, value) = (service.route_label.clone(), pod::label_value(identity));
        let (namespace, name) = (access.namespace.clone(), service.name.clone());
        let watch = move |from, lasting| request::watch_service(&namespace, &name, from, lasting, Purpose::Route);
        let listener = move |update| inbox.post(RoutingMessage::Watch(update));
        Route {
            routing: Routing::new(key.clone(), value.clone(), timing.retry_period()),
            watcher: Watcher::new(Arc::clone(&options.client), watch, timing.retry_period(), listener),
            service: service.name.clone(),
            key,
            value,
        }
    }
}

impl Worker {
    /// Until drained; whether the Service points elsewhere.
    fn run(mut self) -> bool {
        self.advance(RouteInput::Timer);
        loop {
            self.update_watch();
            let event_at = self.next_event_at();
            let late = self.drain_until.is_some_and(|until| sys::boot_time() >= until);
            if let Some(elsewhere) = self.drained.filter(|_| event_at.is_none() || late) {
                return elsewhere;
            }
            // A message that waits goes before an Event: it may have to do with the Service.
            let due = [self.wake, self.idle_at, event_at].into_iter().flatten().min();
            match self.inbox.take_until(due) {
                Some(message) => self.take(message),
                None if event_at.is_some_and(|at| at <= sys::boot_time()) => self.send_event(),
                None => {
                    self.close_idle();
                    self.advance(RouteInput::Timer);
                }
            }
        }
    }

    /// When to send the next Event. While the Service has yet to be pointed at the leader an Event waits: a slow call
    /// would delay that.
    fn next_event_at(&self) -> Option<BootTime> {
        let unsettled = self.route.as_ref().is_some_and(|route| route.routing.is_unsettled());
        let held = unsettled && self.drained.is_none();
        let due = self.events.due()?;
        Some(if held { self.drain_until.unwrap_or(due) } else { BootTime(0) })
    }

    fn close_idle(&mut self) {
        if self.idle_at.take_if(|at| *at <= sys::boot_time()).is_some() {
            self.options.client.close_idle();
        }
    }

    fn take(&mut self, message: RoutingMessage) {
        match message {
            RoutingMessage::Lead(leadership) => {
                let fence = Fence::of(leadership.term());
                self.record_event(&leadership, &became_leader(&self.options.config.identity));
                self.leadership = Some(leadership);
                self.advance(RouteInput::Lead(fence));
            }
            RoutingMessage::Lost { why } => {
                if let Some(leadership) = self.leadership.take() {
                    self.record_event(&leadership, &stopped_leading(&self.options.config.identity, &why));
                }
                self.advance(RouteInput::Lost);
            }
            RoutingMessage::Watch(update) => self.on_watch(update),
            RoutingMessage::Drain { until } => {
                self.drain_until = Some(until);
                if self.route.is_none() {
                    self.drained = Some(true);
                }
                self.advance(RouteInput::Drain { until });
            }
        }
    }

    fn on_watch(&mut self, update: WatchUpdate) {
        let Some(route) = &mut self.route else { return };
        let Some(change) = route.watcher.note(update) else { return };
        let input = match change {
            WatchChange::Up => RouteInput::Watching(true),
            WatchChange::Down(_) => RouteInput::Watching(false),
            WatchChange::Deleted(_) => RouteInput::Deleted,
            WatchChange::Object(_, object) => match Service::from_object(object) {
                Ok(service) => RouteInput::Seen(service),
                Err(error) => return warn!("the watch on Service {}: unreadable event: {error}", route.service),
            },
        };
        self.advance(input);
    }

    /// Opens and closes the watch on the Service as needed.
    fn update_watch(&mut self) {
        let Some(route) = &mut self.route else { return };
        match route.routing.watch_from() {
            Some(version) => {
                route.watcher.tend(Some(version), sys::boot_time());
            }
            None if route.watcher.is_running() => {
                route.watcher.stop();
                self.advance(RouteInput::Watching(false));
            }
            None => {}
        }
    }

    /// Hands the routing one input and does all that it asks for.
    fn advance(&mut self, input: RouteInput) {
        let Some(mut route) = self.route.take() else { return self.wake = self.drain_until };
        route.routing.handle(sys::boot_time(), input);
        self.wake = loop {
            match route.routing.poll() {
                RouteOutput::Call(request) => {
                    let result = self.call(&route, &request);
                    route.routing.handle(sys::boot_time(), RouteInput::Reply(result));
                }
                RouteOutput::Report(event) => self.report(&route, &event),
                RouteOutput::Drained { elsewhere } => self.drained = Some(elsewhere),
                RouteOutput::WaitUntil(instant) => break instant,
            }
        };
        self.options.state.service_points_at(route.routing.selected().map(str::to_owned));
        self.route = Some(route);
    }

    fn call(&mut self, route: &Route, request: &RouteRequest) -> Result<RouteReply, RouteFailure> {
        let Route { service, key, value, .. } = route;
        let Config { access, identity: pod, .. } = &self.options.config;
        let (namespace, pod) = (access.namespace.clone(), pod.clone());
        let labelled = |pod: &Pod| pod.label(key) == Some(value);
        match request {
            RouteRequest::GetPod => {
                let pod = self.ask(&request::get_pod(&namespace, &pod), Pod::parse, |_| None)?;
                Ok(RouteReply::Pod { labelled: labelled(&pod) })
            }
            RouteRequest::LabelPod => {
                let request = request::label_pod(&namespace, &pod, key, value);
                let lacks = |pod: &Pod| (!labelled(pod)).then(|| format!("the label {key}={value}"));
                let pod = self.ask(&request, Pod::parse, lacks)?;
                Ok(RouteReply::Pod { labelled: labelled(&pod) })
            }
            RouteRequest::GetService => {
                let purpose = if self.drain_until.is_some() { Purpose::Drain } else { Purpose::Route };
                self.ask(&request::get_service(&namespace, service, purpose), Service::parse, |_| None)
                    .map(RouteReply::Service)
            }
            RouteRequest::PatchService { version, uid, fence } => {
                let patch = selector_patch(*version, uid, key, value, fence);
                let request = request::patch_service(&namespace, service, &patch);
                let lacks = |service: &Service| {
                    let selects = service.selector_value(key) == Some(value);
                    let lost_fence = || format!("the annotation {FENCE}={fence}");
                    let lost = (service.fence.as_ref() != Some(fence)).then(lost_fence);
                    if selects { lost } else { Some(format!("the selector {key}={value}")) }
                };
                // Asked right before it is sent: is the term still valid?
                if !self.leadership.as_ref().is_some_and(Leadership::is_held) {
                    return Err(RouteFailure::Failed);
                }
                self.ask(&request, Service::parse, lacks).map(RouteReply::Service)
            }
        }
    }

    /// Makes a call and logs what is wrong with it, once. `lacks`: what was written and is missing in the answer.
    fn ask<T>(
        &mut self,
        request: &Request,
        parse: fn(&[u8]) -> Result<T, Malformed>,
        lacks: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, RouteFailure> {
        let result = self.send(request).and_then(|reply| reply.parse(request, parse));
        let failed = match result.as_ref().map(lacks) {
            Ok(None) => {
                self.errors.settled(request);
                None
            }
            Ok(Some(what)) => {
                let (method, path) = (request.verb.method(), &request.path);
                let cause = "an admission webhook may remove it";
                self.errors.complain(request, format!("{method} {path}: the answer lacks {what}: {cause}"));
                Some(TryResult::Failed)
            }
            Err(error) => {
                self.errors.about(request, error);
                let conflict = error.failure == Failure::Conflict;
                Some(if conflict { TryResult::Conflict } else { TryResult::Failed })
            }
        };
        if let Some(failed) = failed.filter(|_| request.purpose == Purpose::Route) {
            self.count(failed);
        }
        result.map_err(|error| match error.failure {
            Failure::NotFound => RouteFailure::NotFound,
            Failure::Conflict => RouteFailure::Conflict,
            Failure::Forbidden(_) => RouteFailure::Forbidden,
            _ => RouteFailure::Failed,
        })
    }

    fn count(&self, result: TryResult) {
        self.options.state.metrics.counts().route_updates[result as usize] += 1;
    }

    fn send(&mut self, request: &Request) -> Result<Reply, CallError> {
        let result = self.options.client.call(request, self.options.config.timing.call_limit());
        self.idle_at = Some(sys::boot_time() + MAX_IDLE);
        result
    }

    fn report(&self, route: &Route, event: &RouteEvent) {
        let Route { service, key, value, .. } = route;
        match event {
            RouteEvent::PodLabelled { patched: true } => info!("updated pod label: {key}={value}"),
            RouteEvent::PodLabelled { patched: false } => debug!("the Pod already bears the label {key}={value}"),
            RouteEvent::ServiceUpdated => {
                self.count(TryResult::Ok);
                info!("updated Service {service}: its selector has {key}={value}");
            }
            RouteEvent::SelectorChanged { target } => {
                let target = target.as_deref().unwrap_or("nothing");
                warn!("Service {service} was changed to {key}={target} while this process leads: setting it again");
            }
            RouteEvent::SteppedBack { theirs } => {
                self.count(TryResult::Outranked);
                let namespace = &self.options.config.access.namespace;
                warn!(
                    "Service {service} bears the fence of a later term ({theirs}), so this leader does not patch it. If \
                     that leader is gone for good, remove the fence: kubectl annotate service {service} \
                     --namespace {namespace} {FENCE}-"
                );
            }
            RouteEvent::Conflicts => warn!(
                "{CONFLICTS_IN_A_ROW} patches of Service {service} in a row were answered 409 Conflict; trying again \
                 every {:?}",
                self.options.config.timing.retry_period()
            ),
        }
    }

    fn record_event(&mut self, leadership: &Leadership, message: &str) {
        let Config { access, identity, events, .. } = &self.options.config;
        if *events {
            let subject = Subject {
                namespace: &access.namespace,
                name: &access.lease_name,
                uid: &leadership.term().lease_uid,
                identity,
            };
            self.events.add(&subject, message);
        }
    }

    fn send_event(&mut self) {
        let Some((name, object)) = self.events.next() else { return };
        let request = request::create_event(&self.options.config.access.namespace, &name, &object);
        match self.send(&request) {
            Err(error) if matches!(error.failure, Failure::Forbidden(_)) => {
                let rule = request.missing_rule();
                info!("no Events will be written (EVENTS=off avoids the attempt): {error}; {rule}");
                self.options.config.events = false;
                self.events.clear();
            }
            Err(error) => debug!("an Event could not be written: {error}"),
            Ok(_) => {}
        }
    }
}
