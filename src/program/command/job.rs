//! One start of the command: what stage it is in, and what an instant requires. PURE.

use std::sync::Arc;
use std::time::Duration;

use super::{Deadlines, End, Ended};
use crate::sys::{Pid, Signal};
use crate::time::BootTime;

pub(super) type OnEnd = Box<dyn FnOnce(Ended) + Send>;

/// One start of the command.
pub(super) struct Job {
    pub(super) stage: Stage,
    pub(super) deadlines: Arc<dyn Deadlines>,
    pub(super) on_end: OnEnd,
    /// The signal to stop it with, once it is to be stopped.
    pub(super) stop_with: Option<Signal>,
    /// That signal has been sent.
    pub(super) told: bool,
    /// Signals that came while it was being started.
    pub(super) early: Vec<Signal>,
    /// It was given the terminal.
    pub(super) terminal: bool,
    /// How often everything has been killed so far.
    pub(super) kills: u32,
}

pub(super) enum Stage {
    /// Between the request and the report of exec's success. Nothing is reaped meanwhile.
    Starting,
    /// Its pid, which is its group too.
    Running(Pid),
    /// It never ran.
    Refused(End),
    /// It is gone. What it left behind may live until `kill_at`.
    Gone { group: Pid, ended: Ended, kill_at: BootTime },
}

/// What the keeper has to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Nothing,
    Stop,
    Kill,
}

impl Job {
    /// One that is about to be started.
    pub(super) fn new(deadlines: Arc<dyn Deadlines>, on_end: OnEnd) -> Job {
        Job {
            stage: Stage::Starting,
            deadlines,
            on_end,
            stop_with: None,
            told: false,
            early: Vec::new(),
            terminal: false,
            kills: 0,
        }
    }

    pub(super) fn due(&self, now: BootTime) -> Due {
        let over = self.deadlines.stopping() || now >= self.deadlines.valid_until();
        if now >= self.kill_at() {
            Due::Kill
        } else if (over || self.stop_with.is_some()) && !self.told && matches!(self.stage, Stage::Running(_)) {
            Due::Stop
        } else {
            Due::Nothing
        }
    }

    fn kill_at(&self) -> BootTime {
        match self.stage {
            // Renewals go on, but they are not for what outlives the command.
            Stage::Gone { kill_at, .. } => kill_at.min(self.deadlines.kill_at()),
            _ => self.deadlines.kill_at(),
        }
    }

    /// What it is, or was, told to stop with.
    pub(super) fn stop_signal(&self) -> Signal {
        self.stop_with.unwrap_or(Signal::Terminate)
    }

    pub(super) fn runs_as(&self, pid: Pid) -> bool {
        matches!(self.stage, Stage::Running(running) if running == pid)
    }

    /// Whether its end can be reported, when `none_left` says that this process has no child.
    pub(super) fn is_over(&self, none_left: bool) -> bool {
        match self.stage {
            Stage::Starting | Stage::Running(_) => false,
            Stage::Refused(_) => true,
            Stage::Gone { .. } => none_left,
        }
    }

    /// When something may be due next, if nobody rings and no child dies.
    pub(super) fn next(&self, now: BootTime) -> BootTime {
        if self.kills > 0 {
            // Something survives SIGKILL for now: it forks faster than it dies, or hangs in the kernel.
            return now + Duration::from_millis(10 << self.kills.min(7));
        }
        match self.stage {
            Stage::Running(_) if !self.told => self.deadlines.valid_until().min(self.kill_at()),
            _ => self.kill_at(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A term that may run until an instant and must be dead ten later; it is given up at `u64::MAX`.
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

    fn job(stage: Stage) -> (Arc<Term>, Job) {
        let term = Arc::new(Term(AtomicU64::new(100)));
        let deadlines = Arc::clone(&term) as Arc<dyn Deadlines>;
        (term, Job { stage, ..Job::new(deadlines, Box::new(|_| {})) })
    }

    #[test]
    fn each_instant_of_a_term_has_its_duty() {
        let (_, mut job) = job(Stage::Running(7));
        assert_eq!((job.due(BootTime(99)), job.next(BootTime(99))), (Due::Nothing, BootTime(100)));
        assert_eq!(job.due(BootTime(100)), Due::Stop);
        job.told = true;
        assert_eq!((job.due(BootTime(109)), job.next(BootTime(109))), (Due::Nothing, BootTime(110)));
        assert_eq!(job.due(BootTime(110)), Due::Kill);
    }

    #[test]
    fn a_renewal_moves_both_instants_but_takes_no_stop_back() {
        let (term, mut job) = job(Stage::Running(7));
        term.0.store(200, Ordering::Relaxed);
        assert_eq!((job.due(BootTime(150)), job.next(BootTime(150))), (Due::Nothing, BootTime(200)));
        job.stop_with = Some(Signal::Interrupt);
        assert_eq!(job.due(BootTime(150)), Due::Stop);
        job.told = true;
        term.0.store(300, Ordering::Relaxed);
        assert_eq!((job.due(BootTime(250)), job.next(BootTime(250))), (Due::Nothing, BootTime(310)));
    }

    #[test]
    fn what_the_command_leaves_behind_gains_nothing_from_renewals() {
        let ended = Ended { how: End::Exited(0), stopped: false };
        let (term, job) = job(Stage::Gone { group: 7, ended, kill_at: BootTime(110) });
        term.0.store(900, Ordering::Relaxed);
        assert_eq!((job.due(BootTime(109)), job.next(BootTime(109))), (Due::Nothing, BootTime(110)));
        assert_eq!(job.due(BootTime(110)), Due::Kill);
    }

    #[test]
    fn a_command_that_is_being_started_is_stopped_once_it_runs_and_killed_in_any_case() {
        let (_, mut job) = job(Stage::Starting);
        job.stop_with = Some(Signal::Terminate);
        assert_eq!(job.due(BootTime(50)), Due::Nothing);
        assert_eq!(job.due(BootTime(110)), Due::Kill);
        job.stage = Stage::Running(7);
        assert_eq!(job.due(BootTime(50)), Due::Stop);
    }

    #[test]
    fn what_survives_sigkill_is_killed_again_ever_less_often() {
        let (_, mut job) = job(Stage::Running(7));
        let mut last = Duration::ZERO;
        for kills in 1..40 {
            job.kills = kills;
            let pause = job.next(BootTime(500)).since(BootTime(500));
            assert!(pause >= last && pause <= Duration::from_secs(2) && !pause.is_zero());
            last = pause;
        }
    }

    #[test]
    fn exit_codes_are_those_a_shell_would_give() {
        assert_eq!(End::Exited(3).exit_code(), Some(3));
        assert_eq!(End::Signaled(libc::SIGKILL).exit_code(), Some(137));
        assert_eq!(End::CouldNotStart { code: 127, message: String::new() }.exit_code(), Some(127));
        assert_eq!(End::NotStarted.exit_code(), None);
    }
}
