//! How connections are made, and what goes over them: an HTTP agent with nothing in it that leasehold does not need.
//!
//! IO. ureq's default agent would look names up with getaddrinfo (not there in a static binary without NSS), obey
//! proxy variables (nobody but the API server may see the token), follow redirects (likewise), and hold 256 KiB of
//! buffers. This one does none of that.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Error};

use crate::kube::url::Host;

/// kube-apiserver closes a connection that was idle for 90 s, load balancers before it often after 60 s. A write sent
/// into that very moment would be cut, its fate unknown: so an older connection is not used.
pub(crate) const MAX_IDLE: Duration = Duration::from_secs(45);
/// What is sent goes out in pieces of this size, and each connection has two such buffers. A Lease fits.
const OUTPUT: usize = 4 << 10;
/// As for `OUTPUT`; and an answer's head must fit. The API server's are a few hundred bytes.
const INPUT: usize = 8 << 10;
/// A header is sent in one piece, with its name and the rest of a head's line.
pub(crate) const TOKEN_LIMIT: usize = OUTPUT - 512;

/// Whom a connection trusts, and what all those that trust the same share.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The CA certificates' text.
    pub(crate) pem: String,
    config: TlsConfig,
    connector: Arc<RustlsConnector>,
}

impl Trust {
    /// `certificates`: the only ones that a server's may descend from, as parsed from `pem`.
    pub fn in_only(pem: String, certificates: &[Certificate<'static>]) -> Trust {
        let config = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(certificates))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        Trust { pem, config, connector: Arc::default() }
    }
}

/// A new agent, with no connection yet. Without `trusted` (plain HTTP to a loopback address) nothing secret is ever sent.
pub(crate) fn new_agent(user_agent: &str, trusted: Option<&Trust>) -> Agent {
    let mut config = Agent::config_builder()
        .proxy(None)
        .user_agent(user_agent)
        .accept("application/json")
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(INPUT)
        .input_buffer_size(INPUT)
        .output_buffer_size(OUTPUT)
        .max_idle_connections(1)
        .max_idle_age(MAX_IDLE);
    let mut tls = Arc::default();
    if let Some(trust) = trusted {
        config = config.https_only(true).tls_config(trust.config.clone());
        tls = Arc::clone(&trust.connector);
    }
    let connector = ().chain(TcpConnector::default()).chain(SharedTls(tls)).chain(CountingConnector);
    Agent::with_parts(config.build(), connector, Literal)
}

/// ureq's TLS with one configuration for all connections that trust the same: they resume each other's sessions, and hold
/// the certificates once. ureq itself would make one for each connection that a call with time limits of its own opens.
#[derive(Debug)]
struct SharedTls(Arc<RustlsConnector>);

impl<In: Transport> Connector<In> for SharedTls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let details = ConnectionDetails {
            request_level: false, // The limits are the request's own; what concerns TLS is the agent's.
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: Arc::clone(&details.current_time),
            run_connector: Arc::clone(&details.run_connector),
            register_shutdown: Arc::clone(&details.register_shutdown),
        };
        self.0.connect(&details, chained)
    }
}

/// What has happened on the wire since the call began: tells a call that cannot have been applied from one that may.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// A new connection was needed (and made, TLS included).
    pub connected: bool,
    /// Bytes of the request handed to the kernel, or about to be.
    pub sent: u64,
    /// Bytes of the answer.
    pub received: u64,
}

thread_local! {
    /// ureq does all of a call's work on the thread that makes the call.
    pub(crate) static TALLY: Cell<Tally> = const { Cell::new(Tally { connected: false, sent: 0, received: 0 }) };
}

/// Wraps the connection, outside TLS: a handshake's bytes are not the request's.
#[derive(Debug)]
struct CountingConnector;

impl<In: Transport> Connector<In> for CountingConnector {
    type Out = Counting<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Counting<In>>, Error> {
        TALLY.set(Tally { connected: true, ..TALLY.get() });
        Ok(chained.map(Counting))
    }
}

#[derive(Debug)]
struct Counting<T>(T);

impl<T: Transport> Transport for Counting<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        // Before, not after: of a write that fails, a part may have left.
        let tally = TALLY.get();
        TALLY.set(Tally { sent: tally.sent + amount as u64, ..tally });
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let before = self.0.buffers().input().len();
        let progress = self.0.await_input(timeout);
        let more = self.0.buffers().input().len().saturating_sub(before);
        let tally = TALLY.get();
        TALLY.set(Tally { received: tally.received + more as u64, ..tally });
        progress
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

/// Addresses, and `localhost`; no names. Every Pod has the API server's address in KUBERNETES_SERVICE_HOST.
#[derive(Debug)]
struct Literal;

impl Resolver for Literal {
    fn resolve(&self, uri: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let address = uri.host().and_then(Host::parse).ok_or(Error::HostNotFound)?.ip();
        let mut addresses = self.empty();
        addresses.push(SocketAddr::new(address, port));
        Ok(addresses)
    }
}
