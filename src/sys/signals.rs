//! The signals that this process takes, and what of them a child inherits. IO.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::clock::{boot_time, timespec};

/// A signal that people and the kubelet send to leasehold, and that it may pass on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// SIGTERM: the kubelet's request to end.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGHUP: by custom, read the configuration again.
    HangUp,
    /// SIGQUIT: Ctrl-\.
    Quit,
    /// SIGUSR1
    User1,
    /// SIGUSR2
    User2,
    /// SIGWINCH: the terminal has another size.
    WindowChange,
}

impl Signal {
    /// All of them.
    pub const ALL: [Signal; 7] = [
        Signal::Terminate,
        Signal::Interrupt,
        Signal::HangUp,
        Signal::Quit,
        Signal::User1,
        Signal::User2,
        Signal::WindowChange,
    ];

    /// The kernel's number for it.
    pub fn number(self) -> i32 {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::HangUp => libc::SIGHUP,
            Signal::Quit => libc::SIGQUIT,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
            Signal::WindowChange => libc::SIGWINCH,
        }
    }

    /// `SIGTERM` and so on, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
            Signal::HangUp => "SIGHUP",
            Signal::Quit => "SIGQUIT",
            Signal::User1 => "SIGUSR1",
            Signal::User2 => "SIGUSR2",
            Signal::WindowChange => "SIGWINCH",
        }
    }

    pub(super) fn from_number(number: i32) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

pub(super) fn signal_set(numbers: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set; sigaddset changes it, and refuses a number that is no signal.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in numbers {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        set.assume_init()
    }
}

pub(super) fn change_mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialized and outlives the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The process's signals, taken one at a time by a thread that waits for them, so that no code of ours ever runs in
/// a signal handler.
#[derive(Debug)]
pub struct Signals(());

impl Signals {
    /// Blocks every [`Signal`] and SIGCHLD in this thread and in all threads that it starts from now on. Call it
    /// first thing in `main`: a thread that started earlier would still die of a SIGTERM, in everybody's place.
    pub fn block() -> io::Result<Signals> {
        // A parent may have left it ignored, and then the kernel throws away how children ended.
        // SAFETY: this sets a disposition that every program may have; no handler is involved.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let numbers = Signal::ALL.into_iter().map(Signal::number);
        change_mask(libc::SIG_BLOCK, &signal_set(numbers.chain([libc::SIGCHLD])))?;
        Ok(Signals(()))
    }

    /// Waits for the next signal. SIGCHLD is not among them: it belongs to whoever holds the [`Alarm`].
    pub fn wait(&self) -> Signal {
        loop {
            if let Some(signal) = self.wait_timeout(Duration::from_secs(3600)) {
                return signal;
            }
        }
    }

    /// Waits for the next signal for at most `limit`.
    pub fn wait_timeout(&self, limit: Duration) -> Option<Signal> {
        let set = signal_set(Signal::ALL.into_iter().map(Signal::number));
        let until = boot_time() + limit;
        loop {
            let left = timespec(until.since(boot_time()));
            // SAFETY: set and timeout are initialized and outlive the call; no siginfo is asked for.
            let number = unsafe { libc::sigtimedwait(&set, ptr::null_mut(), &left) };
            if number >= 0 {
                return Signal::from_number(number);
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return None;
            }
        }
    }
}
