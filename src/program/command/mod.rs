//! The COMMAND of `leasehold -- COMMAND ARG…`: starts it, passes signals on, stops it in time, reaps it. THREADS.
//!
//! It knows a term by its [`Leadership`]. Three rules make it what it is.
//!
//! **The deadline depends on no other thread.** One thread, the supervisor, sleeps until an instant of the boot clock.
//! When the term's validity runs out it sends SIGTERM, when [`Leadership::kill_at`] comes it sends SIGKILL: even if the
//! thread that runs the election is stuck. It never waits for a lock, for an exec (which may hang on a dead NFS server)
//! or for standard error (a pipe that may be full): its log lines are handed to the election's thread.
//!
//! **Only the supervisor reaps.** As PID 1 and as a subreaper this process gets children that it never started, so
//! something must wait for *any* child; and that takes the exit status from under `std::process::Child::wait`.
//! Therefore nothing else in a process with a `Supervisor` may start processes and wait for them.
//!
//! **Nothing is left.** [`Ended`] is reported when the kernel says that there is no child to wait for. Since orphans
//! below us become our children, that means: no descendant of any kind is left, in whatever group or session.
//! Everything that descends from this process is taken for the command's. (Under PID 1 that includes an orphan of a
//! `kubectl exec`; a container that ends would take it along too.)
//!
//! See `docs/adr/0004-supervising-a-command.md`.

mod descendants;
mod refusal;
mod schedule;
mod supervisor;

use std::ffi::OsString;
use std::io;
use std::thread;

use log::Level;

use self::supervisor::{Order, SupervisorThread};
use crate::runtime::inbox::Inbox;
use crate::runtime::{Leadership, STACK};
use crate::sys::{self, Signal, Signals};

/// The report that a command, and everything that descended from it, is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// As a shell has it: the command's own; 128 + the signal that it died of; 127 where there is no such program, 126 where
    /// it cannot be executed. None: it was not started, as the term was over.
    pub code: Option<i32>,
    /// Whether it was stopped before it ended. If not, it ended by itself.
    pub stopped: bool,
}

/// Runs one command at a time, term after term. A process may have one supervisor: it reaps every dead child.
#[derive(Clone)]
pub struct Supervisor(Inbox<Order>);

impl Supervisor {
    /// Starts the thread, which lives as long as the process. `command` is a path, or a name to be found in PATH, and the
    /// arguments; `identity` is for its environment. `log` is called on the thread, and must not wait for anything.
    pub fn new(
        signals: &Signals,
        command: Vec<OsString>,
        identity: String,
        log: impl Fn(Level, String) + Send + 'static,
    ) -> io::Result<Supervisor> {
        // A PID 1 is given all orphans without asking.
        if std::process::id() != 1 {
            sys::become_subreaper().map_err(|error| {
                io::Error::other(format!(
                    "prctl(PR_SET_CHILD_SUBREAPER): {error}: what a COMMAND leaves behind could not be found and ended; \
                     run leasehold as PID 1, or on Linux 3.4 (qemu-user 8) or later"
                ))
            })?;
        }
        let orders = Inbox::new()?;
        orders.on_readable(signals.child_descriptor()?, Signals::take_child_signal);
        let (terminal, log) = (sys::has_terminal(), Box::new(log));
        let worker = SupervisorThread { command, identity, orders: orders.clone(), log, terminal, run: None };
        thread::Builder::new().name("supervisor".into()).stack_size(STACK).spawn(move || worker.work())?;
        Ok(Supervisor(orders))
    }

    /// Starts the command, without waiting for it, for this term. `on_end` is called exactly once, when nothing of the
    /// command is left, on the supervisor's thread: it must be brief and must not wait for anything. By then the command
    /// may be started anew.
    pub fn start(&self, leadership: Leadership, on_end: impl FnOnce(Ended) + Send + 'static) {
        self.0.post(Order::Start { leadership, on_end: Box::new(on_end) });
    }

    /// Sends this signal to the command's group; SIGKILL follows at [`Leadership::kill_at`]. Nothing happens if it is
    /// being stopped already, or does not run.
    pub fn stop(&self, signal: Signal) {
        self.0.post(Order::Stop(signal));
    }

    /// Passes a signal on to the command, if it runs: to it alone, not to its group, because only it is known to expect
    /// one (what SIGHUP and SIGUSR1 do to a process that does not is end it), and because that is what would have happened
    /// if the command had been the container's own process.
    pub fn forward(&self, signal: Signal) {
        self.0.post(Order::Forward(signal));
    }
}
