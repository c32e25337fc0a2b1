//! The boot clock and the wall clock. IO.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::{BootTime, Now, WallTime};

/// Both clocks, read one right after the other. A wall clock before 1970 reads 1970.
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { boot: boot_time(), wall: WallTime(i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)) }
}

/// The boot clock alone.
///
/// # Panics
///
/// Where the kernel has no `CLOCK_BOOTTIME` (before Linux 2.6.39). Without that clock there is no promise to keep.
pub fn boot_time() -> BootTime {
    let mut time = timespec(Duration::ZERO);
    // SAFETY: the pointer is to live, writable memory of the right type.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    assert_eq!(result, 0, "the kernel has no CLOCK_BOOTTIME");
    BootTime::default() + Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub(super) fn timespec(span: Duration) -> libc::timespec {
    // SAFETY: a timespec is plain numbers (and, on some targets, padding), for which zero is a value.
    let mut spec: libc::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
    spec.tv_sec = libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX);
    spec.tv_nsec = span.subsec_nanos() as _;
    spec
}
