//! The durations of an election, what must hold between them, and what follows from them.
//!
//! PURE: arithmetic, and a seeded source of jitter.

use std::time::Duration;

/// A retry waits up to this much longer than its period, so that candidates do not poll in step. The same factor as
/// in client-go's rule that the renewal deadline exceeds 1.2 retry periods.
const JITTER_TENTHS: u32 = 12;

/// Where no successor is known, or it is gone, attempts at a free Lease are spread evenly over this span.
///
/// Long enough that the first of a few candidates is usually seen by the others before their turn comes.
pub const ATTEMPT_JITTER: Duration = Duration::from_millis(40);

/// The durations of an election, checked.
///
/// | duration | origin | default |
/// |---|---|---|
/// | lease duration | client-go `LeaseDuration` | 15 s |
/// | renewal deadline | client-go `RenewDeadline` | 10 s |
/// | retry period | client-go `RetryPeriod` | 2 s |
/// | renew interval | leasehold (P7) | half of the renewal deadline |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timing {
    lease_duration: Duration,
    renewal_deadline: Duration,
    retry_period: Duration,
    renew_interval: Duration,
}

/// A duration that does not fit the others.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TimingError {
    /// LEASE_DURATION, RENEWAL_DEADLINE, RETRY_PERIOD or RENEW_INTERVAL, as in the environment of a Pod.
    pub setting: &'static str,
    /// The duration.
    pub value: Duration,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl Timing {
    /// Checks that `lease_duration` > `renewal_deadline` > 1.2 × `retry_period` > 0, that `renew_interval` (half of
    /// the renewal deadline when `None`) is at most that half, and that the lease duration is whole seconds.
    ///
    /// # Errors
    ///
    /// Everything that does not hold, not just the first.
    pub fn new(
        lease_duration: Duration,
        renewal_deadline: Duration,
        retry_period: Duration,
        renew_interval: Option<Duration>,
    ) -> Result<Timing, Vec<TimingError>> {
        let mut errors = Vec::new();
        let mut wrong = |setting, value, problem| errors.push(TimingError { setting, value, problem });
        let whole = lease_duration.subsec_nanos() == 0;
        if !whole || lease_duration.is_zero() || i32::try_from(lease_duration.as_secs()).is_err() {
            let problem = format!("must be whole seconds, from 1 to {}, as a Lease holds no fractions", i32::MAX);
            wrong("LEASE_DURATION", lease_duration, problem);
        }
        if lease_duration <= renewal_deadline {
            let problem = format!(
                "must be more than RENEWAL_DEADLINE ({renewal_deadline:?}), or rivals take over from a leader that still \
                 leads; raise it, or set RENEWAL_DEADLINE below {lease_duration:?}"
            );
            wrong("LEASE_DURATION", lease_duration, problem);
        }
        if retry_period.is_zero() {
            wrong("RETRY_PERIOD", retry_period, "must be more than zero".into());
        }
        let tenfold_deadline = renewal_deadline.as_nanos() * 10;
        if tenfold_deadline <= retry_period.as_nanos() * u128::from(JITTER_TENTHS) {
            let problem = format!(
                "must be more than 1.2 x RETRY_PERIOD ({retry_period:?}), or a leader gives up before its second try; \
                 raise it, or set RETRY_PERIOD below {:?}",
                renewal_deadline / 6 * 5
            );
            wrong("RENEWAL_DEADLINE", renewal_deadline, problem);
        }
        let longest = renewal_deadline / 2;
        let renew_interval = renew_interval.unwrap_or(longest);
        if renew_interval.is_zero() || renew_interval > longest {
            let problem = format!(
                "must be more than zero and at most half of RENEWAL_DEADLINE ({renewal_deadline:?}), or no time is left \
                 to try again; set it to {longest:?} or less"
            );
            wrong("RENEW_INTERVAL", renew_interval, problem);
        }
        if errors.is_empty() {
            Ok(Timing { lease_duration, renewal_deadline, retry_period, renew_interval })
        } else {
            Err(errors)
        }
    }

    /// How long rivals wait without a sign of life.
    pub fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// The lease duration as a Lease states it.
    pub fn lease_duration_seconds(&self) -> u32 {
        u32::try_from(self.lease_duration.as_secs()).expect("checked in new: at most i32::MAX")
    }

    /// A term is valid for this long from the moment before its last acknowledged write was sent.
    pub fn renewal_deadline(&self) -> Duration {
        self.renewal_deadline
    }

    /// Between polls, and between tries that failed.
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// From the send time of one acknowledged write to the next renewal.
    pub fn renew_interval(&self) -> Duration {
        self.renew_interval
    }

    /// All that a term started must be dead this long after the send time of its last acknowledged write: half-way
    /// from the renewal deadline to the lease duration.
    ///
    /// The first half of that gap is for stopping cleanly. The second is the margin for the kill itself and for a
    /// rival's clock that runs fast. Less of the first kills work that would have ended by itself; less of the
    /// second lets a rival start beside work that is still dying.
    pub fn kill_after(&self) -> Duration {
        self.renewal_deadline + (self.lease_duration - self.renewal_deadline) / 2
    }

    /// The time limit of one call: between a renewal's due time and the deadline there is room for a renewal that
    /// hangs, a look at what became of it, and a second renewal (P7, P8).
    pub fn call_limit(&self) -> Duration {
        (self.renewal_deadline - self.renew_interval) / 3
    }

    /// From the send time of a failed renewal to its next try (P7).
    pub fn renewal_retry(&self) -> Duration {
        self.retry_period.min(self.renewal_deadline / 5)
    }
}

impl Default for Timing {
    fn default() -> Timing {
        let seconds = Duration::from_secs;
        Timing::new(seconds(15), seconds(10), seconds(2), None).expect("the defaults fit, see the test")
    }
}

/// A source of jitter: SplitMix64. Nothing depends on it but how well candidates spread.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Equal seeds give equal jitter.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// Evenly spread over `0..=most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let nanos = (u128::from(self.draw()) * (most.as_nanos() + 1)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `period`, or up to 1.2 times as much.
    pub fn around(&mut self, period: Duration) -> Duration {
        period + self.up_to(period * (JITTER_TENTHS - 10) / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(lease: u64, deadline: u64, retry: u64) -> Result<Timing, Vec<TimingError>> {
        Timing::new(Duration::from_secs(lease), Duration::from_secs(deadline), Duration::from_secs(retry), None)
    }

    #[test]
    fn timings_that_client_go_accepts_are_accepted() {
        for (lease, deadline, retry) in [(15, 10, 2), (15, 10, 5), (30, 15, 10), (60, 15, 5), (3, 2, 1), (137, 107, 26)]
        {
            assert!(seconds(lease, deadline, retry).is_ok(), "{lease}/{deadline}/{retry}");
        }
        assert_eq!(seconds(15, 10, 2).unwrap(), Timing::default());
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let errors = Timing::new(
            Duration::from_millis(1500),
            Duration::from_secs(6),
            Duration::from_secs(5),
            Some(Duration::from_millis(3001)),
        )
        .unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert_eq!(seconds(0, 0, 0).unwrap_err().len(), 5);
        let TimingError { setting, value, problem } = seconds(10, 10, 2).unwrap_err().remove(0);
        assert_eq!((setting, value), ("LEASE_DURATION", Duration::from_secs(10)));
        assert!(problem.starts_with("must be more than RENEWAL_DEADLINE (10s), or rivals take over"), "{problem}");
        let longest = Timing::new(Duration::MAX, Duration::MAX, Duration::MAX, Some(Duration::MAX));
        assert_eq!(longest.unwrap_err().len(), 4, "and nothing overflows");
    }

    #[test]
    fn what_follows_from_the_durations_leaves_the_room_it_promises() {
        for (lease, deadline, retry) in [(15, 10, 2), (30, 15, 10), (3, 2, 1), (11, 10, 8)] {
            let timing = seconds(lease, deadline, retry).unwrap();
            assert!(timing.renew_interval() + timing.call_limit() * 3 <= timing.renewal_deadline());
            assert!(timing.renewal_deadline() < timing.kill_after());
            assert!(timing.kill_after() < timing.lease_duration());
        }
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_reaches_both_ends() {
        let mut jitter = Jitter::new(7);
        let span = Duration::from_millis(40);
        let drawn: Vec<_> = (0..10_000).map(|_| jitter.up_to(span)).collect();
        assert!(drawn.iter().all(|d| *d <= span));
        assert!(drawn.iter().any(|d| *d < span / 100) && drawn.iter().any(|d| *d > span / 100 * 99));
        assert!((0..1000).all(|_| (span..=span * 12 / 10).contains(&jitter.around(span))));
        assert_eq!(jitter.up_to(Duration::ZERO), Duration::ZERO);
    }
}
