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

use crate::driver::{Complaints, News, STACK, Watched, Watcher};
use crate::kube::client::MAX_IDLE;
use crate::kube::event::{self, Post, Subject};
use crate::kube::{CallError, Client, Failure, Fence, Pod, Reply, Service, Why, pod, request, service};
use crate::leadership::Leadership;
use crate::mailbox::Mailbox;
use crate::routing::{self, Answer, CallFailure, Event, Input, Output, Routing, ServiceView};
use crate::sys;
use crate::time::BootTime;

/// What comes to the thread.
pub(crate) enum Errand {
    /// A term has begun.
    Lead(Leadership),
    /// It has ended.
    Lost,
    /// Tell this in an Event on the Lease of that uid.
    Tell { lease_uid: String, message: String },
    /// From the Service's watch.
    Watch(News),
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

/// What the errands need.
pub(crate) struct Setup {
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

/// The errands' thread.
pub(crate) struct Errands {
    mailbox: Mailbox<Errand>,
    drained: Receiver<bool>,
}

impl Errands {
    pub(crate) fn start(setup: Setup) -> io::Result<Errands> {
        let mailbox = Mailbox::new()?;
        let (done, drained) = mpsc::sync_channel(1);
        let runner = Runner::new(setup, mailbox.clone());
        thread::Builder::new().name("errands".into()).stack_size(STACK).spawn(move || {
            let elsewhere = runner.run();
            let _ = done.send(elsewhere); // Whoever does not wait does not care.
        })?;
        Ok(Errands { mailbox, drained })
    }

    /// Something to do. Never waits.
    pub(crate) fn post(&self, errand: Errand) {
        self.mailbox.post(errand);
    }

    /// Waits until the Service points elsewhere and all Events are told, for at most `limit` (and one call).
    /// Whether it does point elsewhere.
    pub(crate) fn drain(self, limit: Duration, call: Duration) -> bool {
        self.mailbox.post(Errand::Drain { until: sys::boot_time() + limit });
        self.drained.recv_timeout(limit + call).unwrap_or(false)
    }
}

struct Runner {
    setup: Setup,
    mailbox: Mailbox<Errand>,
    route: Option<Route>,
    leadership: Option<Leadership>,
    events: event::Events,
    to_tell: VecDeque<(String, String)>,
    may_tell: bool,
    complaints: Complaints,
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
    fn new(setup: Setup, mailbox: Mailbox<Errand>) -> Runner {
        let route = setup.service.clone().map(|(service, key)| {
            let value = pod::label_value(&setup.identity);
            let watched =
                Watched::Service { namespace: setup.namespace.clone(), name: service.clone(), why: Why::Route };
            let news = mailbox.clone();
            let listener = move |item| news.post(Errand::Watch(item));
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
            mailbox,
            route,
            leadership: None,
            events: event::Events::default(),
            to_tell: VecDeque::new(),
            may_tell,
            complaints: Complaints::default(),
            draining: None,
            drained: None,
            idle_at: None,
        }
    }

    /// Until drained; whether the Service points elsewhere.
    fn run(mut self) -> bool {
        let mut wake = self.route(Input::Timer);
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
            wake = match self.mailbox.take_until(instant) {
                Some(errand) => self.take(errand, wake),
                None => {
                    self.close_idle();
                    self.route(Input::Timer)
                }
            };
        }
    }

    fn close_idle(&mut self) {
        if self.idle_at.take_if(|at| *at <= sys::boot_time()).is_some() {
            self.setup.client.close_idle();
        }
    }

    fn take(&mut self, errand: Errand, wake: Option<BootTime>) -> Option<BootTime> {
        match errand {
            Errand::Lead(leadership) => {
                let fence = Fence::of(leadership.term());
                self.leadership = Some(leadership);
                self.route(Input::Lead(fence))
            }
            Errand::Lost => {
                self.leadership = None;
                self.route(Input::Lost)
            }
            Errand::Tell { lease_uid, message } => {
                if self.may_tell {
                    self.to_tell.push_back((lease_uid, message));
                }
                wake
            }
            Errand::Watch(news) => self.watched(news, wake),
            Errand::Drain { until } => {
                self.draining = Some(until);
                if self.route.is_none() {
                    self.drained = Some(true);
                }
                self.route(Input::Drain { until })
            }
        }
    }

    fn watched(&mut self, news: News, wake: Option<BootTime>) -> Option<BootTime> {
        let Some(route) = &mut self.route else { return wake };
        let Some(news) = route.watcher.note(news) else { return wake };
        let input = match news {
            News::Up { .. } => Input::Watching(true),
            News::Down { .. } => Input::Watching(false),
            News::Deleted { .. } => Input::Deleted,
            News::Object { object, .. } => match Service::from_object(object) {
                Ok(service) => Input::Seen(view(&service, &route.key)),
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
                self.route(Input::Watching(false));
            }
            None => {}
        }
    }

    /// Hands the routing one input and does all that it asks. When it wants to be woken.
    fn route(&mut self, input: Input) -> Option<BootTime> {
        let Some(mut route) = self.route.take() else { return self.draining };
        route.routing.handle(sys::boot_time(), input);
        let wake = loop {
            match route.routing.poll() {
                Output::Call { call, request } => {
                    let result = self.call(&route, &request);
                    route.routing.handle(sys::boot_time(), Input::Reply { call, result });
                }
                Output::Report(event) => self.report(&route, &event),
                Output::Drained { elsewhere } => self.drained = Some(elsewhere),
                Output::WaitUntil(instant) => break instant,
            }
        };
        (self.setup.target)(route.routing.service().and_then(|service| service.target.clone()));
        self.route = Some(route);
        wake
    }

    fn call(&mut self, route: &Route, asked: &routing::Request) -> Result<Answer, CallFailure> {
        let (namespace, pod) = (self.setup.namespace.as_str(), self.setup.identity.as_str());
        let labelled = |pod: Pod| Answer::Pod { labelled: pod.label(&route.key) == Some(route.value.as_str()) };
        let routed = |service: Service| Answer::Service(view(&service, &route.key));
        match asked {
            routing::Request::GetPod => self.ask(&request::get_pod(namespace, pod), Pod::parse).map(labelled),
            routing::Request::LabelPod => {
                self.ask(&request::label_pod(namespace, pod, &route.key, &route.value), Pod::parse).map(labelled)
            }
            routing::Request::GetService => {
                let why = if self.draining.is_some() { Why::Drain } else { Why::Route };
                self.ask(&request::get_service(namespace, &route.service, why), Service::parse).map(routed)
            }
            routing::Request::PatchService { version, uid, fence } => {
                let patch = service::selector_patch(*version, uid, &route.key, &route.value, fence);
                let request = request::patch_service(namespace, &route.service, &patch);
                // Right before it is sent: is it still this process's to say?
                if !self.leadership.as_ref().is_some_and(Leadership::is_held) {
                    return Err(CallFailure::NotSent);
                }
                self.ask(&request, Service::parse).map(routed)
            }
        }
    }

    fn ask<T>(
        &mut self,
        request: &request::Request,
        parse: fn(&[u8]) -> Result<T, crate::kube::Malformed>,
    ) -> Result<T, CallFailure> {
        let result = self.send(request).and_then(|reply| reply.parse(request, parse));
        match &result {
            Ok(_) => self.complaints.settled(request),
            Err(error) if error.failure == Failure::NotFound => self.complaints.about_missing(request, error),
            Err(error) => self.complaints.about(request, error),
        }
        if let Some(error) = result.as_ref().err().filter(|_| request.why == Why::Route) {
            (self.setup.routed)(if error.failure == Failure::Conflict { Routed::Conflict } else { Routed::Failed });
        }
        result.map_err(|error| match error.failure {
            Failure::NotFound => CallFailure::NotFound,
            Failure::Conflict => CallFailure::Conflict,
            Failure::Forbidden(_) => CallFailure::Forbidden,
            _ => CallFailure::Failed,
        })
    }

    fn send(&mut self, request: &request::Request) -> Result<Reply, CallError> {
        let result = self.setup.client.call(request, self.setup.limit);
        self.idle_at = Some(sys::boot_time() + MAX_IDLE);
        result
    }

    fn report(&self, route: &Route, event: &Event) {
        let Route { service, key, value, .. } = route;
        match event {
            Event::PodLabelled { patched: true } => info!("updated pod label: {key}={value}"),
            Event::PodLabelled { patched: false } => debug!("the pod bears the label {key}={value} already"),
            Event::ServiceUpdated => {
                (self.setup.routed)(Routed::Updated);
                info!("updated Service {service}: its selector has {key}={value}");
            }
            Event::SelectorChanged { target } => {
                let target = target.as_deref().unwrap_or("nothing");
                warn!(
                    "somebody pointed Service {service} at {key}={target} while this process leads: putting it right"
                );
            }
            Event::SteppedBack { theirs } => {
                (self.setup.routed)(Routed::SteppedBack);
                warn!("Service {service} bears the fence of a later term ({theirs}): leaving it alone");
            }
        }
    }

    fn tell(&mut self, lease_uid: &str, message: &str) {
        let Setup { namespace, lease, identity, .. } = &self.setup;
        let subject = Subject {
            namespace: namespace.clone(),
            name: lease.clone(),
            uid: lease_uid.to_owned(),
            identity: identity.clone(),
        };
        // A second try when the Event to be counted on is gone: the API server forgets Events after an hour.
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
                _ => return debug!("an Event could not be written: {error}"),
            }
        }
    }
}

fn view(service: &Service, key: &str) -> ServiceView {
    ServiceView {
        uid: service.uid().to_owned(),
        version: service.version(),
        target: service.selector_value(key).map(str::to_owned),
        fence: service.fence().cloned(),
    }
}
