//! The listening socket: opened, closed and opened again on the same port, as a server that goes and comes back.
//!
//! IO, on a thread of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::connection;
use super::state::{Listening, Shared};

/// How long to wait before a failed accept or bind is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// A held connection looks again this often whether it still is; what ends it is announced.
const STILL_HELD: Duration = Duration::from_secs(60);

/// Accepts connections until the server stops; in between, closes the socket while it is not wanted.
pub(super) fn run(shared: &Arc<Shared>, mut listener: TcpListener, address: SocketAddr) {
    loop {
        accept_while_wanted(shared, &listener);
        drop(listener);
        shared.change(|state| state.listening = Listening::No);
        let Some(reopened) = reopen_when_wanted(shared, address) else { return };
        listener = reopened;
        shared.change(|state| state.listening = Listening::Yes);
    }
}

/// Makes a blocked `accept` return, so that the thread looks at what is wanted now.
pub(super) fn wake(address: SocketAddr) {
    drop(TcpStream::connect_timeout(&address, Duration::from_secs(1)));
}

fn is_wanted(shared: &Shared) -> bool {
    let state = shared.lock();
    !state.stopping && state.listening_wanted == Listening::Yes
}

fn accept_while_wanted(shared: &Arc<Shared>, listener: &TcpListener) {
    while is_wanted(shared) {
        match listener.accept() {
            Ok((socket, _)) if is_wanted(shared) => begin(shared, socket),
            Ok(_) => {}
            // Out of file descriptors, or a client that was gone before its turn.
            Err(_) => drop(shared.pause(RETRY)),
        }
    }
}

fn reopen_when_wanted(shared: &Shared, address: SocketAddr) -> Option<TcpListener> {
    loop {
        shared.wait_for(Duration::from_secs(60), |state| {
            (state.stopping || state.listening_wanted == Listening::Yes).then_some(())
        });
        if shared.lock().stopping {
            return None;
        }
        if is_wanted(shared)
            && let Ok(listener) = TcpListener::bind(address)
        {
            return Some(listener);
        }
        let _ = shared.pause(RETRY);
    }
}

fn begin(shared: &Arc<Shared>, socket: TcpStream) {
    let Ok(handle) = socket.try_clone() else { return };
    let _ = socket.set_nodelay(true);
    let (number, tls) = shared.change(|state| {
        state.connections_made += 1;
        state.connections.insert(state.connections_made, handle);
        state.threads.retain(|thread| !thread.is_finished());
        (state.connections_made, state.tls.clone())
    });
    let theirs = Arc::clone(shared);
    let thread = thread::Builder::new().name(format!("apiserver-conn-{number}")).spawn(move || {
        wait_while_held(&theirs);
        connection::serve(&theirs, socket, number, tls);
    });
    shared.change(|state| match thread {
        Ok(thread) => state.threads.push(thread),
        Err(_) => drop(state.connections.remove(&number)),
    });
}

fn wait_while_held(shared: &Shared) {
    if shared.lock().holding {
        shared.change(|state| state.held += 1);
        while shared.wait_for(STILL_HELD, |state| (!state.holding || state.stopping).then_some(())).is_none() {}
        shared.change(|state| state.held -= 1);
    }
}
