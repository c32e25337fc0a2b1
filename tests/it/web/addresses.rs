//! Which addresses are listened on, whatever the kernel's settings for IPv6 are.

use leasehold::sys::listen;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

#[test]
fn ipv4_and_ipv6_are_both_listened_on() {
    let listener = listen(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    // A machine without IPv6 has nothing to show here.
    if TcpListener::bind("[::1]:0").is_ok() {
        assert!(TcpStream::connect(("::1", port)).is_ok());
    }
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let taken = listen(0).unwrap();
    assert!(listen(taken.local_addr().unwrap().port()).is_err());
}

#[test]
fn ipv4_is_listened_on_where_ipv6_sockets_take_ipv6_only() {
    in_namespace("echo 1 > /proc/sys/net/ipv6/bindv6only");
}

#[test]
fn ipv4_is_listened_on_where_ipv6_is_disabled() {
    in_namespace("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
}

/// Not a test: what the tests above run in a network namespace of its own.
#[test]
fn child_that_listens() {
    if std::env::var_os("LEASEHOLD_TEST_LISTENS").is_some() {
        let listener = listen(0).unwrap();
        TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
    }
}

/// Runs the child where `setting` holds.
fn in_namespace(setting: &str) {
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-ec", &format!("ip link set lo up; {setting}; {script}")]);
        command
    };
    if !unshared("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user may not make a network namespace, or it has no IPv6");
        return;
    }
    let child = unshared("exec \"$0\" --exact web::addresses::child_that_listens --nocapture")
        .arg(std::env::current_exe().unwrap())
        .env("LEASEHOLD_TEST_LISTENS", "yes")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}
