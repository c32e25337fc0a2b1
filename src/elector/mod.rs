//! [`Elector`]: an election for a blocking Rust program.
//!
//! THREADS. The election runs on threads of its own, the callbacks on another, the work on the caller's. No global
//! state: a process may hold several.

mod builder;
mod callbacks;
mod in_cluster;

use std::fmt;
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

pub use self::builder::{ElectorBuilder, ElectorError};
use self::callbacks::{Callbacks, pass_on};
use crate::election::{Ending, Version};
use crate::kube::audit::AT_THE_END;
use crate::runtime::inbox::Inbox;
use crate::runtime::incarnation::Incarnation;
use crate::runtime::{Driver, Leadership, Message, Setup, describe};

/// A candidate for a Lease.
///
/// [`Elector::in_cluster`] makes one in a Pod, [`Elector::builder`] anywhere; [`Elector::run`] takes part.
///
/// ```
/// use leasehold::{Elector, Leadership};
/// use std::ops::ControlFlow;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let in_memory = leasehold_apiserver::Options { plain_http: true, ..Default::default() };
/// # let server = leasehold_apiserver::Server::start(in_memory)?;
/// # let in_cluster = |lease| -> Result<_, leasehold::ElectorError> {
/// #     Ok(Elector::builder(leasehold::kube::ClientOptions::new(&server.url()), "default", lease, "pod-a"))
/// # };
/// # /*
/// let elector = Elector::in_cluster("nightly-report")?
/// # */
/// # let elector = in_cluster("nightly-report")?
///     .on_new_leader(|leader| println!("{} leads", leader.unwrap_or("nobody")))
///     .build()?;
///
/// let pages = elector.run(|leadership: &Leadership| {
///     let mut pages = 0;
///     while pages < 3 {
///         if !leadership.is_held() {
///             return ControlFlow::Continue(()); // lost: stand for election again
///         }
///         println!("page {pages}, with fencing token {}", leadership.fencing_token());
///         pages += 1;
///     }
///     ControlFlow::Break(pages) // done: release the Lease and return
/// })?;
/// assert_eq!(pages, Some(3));
/// # assert_eq!(server.holder("default", "nightly-report"), None, "it was released");
/// # Ok(())
/// # }
/// ```
pub struct Elector {
    setup: Setup,
    callbacks: Callbacks,
    // Dropped last: it proves that the incarnation is this process's own.
    incarnation: Incarnation,
}

/// The end of a term.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stopped {
    /// The fencing token of the term that ended.
    pub fencing_token: Version,
    /// Why it ended.
    pub why: Ending,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.why))
    }
}

/// Steers an [`Elector::run`] from another thread; clones steer the same.
#[derive(Clone)]
pub struct Control(Inbox<Message>);

impl Control {
    /// Sets whether this process is fit to lead, which is assumed at first. An unfit leader steps down and releases the
    /// Lease; an unfit candidate does not campaign.
    pub fn set_fit(&self, fit: bool) {
        self.0.post(Message::Fit(fit));
    }

    /// Ends the term, if there is one; once the work has returned, the Lease is released and `run` returns. Returns at
    /// once itself; to ask twice does nothing more.
    pub fn shut_down(&self) {
        self.0.post(Message::Shutdown);
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}

impl Elector {
    /// Steers [`Elector::run`] from another thread, to end it for example. Before `run` begins it may be used as well.
    ///
    /// ```
    /// # use leasehold::{Elector, kube::ClientOptions};
    /// # use std::{ops::ControlFlow, sync::mpsc, thread};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let in_memory = leasehold_apiserver::Options { plain_http: true, ..Default::default() };
    /// # let server = leasehold_apiserver::Server::start(in_memory)?;
    /// # let elector = Elector::builder(ClientOptions::new(&server.url()), "default", "web", "pod-a").build()?;
    /// # let (tell, when_to_end) = mpsc::channel();
    /// # let wait_for_a_signal = || when_to_end.recv();
    /// let control = elector.control();
    /// let election = thread::spawn(move || {
    ///     elector.run(|leadership| -> ControlFlow<()> {
    /// #       tell.send(()).unwrap();
    ///         leadership.wait_lost();
    ///         ControlFlow::Continue(())
    ///     })
    /// });
    /// wait_for_a_signal()?;
    /// control.shut_down();
    /// assert_eq!(election.join().unwrap()?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn control(&self) -> Control {
        Control(self.setup.inbox.clone())
    }

    /// Takes part in the election; calls `work`, on this thread, in each term.
    ///
    /// The work returns when its term ends ([`Leadership::is_held`], [`Leadership::wait_lost`]), or when it is done.
    ///
    /// - `Continue`: stand for election again. If the term has not ended, this ends it: the Lease is released for the
    ///   others, and this candidate may well win it back at once.
    /// - `Break`: release the Lease and return that value.
    ///
    /// The Lease is renewed until the work has returned, and released only then. But nothing delays the end of a term
    /// that was *lost*: work that takes long to return may run beside the next leader's, and only the fencing token
    /// protects against that. Until the work returns, this process does not stand for election.
    ///
    /// `None`: ended by [`Control::shut_down`].
    ///
    /// # Errors
    ///
    /// The election's threads cannot be started. Nothing that the API server does ends it: it is tried again.
    ///
    /// # Panics
    ///
    /// If the work or a callback does; after the Lease has been released.
    pub fn run<T>(self, mut work: impl FnMut(&Leadership) -> ControlFlow<T>) -> Result<Option<T>, ElectorError> {
        let Elector { setup, callbacks, incarnation } = self;
        let (inbox, audit) = (setup.inbox.clone(), setup.client.audit());
        let (terms, begun) = mpsc::channel();
        let (notifier, notices) = mpsc::channel();
        let callbacks = spawn("election-callbacks", {
            let inbox = inbox.clone();
            move || pass_on(callbacks, &notices, &terms, &inbox)
        })?;
        let driver = Driver::new(setup, notifier).map_err(no_threads)?;
        let election = spawn("election", move || drop(driver.run()))?;

        let mut outcome = Ok(None);
        for leadership in begun {
            // A term may have ended while the callback that announced it was running.
            if matches!(outcome, Ok(None)) && leadership.is_held() {
                outcome = panic::catch_unwind(AssertUnwindSafe(|| work(&leadership).break_value()));
                if !matches!(outcome, Ok(None)) {
                    inbox.post(Message::Shutdown);
                }
            }
            inbox.post(Message::WorkStopped(leadership.fencing_token()));
        }
        let ended = election.join().and(callbacks.join()).and_then(|callbacks| callbacks);
        drop(incarnation);
        // The process may end with this.
        if let Some(audit) = audit {
            audit.flush(AT_THE_END);
        }
        match (outcome, ended) {
            (Err(panic), _) | (_, Err(panic)) => panic::resume_unwind(panic),
            (Ok(value), Ok(())) => Ok(value),
        }
    }
}

impl fmt::Debug for Elector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { namespace, lease, identity, .. } = &self.setup;
        write!(f, "Elector({} for {namespace}/{lease})", identity.name)
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, ElectorError> {
    thread::Builder::new().name(name.into()).spawn(run).map_err(no_threads)
}

fn no_threads(error: std::io::Error) -> ElectorError {
    ElectorError::System { what: "the election's threads", error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_threads_may() {
        fn send<T: Send>() {}
        fn shared<T: Send + Sync + Clone>() {}
        send::<Elector>();
        send::<ElectorBuilder>();
        send::<ElectorError>();
        shared::<Control>();
        shared::<Leadership>();
    }
}
