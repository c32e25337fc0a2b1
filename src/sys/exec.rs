//! Starting a program: fork and exec. IO.
//!
//! Not std's `Command`, for three reasons: its `spawn` waits until exec has succeeded, and that may be for ever on a file
//! system that hangs; it waits for a child whose exec failed, by pid, while the supervisor waits for any child; and its
//! exec hands a file that the kernel refuses to `/bin/sh`.

use std::ffi::{CString, OsString};
use std::io::{self, PipeReader, Read, pipe};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use super::clock::boot_time;
use super::process::{Pid, terminate_now};
use super::signals::signal_set;
use super::{check, last_errno};
use crate::time::BootTime;

/// A child that executes a program, or tries to. Its pid is its process group too.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: Pid,
    failure: PipeReader,
}

impl Child {
    /// What kept it from becoming the program; [`TOO_LATE`] if it has not tried. Ask when it has been reaped: before that,
    /// this waits.
    pub fn take_exec_failure(&mut self) -> Option<io::Error> {
        let mut errno = [0; 4];
        self.failure.read_exact(&mut errno).ok()?;
        Some(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
    }
}

/// The error number of a child that came too late to execute the program; execve(2) has no such error.
pub const TOO_LATE: i32 = libc::ETIME;

/// The kernel's `struct sigaction` (larger on no architecture) with the default handler, no flag, an empty mask.
const DEFAULT_ACTION: [u64; 8] = [libc::SIG_DFL as u64; 8];

/// Starts a child in a process group of its own, and does not wait for its exec. The first of `files` that can be executed
/// is; `arguments` begins with the program's name; `environment` is complete. A NUL byte in any of them is an error.
///
/// - The kernel kills it when the *thread* that starts it ends, so start it on one that lives as long as the process.
///   Should this process die before the kernel knows, the child sees that, and gives up.
/// - It gives up too when `latest` has passed: after a pause between fork and exec, the term may be over.
/// - With `terminal`, its group becomes the foreground group of the terminal on stdin, as a shell would do for it.
/// - Its signal dispositions and mask are the defaults, whatever this process blocks and ignores.
pub fn start(
    files: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    latest: BootTime,
    terminal: bool,
) -> io::Result<Child> {
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    let arguments = terminated(arguments)?;
    let environment = terminated(environment.into_iter().map(variable))?;
    let plan = Plan {
        files: terminated(files)?,
        arguments: pointers(&arguments),
        environment: pointers(&environment),
        parent: std::process::id().cast_signed(),
        latest,
        terminal,
        no_signal: signal_set([]),
    };
    let (failure, report) = pipe()?;
    // SAFETY: the child calls nothing but async-signal-safe functions, allocates nothing, and does not return.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    if pid == 0 {
        plan.execute(report.as_raw_fd());
    }
    // The child does this too: whichever comes first, a signal for the group finds it.
    // SAFETY: setpgid takes numbers; after the child's exec it is refused, and not needed any more.
    unsafe { libc::setpgid(pid, pid) };
    Ok(Child { pid, failure })
}

fn terminated(strings: impl IntoIterator<Item = OsString>) -> io::Result<Vec<CString>> {
    strings.into_iter().map(|string| Ok(CString::new(string.into_vec())?)).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// All that the child needs, made before the fork: it may not allocate.
struct Plan {
    files: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    parent: Pid,
    latest: BootTime,
    terminal: bool,
    no_signal: libc::sigset_t,
}

impl Plan {
    /// In the child: becomes the program, or writes the error number to `report` and ends.
    fn execute(&self, report: RawFd) -> ! {
        let errno = self.prepare().unwrap_or_else(|| self.exec()).to_ne_bytes();
        // SAFETY: pointer and length are those of one live array.
        unsafe { libc::write(report, errno.as_ptr().cast(), errno.len()) };
        terminate_now(127)
    }

    /// An error number, if something is in the way.
    fn prepare(&self) -> Option<i32> {
        // SAFETY: these calls take numbers, or pointers to live and initialized memory, and are async-signal-safe.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 || libc::setpgid(0, 0) != 0 {
                return Some(last_errno());
            }
            if libc::getppid() != self.parent || boot_time() >= self.latest {
                return Some(TOO_LATE);
            }
            if self.terminal {
                // `Signals::block` has blocked SIGTTOU, which would stop a background process that does this.
                libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid());
            }
            for number in 1..=64 {
                // Not by libc's function, which refuses the two or three signals that it uses itself. The kernel
                // refuses SIGKILL and SIGSTOP.
                libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT_ACTION.as_ptr(), ptr::null::<u64>(), 8_usize);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &self.no_signal, ptr::null_mut());
        }
        None
    }

    /// Returns only with an error number. As execvp(3) it goes on where a directory of PATH has no such file, or none
    /// that may be executed; unlike execvp it runs nothing by `/bin/sh`.
    fn exec(&self) -> i32 {
        let mut worst = libc::ENOENT;
        for file in &self.files {
            // SAFETY: the file ends with a NUL, and both lists of such strings end with a null pointer.
            unsafe { libc::execve(file.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr()) };
            match last_errno() {
                libc::EACCES => worst = libc::EACCES,
                libc::ENOENT | libc::ENOTDIR => {}
                errno => return errno,
            }
        }
        worst
    }
}
