//! The reaper: the thread that stops, kills and reaps in time. THREADS and IO.
//!
//! It holds the lock while it works, never while it sleeps or reports. Log lines go to the spawner, which may wait
//! for a full pipe.

use std::io;
use std::thread;
use std::time::Duration;

use log::Level;

use super::descendants::{self, Descendant};
use super::job::{Due, Job, Stage};
use super::{End, Ended, Order, Shared, State};
use crate::sys::{self, Pid, Reaped, Signal, Status};
use crate::time::BootTime;

/// The reaper's life.
pub(super) fn keep(shared: &Shared) {
    loop {
        let mut state = shared.lock();
        let none_left = collect(shared, &mut state);
        if let Some(job) = state.job.take_if(|job| job.is_over(none_left)) {
            drop(state);
            finish(shared, job);
            continue;
        }
        let closed = state.closed;
        if closed && state.job.is_none() {
            let _ = shared.orders.send(Order::Quit);
            return;
        }
        let wake = state.job.as_mut().map(|job| tend(shared, job, closed));
        drop(state);
        if shared.alarm.wait_until(wake).is_err() {
            // Out of kernel memory, at worst. To look too often is better than to look too late.
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Reaps what is dead. True: there is no child left, and so no descendant.
fn collect(shared: &Shared, state: &mut State) -> bool {
    if matches!(&state.job, Some(Job { stage: Stage::Starting, .. })) {
        return false;
    }
    loop {
        match sys::reap() {
            Ok(Reaped::Child(pid, status)) => {
                if let Some(job) = state.job.as_mut().filter(|job| job.runs_as(pid)) {
                    command_ended(shared, job, pid, status);
                }
            }
            Ok(Reaped::Stopped(pid, signal)) => {
                if state.job.as_ref().is_some_and(|job| job.terminal && job.runs_as(pid)) {
                    go_on(shared, pid, signal);
                }
            }
            Ok(Reaped::Nothing) => return false,
            Ok(Reaped::NoChildren) => {
                if let Some(job) = &mut state.job
                    && let Stage::Running(pid) = job.stage
                {
                    shared.say(Level::Error, format!("another part of this process took the end of pid {pid}"));
                    command_ended(shared, job, pid, Status::Signaled(libc::SIGKILL));
                }
                return true;
            }
            Err(error) => {
                shared.say(Level::Error, format!("cannot wait for children: {error}"));
                return false;
            }
        }
    }
}

fn command_ended(shared: &Shared, job: &mut Job, pid: Pid, status: Status) {
    let how = match status {
        Status::Exited(code) => End::Exited(code),
        Status::Signaled(signal) => End::Signaled(signal),
    };
    // What it leaves behind is asked to end too, but nobody twice: to many programs a second SIGTERM means "at once".
    let asked = job.told && job.stop_signal() == Signal::Terminate;
    for process in survivors(shared).into_iter().filter(|process| !asked || process.group != pid) {
        report(shared, "SIGTERM", process.signal(libc::SIGTERM));
    }
    shared.say(Level::Info, format!("the command (pid {pid}) {how}"));
    let ended = Ended { how, stopped: job.told };
    job.stage = Stage::Gone { group: pid, ended, kill_at: job.deadlines.kill_at() };
}

/// Ctrl-Z stops the command, and no shell is there to continue it: it would hold the lease and do nothing.
fn go_on(shared: &Shared, pid: Pid, signal: i32) {
    if signal == libc::SIGTSTP {
        report(shared, "SIGCONT", sys::signal_group(pid, libc::SIGCONT));
        shared.say(Level::Info, format!("continued the command (pid {pid}): stopped, it would hold the lease idly"));
    }
}

/// Does what is due for the job, and says when to come back.
fn tend(shared: &Shared, job: &mut Job, closed: bool) -> BootTime {
    let now = sys::boot_time();
    match if closed { Due::Kill } else { job.due(now) } {
        Due::Nothing => {}
        Due::Stop => stop(shared, job),
        Due::Kill => kill(shared, job),
    }
    job.next(now)
}

fn stop(shared: &Shared, job: &mut Job) {
    let Stage::Running(pid) = job.stage else { return };
    let signal = job.stop_signal();
    job.told = true;
    report(shared, signal.name(), sys::signal_group(pid, signal.number()));
    // Stopped processes hear of it only when they go on.
    report(shared, "SIGCONT", sys::signal_group(pid, libc::SIGCONT));
    shared.say(Level::Info, format!("the term ends: sent {} to the command (pid {pid}) and its group", signal.name()));
}

fn kill(shared: &Shared, job: &mut Job) {
    // The command and its group come first: that needs neither /proc nor memory, and a group dies at a stroke, before
    // any of it can fork.
    if let Stage::Running(pid) = job.stage {
        report(shared, "SIGKILL", sys::signal_group(pid, libc::SIGKILL));
        report(shared, "SIGKILL", sys::signal_child(pid, libc::SIGKILL));
    }
    let found = survivors(shared);
    if let Stage::Gone { group, .. } = job.stage
        && found.iter().any(|process| process.group == group)
    {
        report(shared, "SIGKILL", sys::signal_group(group, libc::SIGKILL));
    }
    for process in &found {
        report(shared, "SIGKILL", process.signal(libc::SIGKILL));
    }
    if job.kills == 0 {
        shared.say(Level::Warn, format!("out of time: sent SIGKILL to the command and {} descendants", found.len()));
    }
    job.told = true;
    job.kills += 1;
}

fn survivors(shared: &Shared) -> Vec<Descendant> {
    descendants::all().unwrap_or_else(|error| {
        shared.say(Level::Error, format!("cannot see what the command has started: /proc: {error}"));
        Vec::new()
    })
}

fn report(shared: &Shared, signal: &str, sent: io::Result<()>) {
    if let Err(error) = sent {
        shared.say(Level::Warn, format!("cannot send {signal} to the command: {error}"));
    }
}

fn finish(shared: &Shared, job: Job) {
    if job.terminal
        && let Err(error) = sys::take_terminal()
    {
        shared.say(Level::Warn, format!("cannot take the terminal back from the command: {error}"));
    }
    match job.stage {
        Stage::Refused(how) => (job.on_end)(Ended { how, stopped: false }),
        Stage::Gone { ended, .. } => (job.on_end)(ended),
        Stage::Starting | Stage::Running(_) => {}
    }
}
