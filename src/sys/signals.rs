//! The signals that this process takes, and what of them a child inherits. IO.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr;
use std::time::Duration;

use super::clock::timespec;
use super::{owned, terminate_now};

/// A signal that people and the kubelet send to leasehold, and that it may pass on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    /// The kernel's number for it.
    pub number: i32,
    /// As kill(1) knows it, for the log.
    pub name: &'static str,
}

impl Signal {
    /// The kubelet's request to end.
    pub const TERMINATE: Signal = Signal { number: libc::SIGTERM, name: "SIGTERM" };
    /// Ctrl-C.
    pub const INTERRUPT: Signal = Signal { number: libc::SIGINT, name: "SIGINT" };
    /// By custom, read the configuration again.
    pub const HANG_UP: Signal = Signal { number: libc::SIGHUP, name: "SIGHUP" };
    /// Ctrl-\.
    pub const QUIT: Signal = Signal { number: libc::SIGQUIT, name: "SIGQUIT" };

    /// All of them.
    pub const ALL: [Signal; 7] = [
        Signal::TERMINATE,
        Signal::INTERRUPT,
        Signal::HANG_UP,
        Signal::QUIT,
        Signal { number: libc::SIGUSR1, name: "SIGUSR1" },
        Signal { number: libc::SIGUSR2, name: "SIGUSR2" },
        Signal { number: libc::SIGWINCH, name: "SIGWINCH" },
    ];
}

pub(super) fn signal_set(numbers: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set, and sigaddset refuses a number that is no signal.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in numbers {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        set.assume_init()
    }
}

fn change_mask(how: i32, set: &libc::sigset_t) {
    // SAFETY: the set is initialized and outlives the call; the old mask is not asked for. An error would mean that
    // there is no such `how`.
    unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) };
}

/// The process's signals, taken one at a time by the thread that polls [`Signals::descriptor`].
#[derive(Debug)]
pub struct Signals(());

impl Signals {
    /// Blocks every [`Signal`] and SIGCHLD in this thread and in all threads that it starts from now on. Call it
    /// first in `main`: a thread that started earlier could still die of a SIGTERM, and the process with it.
    pub fn block() -> Signals {
        // A parent may have left it ignored, and then the kernel throws away how children ended.
        set_disposition(libc::SIGCHLD, libc::SIG_DFL);
        // SIGTTOU would stop a background process that takes the terminal (`take_terminal`).
        let numbers = Signal::ALL.into_iter().map(|signal| signal.number).chain([libc::SIGCHLD, libc::SIGTTOU]);
        change_mask(libc::SIG_BLOCK, &signal_set(numbers));
        Signals(())
    }

    /// A descriptor that is readable while one of the signals is pending.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        signal_descriptor(&every_signal())
    }

    /// The next signal that is pending.
    pub fn take(&self) -> Option<Signal> {
        let number = take(&every_signal())?;
        Signal::ALL.into_iter().find(|signal| signal.number == number)
    }

    /// A descriptor that is readable when children have changed state, until [`Signals::take_child_signal`].
    pub fn child_descriptor(&self) -> io::Result<OwnedFd> {
        signal_descriptor(&signal_set([libc::SIGCHLD]))
    }

    /// Clears the signal that children have changed state: look at them after this, not before.
    pub fn take_child_signal() {
        take(&signal_set([libc::SIGCHLD]));
    }

    /// Has the kernel reap all children, those that a PID 1 is given too. How they ended cannot be known.
    pub fn leave_reaping_to_the_kernel(&self) {
        set_disposition(libc::SIGCHLD, libc::SIG_IGN);
    }

    /// From now on a SIGTERM or SIGINT ends the process at once with exit code 128 + its number, even while the calling
    /// thread is stuck. (Their default action would do that, but a PID 1 is spared default actions.)
    pub fn exit_at_the_next(&self) {
        extern "C" fn exit(number: i32) {
            terminate_now(128 + number);
        }
        let last = [libc::SIGTERM, libc::SIGINT];
        last.into_iter().for_each(|number| set_disposition(number, exit as extern "C" fn(i32) as libc::sighandler_t));
        change_mask(libc::SIG_UNBLOCK, &signal_set(last));
    }
}

fn every_signal() -> libc::sigset_t {
    signal_set(Signal::ALL.into_iter().map(|signal| signal.number))
}

fn set_disposition(number: i32, action: libc::sighandler_t) {
    // SAFETY: the action is SIG_DFL, SIG_IGN, or a handler that only calls _exit, which a handler may.
    unsafe { libc::signal(number, action) };
}

fn signal_descriptor(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers and a live set, and returns a new descriptor, or -1.
    unsafe { owned(libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)) }
}

fn take(set: &libc::sigset_t) -> Option<i32> {
    // SAFETY: set and timeout are initialized and outlive the call; no siginfo is asked for.
    let number = unsafe { libc::sigtimedwait(set, ptr::null_mut(), &timespec(Duration::ZERO)) };
    (number > 0).then_some(number)
}
