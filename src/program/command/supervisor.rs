//! The supervisor's thread: starts, stops, kills and reaps in time. THREADS and IO.
//!
//! It takes orders from a queue, and waits for nothing else. It logs through a function that does not wait either.

use std::ffi::OsString;
use std::io;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::Level;

use super::descendants::{self, Descendant};
use super::refusal;
use super::schedule::{Due, Schedule};
use super::{CommandSpec, Deadlines, End, Ended};
use crate::election::Version;
use crate::runtime::inbox::Inbox;
use crate::sys::{self, Child, ExecFailure, Executable, Pid, Reaped, Signal, Status};
use crate::time::BootTime;

/// What the supervisor is asked to do.
pub(super) enum Order {
    Start { token: Version, deadlines: Arc<dyn Deadlines>, on_end: OnEnd },
    Stop(Signal),
    Forward(Signal),
}

type OnEnd = Box<dyn FnOnce(Ended) + Send>;

/// One run of the command, until nothing of it is left.
struct Run {
    child: Child,
    schedule: Schedule,
    on_end: OnEnd,
    /// How the command itself has ended.
    ended: Option<Ended>,
}

/// What the thread works with.
pub(super) struct SupervisorThread {
    spec: CommandSpec,
    orders: Inbox<Order>,
    running: Arc<AtomicBool>,
    log: Box<dyn Fn(Level, String) + Send>,
    /// On a terminal the command is in the foreground while it runs, as under a shell.
    terminal: bool,
    run: Option<Run>,
}

impl SupervisorThread {
    pub(super) fn new(
        spec: CommandSpec,
        orders: Inbox<Order>,
        running: Arc<AtomicBool>,
        log: Box<dyn Fn(Level, String) + Send>,
    ) -> SupervisorThread {
        SupervisorThread { spec, orders, running, log, terminal: sys::has_terminal(), run: None }
    }

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
        match run.schedule.due(now) {
            Due::Nothing => {}
            Due::Stop => self.stop(&mut run),
            Due::Kill => self.kill(&mut run),
        }
        let next = run.schedule.next(now);
        self.run = Some(run);
        Some(next)
    }

    fn obey(&mut self, order: Order) {
        match (order, &mut self.run) {
            (Order::Start { token, deadlines, on_end }, None) => self.start(token, deadlines, on_end),
            // The election begins no term before the work of the last one has ended.
            (Order::Start { on_end, .. }, Some(_)) => on_end(Ended { how: End::NotStarted, stopped: false }),
            (Order::Stop(signal), Some(run)) => run.schedule.stop(signal),
            (Order::Forward(signal), Some(run)) if run.ended.is_none() => {
                // Not reaped yet, so the pid is still its own.
                let pid = run.child.pid;
                self.note_failure(signal.name(), sys::signal_child(pid, signal.number()));
                self.say(Level::Debug, format!("passed {} on to the command (pid {pid})", signal.name()));
            }
            (Order::Stop(_) | Order::Forward(_), _) => {}
        }
    }

    fn start(&mut self, token: Version, deadlines: Arc<dyn Deadlines>, on_end: OnEnd) {
        match self.spawn(token, &*deadlines) {
            Ok(child) => {
                let (program, pid) = (self.spec.program.display(), child.pid);
                self.say(Level::Info, format!("starting `{program}` (pid {pid}, fencing token {token})"));
                self.run = Some(Run { child, schedule: Schedule::new(deadlines), on_end, ended: None });
            }
            Err(how) => {
                self.running.store(false, Ordering::SeqCst);
                self.say_how_it_ended(&how, None);
                self.report_end(Ended { how, stopped: false }, on_end);
            }
        }
    }

    fn spawn(&self, token: Version, deadlines: &dyn Deadlines) -> Result<Child, End> {
        let latest = deadlines.valid_until().min(deadlines.kill_at());
        // The clock is read last: after a pause, an instant read before it would still look like the present.
        if deadlines.stopping() || sys::boot_time() >= latest {
            return Err(End::NotStarted);
        }
        let CommandSpec { program, args, env } = &self.spec;
        let refused = |error: io::Error| refusal::explain(program, &error);
        let arguments = iter::once(program).chain(args).cloned().collect();
        let token = ("LEASEHOLD_FENCING_TOKEN".to_owned(), token.to_string());
        let added = env.iter().cloned().chain([token]).map(|(name, value)| (name.into(), value.into()));
        let added: Vec<(OsString, OsString)> = added.collect();
        let inherited = std::env::vars_os().filter(|(name, _)| added.iter().all(|(other, _)| name != other));
        let environment: Vec<_> = inherited.chain(added.iter().cloned()).collect();
        let executable = Executable::new(refusal::candidates(program), arguments, environment).map_err(refused)?;
        sys::start(&executable, latest, self.terminal).map_err(refused)
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

    fn command_ended(&mut self, status: Status) {
        let Some(mut run) = self.run.take() else { return };
        self.running.store(false, Ordering::SeqCst);
        let pid = run.child.pid;
        let how = match (run.child.take_exec_failure(), status) {
            (Some(ExecFailure::TooLate), _) => End::NotStarted,
            (Some(ExecFailure::Refused(error)), _) => refusal::explain(&self.spec.program, &error),
            (None, Status::Exited(code)) => End::Exited(code),
            (None, Status::Signaled(signal)) => End::Signaled(signal),
        };
        // What it leaves behind gets SIGTERM too, but only once: to many programs a second one means "at once".
        let had_it = run.schedule.stopped && run.schedule.stop_signal() == Signal::Terminate;
        for process in self.survivors().into_iter().filter(|process| !had_it || process.group != pid) {
            self.note_failure("SIGTERM", process.signal(libc::SIGTERM));
        }
        self.say_how_it_ended(&how, Some(pid));
        run.ended = Some(Ended { how, stopped: run.schedule.stopped });
        run.schedule.ended();
        self.run = Some(run);
    }

    fn stop(&self, run: &mut Run) {
        let (pid, signal) = (run.child.pid, run.schedule.stop_signal());
        run.schedule.stopped = true;
        self.note_failure(signal.name(), sys::signal_group(pid, signal.number()));
        // A stopped process acts on the signal only when it goes on.
        self.note_failure("SIGCONT", sys::signal_group(pid, libc::SIGCONT));
        self.say(
            Level::Info,
            format!("the term ends: sent {} to the command (pid {pid}) and its group", signal.name()),
        );
    }

    fn kill(&self, run: &mut Run) {
        let pid = run.child.pid;
        // The command and its group come first: that needs neither /proc nor memory, and a group dies at a stroke, before
        // any of it can fork.
        if run.ended.is_none() {
            self.note_failure("SIGKILL", sys::signal_group(pid, libc::SIGKILL));
            self.note_failure("SIGKILL", sys::signal_child(pid, libc::SIGKILL));
        }
        let found = self.survivors();
        // Once the command is reaped, its group is still its own only while a descendant is in it.
        if run.ended.is_some() && found.iter().any(|process| process.group == pid) {
            self.note_failure("SIGKILL", sys::signal_group(pid, libc::SIGKILL));
        }
        for process in &found {
            self.note_failure("SIGKILL", process.signal(libc::SIGKILL));
        }
        if run.schedule.kills == 0 {
            let count = found.len();
            self.say(Level::Warn, format!("out of time: sent SIGKILL to the command and {count} descendants"));
        }
        run.schedule.stopped = true;
        run.schedule.kills += 1;
    }

    fn survivors(&self) -> Vec<Descendant> {
        descendants::all().unwrap_or_else(|error| {
            self.say(Level::Error, format!("cannot find the command's descendants: /proc: {error}"));
            Vec::new()
        })
    }

    fn report_end(&self, ended: Ended, on_end: OnEnd) {
        if self.terminal
            && let Err(error) = sys::take_terminal()
        {
            self.say(Level::Warn, format!("cannot take the terminal back from the command: {error}"));
        }
        on_end(ended);
    }

    fn say_how_it_ended(&self, how: &End, pid: Option<Pid>) {
        match (how, pid) {
            (End::CouldNotStart { message, .. }, _) => self.say(Level::Error, message.clone()),
            (End::NotStarted, _) | (_, None) => self.say(Level::Warn, format!("the command {how}")),
            (_, Some(pid)) => self.say(Level::Info, format!("the command (pid {pid}) {how}")),
        }
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
