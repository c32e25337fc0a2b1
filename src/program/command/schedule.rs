//! When a command must be stopped and killed. PURE.

use std::sync::Arc;
use std::time::Duration;

use super::Deadlines;
use crate::sys::Signal;
use crate::time::BootTime;

/// What has been done to one run of the command, and what an instant requires.
pub(super) struct Schedule {
    deadlines: Arc<dyn Deadlines>,
    /// The signal to stop it with, once it is to be stopped.
    stop_with: Option<Signal>,
    /// That signal has been sent, or SIGKILL.
    pub(super) stopped: bool,
    /// How often everything has been killed so far.
    pub(super) kills: u32,
    /// The command itself has ended. What it left behind may live until then.
    leftovers_until: Option<BootTime>,
}

/// What has to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Nothing,
    Stop,
    Kill,
}

impl Schedule {
    pub(super) fn new(deadlines: Arc<dyn Deadlines>) -> Schedule {
        Schedule { deadlines, stop_with: None, stopped: false, kills: 0, leftovers_until: None }
    }

    /// It is to be stopped; the first signal to be named counts.
    pub(super) fn stop(&mut self, signal: Signal) {
        self.stop_with.get_or_insert(signal);
    }

    /// The signal that stops it, or has stopped it.
    pub(super) fn stop_signal(&self) -> Signal {
        self.stop_with.unwrap_or(Signal::Terminate)
    }

    /// The command itself has ended.
    pub(super) fn ended(&mut self) {
        self.leftovers_until = Some(self.deadlines.kill_at());
    }

    pub(super) fn due(&self, now: BootTime) -> Due {
        let over = self.stop_with.is_some() || now >= self.deadlines.valid_until();
        if now >= self.kill_at() {
            Due::Kill
        } else if over && !self.stopped && self.leftovers_until.is_none() {
            Due::Stop
        } else {
            Due::Nothing
        }
    }

    /// When something may be due next, if no order comes and no child dies.
    pub(super) fn next(&self, now: BootTime) -> BootTime {
        if self.kills > 0 {
            // Something survives SIGKILL for now: it forks faster than it dies, or hangs in the kernel.
            now + Duration::from_millis(10 << self.kills.min(7))
        } else if self.stopped || self.leftovers_until.is_some() {
            self.kill_at()
        } else {
            self.deadlines.valid_until().min(self.kill_at())
        }
    }

    /// Renewals move it later, but not for what outlives the command.
    fn kill_at(&self) -> BootTime {
        let kill_at = self.deadlines.kill_at();
        self.leftovers_until.map_or(kill_at, |limit| limit.min(kill_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A term that may run until an instant and must be dead ten later.
    struct Term(AtomicU64);

    impl Deadlines for Term {
        fn valid_until(&self) -> BootTime {
            BootTime(self.0.load(Ordering::Relaxed))
        }

        fn kill_at(&self) -> BootTime {
            self.valid_until() + Duration::from_nanos(10)
        }

        fn stopping(&self) -> bool {
            false
        }
    }

    fn schedule() -> (Arc<Term>, Schedule) {
        let term = Arc::new(Term(AtomicU64::new(100)));
        (Arc::clone(&term), Schedule::new(term))
    }

    #[test]
    fn the_command_is_stopped_when_the_term_is_over_and_killed_when_time_is_up() {
        let (_, mut schedule) = schedule();
        assert_eq!((schedule.due(BootTime(99)), schedule.next(BootTime(99))), (Due::Nothing, BootTime(100)));
        assert_eq!(schedule.due(BootTime(100)), Due::Stop);
        schedule.stopped = true;
        assert_eq!((schedule.due(BootTime(109)), schedule.next(BootTime(109))), (Due::Nothing, BootTime(110)));
        assert_eq!(schedule.due(BootTime(110)), Due::Kill);
    }

    #[test]
    fn a_renewal_moves_both_instants_but_takes_no_stop_back() {
        let (term, mut schedule) = schedule();
        term.0.store(200, Ordering::Relaxed);
        assert_eq!((schedule.due(BootTime(150)), schedule.next(BootTime(150))), (Due::Nothing, BootTime(200)));
        schedule.stop(Signal::Interrupt);
        schedule.stop(Signal::Terminate);
        assert_eq!((schedule.due(BootTime(150)), schedule.stop_signal()), (Due::Stop, Signal::Interrupt));
        schedule.stopped = true;
        term.0.store(300, Ordering::Relaxed);
        assert_eq!((schedule.due(BootTime(250)), schedule.next(BootTime(250))), (Due::Nothing, BootTime(310)));
    }

    #[test]
    fn what_the_command_leaves_behind_gains_nothing_from_renewals() {
        let (term, mut schedule) = schedule();
        schedule.ended();
        term.0.store(900, Ordering::Relaxed);
        assert_eq!((schedule.due(BootTime(109)), schedule.next(BootTime(109))), (Due::Nothing, BootTime(110)));
        assert_eq!(schedule.due(BootTime(110)), Due::Kill);
    }

    #[test]
    fn a_command_that_has_ended_is_not_stopped() {
        let (_, mut schedule) = schedule();
        schedule.ended();
        schedule.stop(Signal::Terminate);
        assert_eq!(schedule.due(BootTime(105)), Due::Nothing);
    }

    #[test]
    fn what_survives_sigkill_is_killed_again_ever_less_often() {
        let (_, mut schedule) = schedule();
        let mut last = Duration::ZERO;
        for kills in 1..40 {
            schedule.kills = kills;
            let pause = schedule.next(BootTime(500)).since(BootTime(500));
            assert!(pause >= last && pause <= Duration::from_secs(2) && !pause.is_zero());
            last = pause;
        }
    }
}
