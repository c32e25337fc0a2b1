//! Child processes: how they start, end, and get signals. IO.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use super::clock::boot_time;
use super::signals::signal_set;
use super::{check, gone_is_fine, owned};
use crate::time::BootTime;

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
    /// A child that was stopped by this signal, and lives.
    Stopped(Pid, i32),
    /// There are children; none has died or stopped.
    Nothing,
    /// There is no child at all, and so no descendant either: an orphan would be a child of ours
    /// ([`become_subreaper`]).
    NoChildren,
}

/// Takes one dead child, whichever it is, without waiting.
pub fn reap() -> io::Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: the pointer is to writable memory of the right type.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) } != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(Reaped::NoChildren),
            Some(libc::EINTR) => Ok(Reaped::Nothing),
            _ => Err(error),
        };
    }
    // SAFETY: zeroed above, which is what waitid leaves when no child is ready; else it filled in a SIGCHLD's fields.
    let (code, pid, status) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_pid(), info.si_status())
    };
    Ok(match code {
        _ if pid == 0 => Reaped::Nothing,
        libc::CLD_EXITED => Reaped::Child(pid, Status::Exited(status)),
        libc::CLD_STOPPED | libc::CLD_TRAPPED => Reaped::Stopped(pid, status),
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

/// Sends a signal (a number) to a process that is somebody else's to reap, if `still_it` says that the pid denotes
/// the process that is meant. The question is asked while a pidfd holds on to whatever has the pid, so no other
/// process can come to bear it between the answer and the signal. (A kernel or a seccomp profile without pidfds gets
/// the plain call, which has that gap.)
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

/// The error of [`guard_child`]'s own refusal to start the program.
pub const NOT_STARTED: i32 = libc::ECANCELED;

/// The kernel's `struct sigaction` (larger on no architecture) with the default handler, no flag, an empty mask.
const DEFAULT_ACTION: [u64; 8] = [libc::SIG_DFL as u64; 8];

/// Arranges what happens in the child between fork and exec; its process group is made before.
///
/// - The kernel kills it when the *thread* that spawns it ends, so spawn from one that lives as long as the process.
///   Had this process died before the kernel was told, the child would never hear of it: it asks, and gives up.
/// - It gives up too when `latest` has passed: after a pause between fork and exec, the term may be over. Both come
///   back from `spawn` as [`NOT_STARTED`].
/// - With `terminal`, its group becomes the foreground group of the terminal on stdin, as a shell would do for it.
/// - Dispositions and mask are the defaults, whatever this process blocks and ignores, or was told to ignore.
pub fn guard_child(command: &mut Command, latest: BootTime, terminal: bool) {
    let parent = std::process::id();
    let everything = signal_set(1..=64);
    let nothing = signal_set([]);
    let prepare = move || {
        // SAFETY: these calls take numbers, or pointers to sets that were made before the fork; all are
        // async-signal-safe, as they must be in the child of a process with threads, and allocate nothing.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
            if libc::getppid() as u32 != parent || boot_time() >= latest {
                return Err(io::Error::from_raw_os_error(NOT_STARTED));
            }
            // Blocked, SIGTTOU cannot stop a background process that takes the terminal.
            libc::sigprocmask(libc::SIG_SETMASK, &everything, ptr::null_mut());
            if terminal {
                libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid());
            }
            for number in 1..=64 {
                // Not by libc's function, which refuses the two or three signals that it uses itself. The kernel
                // refuses SIGKILL and SIGSTOP.
                libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT_ACTION.as_ptr(), ptr::null::<u64>(), 8_usize);
            }
            check(libc::sigprocmask(libc::SIG_SETMASK, &nothing, ptr::null_mut()))
        }
    };
    // SAFETY: the closure does only what a child of a threaded process may do before exec (see above).
    unsafe { command.pre_exec(prepare) };
}

/// Ends the process now: no destructors, no exit handlers, no flushing.
pub fn terminate_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
