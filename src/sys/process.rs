//! Processes: how children end, and signals for them. IO.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use super::{check, gone_is_fine, owned};

/// A process id, as the kernel gives it.
pub type Pid = libc::pid_t;

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// What [`reap`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaped {
    /// A dead child, which is no more.
    Child(Pid, Status),
    /// There are children; none has died.
    Nothing,
    /// There is no child at all, and so no descendant either: an orphan would be a child of ours
    /// ([`become_subreaper`]).
    NoChildren,
}

/// Takes one dead child, whichever it is, without waiting.
pub fn reap() -> io::Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to writable memory of the right type.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG) } != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(Reaped::NoChildren),
            Some(libc::EINTR) => Ok(Reaped::Nothing),
            _ => Err(error),
        };
    }
    // SAFETY: waitid filled in a SIGCHLD's fields, or left the zeros above where no child was dead.
    let (code, pid, status) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_pid(), info.si_status())
    };
    Ok(match code {
        _ if pid == 0 => Reaped::Nothing,
        libc::CLD_EXITED => Reaped::Child(pid, Status::Exited(status)),
        _ => Reaped::Child(pid, Status::Signaled(status)),
    })
}

/// Makes orphans among this process's descendants its own children, as they are PID 1's anyway.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this operation takes one number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

/// Sends a signal (a number) to each process of a group. A group without a process is no error.
pub fn signal_group(group: Pid, signal: i32) -> io::Result<()> {
    // 1 and 0 and below mean "everybody" to kill(2).
    if group <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes numbers and touches no memory.
    gone_is_fine(check(unsafe { libc::kill(-group, signal) }))
}

/// Sends a signal (a number) to a child that has not been reaped. Its pid therefore is still its own.
pub fn signal_child(child: Pid, signal: i32) -> io::Result<()> {
    if child <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes numbers and touches no memory.
    gone_is_fine(check(unsafe { libc::kill(child, signal) }))
}

/// Sends a signal (a number) to a process that is not our child, if `still_it` says that the pid denotes the process
/// that is meant. `still_it` is asked while a pidfd refers to whatever has the pid, so no other process can come to
/// bear it between the answer and the signal. (A kernel or a seccomp profile without pidfds gets the plain call, which
/// has that gap.)
pub fn signal_if(pid: Pid, signal: i32, still_it: impl FnOnce() -> bool) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: pidfd_open takes numbers and returns a new descriptor (close-on-exec by definition), or -1.
    let pidfd = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd) };
    if !still_it() {
        return Ok(());
    }
    let sent = match &pidfd {
        // SAFETY: the descriptor is open; a null siginfo is allowed and means the one that kill(2) would make.
        Ok(fd) => unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0) as i32
        },
        // SAFETY: kill takes numbers and touches no memory.
        Err(_) => unsafe { libc::kill(pid, signal) },
    };
    gone_is_fine(check(sent))
}

/// Ends the process now: no destructors, no exit handlers, no flushing.
pub fn terminate_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
