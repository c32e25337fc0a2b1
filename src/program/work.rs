//! What is done while leading: the built-in leader loop, or a COMMAND.
//!
//! THREADS. Either tells the election, by one letter, when nothing of a term is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use log::{error, info};

use crate::election::Version;
use crate::program::command::{CommandSpec, Deadlines, Ended, Supervisor};
use crate::program::config::Config;
use crate::runtime::Leadership;
use crate::runtime::inbox::Inbox;
use crate::runtime::{Message, STACK};
use crate::sys::{Signal, Signals};
use crate::time::BootTime;

/// Clones are of one and the same work.
#[derive(Clone)]
pub(crate) enum Work {
    /// "Performing leader tasks...", each interval.
    Loop { interval: Duration, inbox: Inbox<Message> },
    /// A program that runs only while leading.
    Command { supervisor: Arc<Supervisor>, inbox: Inbox<Message>, exit: Arc<AtomicI32> },
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

impl Work {
    /// `exit` gets the COMMAND's exit code when it ends of its own accord.
    pub(crate) fn new(
        config: &Config,
        lease: &str,
        signals: &Signals,
        inbox: &Inbox<Message>,
        exit: &Arc<AtomicI32>,
    ) -> Result<Work, String> {
        let inbox = inbox.clone();
        let Some((program, args)) = config.command.as_ref().and_then(|command| command.split_first()) else {
            return Ok(Work::Loop { interval: config.task_interval, inbox });
        };
        let spec = CommandSpec {
            program: program.clone(),
            args: args.to_vec(),
            env: vec![
                ("LEASEHOLD_LEASE".into(), lease.to_owned()),
                ("LEASEHOLD_IDENTITY".into(), config.identity.clone()),
            ],
        };
        let supervisor =
            Supervisor::new(signals, spec).map_err(|error| format!("the COMMAND's supervisor: {error}"))?;
        Ok(Work::Command { supervisor: Arc::new(supervisor), inbox, exit: Arc::clone(exit) })
    }

    /// A term has begun.
    pub(crate) fn start(&self, leadership: Leadership) {
        match self {
            Work::Loop { interval, inbox } => start_loop(*interval, leadership, inbox.clone()),
            Work::Command { supervisor, inbox, exit } => {
                let token = leadership.fencing_token();
                let (post, exit) = (inbox.clone(), Arc::clone(exit));
                let ended = move |ended: Ended| command_ended(&ended, token, &post, &exit);
                if let Err(error) = supervisor.start(token, Arc::new(leadership), ended) {
                    error!("the command was not started: {error}");
                    inbox.post(Message::WorkStopped { token });
                }
            }
        }
    }

    /// The term has ended. (The loop asks its leadership.)
    pub(crate) fn stop(&self) {
        if let Work::Command { supervisor, .. } = self {
            supervisor.stop();
        }
    }

    /// The process is asked to end by this signal: the COMMAND shall hear the same.
    pub(crate) fn stop_with(&self, signal: Signal) {
        if let Work::Command { supervisor, .. } = self {
            supervisor.stop_with(signal);
        }
    }

    /// Passes a signal on to the COMMAND. False: there is none to receive it.
    pub(crate) fn forward(&self, signal: Signal) -> bool {
        match self {
            Work::Loop { .. } => false,
            Work::Command { supervisor, .. } => supervisor.forward(signal),
        }
    }
}

/// The COMMAND's own end is the process's end, once the Lease is released.
fn command_ended(ended: &Ended, token: Version, inbox: &Inbox<Message>, exit: &AtomicI32) {
    if !ended.stopped
        && let Some(code) = ended.how.exit_code()
    {
        exit.store(code, Ordering::SeqCst);
        inbox.post(Message::Shutdown);
    }
    inbox.post(Message::WorkStopped { token });
}

fn start_loop(interval: Duration, leadership: Leadership, inbox: Inbox<Message>) {
    let token = leadership.fencing_token();
    let letter = inbox.clone();
    let run = move || {
        info!("started leader loop");
        while leadership.is_held() {
            info!("Performing leader tasks...");
            leadership.wait_lost_for(interval);
        }
        info!("stopped leader loop");
        letter.post(Message::WorkStopped { token });
    };
    if let Err(error) = thread::Builder::new().name("leader-loop".into()).stack_size(STACK).spawn(run) {
        error!("no thread for the leader loop: {error}");
        inbox.post(Message::WorkStopped { token });
    }
}
