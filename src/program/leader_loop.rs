//! What runs while this process leads: the built-in leader loop, or a COMMAND in its place.
//!
//! THREADS. Either tells the election, by one message, when nothing of a term is left.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use log::{error, info};

use crate::election::Version;
use crate::program::command::{Ended, Supervisor};
use crate::program::config::Config;
use crate::runtime::inbox::Inbox;
use crate::runtime::{Leadership, Message, STACK};
use crate::sys::{Signal, Signals};

/// Clones are of one and the same work.
#[derive(Clone)]
pub(crate) struct Work {
    /// A program that runs only while leading. `None`: "Performing leader tasks...", each interval.
    command: Option<Supervisor>,
    /// Whether there is a COMMAND to pass signals on to.
    running: Arc<AtomicBool>,
    interval: Duration,
    inbox: Inbox<Message>,
    /// The process's exit code: the work's own when it ends by itself.
    exit: Arc<AtomicI32>,
}

impl Work {
    pub(crate) fn new(config: &Config, signals: &Signals, inbox: &Inbox<Message>) -> Result<Work, String> {
        let command = match &config.command {
            None => {
                signals.leave_reaping_to_the_kernel();
                None
            }
            Some(command) => {
                let log = inbox.clone();
                let log = move |level, line| log.post(Message::Log(level, line));
                let supervisor = Supervisor::new(signals, command.clone(), config.identity.clone(), log);
                Some(supervisor.map_err(|error| format!("the COMMAND's supervisor: {error}"))?)
            }
        };
        let (interval, inbox) = (config.task_interval, inbox.clone());
        Ok(Work { command, running: Arc::default(), interval, inbox, exit: Arc::default() })
    }

    /// A term has begun.
    pub(crate) fn start(&self, leadership: Leadership) {
        let token = leadership.fencing_token();
        match &self.command {
            None => {
                let (interval, inbox) = (self.interval, self.inbox.clone());
                let run = move || {
                    run_loop(interval, &leadership);
                    inbox.post(Message::WorkStopped(token));
                };
                if let Err(error) = thread::Builder::new().name("leader-loop".into()).stack_size(STACK).spawn(run) {
                    // To campaign again would be to acquire and release without end.
                    error!("no thread for the leader loop: {error}: ending, so that another replica leads");
                    self.ended_by_itself(1, token);
                }
            }
            Some(supervisor) => {
                let work = self.clone();
                self.running.store(true, Ordering::SeqCst);
                supervisor.start(leadership, move |Ended { code, stopped }| {
                    work.running.store(false, Ordering::SeqCst);
                    match code {
                        Some(code) if !stopped => work.ended_by_itself(code, token),
                        _ => work.inbox.post(Message::WorkStopped(token)),
                    }
                });
            }
        }
    }

    /// The end of the work is the end of the process, once the Lease is released.
    fn ended_by_itself(&self, code: i32, token: Version) {
        self.exit.store(code, Ordering::SeqCst);
        self.inbox.post(Message::Shutdown);
        self.inbox.post(Message::WorkStopped(token));
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::try_from(self.exit.load(Ordering::SeqCst)).unwrap_or(1))
    }

    /// The term has ended, or this signal asks the process to end: the COMMAND gets it. (The loop asks its leadership.)
    pub(crate) fn stop(&self, signal: Signal) {
        if let Some(supervisor) = &self.command {
            supervisor.stop(signal);
        }
    }

    /// What a signal means. True: the process must end. A COMMAND gets those that it may want to interpret; without one,
    /// a signal does what it does to any program that does not handle it. An image whose program stops at SIGQUIT (nginx)
    /// has it sent to a standby as well.
    pub(crate) fn asks_for_the_end(&self, signal: Signal) -> bool {
        match (signal, &self.command) {
            (Signal::TERMINATE | Signal::INTERRUPT, _) => true,
            (_, Some(supervisor)) if self.running.load(Ordering::SeqCst) => {
                supervisor.forward(signal);
                false
            }
            (_, Some(_)) => signal == Signal::QUIT,
            (_, None) => matches!(signal, Signal::QUIT | Signal::HANG_UP),
        }
    }
}

fn run_loop(interval: Duration, leadership: &Leadership) {
    info!("started leader loop");
    while leadership.is_held() {
        info!("Performing leader tasks...");
        leadership.wait_lost_for(interval);
    }
    info!("stopped leader loop");
}
