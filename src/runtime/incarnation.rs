//! Which life of which process this is (P11).
//!
//! IO: binds a socket that nobody connects to.
//!
//! A container that restarts in its Pod may take its lease back at once: what its predecessor started has died with
//! it. A second container of the same Pod, or any other process with the same identity, may not. What tells them
//! apart is an abstract Unix socket named after the Pod's uid and the Lease: the containers of a Pod share a network
//! namespace, so two cannot own it, and a dead one cannot keep it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use log::warn;

use crate::kube::hash::fnv_1a;
use crate::sys;

/// Linux' limit for an abstract name, less the leading zero byte.
const NAME_LIMIT: usize = 107;

/// An incarnation, and what makes it this process's own.
#[derive(Debug)]
pub(crate) struct Incarnation {
    pub(crate) name: String,
    _owned: Option<UnixListener>,
}

impl Incarnation {
    /// The Pod's uid if this process is the only one of the Pod that campaigns on this Lease; else a random one.
    pub(crate) fn of(pod_uid: Option<&str>, lease: &str) -> Incarnation {
        let random = format!("{:016x}", sys::random_u64());
        let Some(uid) = pod_uid else { return Incarnation { name: random, _owned: None } };
        let socket = socket_name(uid, lease);
        match SocketAddr::from_abstract_name(&socket).and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(listener) => Incarnation { name: uid.to_owned(), _owned: Some(listener) },
            Err(error) => {
                warn!(
                    "another process of this Pod (POD_UID {uid}) campaigns on the Lease {lease} already, or POD_UID is \
                     not this Pod's: give each its own Lease, or leave it to one ({error})"
                );
                Incarnation { name: format!("{uid}/{random}"), _owned: None }
            }
        }
    }
}

/// One name for one pair. Where it would be too long its end is a hash.
fn socket_name(uid: &str, lease: &str) -> Vec<u8> {
    let mut name = format!("leasehold/{uid}/{lease}").into_bytes();
    if name.len() > NAME_LIMIT {
        let hash = format!("{:016x}", fnv_1a(&name));
        name.truncate(NAME_LIMIT - hash.len());
        name.extend_from_slice(hash.as_bytes());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_of_a_pod_owns_its_uid_and_a_dead_one_does_not_keep_it() {
        let uid = format!("uid-{:x}", sys::random_u64());
        let first = Incarnation::of(Some(&uid), "ns/web");
        assert_eq!(first.name, uid);
        let second = Incarnation::of(Some(&uid), "ns/web");
        assert_ne!(second.name, uid);
        assert_eq!(Incarnation::of(Some(&uid), "ns/other").name, uid, "another Lease is another matter");
        drop((first, second));
        assert_eq!(Incarnation::of(Some(&uid), "ns/web").name, uid);
    }

    #[test]
    fn without_a_uid_each_life_is_its_own() {
        assert_ne!(Incarnation::of(None, "ns/web").name, Incarnation::of(None, "ns/web").name);
    }

    #[test]
    fn long_names_are_shortened_and_stay_apart() {
        let long = "l".repeat(253);
        let (a, b) = (socket_name("uid", &format!("ns/{long}a")), socket_name("uid", &format!("ns/{long}b")));
        assert_eq!((a.len(), b.len()), (NAME_LIMIT, NAME_LIMIT));
        assert_ne!(a, b);
        assert_eq!(socket_name("u", "ns/web"), b"leasehold/u/ns/web");
    }
}
