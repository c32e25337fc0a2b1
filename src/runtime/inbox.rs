//! A queue that one thread empties, and sleeps on until an instant of the boot clock.
//!
//! THREADS. std's channels time out on CLOCK_MONOTONIC, which stands still while the machine is suspended: a leader
//! would go on for the rest of the wait after waking up. The [`Alarm`] does not.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sys::{self, Alarm};
use crate::time::BootTime;

/// Should the kernel refuse the alarm, the thread comes round again this often.
const FALLBACK: Duration = Duration::from_millis(100);

/// Both ends of the queue; clones share it.
pub(crate) struct Inbox<T>(Arc<Shared<T>>);

struct Shared<T> {
    queue: Mutex<VecDeque<T>>,
    alarm: Alarm,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Inbox<T> {
        Inbox(Arc::clone(&self.0))
    }
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> io::Result<Inbox<T>> {
        Ok(Inbox(Arc::new(Shared { queue: Mutex::default(), alarm: Alarm::without_children()? })))
    }

    /// Puts a letter in. Never waits.
    pub(crate) fn post(&self, letter: T) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(letter);
        self.0.alarm.ring();
    }

    /// The next letter, or `None` once the instant has come.
    pub(crate) fn take_until(&self, instant: Option<BootTime>) -> Option<T> {
        loop {
            if let Some(letter) = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                return Some(letter);
            }
            if instant.is_some_and(|instant| instant <= sys::boot_time()) {
                return None;
            }
            if self.0.alarm.wait_until(instant).is_err() {
                std::thread::sleep(FALLBACK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn letters_come_in_order_and_wake_the_reader() {
        let inbox = Inbox::new().expect("an alarm");
        let reader = thread::spawn({
            let inbox = inbox.clone();
            move || (0..3).map(|_| inbox.take_until(None)).collect::<Vec<_>>()
        });
        for letter in 1..=3 {
            inbox.post(letter);
        }
        assert_eq!(reader.join().expect("the reader returns"), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn an_instant_that_has_come_ends_the_wait() {
        let inbox: Inbox<()> = Inbox::new().expect("an alarm");
        assert_eq!(inbox.take_until(Some(sys::boot_time())), None);
        assert_eq!(inbox.take_until(Some(sys::boot_time() + Duration::from_millis(2))), None);
        inbox.post(());
        assert_eq!(inbox.take_until(Some(BootTime(0))), Some(()), "a letter comes before the instant");
    }
}
