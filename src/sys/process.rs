//! Processes: how children end, and signals for them. IO.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;

use super::{check, owned};

/// A process id, as the kernel gives it.
pub type Pid = libc::pid_t;

/// What [`reap`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaped {
    /// A dead child, which is no more.
    Child(Pid, ExitStatus),
    /// There are children; none has died.
    Nothing,
    /// There is no child at all, and so no descendant either: an orphan would be a child of ours
    /// ([`become_subreaper`]).
    NoChildren,
}

/// Takes one dead child, whichever it is, without waiting.
pub fn reap() -> io::Result<Reaped> {
    let mut status = 0;
    // SAFETY: the pointer is to one live, writable number.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    match check(pid) {
        Ok(()) if pid == 0 => Ok(Reaped::Nothing),
        Ok(()) => Ok(Reaped::Child(pid, ExitStatus::from_raw(status))),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Reaped::NoChildren),
        Err(error) => Err(error),
    }
}

/// Makes orphans among this process's descendants its own children, as they are PID 1's anyway.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this operation takes one number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

/// Sends a signal (a number) to a child that has not been reaped, whose pid therefore is still its own; or, as kill(2)
/// has it, to each process of the group `-target`. That there is no such process is no error.
pub fn signal(target: Pid, signal: i32) -> io::Result<()> {
    // These mean "everybody", and one's own group, to kill(2).
    if (-1..=1).contains(&target) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes numbers and touches no memory.
    gone_is_fine(unsafe { libc::kill(target, signal) })
}

/// Sends a signal (a number) to a process that is not our child, if `still_it` says that the pid denotes the process
/// that is meant. `still_it` is asked while a pidfd refers to whatever has the pid, so no other process can come to
/// bear it between the answer and the signal. (A kernel or a seccomp profile without pidfds gets the plain call, which
/// has that gap.)
pub fn signal_if(pid: Pid, number: i32, still_it: impl FnOnce() -> bool) -> io::Result<()> {
    // SAFETY: pidfd_open takes numbers and returns a new descriptor (close-on-exec by definition), or -1.
    let pidfd = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd) };
    if !still_it() {
        return Ok(());
    }
    let Ok(pidfd) = pidfd else { return signal(pid, number) };
    let (fd, no_info) = (pidfd.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    // SAFETY: the descriptor is open; a null siginfo is allowed and means the one that kill(2) would make.
    gone_is_fine(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, no_info, 0) as i32 })
}

fn gone_is_fine(result: i32) -> io::Result<()> {
    check(result).or_else(|error| if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) })
}

/// Ends the process now: no destructors, no exit handlers, no flushing.
pub fn terminate_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
