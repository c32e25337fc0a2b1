//! Supervises the COMMAND of `leasehold -- COMMAND ARG…`: starts it, passes signals on, stops it in time, reaps it.
//! THREADS and IO. It knows a term only by its [`Deadlines`], and nothing of Leases.
//!
//! Three rules make it what it is.
//!
//! **The deadline needs nobody's help.** One thread, the *reaper*, sleeps on an [`Alarm`] of the boot clock. When the
//! term's validity runs out it sends SIGTERM, when [`Deadlines::kill_at`] comes it sends SIGKILL: whether or not
//! anybody said [`Supervisor::stop`], and with the thread that runs the election stuck in whatever it may be stuck in.
//! The reaper never forks, and it never writes: a log line goes to a pipe that may be full. Nor does anybody do either
//! while holding the lock that it needs.
//!
//! **Only the reaper reaps.** As PID 1 and as a subreaper this process gets children that it never started, so
//! something must wait for *any* child; and whoever waits for any child takes the exit status from under
//! `Child::wait`. There were three ways out. Wait with `WNOWAIT`, look, and leave the command's own pid to std: then a
//! zombie that nobody collects stands at the head of the queue and hides the others. Wait for known pids only: then
//! orphans, whose pids nobody knows, stay zombies. Own all waits: what is done here. The price is that a process with
//! a `Supervisor` cannot use `std::process::Child::wait`; and that the reaper must not reap between fork and exec,
//! because `Command::spawn` waits, by pid, for a child whose exec failed, and panics when it is gone
//! (`Stage::Starting`).
//!
//! **Nothing is left.** [`Ended`] is reported when the kernel says that there is no child to wait for. Since orphans
//! below us become our children, that means: no descendant of any kind is left, in whatever group or session.
//! Everything that descends from this process is taken for the command's. (Under PID 1 that includes an orphan of a
//! `kubectl exec`; a container that ends would take it along too.)
//!
//! A second thread, the *spawner*, forks, and writes the log lines of both. The kernel's parent-death signal is tied
//! to the thread that forked, not to its process, so it must be a thread that lives as long as the process; and an
//! exec that hangs on a dead NFS server must not hang the reaper. See `docs/adr/0004-supervising-a-command.md`.

mod descendants;
mod job;
mod reaper;
mod refusal;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use log::Level;

use self::job::{Job, Stage};
use crate::election::Version;
use crate::sys::{self, Alarm, Pid, Signal, Signals};
use crate::time::BootTime;

/// Neither thread recurses, nor keeps anything big on its stack.
const STACK: usize = 256 << 10;

/// What the supervisor must know of a term. It asks each time anew, so that renewals move the instants later; it asks
/// on the thread that kills in time, so an answer must not wait for anything.
pub trait Deadlines: Send + Sync {
    /// Until when the term is valid: the command may run.
    fn valid_until(&self) -> BootTime;
    /// When the command must be dead, stopped or not.
    fn kill_at(&self) -> BootTime;
    /// Whether the term has been given up. Whoever makes this true calls [`Supervisor::stop`].
    fn stopping(&self) -> bool;
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
        /// Names the program, what is wrong, and the mend.
        message: String,
    },
    /// It never ran, because the term was over (or this process was dying) by the time that it would have.
    NotStarted,
}

impl End {
    /// The code with which a process that stood for the command would exit; none if the command is not to blame.
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
    /// Whether it had been told to stop before it ended. If not, it ended of its own accord.
    pub stopped: bool,
}

/// Purpose [`Supervisor::start`] did not try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The command of an earlier start, or something that descends from it, is still there.
    StillRunning,
    /// The term is over already.
    TermOver,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StartError::StillRunning => "the command still runs",
            StartError::TermOver => "the term is over",
        })
    }
}

impl std::error::Error for StartError {}

/// What callers, spawner and reaper share. Nobody holds the lock while forking, writing or calling back.
struct Shared {
    alarm: Alarm,
    orders: Sender<Order>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// The supervisor was dropped.
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is a single assignment, so a panic leaves no half of one behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the spawner write a log line.
    fn say(&self, level: Level, line: String) {
        // The spawner ends after everybody else; a line to nobody is no loss.
        let _ = self.orders.send(Order::Say(level, line));
    }
}

/// What the spawner is asked to do.
enum Order {
    Start { token: Version, deadlines: Arc<dyn Deadlines> },
    Say(Level, String),
    Quit,
}

/// Runs one command at a time, for one term after another. One of these per process: it takes every dead child.
pub struct Supervisor {
    shared: Arc<Shared>,
}

impl Supervisor {
    /// Starts the two threads. The signals are asked for as proof that SIGCHLD is blocked.
    pub fn new(_: &Signals, spec: CommandSpec) -> io::Result<Supervisor> {
        sys::become_subreaper()?;
        let (orders, inbox) = mpsc::channel();
        let shared = Arc::new(Shared { alarm: Alarm::new()?, orders, state: Mutex::default() });
        let spawner = Arc::clone(&shared);
        let thread = |name: &str| thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        thread("command-spawner").spawn(move || {
            let _fatal = DieTogether;
            serve(&spawner, &spec, &inbox);
        })?;
        let supervisor = Supervisor { shared: Arc::clone(&shared) };
        thread("command-reaper").spawn(move || {
            let _fatal = DieTogether;
            reaper::keep(&shared);
        })?;
        Ok(supervisor)
    }

    /// Starts the command, without waiting for it, for the term that `token` fences. `on_end` is called exactly once,
    /// when nothing of the command is left, on the reaper's thread: it must be brief and must not wait for anything.
    /// By then the command may be started anew. An error means that nothing was started, and `on_end` is not called.
    pub fn start(
        &self,
        token: Version,
        deadlines: Arc<dyn Deadlines>,
        on_end: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<(), StartError> {
        let mut state = self.shared.lock();
        if state.job.is_some() {
            return Err(StartError::StillRunning);
        }
        if !may_start(&*deadlines) {
            return Err(StartError::TermOver);
        }
        state.job = Some(Job::new(Arc::clone(&deadlines), Box::new(on_end)));
        // The spawner ends only with this supervisor, or with the whole process.
        let _ = self.shared.orders.send(Order::Start { token, deadlines });
        drop(state);
        self.shared.alarm.ring();
        Ok(())
    }

    /// Sends SIGTERM to the command's group, now, or as soon as it runs; SIGKILL follows at [`Deadlines::kill_at`].
    /// Nothing happens if it is being stopped already, or does not run.
    pub fn stop(&self) {
        self.stop_with(Signal::Terminate);
    }

    /// As [`Supervisor::stop`], with another signal: a program may tell SIGINT from SIGTERM.
    pub fn stop_with(&self, signal: Signal) {
        if let Some(job) = &mut self.shared.lock().job {
            job.stop_with.get_or_insert(signal);
        }
        self.shared.alarm.ring();
    }

    /// Passes a signal on to the command: to it alone, not to its group, because only it is known to expect one (what
    /// SIGHUP and SIGUSR1 do to a process that does not is end it), and because that is what would have happened if
    /// the command had been the container's own process. While it is being started the signal waits until after its
    /// exec. False: there is no command to receive it.
    pub fn forward(&self, signal: Signal) -> bool {
        let mut state = self.shared.lock();
        let Some(job) = &mut state.job else { return false };
        match job.stage {
            Stage::Starting => {
                // Twice pending is once delivered, as with the kernel's own pending signals.
                if !job.early.contains(&signal) {
                    job.early.push(signal);
                }
                true
            }
            // The lock keeps it from being reaped, so the pid is still its own.
            Stage::Running(pid) => {
                pass_on(&self.shared, pid, signal);
                true
            }
            Stage::Refused(_) | Stage::Gone { .. } => false,
        }
    }
}

impl Drop for Supervisor {
    /// Kills what runs.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.alarm.ring();
    }
}

/// A panic in either thread ends the process, and with it (by the kernel) the command: work that nobody would stop
/// in time must not go on.
struct DieTogether;

impl Drop for DieTogether {
    fn drop(&mut self) {
        if thread::panicking() {
            sys::terminate_now(101);
        }
    }
}

fn may_start(deadlines: &dyn Deadlines) -> bool {
    // The clock is read last: after a pause, an instant read before it would still look like the present.
    let until = deadlines.valid_until().min(deadlines.kill_at());
    !deadlines.stopping() && sys::boot_time() < until
}

fn pass_on(shared: &Shared, pid: Pid, signal: Signal) {
    match sys::signal_child(pid, signal.number()) {
        Ok(()) => shared.say(Level::Debug, format!("passed {} on to the command (pid {pid})", signal.name())),
        Err(error) => shared.say(Level::Warn, format!("cannot pass {} on to the command: {error}", signal.name())),
    }
}

/// The spawner's life.
fn serve(shared: &Shared, spec: &CommandSpec, inbox: &Receiver<Order>) {
    for order in inbox {
        match order {
            Order::Start { token, deadlines } => start(shared, spec, token, &*deadlines),
            Order::Say(level, line) => log::log!(level, "{line}"),
            Order::Quit => return,
        }
    }
}

fn start(shared: &Shared, spec: &CommandSpec, token: Version, deadlines: &dyn Deadlines) {
    let terminal = sys::has_terminal();
    if let Some(job) = &mut shared.lock().job {
        job.terminal = terminal;
    }
    let spawned = spawn(spec, token, deadlines, terminal);
    // A refusal is written before it is reported, for the report may end the process; but a command that runs must be
    // under the reaper's eyes before anything waits for a pipe.
    match &spawned {
        Ok(_) => {}
        Err(End::NotStarted) => log::warn!("the command {}", End::NotStarted),
        Err(refused) => log::error!("{refused}"),
    }
    if let Some(job) = &mut shared.lock().job {
        job.stage = match spawned {
            Ok(pid) => {
                let program = spec.program.display();
                shared.say(Level::Info, format!("started `{program}` (pid {pid}, fencing token {token})"));
                job.early.drain(..).for_each(|signal| pass_on(shared, pid, signal));
                Stage::Running(pid)
            }
            Err(how) => Stage::Refused(how),
        };
    }
    shared.alarm.ring();
}

fn spawn(spec: &CommandSpec, token: Version, deadlines: &dyn Deadlines, terminal: bool) -> Result<Pid, End> {
    if !may_start(deadlines) {
        return Err(End::NotStarted);
    }
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env("LEASEHOLD_FENCING_TOKEN", token.to_string())
        .process_group(0);
    sys::guard_child(&mut command, deadlines.valid_until(), terminal);
    match command.spawn() {
        // std's handle is let go, for the reaper waits for everybody; and pids are positive 32-bit numbers.
        Ok(child) => Ok(child.id().cast_signed()),
        Err(error) if error.raw_os_error() == Some(sys::NOT_STARTED) => Err(End::NotStarted),
        Err(error) => Err(refusal::explain(&spec.program, &error)),
    }
}
