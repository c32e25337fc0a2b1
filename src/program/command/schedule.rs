//! When a command must be stopped and killed. PURE.

use crate::runtime::Leadership;
use crate::sys::Signal;
use crate::time::BootTime;

/// What has been done to one run of the command, and what an instant requires.
pub(super) struct Schedule {
    /// Asked each time anew: renewals move the instants later.
    leadership: Leadership,
    /// The signal to stop it with, once it is to be stopped.
    stop_with: Option<Signal>,
    /// That signal has been sent, or SIGKILL.
    pub(super) stopped: bool,
    /// The command itself has ended. What it left behind may live until then: it gains nothing from renewals.
    leftovers_until: Option<BootTime>,
}

/// What has to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Nothing before this instant, if no order comes and no child dies.
    Later(BootTime),
    Stop,
    Kill,
}

impl Schedule {
    pub(super) fn new(leadership: Leadership) -> Schedule {
        Schedule { leadership, stop_with: None, stopped: false, leftovers_until: None }
    }

    /// It is to be stopped; the first signal to be named counts.
    pub(super) fn stop(&mut self, signal: Signal) {
        self.stop_with.get_or_insert(signal);
    }

    /// The signal that stops it, or has stopped it.
    pub(super) fn stop_signal(&self) -> Signal {
        self.stop_with.unwrap_or(Signal::TERMINATE)
    }

    /// The command itself has ended.
    pub(super) fn ended(&mut self) {
        self.leftovers_until = Some(self.leadership.kill_at());
    }

    pub(super) fn due(&self, now: BootTime) -> Due {
        let kill_at = self.leadership.kill_at();
        let kill_at = self.leftovers_until.map_or(kill_at, |limit| limit.min(kill_at));
        let stop_at = if self.stopped || self.leftovers_until.is_some() {
            kill_at
        } else if self.stop_with.is_some() {
            now
        } else {
            self.leadership.valid_until()
        };
        match now {
            _ if now >= kill_at => Due::Kill,
            _ if now >= stop_at => Due::Stop,
            _ => Due::Later(stop_at.min(kill_at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::{Term, Validity};
    use crate::time::WallTime;

    /// A term that may run until this instant and must be dead ten later.
    fn valid_until(instant: u64) -> Validity {
        Validity { valid_until: BootTime(instant), kill_at: BootTime(instant + 10) }
    }

    fn schedule() -> (Leadership, Schedule) {
        let term = Term { token: 7, lease_uid: "u".into(), acquire_time: WallTime(0) };
        let leadership = Leadership::new(term, "ns/web".into(), valid_until(100));
        (leadership.clone(), Schedule::new(leadership))
    }

    #[test]
    fn the_command_is_stopped_when_the_term_is_over_and_killed_when_time_is_up() {
        let (_, mut schedule) = schedule();
        assert_eq!(schedule.due(BootTime(99)), Due::Later(BootTime(100)));
        assert_eq!(schedule.due(BootTime(100)), Due::Stop);
        schedule.stopped = true;
        assert_eq!(schedule.due(BootTime(109)), Due::Later(BootTime(110)));
        assert_eq!(schedule.due(BootTime(110)), Due::Kill);
    }

    #[test]
    fn a_renewal_moves_both_instants_but_takes_no_stop_back() {
        let (leadership, mut schedule) = schedule();
        leadership.set_validity(valid_until(200));
        assert_eq!(schedule.due(BootTime(150)), Due::Later(BootTime(200)));
        schedule.stop(Signal::INTERRUPT);
        schedule.stop(Signal::TERMINATE);
        assert_eq!((schedule.due(BootTime(150)), schedule.stop_signal()), (Due::Stop, Signal::INTERRUPT));
        schedule.stopped = true;
        leadership.set_validity(valid_until(300));
        assert_eq!(schedule.due(BootTime(250)), Due::Later(BootTime(310)));
    }

    #[test]
    fn what_the_command_leaves_behind_gains_nothing_from_renewals() {
        let (leadership, mut schedule) = schedule();
        schedule.ended();
        leadership.set_validity(valid_until(900));
        assert_eq!(schedule.due(BootTime(109)), Due::Later(BootTime(110)));
        assert_eq!(schedule.due(BootTime(110)), Due::Kill);
    }

    #[test]
    fn a_command_that_has_ended_is_not_stopped() {
        let (_, mut schedule) = schedule();
        schedule.ended();
        schedule.stop(Signal::TERMINATE);
        assert_eq!(schedule.due(BootTime(105)), Due::Later(BootTime(110)));
    }
}
