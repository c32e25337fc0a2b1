//! The supervisor's thread: starts, stops, kills and reaps in time. THREADS and IO.
//!
//! It takes orders from a queue, and waits for nothing else. It logs through a function that does not wait either.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use log::Level;

use super::Ended;
use super::descendants::{self, Descendant};
use super::refusal;
use super::schedule::{Due, Schedule};
use crate::runtime::Leadership;
use crate::runtime::inbox::Inbox;
use crate::sys::{self, Child, Reaped, Signal};
use crate::time::BootTime;

/// What survives SIGKILL (it forks faster than it dies, or hangs in the kernel) is killed again this often, and whenever
/// a child dies.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// What the supervisor is asked to do.
pub(super) enum Order {
    Start { leadership: Leadership, on_end: OnEnd },
    Stop(Signal),
    Forward(Signal),
}

type OnEnd = Box<dyn FnOnce(Ended) + Send>;

/// One run of the command, until nothing of it is left.
pub(super) struct Run {
    child: Child,
    schedule: Schedule,
    on_end: OnEnd,
    /// How the command itself has ended.
    ended: Option<Ended>,
    /// Time was up, and SIGKILL has been sent.
    killed: bool,
}

/// What the thread works with.
pub(super) struct SupervisorThread {
    /// The program, and its arguments.
    pub(super) command: Vec<OsString>,
    pub(super) identity: String,
    pub(super) orders: Inbox<Order>,
    pub(super) log: Box<dyn Fn(Level, String) + Send>,
    /// On a terminal the command is in the foreground while it runs, as under a shell.
    pub(super) terminal: bool,
    pub(super) run: Option<Run>,
}

impl SupervisorThread {
    /// Never returns: the kernel kills the command when the thread that started it ends.
    pub(super) fn work(mut self) {
        loop {
            let none_left = self.reap();
            if let Some(Run { on_end, ended: Some(ended), .. }) =
                self.run.take_if(|run| none_left && run.ended.is_some())
            {
                self.report_end(ended, on_end);
            }
            let wake = self.act();
            if let Some(order) = self.orders.take_until(wake) {
                self.obey(order);
            }
        }
    }

    /// Does what is due, and says when to come back.
    fn act(&mut self) -> Option<BootTime> {
        let now = sys::boot_time();
        let mut run = self.run.take()?;
        let again = match run.schedule.due(now) {
            Due::Later(instant) => instant,
            Due::Stop => {
                self.stop(&mut run);
                now
            }
            Due::Kill => {
                self.kill(&mut run);
                now + KILL_AGAIN
            }
        };
        self.run = Some(run);
        Some(again)
    }

    fn obey(&mut self, order: Order) {
        match (order, &mut self.run) {
            (Order::Start { leadership, on_end }, None) => self.start(leadership, on_end),
            // The election begins no term before the work of the last one has ended.
            (Order::Start { on_end, .. }, Some(_)) => on_end(Ended { code: None, stopped: false }),
            (Order::Stop(signal), Some(run)) => run.schedule.stop(signal),
            (Order::Forward(signal), Some(run)) if run.ended.is_none() => {
                // Not reaped yet, so the pid is still its own.
                let pid = run.child.pid;
                self.note_failure(signal.name, sys::signal(pid, signal.number));
                self.say(Level::Debug, format!("passed {} on to the command (pid {pid})", signal.name));
            }
            (Order::Stop(_) | Order::Forward(_), _) => {}
        }
    }

    fn start(&mut self, leadership: Leadership, on_end: OnEnd) {
        match self.spawn(&leadership) {
            Ok(child) => {
                let (program, pid, token) = (self.command[0].display(), child.pid, leadership.fencing_token());
                self.say(Level::Info, format!("starting `{program}` (pid {pid}, fencing token {token})"));
                let schedule = Schedule::new(leadership);
                self.run = Some(Run { child, schedule, on_end, ended: None, killed: false });
            }
            Err(error) => {
                let code = self.refused(&error);
                self.report_end(Ended { code, stopped: false }, on_end);
            }
        }
    }

    fn spawn(&self, leadership: &Leadership) -> io::Result<Child> {
        if !leadership.is_held() {
            return Err(io::Error::from_raw_os_error(sys::TOO_LATE));
        }
        let mut environment: BTreeMap<OsString, OsString> = env::vars_os().collect();
        environment.extend(
            [
                ("LEASEHOLD_FENCING_TOKEN", leadership.fencing_token().to_string()),
                ("LEASEHOLD_LEASE", leadership.lease().to_owned()),
                ("LEASEHOLD_IDENTITY", self.identity.clone()),
            ]
            .map(|(name, value)| (name.into(), value.into())),
        );
        let files = refusal::candidates(&self.command[0]);
        sys::start(files, self.command.clone(), environment, leadership.valid_until(), self.terminal)
    }

    /// Reaps what is dead. True: there is no child left, and so no descendant.
    fn reap(&mut self) -> bool {
        loop {
            match sys::reap() {
                Ok(Reaped::Child(pid, status)) => {
                    if self.run.as_ref().is_some_and(|run| run.ended.is_none() && run.child.pid == pid) {
                        self.command_ended(status);
                    }
                }
                Ok(Reaped::Nothing) => return false,
                Ok(Reaped::NoChildren) => return true,
                Err(error) => {
                    self.say(Level::Error, format!("cannot wait for children: {error}"));
                    return false;
                }
            }
        }
    }

    fn command_ended(&mut self, status: ExitStatus) {
        let Some(mut run) = self.run.take() else { return };
        let (pid, stopped) = (run.child.pid, run.schedule.stopped);
        // What it leaves behind gets SIGTERM too, but only once: to many programs a second one means "at once".
        let had_it = stopped && run.schedule.stop_signal() == Signal::TERMINATE;
        for process in self.survivors().into_iter().filter(|process| !had_it || process.group != pid) {
            self.note_failure("SIGTERM", process.signal(libc::SIGTERM));
        }
        let code = match run.child.take_exec_failure() {
            Some(error) => self.refused(&error),
            None => {
                let (code, how) = match (status.code(), status.signal().unwrap_or_default()) {
                    (Some(code), _) => (code, format!("exited with code {code}")),
                    (None, signal) => (128 + signal, format!("died of signal {signal}")),
                };
                self.say(Level::Info, format!("the command (pid {pid}) {how}"));
                Some(code)
            }
        };
        run.ended = Some(Ended { code, stopped });
        run.schedule.ended();
        self.run = Some(run);
    }

    /// It never ran: says why, and with which code a shell would end. None: the term was over.
    fn refused(&self, error: &io::Error) -> Option<i32> {
        if error.raw_os_error() == Some(sys::TOO_LATE) {
            self.say(Level::Warn, "the command was not started: the term was over".into());
            return None;
        }
        let (code, problem) = refusal::explain(&self.command[0], error);
        self.say(Level::Error, problem);
        Some(code)
    }

    fn stop(&self, run: &mut Run) {
        let (pid, signal) = (run.child.pid, run.schedule.stop_signal());
        run.schedule.stopped = true;
        self.note_failure(signal.name, sys::signal(-pid, signal.number));
        // A stopped process acts on the signal only when it goes on.
        self.note_failure("SIGCONT", sys::signal(-pid, libc::SIGCONT));
        self.say(Level::Info, format!("the term ends: sent {} to the command (pid {pid}) and its group", signal.name));
    }

    fn kill(&self, run: &mut Run) {
        let pid = run.child.pid;
        // The command and its group come first: that needs neither /proc nor memory, and a group dies at a stroke, before
        // any of it can fork.
        if run.ended.is_none() {
            self.note_failure("SIGKILL", sys::signal(-pid, libc::SIGKILL));
            self.note_failure("SIGKILL", sys::signal(pid, libc::SIGKILL));
        }
        let found = self.survivors();
        // Once the command is reaped, its group is still its own only while a descendant is in it.
        if run.ended.is_some() && found.iter().any(|process| process.group == pid) {
            self.note_failure("SIGKILL", sys::signal(-pid, libc::SIGKILL));
        }
        for process in &found {
            self.note_failure("SIGKILL", process.signal(libc::SIGKILL));
        }
        if !run.killed {
            self.say(Level::Warn, "out of time: sent SIGKILL to the command and all that descends from it".into());
        }
        run.schedule.stopped = true;
        run.killed = true;
    }

    fn survivors(&self) -> Vec<Descendant> {
        descendants::all().unwrap_or_else(|error| {
            self.say(Level::Error, format!("cannot find the command's descendants: /proc: {error}"));
            Vec::new()
        })
    }

    fn report_end(&self, ended: Ended, on_end: OnEnd) {
        if self.terminal {
            sys::take_terminal();
        }
        on_end(ended);
    }

    fn note_failure(&self, signal: &str, sent: io::Result<()>) {
        if let Err(error) = sent {
            self.say(Level::Warn, format!("cannot send {signal} to the command: {error}"));
        }
    }

    fn say(&self, level: Level, line: String) {
        (self.log)(level, line);
    }
}
