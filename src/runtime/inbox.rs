//! A queue that one thread empties, and sleeps on until an instant of the boot clock.
//!
//! THREADS. std's channels time out on CLOCK_MONOTONIC, which stands still while the machine is suspended: a leader
//! would go on for the rest of the wait after waking up. The [`Alarm`] does not.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use crate::sys::{self, Alarm};
use crate::time::BootTime;

/// If the kernel refuses the alarm, the thread looks again this often.
const FALLBACK: Duration = Duration::from_millis(10);

/// Both ends of the queue; clones share it.
pub struct Inbox<T>(Arc<InboxState<T>>);

struct InboxState<T> {
    queue: Mutex<VecDeque<T>>,
    alarm: Alarm,
    other: OnceLock<(OwnedFd, Action)>,
}

type Action = Box<dyn Fn() + Send + Sync>;

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Inbox<T> {
        Inbox(Arc::clone(&self.0))
    }
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> io::Result<Inbox<T>> {
        Ok(Inbox(Arc::new(InboxState { queue: Mutex::default(), alarm: Alarm::new()?, other: OnceLock::new() })))
    }

    /// Puts a message in. Never waits.
    pub(crate) fn post(&self, message: T) {
        sys::lock(&self.0.queue).push_back(message);
        self.0.alarm.ring();
    }

    /// Has the reading thread wake when this descriptor is readable too, and run `action`, which must make it unreadable
    /// again. There can be one of these.
    pub fn on_readable(&self, descriptor: OwnedFd, action: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.other.set((descriptor, Box::new(action)));
    }

    /// The next message. `None`: the instant has come, or an [`Inbox::on_readable`] action has run.
    pub(crate) fn take_until(&self, instant: Option<BootTime>) -> Option<T> {
        let other = self.0.other.get();
        loop {
            if let Some(message) = sys::lock(&self.0.queue).pop_front() {
                return Some(message);
            }
            if instant.is_some_and(|instant| instant <= sys::boot_time()) {
                return None;
            }
            let waited = self.0.alarm.wait_until(instant, other.map(|(descriptor, _)| descriptor.as_fd()));
            let readable = waited.unwrap_or_else(|_| {
                thread::sleep(FALLBACK);
                false
            });
            if let Some((_, action)) = other.filter(|_| readable) {
                action();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_order_and_wake_the_reader() {
        let inbox = Inbox::new().expect("an alarm");
        let reader = thread::spawn({
            let inbox = inbox.clone();
            move || (0..3).map(|_| inbox.take_until(None)).collect::<Vec<_>>()
        });
        for message in 1..=3 {
            inbox.post(message);
        }
        assert_eq!(reader.join().expect("the reader returns"), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_readable_descriptor_wakes_the_reader_and_runs_the_action() {
        let inbox: Inbox<u8> = Inbox::new().expect("an alarm");
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let post = inbox.clone();
        drop(far); // The end of the stream is readable.
        inbox.on_readable(near.into(), move || post.post(7));
        assert_eq!(inbox.take_until(None), None);
        assert_eq!(inbox.take_until(None), Some(7));
    }

    #[test]
    fn an_instant_that_has_come_ends_the_wait() {
        let inbox: Inbox<()> = Inbox::new().expect("an alarm");
        assert_eq!(inbox.take_until(Some(sys::boot_time())), None);
        assert_eq!(inbox.take_until(Some(sys::boot_time() + Duration::from_millis(2))), None);
        inbox.post(());
        assert_eq!(inbox.take_until(Some(BootTime(0))), Some(()), "a message comes before the instant");
    }
}
