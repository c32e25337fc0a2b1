//! A node's clocks as functions of real time, which only the simulator knows.
//!
//! PURE.

use leasehold::time::{BootTime, Now, WallTime};

/// Real time, in nanoseconds since the schedule began.
pub type Real = u64;

pub const MILLI: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// 2026-11-22T15:04:05Z: where a wall clock that is right begins.
pub const WALL_START_MICROS: i64 = 1_795_359_845_000_000;

#[derive(Clone, Debug)]
pub struct Clock {
    /// Boot nanoseconds a real second.
    rate: u64,
    /// The rate holds since then.
    since_real: Real,
    since_boot: u64,
    wall_offset_micros: i64,
    /// Built-in mistake: the clock that stands still while the machine is suspended.
    stands_still: bool,
    suspended_at: Option<Real>,
}

impl Clock {
    pub fn new(rate: u64, boot_offset: u64, wall_offset_micros: i64, stands_still: bool) -> Clock {
        Clock { rate, since_real: 0, since_boot: boot_offset, wall_offset_micros, stands_still, suspended_at: None }
    }

    pub fn boot(&self, real: Real) -> BootTime {
        let real = self.ticking(real);
        let run = u128::from(real - self.since_real) * u128::from(self.rate) / u128::from(SECOND);
        BootTime(self.since_boot + u64::try_from(run).expect("a schedule is short"))
    }

    pub fn now(&self, real: Real) -> Now {
        let micros = i64::try_from(real / 1000).expect("a schedule is short");
        Now { boot: self.boot(real), wall: WallTime(WALL_START_MICROS + micros + self.wall_offset_micros) }
    }

    /// The first real instant at which the boot clock shows `boot`, if nothing changes until then.
    pub fn real_at(&self, boot: BootTime) -> Real {
        let run = u128::from(boot.0.saturating_sub(self.since_boot)) * u128::from(SECOND);
        let real = run.div_ceil(u128::from(self.rate));
        self.since_real.saturating_add(u64::try_from(real).unwrap_or(u64::MAX))
    }

    pub fn set_rate(&mut self, real: Real, rate: u64) {
        self.since_boot = self.boot(real).0;
        self.since_real = self.ticking(real);
        self.rate = rate;
    }

    /// The latest instant at which the clock ran.
    fn ticking(&self, real: Real) -> Real {
        self.suspended_at.filter(|_| self.stands_still).unwrap_or(real)
    }

    pub fn step_wall(&mut self, offset_micros: i64) {
        self.wall_offset_micros = offset_micros;
    }

    pub fn suspend(&mut self, real: Real) {
        self.suspended_at = Some(real);
    }

    pub fn resume(&mut self, real: Real) {
        let boot = self.boot(real);
        self.suspended_at = None;
        if self.stands_still {
            self.since_boot = boot.0;
            self.since_real = real;
        }
    }
}
