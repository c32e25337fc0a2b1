//! poll(2). IO.

use std::io;
use std::time::Duration;

/// Waits until one of `descriptors` has an event it asked for, or `wait` has passed (`None`: for ever). How many have one.
///
/// A signal's interruption is no error: it counts as nothing ready, and the caller's loop comes round again.
pub fn poll(descriptors: &mut [libc::pollfd], wait: Option<Duration>) -> io::Result<usize> {
    // Rounded up, lest the last part of a millisecond be spent in a busy loop.
    let millis = wait.map_or(-1, |wait| i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    let count = libc::nfds_t::try_from(descriptors.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the count are those of one exclusively borrowed slice, of the type poll(2) names; it
    // writes to nothing but its `revents`. A descriptor that is closed or not ours is answered with POLLNVAL.
    let ready = unsafe { libc::poll(descriptors.as_mut_ptr(), count, millis) };
    usize::try_from(ready).or_else(|_| match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        error => Err(error),
    })
}
