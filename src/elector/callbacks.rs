//! Tells the caller what happens: in order, each thing once.
//!
//! THREADS. The election's thread only puts notices in a queue, so a callback that takes its time delays other
//! callbacks and the start of the work, but no renewal.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;

use super::Stopped;
use crate::election::Event;
use crate::runtime::Leadership;
use crate::runtime::inbox::Inbox;
use crate::runtime::{Message, Observer};

type Callback<T> = Option<Box<dyn FnMut(&T) + Send>>;

/// What the caller wants to be told.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) started: Callback<Leadership>,
    pub(super) stopped: Callback<Stopped>,
    pub(super) new_leader: Callback<Option<String>>,
}

/// Something that has happened.
pub(super) enum Notice {
    Started(Leadership),
    Event(Event),
}

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
    ) -> thread::Result<()> {
        let mut outcome = Ok(());
        for notice in notices {
            if outcome.is_ok() {
                outcome = panic::catch_unwind(AssertUnwindSafe(|| self.tell(&notice)));
                if outcome.is_err() {
                    inbox.post(Message::Shutdown);
                }
            }
            if let Notice::Started(leadership) = notice {
                let token = leadership.fencing_token();
                if outcome.is_err() || terms.send(leadership).is_err() {
                    inbox.post(Message::WorkStopped { token });
                }
            }
        }
        outcome
    }

    fn tell(&mut self, notice: &Notice) {
        match notice {
            Notice::Started(leadership) => call(&mut self.started, leadership),
            Notice::Event(Event::StoppedLeading { token, why }) => {
                call(&mut self.stopped, &Stopped { fencing_token: *token, why: why.clone() });
            }
            Notice::Event(Event::LeaderChanged(leader)) => call(&mut self.new_leader, leader),
            Notice::Event(_) => {}
        }
    }
}

fn call<T>(callback: &mut Callback<T>, with: &T) {
    if let Some(callback) = callback {
        callback(with);
    }
}

/// The election's side of the queue; the other end is read until this one is gone.
impl Observer for Sender<Notice> {
    fn start_work(&mut self, leadership: Leadership) {
        let _ = self.send(Notice::Started(leadership));
    }

    fn event(&mut self, event: &Event) {
        let _ = self.send(Notice::Event(event.clone()));
    }
}
