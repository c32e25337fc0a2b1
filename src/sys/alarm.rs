//! Sleeping until an instant of the boot clock, or until another thread rings. IO.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::clock::timespec;
use super::owned;
use super::poll::poll;
use super::signals::signal_set;
use crate::time::BootTime;

/// What a thread sleeps on that must wake for a dead child, for an instant on the boot clock, and for a ring.
///
/// The instant is a timerfd's on CLOCK_BOOTTIME, because every plain timeout (of poll, of a condition variable)
/// stands still while the machine is suspended: a leader would go on for the rest of it after waking up.
#[derive(Debug)]
pub struct Alarm {
    children: Option<OwnedFd>,
    timer: OwnedFd,
    bell: OwnedFd,
}

impl Alarm {
    /// SIGCHLD must be blocked in all threads ([`Signals::block`]), or its default action swallows it.
    pub fn new() -> io::Result<Alarm> {
        let set = signal_set([libc::SIGCHLD]);
        // SAFETY: the call takes plain numbers and a live set, and returns a new descriptor, or -1.
        let children = unsafe { owned(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))? };
        Ok(Alarm { children: Some(children), ..Alarm::without_children()? })
    }

    /// One that only an instant and a ring wake: there may be many of these, but who waits for children is one.
    pub fn without_children() -> io::Result<Alarm> {
        // SAFETY: each call takes plain numbers and returns a new descriptor, or -1.
        unsafe {
            Ok(Alarm {
                children: None,
                timer: owned(libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK))?,
                bell: owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?,
            })
        }
    }

    /// Sleeps until a child changes state, somebody rings, or the instant has come. It may return early for no reason.
    pub fn wait_until(&self, instant: Option<BootTime>) -> io::Result<()> {
        // Zero would disarm the timer; the first nanosecond after boot is as good as any instant in the past.
        let expiry = instant.map_or(Duration::ZERO, |at| Duration::from_nanos(at.0.max(1)));
        let setting = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(expiry) };
        // SAFETY: the descriptor is ours and open, the setting is initialized, the old one is not asked for.
        let set = unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &setting, ptr::null_mut())
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // A negative descriptor is one that poll(2) passes over.
        let children = self.children.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let descriptors = [children, self.timer.as_raw_fd(), self.bell.as_raw_fd()];
        let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        poll(&mut polled, None)?;
        polled.iter().filter(|ready| ready.revents != 0).for_each(|ready| drain(ready.fd));
        Ok(())
    }

    /// Wakes the thread that sleeps in [`Alarm::wait_until`], now or when it next does.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: pointer and length are those of one live array. A full counter (EAGAIN) has rung already.
        unsafe { libc::write(self.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

fn drain(fd: RawFd) {
    let mut buffer = [0_u8; 512];
    // SAFETY: pointer and length are those of one live array. The descriptor does not block.
    while unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}
