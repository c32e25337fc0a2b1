//! The routing worker: makes the calls about the own Pod and the Service, and writes Events.
//!
//! THREADS. One thread, with a client of its own: however slow these calls are, no renewal waits for them (P7).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{debug, info, warn};

use super::{CONFLICTS_IN_A_ROW, RouteEvent, RouteFailure, RouteInput, RouteReply, RouteRequest, Routing};
use crate::kube::client::MAX_IDLE;
use crate::kube::event::{self, Subject};
use crate::kube::service::{FENCE, selector_patch};
use crate::kube::{
    CallError, Client, Fence, Pod, Purpose, Reply, Request, Resource, Service, WatchEvent, pod, request,
};
use crate::program::config::{Config, ServiceConfig};
use crate::program::metrics::TryResult;
use crate::program::state::SharedState;
use crate::runtime::inbox::Inbox;
use crate::runtime::{ErrorLog, Leadership, STACK, WatchChange, WatchUpdate, Watcher};
use crate::sys;
use crate::time::{BootTime, Now};

/// No more Events than this wait.
const EVENTS_KEPT: usize = 16;

/// An Event waits this long for the Service to be routed, and is then sent all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is posted to the worker.
pub(crate) enum RoutingMessage {
    /// A term has begun.
    Lead(Leadership),
    /// It has ended: why, in words.
    Lost { why: String },
    /// From the Service's watch.
    Watch(WatchUpdate),
    /// Stay until the Service points elsewhere and all Events are sent, at most until this instant and one call longer.
    Drain { until: BootTime },
}

/// The handle of the worker.
pub(crate) struct RoutingWorker {
    pub(crate) inbox: Inbox<RoutingMessage>,
    /// Ends after [`RoutingMessage::Drain`]: whether the Service points elsewhere.
    pub(crate) thread: JoinHandle<bool>,
}

impl RoutingWorker {
    pub(crate) fn start(config: Config, client: Arc<Client>, state: Arc<SharedState>) -> io::Result<RoutingWorker> {
        let inbox = Inbox::new()?;
        let ServiceConfig { name: service, route_label } = config.service.clone().unwrap_or_default();
        let retry_period = config.timing.retry_period();
        let (namespace, name, post) = (config.access.namespace.clone(), service.clone(), inbox.clone());
        let watch = move |from, lasting| request::watch_service(&namespace, &name, from, lasting, Purpose::Route);
        let listener = move |update| post.post(RoutingMessage::Watch(update));
        let worker = Worker {
            service,
            routing: Routing::new(route_label, pod::label_value(&config.identity), retry_period),
            watcher: Watcher::new(Arc::clone(&client), watch, retry_period, listener),
            config,
            client,
            state,
            inbox: inbox.clone(),
            leadership: None,
            events: VecDeque::new(),
            errors: ErrorLog::default(),
            drain_until: None,
            wake: None,
            idle_at: None,
        };
        let thread = thread::Builder::new().name("routing".into()).stack_size(STACK).spawn(move || worker.run())?;
        Ok(RoutingWorker { inbox, thread })
    }
}

struct Worker {
    config: Config,
    client: Arc<Client>,
    state: Arc<SharedState>,
    inbox: Inbox<RoutingMessage>,
    /// The Service's name. Where there is none to route, only Events are written, and `routing` is handed nothing.
    service: String,
    routing: Routing,
    watcher: Watcher,
    leadership: Option<Leadership>,
    /// Those to send, each with the instant until which it waits for the Service.
    events: VecDeque<(BootTime, Request)>,
    errors: ErrorLog,
    drain_until: Option<BootTime>,
    /// When the routing wants to be woken.
    wake: Option<BootTime>,
    /// When the kept connection will not be used any more.
    idle_at: Option<BootTime>,
}

impl Worker {
    /// Until drained; whether the Service points elsewhere.
    fn run(mut self) -> bool {
        self.advance(RouteInput::Timer);
        loop {
            let watched = self.routing.watch_from();
            let watch_at = self.watcher.tend(watched, sys::boot_time());
            if watched.is_none() {
                self.watcher.stop();
            }
            if let Some(until) = self.drain_until {
                let elsewhere = !self.routing.may_point_here();
                if elsewhere && self.events.is_empty() || sys::boot_time() >= until {
                    return elsewhere;
                }
            }
            // While the Service has yet to be pointed at the leader, by this process or after its term by the next, an
            // Event waits: a slow call would delay that.
            let waits = self.config.service.is_some() && self.leadership.is_some() != self.routing.points_here();
            let event_at = self.events.front().map(|(patience, _)| if waits { *patience } else { BootTime(0) });
            let due = [self.wake, watch_at, self.idle_at, event_at, self.drain_until].into_iter().flatten().min();
            // A message that waits goes before an Event: it may have to do with the Service.
            match self.inbox.take_until(due) {
                Some(message) => self.take(message),
                None if event_at.is_some_and(|at| at <= sys::boot_time()) => self.send_event(),
                None => {
                    if self.idle_at.take_if(|at| *at <= sys::boot_time()).is_some() {
                        self.client.close_idle();
                    }
                    self.advance(RouteInput::Timer);
                }
            }
        }
    }

    fn take(&mut self, message: RoutingMessage) {
        match message {
            RoutingMessage::Lead(leadership) => {
                let fence = Fence::of(leadership.term());
                self.leadership = Some(leadership);
                self.record_event("became leader");
                self.advance(RouteInput::Lead(fence));
            }
            RoutingMessage::Lost { why } => {
                self.record_event(&format!("stopped leading: {why}"));
                self.leadership = None;
                self.advance(RouteInput::Lost);
            }
            RoutingMessage::Watch(update) => self.on_watch(update),
            RoutingMessage::Drain { until } => self.drain_until = Some(until),
        }
    }

    fn on_watch(&mut self, update: WatchUpdate) {
        let input = match self.watcher.note(update) {
            None | Some(WatchChange::Event(WatchEvent::Bookmark(_))) => return,
            Some(WatchChange::Up) => RouteInput::Watching(true),
            Some(WatchChange::Down(_)) => RouteInput::Watching(false),
            Some(WatchChange::Event(WatchEvent::Deleted(_))) => RouteInput::Deleted,
            Some(WatchChange::Event(WatchEvent::Modified(_, object))) => match Service::from_object(&object) {
                Ok(service) => RouteInput::Seen(service),
                Err(error) => return warn!("the watch on Service {}: unreadable event: {error}", self.service),
            },
        };
        self.advance(input);
    }

    /// Hands the routing one input and makes the calls that follow from it.
    fn advance(&mut self, mut input: RouteInput) {
        if self.config.service.is_none() {
            return;
        }
        loop {
            if let Some(event) = self.routing.handle(sys::boot_time(), input) {
                self.report(&event);
            }
            let Some(asked) = self.routing.call.clone() else { break };
            // Asked right before it is sent: is the term still valid?
            let over = !self.leadership.as_ref().is_some_and(Leadership::is_held);
            input = match asked {
                RouteRequest::PatchService { .. } if over => RouteInput::Lost,
                _ => RouteInput::Reply(self.call(&asked)),
            };
        }
        self.wake = self.routing.wake();
        self.state.known().view.service_target = self.routing.selected().map(str::to_owned);
    }

    /// Makes a call and logs what is wrong with it, once.
    fn call(&mut self, asked: &RouteRequest) -> Result<RouteReply, RouteFailure> {
        let request = self.request(asked);
        let reply = self.send(&request);
        let Routing { key, target, .. } = &self.routing;
        let result = reply.and_then(|reply| match request.resource {
            Resource::Service => reply.parse(&request, Service::parse).map(RouteReply::Service),
            _ => reply.parse(&request, Pod::parse).map(|pod| RouteReply::Labelled(pod.label(key) == Some(target))),
        });
        let failed = match &result {
            Ok(reply) => self.missing(asked, reply).map(|what| {
                let (method, path) = (request.verb.method(), &request.path);
                let cause = "an admission webhook may remove it";
                self.errors.complain(&request, format!("{method} {path}: the answer lacks {what}: {cause}"));
                TryResult::Failed
            }),
            Err(error) => {
                self.errors.about(&request, error);
                let conflict = error.status == Some(409);
                Some(if conflict { TryResult::Conflict } else { TryResult::Failed })
            }
        };
        match failed {
            None => self.errors.settled(&request),
            Some(failed) if request.purpose == Purpose::Route => self.count(failed),
            Some(_) => {}
        }
        result
            .map_err(|error| RouteFailure { status: error.status, retry_after: error.retry_after.unwrap_or_default() })
    }

    fn request(&self, asked: &RouteRequest) -> Request {
        let Config { access, identity: pod, .. } = &self.config;
        let (namespace, service) = (&access.namespace, &self.service);
        let Routing { key, target, .. } = &self.routing;
        match asked {
            RouteRequest::GetPod => request::get_pod(namespace, pod),
            RouteRequest::LabelPod => request::label_pod(namespace, pod, key, target),
            RouteRequest::GetService => {
                let purpose = if self.drain_until.is_some() { Purpose::Drain } else { Purpose::Route };
                request::get_service(namespace, service, purpose)
            }
            RouteRequest::PatchService { version, uid, fence } => {
                request::patch_service(namespace, service, &selector_patch(*version, uid, key, target, fence))
            }
        }
    }

    /// What was written and is missing in the answer.
    fn missing(&self, asked: &RouteRequest, reply: &RouteReply) -> Option<String> {
        let Routing { key, target, .. } = &self.routing;
        match (asked, reply) {
            (RouteRequest::LabelPod, RouteReply::Labelled(false)) => Some(format!("the label {key}={target}")),
            (RouteRequest::PatchService { fence, .. }, RouteReply::Service(service)) => {
                if service.selector_value(key) != Some(target) {
                    return Some(format!("the selector {key}={target}"));
                }
                (service.fence.as_ref() != Some(fence)).then(|| format!("the annotation {FENCE}={fence}"))
            }
            _ => None,
        }
    }

    fn count(&self, result: TryResult) {
        self.state.metrics.counts().route_updates[result as usize] += 1;
    }

    fn send(&mut self, request: &Request) -> Result<Reply, CallError> {
        let result = self.client.call(request, self.config.timing.call_limit());
        self.idle_at = Some(sys::boot_time() + MAX_IDLE);
        result
    }

    fn report(&self, event: &RouteEvent) {
        let (service, Routing { key, target, .. }) = (&self.service, &self.routing);
        match event {
            RouteEvent::PodLabelled => info!("updated pod label: {key}={target}"),
            RouteEvent::ServiceUpdated => {
                self.count(TryResult::Ok);
                info!("updated Service {service}: its selector has {key}={target}");
            }
            RouteEvent::SelectorChanged => {
                let target = self.routing.selected().unwrap_or("nothing");
                warn!("Service {service} was changed to {key}={target} while this process leads: setting it again");
            }
            RouteEvent::SteppedBack(theirs) => {
                self.count(TryResult::Outranked);
                let namespace = &self.config.access.namespace;
                warn!(
                    "Service {service} bears the fence of a later term ({theirs}), so this leader does not patch it. If \
                     that leader is gone for good, remove the fence: kubectl annotate service {service} \
                     --namespace {namespace} {FENCE}-"
                );
            }
            RouteEvent::Conflicts => warn!(
                "{CONFLICTS_IN_A_ROW} patches of Service {service} in a row were answered 409 Conflict; trying again \
                 every {:?}",
                self.config.timing.retry_period()
            ),
        }
    }

    fn record_event(&mut self, what: &str) {
        let Config { access, identity, events, .. } = &self.config;
        let wanted = *events && self.events.len() < EVENTS_KEPT;
        let Some(leadership) = self.leadership.as_ref().filter(|_| wanted) else { return };
        let (namespace, name, uid) = (&access.namespace, &access.lease_name, &leadership.term().lease_uid);
        let Now { boot, wall } = sys::now();
        let subject = Subject { namespace, name, uid, identity };
        let (name, object) = event::event(&subject, what, wall, sys::random_u64());
        self.events.push_back((boot + PATIENCE, request::create_event(namespace, &name, &object)));
    }

    fn send_event(&mut self) {
        let Some((_, request)) = self.events.pop_front() else { return };
        match self.send(&request) {
            Err(error) if error.status == Some(403) => {
                let rule = request.missing_rule();
                info!("no Events will be written (EVENTS=off avoids the attempt): {error}; {rule}");
                self.config.events = false;
                self.events.clear();
            }
            Err(error) => debug!("an Event could not be written: {error}"),
            Ok(_) => {}
        }
    }
}
