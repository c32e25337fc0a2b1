//! Which life of which process this is (P11).
//!
//! IO: reads two names from `/proc`, and binds a socket that nobody connects to.
//!
//! A container that restarts in its Pod may take its lease back at once: what its predecessor started has died with
//! it. A second container of the same Pod, or any other process with the same identity, may not. What tells them
//! apart is an abstract Unix socket named after the Pod's uid and the Lease: the containers of a Pod share a network
//! namespace, so two cannot own it, and a dead one cannot keep it. Across namespaces the socket proves nothing, so an
//! incarnation names its namespace, and the boot of the kernel that numbers it.

use std::fs;
use std::os::linux::fs::MetadataExt;
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
    /// The Pod's uid and sandbox if this process is the only one there that campaigns on this Lease; else a random one.
    pub(crate) fn of(pod_uid: Option<&str>, lease: &str) -> Incarnation {
        let random = format!("{:016x}", sys::random_u64());
        let (Some(uid), Some(sandbox)) = (pod_uid, sandbox()) else {
            return Incarnation { name: random, _owned: None };
        };
        let socket = socket_name(uid, lease);
        match SocketAddr::from_abstract_name(&socket).and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(listener) => Incarnation { name: format!("{uid}/{sandbox}"), _owned: Some(listener) },
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

/// The network namespace, as no other on any machine is called.
fn sandbox() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::metadata("/proc/self/ns/net").ok()?.st_ino();
    Some(format!("{}/{namespace}", boot.trim())).filter(|_| !boot.trim().is_empty())
}

/// The socket of this Pod and Lease. A name that would be too long ends in a hash.
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
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Command, Stdio};

    const UID_VARIABLE: &str = "LEASEHOLD_TEST_POD_UID";

    /// Run by the next test in a namespace of its own: says who it is, and lives until its standard input ends.
    #[test]
    fn says_its_incarnation() {
        let Ok(uid) = std::env::var(UID_VARIABLE) else { return };
        let incarnation = Incarnation::of(Some(&uid), "ns/web");
        println!("\nincarnation {} owned {}", incarnation.name, incarnation._owned.is_some());
        let _ = std::io::stdin().read(&mut [0]);
    }

    fn in_a_namespace_of_its_own(uid: &str) -> (Child, Option<String>) {
        let test = std::env::current_exe().expect("this test");
        let mut child = Command::new("unshare")
            .args(["--net", "--"])
            .arg(test)
            .args(["--exact", "runtime::incarnation::tests::says_its_incarnation", "--nocapture"])
            .env(UID_VARIABLE, uid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux");
        let lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
        let line = lines.map_while(Result::ok).find(|line| line.starts_with("incarnation "));
        (child, line)
    }

    #[test]
    fn two_sandboxes_with_one_pod_uid_both_own_the_socket_and_differ_in_their_incarnations() {
        let uid = format!("uid-{:x}", sys::random_u64());
        let mut both = [in_a_namespace_of_its_own(&uid), in_a_namespace_of_its_own(&uid)];
        let lines: Vec<_> = both.iter().filter_map(|(_, line)| line.clone()).collect();
        for (child, _) in &mut both {
            drop(child.stdin.take());
            child.wait().expect("it ends");
        }
        if lines.is_empty() && std::env::var_os("CI").is_none() {
            return eprintln!("SKIPPED: this user may not make a network namespace");
        }
        assert!(lines.len() == 2 && lines.iter().all(|line| line.ends_with(" owned true")), "{lines:?}");
        assert_ne!(lines[0], lines[1]);
    }

    #[test]
    fn one_process_of_a_pod_owns_its_uid_and_a_dead_one_does_not_keep_it() {
        let uid = format!("uid-{:x}", sys::random_u64());
        let first = Incarnation::of(Some(&uid), "ns/web");
        let name = first.name.clone();
        assert_eq!(name, format!("{uid}/{}", sandbox().expect("a Linux with /proc")));
        let second = Incarnation::of(Some(&uid), "ns/web");
        assert_ne!(second.name, name);
        assert_eq!(Incarnation::of(Some(&uid), "ns/other").name, name, "another Lease is another matter");
        drop((first, second));
        assert_eq!(Incarnation::of(Some(&uid), "ns/web").name, name);
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
