//! Listening sockets, and the socket options that std does not set. IO.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};

use super::{check, owned};

/// Listens on `port` of every address, IPv6 and IPv4; of every IPv4 address where there is no IPv6.
///
/// std leaves it to `net.ipv6.bindv6only` whether an IPv6 socket takes IPv4 connections too.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    listen_dual_stack(port).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

fn listen_dual_stack(port: u16) -> io::Result<TcpListener> {
    const BACKLOG: libc::c_int = 128; // As std has it.
    // SAFETY: socket(2) takes numbers; a descriptor that it returns is new, so nothing else owns it.
    let socket = unsafe { owned(libc::socket(libc::AF_INET6, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))? };
    set_socket_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1)?;
    set_socket_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &0)?;
    // SAFETY: a sockaddr_in6 is plain numbers, for which zero is a value: the unspecified address.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    address.sin6_family = libc::AF_INET6 as _;
    address.sin6_port = port.to_be();
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live address, which the call only reads.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // SAFETY: listen(2) takes numbers.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(TcpListener::from(socket))
}

/// Has the kernel keep connections from `listener` until their first bytes arrive, for about `seconds`.
pub fn defer_accept(listener: &TcpListener, seconds: libc::c_int) -> io::Result<()> {
    set_socket_option(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, &seconds)
}

/// Bounds what the kernel buffers for `socket`, in bytes each way; what a listener has, its connections inherit.
///
/// The kernel charges its socket buffers to the container's memory limit, and would let each grow to megabytes.
pub fn bound_socket_buffers(socket: &impl AsFd, send: u32, receive: u32) -> io::Result<()> {
    for (option, bytes) in [(libc::SO_SNDBUF, send), (libc::SO_RCVBUF, receive)] {
        set_socket_option(socket, libc::SOL_SOCKET, option, &libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))?;
    }
    Ok(())
}

/// Has the kernel throw away, when `socket` is closed, what its peer has not taken yet, and reset the connection.
/// Otherwise it would hold those bytes for minutes, after the socket is closed.
pub fn discard_when_closed(socket: &impl AsFd) -> io::Result<()> {
    set_socket_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Sets an option whose value the kernel takes as a `T`.
fn set_socket_option<T: Copy>(socket: &impl AsFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of one live value, which the call only reads. An option that takes
    // something else than a `T` is an EINVAL, or a value not meant; it cannot harm memory.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const *value).cast(), length) })
}
