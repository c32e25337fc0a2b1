//! Socket options. IO.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bounds what the kernel buffers for `socket`, in bytes each way; what a listener has, its connections inherit.
///
/// The kernel charges its socket buffers to the container's memory limit, and would let each grow to megabytes.
pub fn bound_socket_buffers(socket: &impl AsFd, send: u32, receive: u32) -> io::Result<()> {
    for (option, bytes) in [(libc::SO_SNDBUF, send), (libc::SO_RCVBUF, receive)] {
        set_socket_option(socket, option, &libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))?;
    }
    Ok(())
}

/// Has the kernel throw away, when `socket` is closed, what its peer has not taken yet, and reset the connection.
/// Otherwise it would hold those bytes for minutes, for a socket that nobody has any more.
pub fn discard_when_closed(socket: &impl AsFd) -> io::Result<()> {
    set_socket_option(socket, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Sets one of the options at the level of sockets, whose value the kernel takes as a `T`.
fn set_socket_option<T: Copy>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of one live value, which the call only reads. An option that takes
    // something else than a `T` is an EINVAL, or a value not meant; it cannot harm memory.
    let outcome = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, option, (&raw const *value).cast(), length)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
