//! The terminal on standard input. IO.

/// Whether stdin is a terminal and this process's group is in its foreground.
pub fn has_terminal() -> bool {
    // SAFETY: both calls take numbers; tcgetpgrp answers -1 where stdin is no terminal of ours.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}

/// Puts this process's own group into the foreground of the terminal on stdin again. One that is gone is not missed.
pub fn take_terminal() {
    // SAFETY: both calls take numbers; `Signals::block` has blocked SIGTTOU, so a background group may do this.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpgrp()) };
}
