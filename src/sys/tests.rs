//! Each wrapper does what it says. May do what it tests.

use super::signals::*;
use super::*;
use crate::time::BootTime;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

#[test]
fn the_boot_clock_runs_forward_and_the_wall_clock_reads_this_century() {
    let (first, second) = (now(), now());
    assert!(second.boot >= first.boot && first.boot > BootTime::default());
    assert!(first.wall.to_string().starts_with("20"), "{}", first.wall);
}

#[test]
fn random_bytes_fill_every_length() {
    for length in [0, 1, 7, 8, 9, 33] {
        let mut bytes = vec![0; length];
        let touched = (0..64).any(|_| {
            random_bytes(&mut bytes);
            bytes.iter().all(|byte| *byte != 0)
        });
        assert!(touched, "some byte of {length} stayed zero in 64 draws");
    }
    assert_ne!(random_u64(), random_u64());
}

#[test]
fn a_signal_is_its_number_and_back() {
    for signal in Signal::ALL {
        assert_eq!(Signal::from_number(signal.number()), Some(signal), "{}", signal.name());
    }
    assert_eq!(Signal::from_number(libc::SIGKILL), None);
}

#[test]
fn everybody_is_no_target() {
    for pid in [-1, 0, 1] {
        assert!(signal_group(pid, 0).is_err());
        assert!(signal_child(pid, 0).is_err());
        assert!(signal_if(pid, 0, || true).is_err());
    }
}

#[test]
fn an_alarm_wakes_for_an_instant_in_the_past_and_for_a_ring() {
    let alarm = Alarm::new().unwrap();
    alarm.wait_until(Some(BootTime::default())).unwrap();
    alarm.wait_until(Some(boot_time() + Duration::from_millis(1))).unwrap();
    alarm.ring();
    alarm.ring();
    alarm.wait_until(None).unwrap();
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

/// KiB of the mapping that holds `address`.
fn resident(address: usize) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let holds = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let edge = |text| usize::from_str_radix(text, 16).ok();
        Some((edge(start)?..edge(end)?).contains(&address))
    };
    let of_it = maps.lines().skip_while(|line| holds(line) != Some(true));
    let rss = of_it.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_stack_is_given_back_and_can_be_used_again() {
    #[inline(never)]
    fn deep(level: u32) -> u64 {
        let frame = std::hint::black_box([u64::from(level); 64]);
        if level == 0 { frame[0] } else { frame[63] + deep(level - 1) }
    }
    let worker = std::thread::Builder::new().stack_size(256 << 10).spawn(|| {
        let mine = std::hint::black_box([7_u8; 4096]);
        let first = deep(200);
        let touched = resident(mine.as_ptr().addr());
        give_back_stack();
        let left = resident(mine.as_ptr().addr());
        (touched.saturating_sub(left), first, deep(200), mine.iter().all(|byte| *byte == 7))
    });
    let (given_back, first, second, kept) = worker.unwrap().join().unwrap();
    assert!(given_back >= 64, "{given_back} KiB");
    assert_eq!((first, second, kept), (20_100, 20_100, true));
    give_back_stack(); // on whatever stack the tests run
}
