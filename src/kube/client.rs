//! Makes one call at a time, within a time limit, over a connection that is kept.
//!
//! IO. Every limit is explicit, and so is every retry: once after a 401 with the token read again, once if the CA has
//! just changed, and once for a call that only reads if the kept connection turns out to be dead. A write that may have
//! arrived is never sent twice.
//!
//! Calls that others must not delay have a client of their own: the Lease's have.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ureq::http::{self, HeaderValue, header};
use ureq::{Agent, AsSendBody, Body, BodyReader, Error};

use crate::kube::answer::{read_answer, transport_failure};
use crate::kube::audit::{Audit, ObservedCall};
pub(crate) use crate::kube::connection::MAX_IDLE;
use crate::kube::connection::{TALLY, Tally, Trust, new_agent};
use crate::kube::credentials::Credentials;
use crate::kube::request::Request;
use crate::kube::status::{CallError, Reply, TransportKind, printable};
use crate::kube::url::Url;
use crate::sys;

/// Connecting, TLS included, takes milliseconds; a lost SYN is sent again after one second and after three.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// With it the API server names its own audit log's entry for the call.
const AUDIT_ID: &str = "audit-id";

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

/// A client of one API server, with connections of its own.
pub struct Client {
    options: ClientOptions,
    /// Address and port.
    host: String,
    kept: Mutex<Kept>,
}

/// The agent whose connections are kept for the next call, and the CA that it trusts.
#[derive(Default)]
struct Kept {
    agent: Option<Agent>,
    trust: Option<Arc<Trust>>,
}

impl Client {
    /// Makes no connection yet. The error names what is wrong with the options.
    pub fn new(mut options: ClientOptions) -> Result<Client, String> {
        let wrong = |problem: &str| format!("the API server's URL {:?}: {problem}", options.base_url);
        let url = Url::of_api_server(&options.base_url).map_err(|problem| wrong(&problem))?;
        if url.tls && options.credentials.is_none() {
            return Err(wrong("https:// needs a service account"));
        }
        let host = format!("{}:{}", url.host, url.port);
        options.credentials = options.credentials.filter(|_| url.tls);
        options.base_url = url.origin();
        Ok(Client { options, host, kept: Mutex::default() })
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
        let result = self.with_retry(request, limit, |trust| self.kept_agent(trust));
        if result.as_ref().is_err_and(|error| error.transport.is_some()) {
            // The route may have failed (a node lost, a route changed): the next call connects again.
            self.close_idle();
        }
        result.map(|(reply, _)| reply)
    }

    /// Opens a watch: makes the call, and hands back the answer's body unread. It comes on an agent of its own
    /// (`told` learns of it), because shutting an agent down is the one way to end a read that blocks.
    pub(crate) fn open(
        &self,
        request: &Request,
        limit: Duration,
        told: impl Fn(&Agent),
    ) -> Result<BodyReader<'static>, CallError> {
        let own_agent = |trust: Option<Arc<Trust>>| {
            let agent = self.new_agent(trust.as_deref());
            told(&agent);
            agent
        };
        self.with_retry(request, limit, own_agent).map(|(_, body)| body)
    }

    /// Closes the connection that is kept for the next call. For when there has been none for [`MAX_IDLE`]: it would not be
    /// used any more, and both ends hold memory for it.
    pub(crate) fn close_idle(&self) {
        sys::lock(&self.kept).agent = None;
    }

    fn with_retry(
        &self,
        request: &Request,
        limit: Duration,
        agent: impl Fn(Option<Arc<Trust>>) -> Agent,
    ) -> Result<(Reply, BodyReader<'static>), CallError> {
        let begun = Instant::now();
        let first = self.exchange(request, 1, limit, &agent);
        let retry = first.as_ref().is_err_and(|error| self.worth_a_retry(request, error));
        let left = limit.saturating_sub(begun.elapsed());
        if retry && !left.is_zero() { self.exchange(request, 2, left, &agent) } else { first }
    }

    fn worth_a_retry(&self, request: &Request, error: &CallError) -> bool {
        let read_again = || self.options.credentials.as_ref().map(|account| account.refresh());
        match error.transport {
            None => error.status == Some(401) && read_again().is_some(),
            Some(TransportKind::Tls) if !error.sent => read_again() == Some(true),
            // The server has closed a connection that was kept, and the news came after the request had left.
            Some(TransportKind::Cut) => {
                let tally = TALLY.get();
                !tally.connected && tally.received == 0 && !request.verb.writes()
            }
            Some(_) => false,
        }
    }

    /// One exchange, and all that is told about it.
    fn exchange(
        &self,
        request: &Request,
        attempt: u32,
        limit: Duration,
        agent: impl Fn(Option<Arc<Trust>>) -> Agent,
    ) -> Result<(Reply, BodyReader<'static>), CallError> {
        let _until_told = self.options.audit.as_deref().map(Audit::begin);
        let (token, trust) = self.options.credentials.as_ref().map(|account| account.current()).unzip();
        let agent = agent(trust);
        let begun = Instant::now();
        TALLY.set(Tally::default());
        let mut audit_id = None;
        let result = self.send(request, &agent, token, limit).and_then(|answer| {
            audit_id = answer.headers().get(AUDIT_ID).map(|id| printable(id.as_bytes()));
            read_answer(request, answer)
        });
        let Tally { sent, received, .. } = TALLY.get();
        self.report(&ObservedCall {
            request,
            attempt,
            host: &self.host,
            result: result.as_ref().map(|(reply, _)| reply),
            audit_id,
            duration: begun.elapsed(),
            bytes_sent: sent,
            bytes_received: received,
        });
        result
    }

    fn report(&self, call: &ObservedCall) {
        let ObservedCall { request, duration, .. } = call;
        match call.result {
            Ok(reply) => log::debug!("{request:?}: {} in {duration:.1?}", reply.status),
            Err(error) => log::debug!("{error} (after {duration:.1?})"),
        }
        if let Some(audit) = &self.options.audit {
            audit.write(call);
        }
        if let Some(observer) = &self.options.observer {
            // A caller's panic must not end the thread that renews the Lease.
            if panic::catch_unwind(AssertUnwindSafe(|| observer(call))).is_err() {
                log::error!("the observer of API calls panicked at {request:?}");
            }
        }
    }

    fn send(
        &self,
        request: &Request,
        agent: &Agent,
        token: Option<HeaderValue>,
        limit: Duration,
    ) -> Result<http::Response<Body>, CallError> {
        let url = format!("{}{}", self.options.base_url, request.path);
        let mut message = http::Request::builder().method(request.verb.method()).uri(url);
        if let Some(token) = token {
            message = message.header(header::AUTHORIZATION, token);
        }
        if let Some(content_type) = request.content_type {
            message = message.header(header::CONTENT_TYPE, content_type);
        }
        // A watch's answer begins within the limit, and lasts; any other has ended by then.
        let limits = (limit, limit.saturating_add(request.lasting.unwrap_or_default()));
        // Two types: a request without a body must have no Content-Length either.
        let answer = match &request.body {
            Some(body) => run(agent, message.body(body.as_bytes()), limits),
            None => run(agent, message.body(()), limits),
        };
        answer.map_err(|error| transport_failure(request, error))
    }

    /// The agent whose connections are kept; a new one if the CA has changed.
    fn kept_agent(&self, trust: Option<Arc<Trust>>) -> Agent {
        let mut kept = sys::lock(&self.kept);
        if kept.trust.as_ref().map(Arc::as_ptr) != trust.as_ref().map(Arc::as_ptr) {
            kept.agent = None;
        }
        let agent = kept.agent.get_or_insert_with(|| self.new_agent(trust.as_deref())).clone();
        kept.trust = trust;
        agent
    }

    fn new_agent(&self, trust: Option<&Trust>) -> Agent {
        new_agent(&self.options.user_agent, trust)
    }
}

/// The limits are for the answer's head, and for all of it.
fn run(
    agent: &Agent,
    message: http::Result<http::Request<impl AsSendBody>>,
    (head, total): (Duration, Duration),
) -> Result<http::Response<Body>, Error> {
    let message = agent
        .configure_request(message?)
        .timeout_connect(Some(head.min(CONNECT_LIMIT)))
        .timeout_recv_response(Some(head))
        .timeout_global(Some(total))
        .build();
    agent.run(message)
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
