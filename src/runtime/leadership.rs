//! What a leader holds: proof, to be asked for at the moment of acting.
//!
//! IO: reads the boot clock. No answer waits for another thread, so a thread that must act in time can ask too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::election::{Term, Validity, Version};
use crate::sys;
use crate::time::BootTime;

/// A waiting thread looks at the boot clock this often: the wait itself may stand still while the machine is
/// suspended.
const LOOK: Duration = Duration::from_secs(1);

/// One term, for those who work in it: cheap to clone, and valid or not at the moment it is asked.
///
/// It cannot undo what it has already allowed: work that was handed on before the term ended (a packet in flight, a
/// thread that is paused between asking and acting) may take effect later. Where that matters, pass
/// [`Leadership::fencing_token`] along and let the receiver refuse a smaller one than it has seen.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<TermState>);

#[derive(Debug)]
struct TermState {
    term: Term,
    lease: String,
    /// Zero once the term was given up, or lost to another holder.
    valid_until: AtomicU64,
    kill_at: AtomicU64,
    ending: Mutex<()>,
    ended: Condvar,
}

impl Leadership {
    /// For the election's driver and for tests.
    #[doc(hidden)]
    pub fn new(term: Term, lease: String, validity: Validity) -> Leadership {
        Leadership(Arc::new(TermState {
            term,
            lease,
            valid_until: AtomicU64::new(validity.valid_until.0),
            kill_at: AtomicU64::new(validity.kill_at.0),
            ending: Mutex::new(()),
            ended: Condvar::new(),
        }))
    }

    /// Whether the term is valid now. Ask right before acting, not once in the beginning.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// For how long the term is valid unless it is prolonged; zero when it has ended.
    pub fn remaining(&self) -> Duration {
        // The clock is read last: a pause after reading it would make an old instant look like the present.
        let valid_until = self.valid_until();
        valid_until.since(sys::boot_time())
    }

    /// The fencing token: constant for the term, and greater than every earlier term's on this Lease.
    pub fn fencing_token(&self) -> Version {
        self.0.term.token
    }

    /// The Lease that was won, as `namespace/name`.
    pub fn lease(&self) -> &str {
        &self.0.lease
    }

    /// Waits until the term has ended, whatever ends it.
    pub fn wait_lost(&self) {
        while !self.wait_lost_for(Duration::MAX) {}
    }

    /// Waits until the term has ended, for at most `limit`. Whether it has ended.
    pub fn wait_lost_for(&self, limit: Duration) -> bool {
        let until = sys::boot_time() + limit;
        let mut ending = sys::lock(&self.0.ending);
        loop {
            let remaining = self.remaining();
            let left = until.since(sys::boot_time());
            if remaining.is_zero() || left.is_zero() {
                return remaining.is_zero();
            }
            let slice = remaining.min(left).min(LOOK);
            ending = self.0.ended.wait_timeout(ending, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The term that was won.
    pub fn term(&self) -> &Term {
        &self.0.term
    }

    /// Until when the term is valid, unless it is prolonged or given up.
    pub fn valid_until(&self) -> BootTime {
        BootTime(self.0.valid_until.load(Ordering::SeqCst))
    }

    /// By when all that it started must be dead.
    pub fn kill_at(&self) -> BootTime {
        BootTime(self.0.kill_at.load(Ordering::SeqCst))
    }

    /// For the election's driver and for tests.
    #[doc(hidden)]
    pub fn set_validity(&self, validity: Validity) {
        self.0.kill_at.store(validity.kill_at.0, Ordering::SeqCst);
        self.0.valid_until.store(validity.valid_until.0, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        self.0.valid_until.store(0, Ordering::SeqCst);
        drop(self.0.ending.lock()); // A waiter is either before its look, and sees it, or asleep, and is woken.
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallTime;
    use std::thread;

    fn leadership(valid_for: Duration) -> Leadership {
        let term = Term { token: 7, lease_uid: "u".into(), acquire_time: WallTime(0) };
        let valid_until = sys::boot_time() + valid_for;
        Leadership::new(term, "ns/web".into(), Validity { valid_until, kill_at: valid_until })
    }

    #[test]
    fn it_is_held_until_its_instant_and_not_after() {
        assert!(leadership(Duration::from_secs(3600)).is_held());
        let past = leadership(Duration::ZERO);
        assert!(!past.is_held());
        assert_eq!(past.remaining(), Duration::ZERO);
        past.wait_lost();
    }

    #[test]
    fn a_waiter_is_woken_when_it_is_given_up() {
        let leadership = leadership(Duration::from_secs(3600));
        assert!(!leadership.wait_lost_for(Duration::from_millis(1)));
        let waiter = thread::spawn({
            let leadership = leadership.clone();
            move || leadership.wait_lost()
        });
        leadership.end();
        waiter.join().expect("the waiter returns");
        assert!(!leadership.is_held());
    }

    #[test]
    fn a_renewal_moves_the_instant() {
        let leadership = leadership(Duration::ZERO);
        let valid_until = sys::boot_time() + Duration::from_secs(3600);
        leadership.set_validity(Validity { valid_until, kill_at: valid_until + Duration::from_secs(1) });
        assert!(leadership.is_held());
        assert_eq!(leadership.kill_at(), valid_until + Duration::from_secs(1));
    }
}
