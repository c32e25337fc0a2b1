//! The server: HTTPS (or plain HTTP) on loopback in front of a [`Store`], with everything a test may want to do to it.
//!
//! THREADS: one that accepts, one for each connection. All of them have ended when [`Server::stop`] returns.

mod connection;
mod http;
mod identity;
mod listener;
mod recorded;
mod state;
mod watching;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::{Fault, FaultId, FaultTable};
use crate::store::{LEASES, PODS, Response, SERVICES, Store, User};
use identity::Authority;
use state::{Command, Listening, Shared, Split, State, Token};

pub use identity::Certificate;
pub use recorded::Recorded;

/// How long the server's own housekeeping may take before it counts as broken.
const HOUSEKEEPING_LIMIT: Duration = Duration::from_secs(30);

/// How to start a server. The default is HTTPS on 127.0.0.1, with an empty store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Listen on ::1 instead of 127.0.0.1.
    pub ipv6: bool,
    /// Plain HTTP, as `kubectl proxy` gives it, instead of HTTPS.
    pub plain_http: bool,
    /// Who asks over plain HTTP without credentials; the admin, as behind `kubectl proxy`.
    pub plain_http_user: User,
    /// Where the uids come from.
    pub seed: u64,
    /// The store's first resourceVersion.
    pub resource_version: u64,
    /// How often a watch that asked for bookmarks gets one.
    pub bookmark_period: Duration,
    /// After how long a watch ends that did not say.
    pub watch_timeout: Duration,
    /// Added to the wall clock that is written into objects.
    pub wall_offset_micros: i64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ipv6: false,
            plain_http: false,
            plain_http_user: User::Admin,
            seed: 1,
            resource_version: 100,
            bookmark_period: Duration::from_secs(60),
            watch_timeout: Duration::from_secs(30 * 60),
            wall_offset_micros: 0,
        }
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    acceptor: Option<JoinHandle<()>>,
}

/// What a condition of [`Server::wait_until`] looks at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The objects.
    pub store: &'a Store,
    /// Every request so far.
    pub requests: &'a [Recorded],
    /// How many watches are open.
    pub watches: usize,
    /// How many connections are open.
    pub connections: usize,
    /// How many of them nothing is answered on, TLS included.
    pub held: usize,
    /// How many TLS handshakes have failed.
    pub failed_handshakes: u64,
}

impl Server {
    /// Starts a server on a free port of the loopback interface.
    pub fn start(options: Options) -> io::Result<Server> {
        let ip = if options.ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let authority = if options.plain_http { None } else { Some(new_authority(0)?) };
        let tls = authority.as_ref().map(|a| a.serve(Certificate::Valid)).transpose().map_err(io::Error::other)?;
        let mut store = Store::new(options.seed);
        store.advance_resource_version(options.resource_version);
        let state = State {
            store,
            tokens: BTreeMap::new(),
            faults: FaultTable::default(),
            requests: Vec::new(),
            watches: BTreeMap::new(),
            silence_new: false,
            split: None,
            connections: BTreeMap::new(),
            connections_made: 0,
            holding: false,
            held: 0,
            failed_handshakes: 0,
            threads: Vec::new(),
            authority,
            tls,
            listening_wanted: Listening::Yes,
            listening: Listening::Yes,
            stopping: false,
        };
        let shared = Arc::new(Shared::new(state, &options));
        let theirs = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("apiserver-accept".to_owned())
            .spawn(move || listener::run(&theirs, listener, address))?;
        let scheme = if options.plain_http { "http" } else { "https" };
        Ok(Server { shared, address, scheme, acceptor: Some(acceptor) })
    }

    /// `https://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The CA's certificate; empty over plain HTTP.
    pub fn ca_pem(&self) -> String {
        self.shared.lock().authority.as_ref().map(Authority::pem).unwrap_or_default()
    }

    /// Stops the server: connections are closed, held requests let go, threads joined.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.change(|state| state.stopping = true);
        listener::wake(self.address);
        let _ = acceptor.join();
        self.close_connections();
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }

    // --- users -------------------------------------------------------------------------------------------------------

    /// A new token for this user name; a user may have several. What it may do is for [`Store::rbac`] to say: everything,
    /// until a user has been bound to a Role.
    pub fn add_user(&self, name: &str) -> String {
        self.shared.change(|state| {
            let token = format!("token-{}-{}", state.tokens.len() + 1, name.replace(':', "-"));
            state.tokens.insert(token.clone(), Token { user: User::named(name), expires: None });
            token
        })
    }

    /// A token of an operator, who may do everything.
    pub fn add_admin(&self) -> String {
        self.shared.change(|state| {
            let token = format!("token-{}-admin", state.tokens.len() + 1);
            state.tokens.insert(token.clone(), Token { user: User::Admin, expires: None });
            token
        })
    }

    /// From now on the token is answered 401.
    pub fn revoke_token(&self, token: &str) {
        self.shared.change(|state| state.tokens.remove(token));
    }

    /// After `span` the token is answered 401.
    pub fn expire_token(&self, token: &str, span: Duration) {
        self.shared.change(|state| {
            if let Some(token) = state.tokens.get_mut(token) {
                token.expires = Some(Instant::now() + span);
            }
        });
    }

    /// Writes `token`, `ca.crt` and `namespace` into `dir`, as they are mounted in a Pod.
    pub fn write_service_account(&self, dir: &Path, token: &str, namespace: &str) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("token"), token)?;
        std::fs::write(dir.join("ca.crt"), self.ca_pem())?;
        std::fs::write(dir.join("namespace"), namespace)
    }

    // --- the store ---------------------------------------------------------------------------------------------------

    /// The store, locked: no request is handled while the guard lives. Watches see what was changed when it is dropped.
    pub fn store(&self) -> StoreGuard<'_> {
        StoreGuard { shared: &self.shared, state: self.shared.lock(), changed: false }
    }

    /// Changes the store and wakes every watch.
    pub fn change_store<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        self.shared.change(|state| change(&mut state.store))
    }

    /// A Pod with this name and these labels, put there by an operator.
    pub fn create_pod(&self, namespace: &str, name: &str, labels: &Value) -> Response {
        let pod = json!({
            "metadata": { "namespace": namespace, "name": name, "labels": labels },
            "spec": { "containers": [{ "name": "main", "image": "example.test/app" }] },
        });
        let now = self.shared.now_wall_micros();
        self.change_store(|store| store.put_object(PODS, &pod, now))
    }

    /// A Service with this selector and port 80, put there by an operator.
    pub fn create_service(&self, namespace: &str, name: &str, selector: &Value) -> Response {
        let service = json!({
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "selector": selector, "ports": [{ "port": 80 }] },
        });
        let now = self.shared.now_wall_micros();
        self.change_store(|store| store.put_object(SERVICES, &service, now))
    }

    /// The Lease now.
    pub fn lease(&self, namespace: &str, name: &str) -> Option<Value> {
        self.store().object(LEASES, namespace, name).cloned()
    }

    /// `spec.holderIdentity` of a Lease, if it names one.
    pub fn holder(&self, namespace: &str, name: &str) -> Option<String> {
        let lease = self.lease(namespace, name)?;
        lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
    }

    // --- what happened -----------------------------------------------------------------------------------------------

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// Nanoseconds since the server's start, on the clock of [`Recorded`].
    pub fn now_ns(&self) -> u64 {
        self.shared.nanos()
    }

    /// Waits until `condition` holds; it is asked again after every change, so there is nothing to poll. `false`: it did
    /// not come about within `limit`.
    pub fn wait_until(&self, limit: Duration, mut condition: impl FnMut(View) -> bool) -> bool {
        self.wait_for(limit, |view| condition(view).then_some(())).is_some()
    }

    /// The same for a value: what `find` gives first, or `None` after `limit`.
    pub fn wait_for<T>(&self, limit: Duration, mut find: impl FnMut(View) -> Option<T>) -> Option<T> {
        self.shared.wait_for(limit, |state| {
            find(View {
                store: &state.store,
                requests: &state.requests,
                watches: state.watches.len(),
                connections: state.connections.len(),
                held: state.held,
                failed_handshakes: state.failed_handshakes,
            })
        })
    }

    // --- faults ------------------------------------------------------------------------------------------------------

    /// The faults of single requests.
    pub fn faults(&self) -> Faults<'_> {
        Faults(&self.shared)
    }

    /// The open watches.
    pub fn watches(&self) -> Watches<'_> {
        Watches { shared: &self.shared, user: None }
    }

    /// Closes every connection, as a server that restarts.
    pub fn close_connections(&self) {
        for socket in self.shared.lock().connections.values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Closes the listening socket and every connection: until [`Server::accept_connections`] the port refuses.
    pub fn refuse_connections(&self) -> io::Result<()> {
        self.shared.change(|state| state.listening_wanted = Listening::No);
        listener::wake(self.address);
        let closed = self.shared.wait_for(HOUSEKEEPING_LIMIT, |s| (s.listening == Listening::No).then_some(()));
        self.close_connections();
        closed.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the listening socket does not close"))
    }

    /// Connections to come are accepted, and nothing is answered on them, TLS included, until it is called with `false`.
    pub fn hold_connections(&self, hold: bool) {
        self.shared.change(|state| state.holding = hold);
    }

    /// Opens the same port again.
    pub fn accept_connections(&self) -> io::Result<()> {
        self.shared.change(|state| state.listening_wanted = Listening::Yes);
        let open = self.shared.wait_for(HOUSEKEEPING_LIMIT, |s| (s.listening == Listening::Yes).then_some(()));
        open.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the port cannot be opened again"))
    }

    /// Shows this certificate on connections to come; those that are open stay.
    pub fn serve_certificate(&self, kind: Certificate) -> io::Result<()> {
        self.shared.change(|state| {
            let config = state.authority.as_ref().map(|authority| authority.serve(kind)).transpose();
            state.tls = config.map_err(io::Error::other)?;
            Ok(())
        })
    }

    /// Shows the last of these certificates on connections to come, with the private key that follows it; for what the
    /// server cannot make itself.
    pub fn serve_pem(&self, pem: &str) -> io::Result<()> {
        let config = identity::serve_pem(pem).map_err(io::Error::other)?;
        self.shared.change(|state| state.tls = Some(config));
        Ok(())
    }

    /// A new CA, and a certificate from it on connections to come: clients need the new [`Server::ca_pem`].
    pub fn rotate_authority(&self) -> io::Result<()> {
        let authority = new_authority(self.now_ns())?;
        let config = authority.serve(Certificate::Valid).map_err(io::Error::other)?;
        self.shared.change(|state| {
            state.authority = Some(authority);
            state.tls = Some(config);
        });
        Ok(())
    }
}

/// CAs of one name are told apart by their keys; the number is for people who look at them.
fn new_authority(number: u64) -> io::Result<Authority> {
    Authority::new(&format!("leasehold-apiserver-ca-{number}")).map_err(io::Error::other)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// The store under the server's lock.
pub struct StoreGuard<'a> {
    shared: &'a Shared,
    state: MutexGuard<'a, State>,
    changed: bool,
}

impl std::ops::Deref for StoreGuard<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.state.store
    }
}

impl std::ops::DerefMut for StoreGuard<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        self.changed = true;
        &mut self.state.store
    }
}

impl Drop for StoreGuard<'_> {
    fn drop(&mut self) {
        if self.changed {
            self.shared.announce();
        }
    }
}

/// Faults of single requests, on a running server.
pub struct Faults<'a>(&'a Shared);

impl Faults<'_> {
    /// Adds a fault.
    pub fn add(&self, fault: Fault) -> FaultId {
        self.0.change(|state| state.faults.add(fault))
    }

    /// Removes a fault and lets go what it holds; how often it had fired.
    pub fn remove(&self, id: FaultId) -> u64 {
        self.0.change(|state| state.faults.remove(id))
    }

    /// Removes them all.
    pub fn clear(&self) {
        self.0.change(|state| state.faults.clear());
    }

    /// How often it has fired.
    pub fn fired(&self, id: FaultId) -> u64 {
        self.0.lock().faults.fired(id)
    }

    /// Waits until it has fired so often; `false` after `limit`.
    pub fn wait_fired(&self, id: FaultId, times: u64, limit: Duration) -> bool {
        self.0.wait_for(limit, |state| (state.faults.fired(id) >= times).then_some(())).is_some()
    }
}

/// The open watches, or those of one user.
pub struct Watches<'a> {
    shared: &'a Shared,
    user: Option<String>,
}

impl Watches<'_> {
    /// Only this user's.
    pub fn of(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Their paths, with the query, in the order in which they were opened.
    pub fn paths(&self) -> Vec<String> {
        let state = self.shared.lock();
        let mine = state.watches.values().filter(|open| self.user.as_ref().is_none_or(|user| *user == open.user));
        mine.map(|open| open.path.clone()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.paths().len()
    }

    /// Sends a bookmark at once.
    pub fn bookmark(&self) {
        self.command(&Command::Bookmark);
    }

    /// Sends an ERROR event with a 410, and ends the stream.
    pub fn expire(&self) {
        self.command(&Command::Expire);
    }

    /// Ends the stream properly, as after its timeout.
    pub fn end(&self) {
        self.command(&Command::End);
    }

    /// Closes the connection in the middle of the stream.
    pub fn cut(&self) {
        self.command(&Command::Cut);
    }

    /// Sends these bytes as a chunk, whatever they are.
    pub fn inject(&self, bytes: &[u8]) {
        self.command(&Command::Inject(bytes.to_vec()));
    }

    /// Lets the streams say nothing more (nor bookmarks), while they stay open; `false` lets them catch up. Without
    /// [`Watches::of`] this holds for watches to come, too.
    pub fn silence(&self, silent: bool) {
        self.shared.change(|state| {
            if self.user.is_none() {
                state.silence_new = silent;
            }
            for open in state.watches.values_mut() {
                if self.user.as_ref().is_none_or(|user| *user == open.user) {
                    open.silent = silent;
                }
            }
        });
    }

    /// From now on every line is sent in chunks of so many bytes, with a pause after each.
    pub fn split_lines(&self, bytes: usize, pause: Duration) {
        self.shared.change(|state| state.split = Some(Split { bytes, pause }));
    }

    /// Lines are sent whole again.
    pub fn whole_lines(&self) {
        self.shared.change(|state| state.split = None);
    }

    fn command(&self, command: &Command) {
        self.shared.change(|state| {
            for open in state.watches.values_mut() {
                if self.user.as_ref().is_none_or(|user| *user == open.user) {
                    open.commands.push_back(command.clone());
                }
            }
        });
    }
}
