//! Makes one call at a time, within a time limit, over a connection that is kept.
//!
//! IO. Every limit is explicit, and so is every retry: once after a 401 with the token read again, once if the CA has
//! just changed, and once for a call that only reads if the kept connection turns out to be dead. A write that may have
//! arrived is never sent twice.
//!
//! Calls that others must not delay have a client of their own: the Lease's have.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ureq::http::{self, header};
use ureq::{Agent, Body, BodyReader, Error};

use crate::kube::answer::{AnswerHead, Answered, judge, read_answer, transport_failure};
use crate::kube::audit::{Audit, ObservedCall};
pub(crate) use crate::kube::connection::MAX_IDLE;
use crate::kube::connection::{Tally, new_agent};
use crate::kube::credentials::{Authorities, Credentials, Token};
use crate::kube::request::Request;
use crate::kube::status::{CallError, Failure, Reply, Transport, TransportKind};
use crate::kube::url::{Scheme, Url};
use crate::sys;

/// Connecting, TLS included, takes milliseconds; a lost SYN is sent again after one second and after three.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Sees each call.
pub type CallObserver = Arc<dyn Fn(&ObservedCall) + Send + Sync>;

/// What a [`Client`] is made of.
#[derive(Clone)]
pub struct ClientOptions {
    /// Scheme, address and port: `https://10.96.0.1:443`, `https://[fd00::1]:443`, `http://127.0.0.1:8001`.
    pub base_url: String,
    /// The service account; needed for `https`. With `http` no token is ever sent.
    pub credentials: Option<Arc<Credentials>>,
    /// The User-Agent header.
    pub user_agent: String,
    /// Where to write a line for each call.
    pub audit: Option<Arc<Audit>>,
    /// Called after each API call, for metrics. If it panics, that is logged and the calls go on.
    pub observer: Option<CallObserver>,
}

impl ClientOptions {
    /// With leasehold's own User-Agent and nothing else.
    pub fn new(base_url: &str) -> ClientOptions {
        let (version, system) = (env!("CARGO_PKG_VERSION"), (std::env::consts::OS, std::env::consts::ARCH));
        ClientOptions {
            base_url: base_url.to_owned(),
            credentials: None,
            user_agent: format!("leasehold/{version} ({}/{})", system.0, system.1),
            audit: None,
            observer: None,
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// A client of one API server, with connections of its own.
pub struct Client {
    options: ClientOptions,
    base_url: String,
    host: String,
    tls: bool,
    connections: Mutex<Connections>,
}

/// The agent, and the CA that it trusts.
#[derive(Default)]
struct Connections {
    agent: Option<Agent>,
    trusted: Option<Arc<Authorities>>,
}

/// What one call needs of the connection and the credentials.
struct Prepared {
    agent: Agent,
    token: Option<Token>,
}

impl Client {
    /// Makes no connection yet. The error names what is wrong with the options.
    pub fn new(options: ClientOptions) -> Result<Client, String> {
        let wrong = |problem: &str| format!("the API server's URL {:?}: {problem}", options.base_url);
        let url = Url::of_api_server(&options.base_url).map_err(|problem| wrong(&problem))?;
        let (scheme, tls) = match url.scheme {
            Scheme::Https if options.credentials.is_none() => return Err(wrong("https:// needs a service account")),
            Scheme::Https => ("https", true),
            Scheme::Http => ("http", false),
        };
        let host = format!("{}:{}", url.host, url.port);
        Ok(Client { base_url: format!("{scheme}://{host}"), host, tls, options, connections: Mutex::default() })
    }

    /// Where its calls are written down.
    pub(crate) fn audit(&self) -> Option<Arc<Audit>> {
        self.options.audit.clone()
    }

    /// Makes a call and reads its answer, within `limit` from now in all. Only a 2xx is a [`Reply`].
    ///
    /// # Errors
    ///
    /// Everything else. Of a write, [`CallError::may_have_been_applied`] says whether its fate is unknown.
    pub fn call(&self, request: &Request, limit: Duration) -> Result<Reply, CallError> {
        let begun = Instant::now();
        let attempt = |number, total| {
            let result = self.exchange(request, number, &self.access(), CallLimits { total, head: None }, read_answer);
            if matches!(&result, Err(CallError { failure: Failure::Transport(_), .. })) {
                // The next call gets a new connection: this one's road may be gone (a node lost, a route changed).
                self.lock().agent = None;
            }
            result
        };
        let first = attempt(1, limit);
        match &first {
            Err(error) if self.worth_a_retry(request, error) => {
                let left = limit.saturating_sub(begun.elapsed());
                if left.is_zero() { first } else { attempt(2, left) }
            }
            _ => first,
        }
    }

    /// Opens a watch: makes the call, and hands back the answer's body unread. It comes on an agent of its own
    /// (`told` learns of it), because shutting an agent down is the one way to end a read that blocks.
    pub(crate) fn open(
        &self,
        request: &Request,
        limit: Duration,
        told: impl Fn(&Agent),
    ) -> Result<BodyReader<'static>, CallError> {
        let total = request.lasting.unwrap_or(limit).saturating_add(limit);
        let attempt = |number| {
            let access = self.own_access();
            told(&access.agent);
            let read = |_: &Request, _: u16, body: Body| Ok(body.into_reader());
            self.exchange(request, number, &access, CallLimits { total, head: Some(limit) }, read)
        };
        match attempt(1) {
            Err(error) if self.worth_a_retry(request, &error) => attempt(2),
            first => first,
        }
    }

    /// Closes the connection that is kept for the next call. For when there has been none for [`MAX_IDLE`]: it would not be
    /// used any more, and both ends hold memory for it.
    pub(crate) fn close_idle(&self) {
        self.lock().agent = None;
    }

    /// Ends all calls in flight, on whatever threads they are; those that come later work. For a process that must end.
    pub fn interrupt(&self) {
        let agent = self.lock().agent.take();
        if let Some(agent) = agent {
            agent.shutdown();
        }
    }

    fn worth_a_retry(&self, request: &Request, error: &CallError) -> bool {
        let account = self.options.credentials.as_ref().filter(|_| self.tls);
        match &error.failure {
            Failure::Unauthorized => account.inspect(|account| account.refresh()).is_some(),
            Failure::Transport(Transport { kind: TransportKind::Tls, sent: false, .. }) => {
                account.is_some_and(|account| {
                    let before = account.current().1;
                    account.refresh();
                    !Arc::ptr_eq(&before, &account.current().1)
                })
            }
            // The server has closed a connection that was kept, and the news came after the request had left.
            Failure::Transport(transport) => {
                let tally = Tally::get();
                let kept = !tally.connected && tally.received == 0;
                transport.kind == TransportKind::Cut && kept && !request.verb.writes()
            }
            _ => false,
        }
    }

    /// One exchange, and all that is told about it.
    fn exchange<T: Answered>(
        &self,
        request: &Request,
        attempt: u32,
        access: &Prepared,
        limits: CallLimits,
        read: impl FnOnce(&Request, u16, Body) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let _until_told = self.options.audit.as_deref().map(Audit::begin);
        let begun = Instant::now();
        Tally::reset();
        let mut head = AnswerHead::default();
        let result = self.send(request, access, limits).and_then(|answer| {
            head = AnswerHead::of(&answer, self.options.audit.is_some());
            judge(request, answer, read)
        });
        self.tell(request, attempt, head, begun.elapsed(), &result);
        result
    }

    fn tell<T: Answered>(
        &self,
        request: &Request,
        attempt: u32,
        AnswerHead { status, audit_id }: AnswerHead,
        duration: Duration,
        result: &Result<T, CallError>,
    ) {
        let Tally { sent, received, .. } = Tally::get();
        let audit = self.options.audit.as_ref();
        let call = ObservedCall {
            request,
            attempt,
            host: &self.host,
            status,
            audit_id,
            error: result.as_ref().err(),
            received_version: result.as_ref().ok().filter(|_| audit.is_some()).and_then(Answered::version),
            duration,
            bytes_sent: sent,
            bytes_received: received,
        };
        match call.error {
            None => log::debug!("{request:?}: {} in {duration:.1?}", call.code()),
            Some(error) => log::debug!("{error} (after {duration:.1?})"),
        }
        if let Some(audit) = audit {
            audit.write(&call);
        }
        if let Some(observer) = &self.options.observer {
            // A caller's panic must not end the thread that renews the Lease.
            if panic::catch_unwind(AssertUnwindSafe(|| observer(&call))).is_err() {
                log::error!("the observer of API calls panicked at {request:?}");
            }
        }
    }

    fn send(
        &self,
        request: &Request,
        access: &Prepared,
        limits: CallLimits,
    ) -> Result<http::Response<Body>, CallError> {
        let failed = |error| CallError::new(request, transport_failure(error));
        let url = format!("{}{}", self.base_url, request.path);
        let mut builder = http::Request::builder().method(request.verb.method()).uri(url);
        if let Some(token) = &access.token {
            builder = builder.header(header::AUTHORIZATION, token.authorization());
        }
        if let Some(content_type) = request.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        let (connect, agent) = (limits.head.unwrap_or(limits.total).min(CONNECT_LIMIT), &access.agent);
        macro_rules! run {
            ($body:expr) => {{
                let message = builder.body($body).map_err(|error| failed(Error::Http(error)))?;
                let message = agent
                    .configure_request(message)
                    .timeout_global(Some(limits.total))
                    .timeout_connect(Some(connect))
                    .timeout_recv_response(limits.head)
                    .build();
                agent.run(message).map_err(failed)
            }};
        }
        // Two types: a request without a body must have no Content-Length either.
        match &request.body {
            Some(body) => run!(body.as_bytes()),
            None => run!(()),
        }
    }

    /// The kept connections and the token; both new if the CA has changed.
    fn access(&self) -> Prepared {
        let (token, trusted) = self.credentials();
        let mut connections = self.lock();
        let same = match (&connections.trusted, &trusted) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !same {
            connections.agent = None;
        }
        let agent = connections.agent.get_or_insert_with(|| self.new_agent(trusted.as_deref())).clone();
        connections.trusted = trusted;
        Prepared { agent, token }
    }

    /// A connection of the caller's own, and the token.
    fn own_access(&self) -> Prepared {
        let (token, trusted) = self.credentials();
        Prepared { agent: self.new_agent(trusted.as_deref()), token }
    }

    fn credentials(&self) -> (Option<Token>, Option<Arc<Authorities>>) {
        match &self.options.credentials {
            Some(credentials) if self.tls => {
                let (token, trusted) = credentials.current();
                (Some(token), Some(trusted))
            }
            _ => (None, None),
        }
    }

    fn new_agent(&self, trusted: Option<&Authorities>) -> Agent {
        new_agent(&self.options.user_agent, trusted.map(|authorities| &authorities.trust))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        sys::lock(&self.connections)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.host).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// The time limits of one exchange.
#[derive(Clone, Copy)]
struct CallLimits {
    total: Duration,
    /// Until the answer's head, when the rest may take longer.
    head: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::request::{Purpose, get_lease};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::channel;
    use std::thread;

    /// Ends a hang; decides nothing.
    const LONG: Duration = Duration::from_secs(20);

    /// Reads one request and answers it.
    fn serve(connection: &mut BufReader<TcpStream>) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(connection.read_line(&mut head).unwrap() > 0, "closed too early, after {head:?}");
        }
        connection.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    }

    #[test]
    fn what_is_idle_is_closed_and_the_next_call_has_a_connection_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(ClientOptions::new(&format!("http://{}", listener.local_addr().unwrap()))).unwrap();
        let (closed, sees_it_closed) = channel();
        let server = thread::spawn(move || {
            let accept = || BufReader::new(listener.accept().unwrap().0);
            let mut first = accept();
            serve(&mut first);
            serve(&mut first);
            let mut more = Vec::new();
            first.read_to_end(&mut more).unwrap();
            closed.send(more).unwrap();
            serve(&mut accept());
        });
        let call = || assert_eq!(client.call(&get_lease("ns", "web", Purpose::Observe), LONG).unwrap().status, 200);
        call();
        call(); // Over the same connection: the server looks for it nowhere else.
        client.close_idle();
        let more = sees_it_closed.recv_timeout(LONG).expect("the server sees the end of the connection");
        assert_eq!(more, b"", "in good order, and after nothing else");
        call();
        server.join().unwrap();
    }
}
