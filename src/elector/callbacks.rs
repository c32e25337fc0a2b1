//! Tells the caller what happens: in order, each thing once.
//!
//! THREADS. The election's thread only puts notices in a queue, so a callback that takes its time delays other
//! callbacks and the start of the work, but no renewal.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;

use crate::election::Event;
use crate::runtime::Leadership;
use crate::runtime::inbox::Inbox;
use crate::runtime::{Message, Observer};

/// What the caller wants to be told: each looks for its own in all that happens.
pub(super) type Callbacks = Vec<Box<dyn FnMut(&Notice) + Send>>;

/// Something that has happened.
pub(super) enum Notice {
    Started(Leadership),
    Event(Event),
}

/// Passes notices on until there are no more; a term goes to the work after it was announced.
///
/// # Errors
///
/// What a callback panicked with. From then on none is called, and the election is told to end.
pub(super) fn pass_on(
    mut callbacks: Callbacks,
    notices: &Receiver<Notice>,
    terms: &Sender<Leadership>,
    inbox: &Inbox<Message>,
) -> thread::Result<()> {
    let mut outcome = Ok(());
    for notice in notices {
        if outcome.is_ok() {
            let call = AssertUnwindSafe(|| callbacks.iter_mut().for_each(|callback| callback(&notice)));
            outcome = panic::catch_unwind(call);
            if outcome.is_err() {
                inbox.post(Message::Shutdown);
            }
        }
        if let Notice::Started(leadership) = notice {
            let token = leadership.fencing_token();
            if outcome.is_err() || terms.send(leadership).is_err() {
                inbox.post(Message::WorkStopped(token));
            }
        }
    }
    outcome
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
