//! Tells the caller what happens: in order, each thing once.
//!
//! THREADS. The election's thread only puts notices in a queue, so a callback that takes its time delays other
//! callbacks and the start of the work, but no renewal.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};

use super::Stopped;
use crate::election::{Event, Snapshot, Version};
use crate::kube::{CallError, Purpose};
use crate::runtime::Leadership;
use crate::runtime::inbox::Inbox;
use crate::runtime::{Message, Observer};

type OnStarted = Box<dyn FnMut(&Leadership) + Send>;
type OnStopped = Box<dyn FnMut(&Stopped) + Send>;
type OnNewLeader = Box<dyn FnMut(Option<&str>) + Send>;

/// What the caller wants to be told.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) started: Option<OnStarted>,
    pub(super) stopped: Option<OnStopped>,
    pub(super) new_leader: Option<OnNewLeader>,
}

/// Something that has happened.
pub(super) enum Notice {
    Started(Leadership),
    Stopped(Stopped),
    NewLeader(Option<String>),
}

/// What a thread panicked with.
type Panic = Box<dyn Any + Send>;

impl Callbacks {
    /// Passes notices on until there are no more; a term goes to the work after it was announced.
    ///
    /// # Errors
    ///
    /// What a callback panicked with. From then on none is called, and the election is told to end.
    pub(super) fn call(
        mut self,
        notices: &Receiver<Notice>,
        terms: &Sender<Leadership>,
        inbox: &Inbox<Message>,
    ) -> Result<(), Panic> {
        let mut outcome = Ok(());
        for notice in notices {
            if outcome.is_ok() {
                outcome = panic::catch_unwind(AssertUnwindSafe(|| self.tell(&notice)));
                if outcome.is_err() {
                    inbox.post(Message::Shutdown);
                }
            }
            match notice {
                Notice::Started(leadership) if outcome.is_ok() => {
                    // The caller reads until this end is gone.
                    let _ = terms.send(leadership);
                }
                Notice::Started(leadership) => {
                    inbox.post(Message::WorkStopped { token: leadership.fencing_token() });
                }
                Notice::Stopped(_) | Notice::NewLeader(_) => {}
            }
        }
        outcome
    }

    fn tell(&mut self, notice: &Notice) {
        match (notice, self) {
            (Notice::Started(leadership), Callbacks { started: Some(started), .. }) => started(leadership),
            (Notice::Stopped(how), Callbacks { stopped: Some(stopped), .. }) => stopped(how),
            (Notice::NewLeader(leader), Callbacks { new_leader: Some(new_leader), .. }) => {
                new_leader(leader.as_deref());
            }
            _ => {}
        }
    }
}

/// The election's side of the queue.
pub(super) struct Notifier(Sender<Notice>);

impl Notifier {
    pub(super) fn new() -> (Notifier, Receiver<Notice>) {
        let (notices, queue) = mpsc::channel();
        (Notifier(notices), queue)
    }

    fn notify(&self, notice: Notice) {
        // The other end is read until this one is gone.
        let _ = self.0.send(notice);
    }
}

impl Observer for Notifier {
    fn start_work(&mut self, leadership: Leadership) {
        self.notify(Notice::Started(leadership));
    }

    /// The work asks its [`Leadership`].
    fn stop_work(&mut self) {}

    fn event(&mut self, event: &Event) {
        match event {
            Event::StoppedLeading { token, why } => {
                self.notify(Notice::Stopped(Stopped { fencing_token: *token, why: why.clone() }));
            }
            Event::LeaderChanged(leader) => self.notify(Notice::NewLeader(leader.clone())),
            _ => {}
        }
    }

    fn lease(&mut self, _: Option<&Snapshot>, _: Option<Version>) {}

    fn called(&mut self, _: Purpose, _: Option<&CallError>) {}

    fn watch_ended(&mut self) {}
}
