//! Each wrapper does what it says. May do what it tests.

use super::*;
use crate::time::BootTime;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn the_boot_clock_runs_forward_and_the_wall_clock_reads_this_century() {
    let (first, second) = (now(), now());
    assert!(second.boot >= first.boot && first.boot > BootTime::default());
    assert!(first.wall.to_string().starts_with("20"), "{}", first.wall);
}

#[test]
fn random_numbers_differ() {
    assert_ne!(random_u64(), random_u64());
}

#[test]
fn every_signal_has_its_own_number_and_name() {
    let numbers: BTreeSet<_> = Signal::ALL.into_iter().map(|signal| signal.number).collect();
    let names: BTreeSet<_> = Signal::ALL.into_iter().map(|signal| signal.name).collect();
    assert_eq!((numbers.len(), names.len()), (Signal::ALL.len(), Signal::ALL.len()));
}

#[test]
fn everybody_is_no_target() {
    for pid in [-1, 0, 1] {
        assert!(signal(pid, 0).is_err());
    }
    for pid in [-1, 0] {
        assert!(signal_if(pid, 0, || true).is_err());
    }
}

#[test]
fn an_alarm_wakes_for_an_instant_in_the_past_and_for_a_ring() {
    let alarm = Alarm::new().unwrap();
    assert!(!alarm.wait_until(Some(BootTime::default()), None).unwrap());
    alarm.wait_until(Some(boot_time() + Duration::from_millis(1)), None).unwrap();
    alarm.ring();
    alarm.ring();
    alarm.wait_until(None, None).unwrap();
    let (near, _) = UnixStream::pair().unwrap(); // The end of the stream is readable.
    assert!(alarm.wait_until(None, Some(near.as_fd())).unwrap());
}

#[test]
fn poll_tells_which_descriptor_is_ready() {
    let (mut near, far) = UnixStream::pair().unwrap();
    let (_kept, quiet) = UnixStream::pair().unwrap();
    let asked = |socket: &UnixStream| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut descriptors = [asked(&far), asked(&quiet)];
    assert_eq!(poll(&mut descriptors, Some(Duration::ZERO)).unwrap(), 0);
    near.write_all(b"x").unwrap();
    assert_eq!(poll(&mut descriptors, None).unwrap(), 1);
    assert_eq!(descriptors[0].revents & libc::POLLIN, libc::POLLIN);
    assert_eq!(descriptors[1].revents, 0);
}

#[test]
fn a_bound_buffer_takes_no_more_than_its_bound() {
    let (mut near, _far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    bound_socket_buffers(&near, 8 << 10, 8 << 10).unwrap();
    let mut taken = 0;
    while let Ok(count) = near.write(&[0; 1024]) {
        taken += count;
    }
    assert!((1024..64 << 10).contains(&taken), "{taken}");
}
