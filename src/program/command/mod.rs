//! The COMMAND of `leasehold -- COMMAND ARG…`: starts it, passes signals on, stops it in time, reaps it. THREADS.
//!
//! It knows a term only by its [`Deadlines`], and nothing of Leases. Three rules make it what it is.
//!
//! **The deadline depends on no other thread.** One thread, the supervisor, sleeps until an instant of the boot clock.
//! When the term's validity runs out it sends SIGTERM, when [`Deadlines::kill_at`] comes it sends SIGKILL: even if the
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
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use log::Level;

use self::supervisor::{Order, SupervisorThread};
use crate::election::Version;
use crate::runtime::inbox::Inbox;
use crate::runtime::{Leadership, STACK};
use crate::sys::{self, Signal, Signals};
use crate::time::BootTime;

/// What the supervisor must know of a term. It asks each time anew, so that renewals move the instants later; it asks
/// on the thread that kills in time, so an answer must not wait for anything.
pub trait Deadlines: Send + Sync {
    /// Until when the term is valid: the command may run.
    fn valid_until(&self) -> BootTime;
    /// When the command must be dead, stopped or not.
    fn kill_at(&self) -> BootTime;
    /// Whether the term has been given up, so that nothing may be started for it.
    fn stopping(&self) -> bool;
}

impl Deadlines for Leadership {
    fn valid_until(&self) -> BootTime {
        Leadership::valid_until(self)
    }

    fn kill_at(&self) -> BootTime {
        Leadership::kill_at(self)
    }

    fn stopping(&self) -> bool {
        self.is_stopping()
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    /// A path, or a name to be found in PATH.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What is added to the environment that it inherits. `LEASEHOLD_FENCING_TOKEN` is added at each start.
    pub env: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It exited with this code.
    Exited(i32),
    /// It died of this signal.
    Signaled(i32),
    /// It never ran.
    CouldNotStart {
        /// 127: there is no such program; 126: it cannot be executed.
        code: u8,
        /// Names the program, what is wrong, and what to do.
        message: String,
    },
    /// It never ran, because the term was over by then.
    NotStarted,
}

impl End {
    /// The exit code of a process that stands for the command; none if the command is not to blame.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            End::Exited(code) => Some(*code),
            End::Signaled(signal) => Some(128 + signal),
            End::CouldNotStart { code, .. } => Some(i32::from(*code)),
            End::NotStarted => None,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exited with code {code}"),
            End::Signaled(signal) => write!(f, "died of signal {signal}"),
            End::CouldNotStart { message, .. } => f.write_str(message),
            End::NotStarted => f.write_str("was not started: the term was over"),
        }
    }
}

/// The report that a command, and everything that descended from it, is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// How the command itself ended.
    pub how: End,
    /// Whether it was stopped before it ended. If not, it ended by itself.
    pub stopped: bool,
}

/// Runs one command at a time, term after term. A process may have one supervisor: it reaps every dead child.
#[derive(Clone)]
pub struct Supervisor {
    orders: Inbox<Order>,
    /// Whether there is a command to receive signals.
    running: Arc<AtomicBool>,
}

impl Supervisor {
    /// Starts the thread, which lives as long as the process. `log` is called on it, and must not wait for anything.
    pub fn new(
        signals: &Signals,
        spec: CommandSpec,
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
        let (orders, running) = (Inbox::new()?, Arc::new(AtomicBool::new(false)));
        orders.on_readable(signals.child_descriptor()?, Signals::take_child_signal);
        let worker = SupervisorThread::new(spec, orders.clone(), Arc::clone(&running), Box::new(log));
        thread::Builder::new().name("supervisor".into()).stack_size(STACK).spawn(move || worker.work())?;
        Ok(Supervisor { orders, running })
    }

    /// Starts the command, without waiting for it, for the term that `token` fences. `on_end` is called exactly once,
    /// when nothing of the command is left, on the supervisor's thread: it must be brief and must not wait for
    /// anything. By then the command may be started anew.
    pub fn start(&self, token: Version, deadlines: Arc<dyn Deadlines>, on_end: impl FnOnce(Ended) + Send + 'static) {
        self.running.store(true, Ordering::SeqCst);
        self.orders.post(Order::Start { token, deadlines, on_end: Box::new(on_end) });
    }

    /// Sends this signal to the command's group; SIGKILL follows at [`Deadlines::kill_at`]. Nothing happens if it is
    /// being stopped already, or does not run.
    pub fn stop(&self, signal: Signal) {
        self.orders.post(Order::Stop(signal));
    }

    /// Passes a signal on to the command: to it alone, not to its group, because only it is known to expect one (what
    /// SIGHUP and SIGUSR1 do to a process that does not is end it), and because that is what would have happened if
    /// the command had been the container's own process. False: there is no command to receive it.
    pub fn forward(&self, signal: Signal) -> bool {
        let running = self.running.load(Ordering::SeqCst);
        if running {
            self.orders.post(Order::Forward(signal));
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_a_shell_would_give() {
        assert_eq!(End::Exited(3).exit_code(), Some(3));
        assert_eq!(End::Signaled(libc::SIGKILL).exit_code(), Some(137));
        assert_eq!(End::CouldNotStart { code: 127, message: String::new() }.exit_code(), Some(127));
        assert_eq!(End::NotStarted.exit_code(), None);
    }
}
