//! tiny_http behind the door: on a socket of its own that only the door connects to, with so few connections that none
//! of its limits is ever met. THREADS, IO.

use crate::program::http::answer::{Question, Reply};
use crate::sys;
use std::io;
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use tiny_http::{Header, Response, Server};

/// What answers a question. It may block for as long as it likes: that costs this side's clients, never the election.
pub(super) type Answerer = Arc<dyn Fn(&Question<'_>) -> Reply + Send + Sync>;

/// A running tiny_http.
pub(super) struct Backend {
    address: SocketAddr,
    listener: UnixStream,
    dead: Arc<AtomicBool>,
}

impl Backend {
    /// Starts a tiny_http whose requests `answerer` answers. `on_death` is called should it ever end by itself.
    pub(super) fn start(answerer: Answerer, on_death: impl Fn() + Send + 'static) -> io::Result<Backend> {
        let address = SocketAddr::from_abstract_name(unguessable_name())?;
        let listener = UnixListener::bind_addr(&address)?;
        let dead = Arc::new(AtomicBool::new(false));
        // A listener and a stream are the same to the kernel; as a stream it has std's safe shutdown(2).
        let handle = UnixStream::from(OwnedFd::from(listener.try_clone()?));
        // tiny_http's Server panics when it is dropped with an abstract address. Its threads end when its listener is
        // shut down, so it is never dropped.
        let server = ManuallyDrop::new(Server::from_listener(listener, None).map_err(io::Error::other)?);
        let obituary = Obituary { dead: Arc::clone(&dead), on_death };
        thread::Builder::new().name("http-answer".to_owned()).spawn(move || {
            let _told_however_it_ends = obituary;
            // An error is the end of tiny_http's accept thread, which nothing revives.
            while let Ok(request) = server.recv() {
                let reply = answerer(&question(&request));
                // It can only fail because the door has hung up, which the door knows best.
                let _ = request.respond(response(reply));
            }
        })?;
        Ok(Backend { address, listener: handle, dead })
    }

    /// A new connection to it.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&self.address)
    }

    /// Whether it has ended: what was asked of it will not be answered.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(SeqCst)
    }

    /// Ends it, as an accept error would.
    pub(super) fn stop(&self) {
        // Its accept(2) fails at once, its pool winds down, recv() reports the failure. It cannot fail but for a
        // listener that is shut down already.
        let _ = self.listener.shutdown(Shutdown::Both);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says that the answering thread is gone, be it by a panic.
struct Obituary<F: Fn()> {
    dead: Arc<AtomicBool>,
    on_death: F,
}

impl<F: Fn()> Drop for Obituary<F> {
    fn drop(&mut self) {
        self.dead.store(true, SeqCst);
        (self.on_death)();
    }
}

/// An abstract name needs no file system, which a scratch image mounted read-only does not offer.
fn unguessable_name() -> String {
    format!("leasehold-http-{:016x}{:016x}", sys::random_u64(), sys::random_u64())
}

fn question(request: &tiny_http::Request) -> Question<'_> {
    let accept = request.headers().iter().find(|field| field.field.equiv("Accept"));
    Question {
        method: request.method().as_str(),
        path: request.url(),
        html: accept.is_some_and(|field| field.value == "text/html"),
    }
}

fn response(reply: Reply) -> Response<io::Cursor<Vec<u8>>> {
    let fields = reply.fields();
    // tiny_http would turn to chunks above 32 KiB; the door reads by Content-Length.
    let mut response =
        Response::from_data(reply.body).with_status_code(reply.status).with_chunked_threshold(usize::MAX);
    for (name, value) in fields {
        if let Ok(field) = Header::from_bytes(name, value) {
            response.add_header(field);
        }
    }
    response
}
