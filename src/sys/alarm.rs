//! Sleeping until an instant of the boot clock, until another thread rings, or until a descriptor is readable. IO.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use super::clock::timespec;
use super::poll::poll;
use super::{check, owned};
use crate::time::BootTime;

/// What a thread sleeps on that must wake for an instant of the boot clock and for other threads.
///
/// The instant is a timerfd's on CLOCK_BOOTTIME, because every plain timeout (of poll, of a condition variable)
/// stands still while the machine is suspended: a leader would go on for the rest of it after waking up.
#[derive(Debug)]
pub struct Alarm {
    timer: File,
    /// An eventfd.
    bell: File,
}

impl Alarm {
    /// A new alarm, not rung.
    pub fn new() -> io::Result<Alarm> {
        // SAFETY: the call takes numbers and returns a new descriptor, or -1.
        let timer =
            unsafe { owned(libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK))? };
        // SAFETY: the call takes numbers and returns a new descriptor, or -1.
        let bell = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))? };
        Ok(Alarm { timer: timer.into(), bell: bell.into() })
    }

    /// Sleeps until the instant has come, the alarm is rung, or `other` is readable. Returns whether `other` is
    /// readable. May return early for no reason.
    pub fn wait_until(&self, instant: Option<BootTime>, other: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        // Zero would disarm the timer; the first nanosecond after boot is as good as any instant in the past.
        let expiry = instant.map_or(Duration::ZERO, |at| Duration::from_nanos(at.0.max(1)));
        let setting = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(expiry) };
        // SAFETY: the descriptor is open, the setting outlives the call, and the old setting is not asked for.
        check(unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &setting, ptr::null_mut())
        })?;
        // A negative descriptor is one that poll(2) passes over.
        let other = other.map_or(-1, |descriptor| descriptor.as_raw_fd());
        let descriptors = [self.timer.as_raw_fd(), self.bell.as_raw_fd(), other];
        let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        poll(&mut polled, None)?;
        for mut counter in [&self.timer, &self.bell] {
            // Reading makes it unreadable again; one that has nothing to be read is WouldBlock.
            let _ = counter.read(&mut [0; 8]);
        }
        Ok(polled[2].revents != 0)
    }

    /// Wakes the thread that sleeps in [`Alarm::wait_until`], now or when it next does.
    pub fn ring(&self) {
        // A full counter (WouldBlock) has rung already.
        let _ = (&self.bell).write(&1_u64.to_ne_bytes());
    }
}
