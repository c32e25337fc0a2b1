//! The boot clock and the wall clock. IO.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::{BootTime, Now, WallTime};

/// Both clocks, read one right after the other.
pub fn now() -> Now {
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    };
    Now { boot: boot_time(), wall: WallTime(wall) }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The boot clock alone.
///
/// # Panics
///
/// Where the kernel has no `CLOCK_BOOTTIME` (before Linux 2.6.39). Without that clock there is no promise to keep.
pub fn boot_time() -> BootTime {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to writable memory of the right type; it is read only after the call succeeded.
    let time = unsafe {
        assert_eq!(libc::clock_gettime(libc::CLOCK_BOOTTIME, time.as_mut_ptr()), 0, "the kernel has no CLOCK_BOOTTIME");
        time.assume_init()
    };
    BootTime::default() + Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub(super) fn timespec(span: Duration) -> libc::timespec {
    // SAFETY: a timespec is plain numbers (and, on some targets, padding), for which zero is a value.
    let mut spec: libc::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
    spec.tv_sec = libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX);
    spec.tv_nsec = span.subsec_nanos() as _;
    spec
}
