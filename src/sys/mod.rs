//! The system calls that std does not wrap, each as a small safe function. IO.
//!
//! The only folder with `unsafe`, one file for each topic. Nothing here decides anything: what to do about a signal, a
//! dead child or a deadline is the caller's business. Linux only.

#![allow(unsafe_code)] // std offers none of these calls; each block says why it is sound.

mod alarm;
mod clock;
mod exec;
pub(crate) mod line_writer;
mod memory;
mod poll;
mod proc_stat;
mod process;
mod random;
mod signals;
mod sockets;
mod terminal;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::alarm::Alarm;
pub use self::clock::{boot_time, now};
pub use self::exec::{Child, TOO_LATE, start};
pub use self::memory::share_one_heap;
pub use self::poll::poll;
pub use self::proc_stat::stat_field;
pub use self::process::{Pid, Reaped, become_subreaper, reap, signal, signal_if, terminate_now};
pub use self::random::random_u64;
pub use self::signals::{Signal, Signals};
pub use self::sockets::{bound_socket_buffers, defer_accept, discard_when_closed, listen};
pub use self::terminal::{has_terminal, take_terminal};

/// Locks a mutex. One thread's panic is no reason for another to panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
///
/// `fd` is -1, or a descriptor with no other owner.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller promises that the descriptor has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}
