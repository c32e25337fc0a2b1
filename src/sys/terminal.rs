//! The terminal on standard input. IO.

use std::io;

use super::check;
use super::signals::{change_mask, signal_set};

/// Whether stdin is a terminal and this process's group is in its foreground.
pub fn has_terminal() -> bool {
    // SAFETY: both calls take numbers; tcgetpgrp answers -1 where stdin is no terminal of ours.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}

/// Puts this process's own group into the foreground of the terminal on stdin again.
pub fn take_terminal() -> io::Result<()> {
    let stop_signal = signal_set([libc::SIGTTOU]);
    change_mask(libc::SIG_BLOCK, &stop_signal)?;
    // SAFETY: both calls take numbers. SIGTTOU is blocked, so the kernel lets a background group do this.
    let taken = check(unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpgrp()) });
    change_mask(libc::SIG_UNBLOCK, &stop_signal)?;
    taken
}
