//! Names for what happened in a schedule, so that a run can show that it was no idle one.

use leasehold::election::{Ending, Event};

pub fn ending(why: &Ending) -> &'static str {
    match why {
        Ending::Shutdown => "ended: shutdown",
        Ending::Yielded(_) => "ended: yielded",
        Ending::Unfit => "ended: unfit",
        Ending::WorkEnded => "ended: work ended",
        Ending::DeadlinePassed => "ended: deadline passed",
        Ending::Superseded(_) => "ended: superseded",
        Ending::Vacated => "ended: vacated",
        Ending::Deleted => "ended: deleted",
        Ending::Coordinated => "ended: coordinated",
    }
}

pub fn report(event: &Event) -> &'static str {
    match event {
        Event::LeaderChanged(_) => "leader changed",
        Event::StartedLeading(_) => "terms",
        Event::StoppedLeading { why, .. } => ending(why),
        Event::Renewed => "renewed",
        Event::Released => "released",
        Event::ReleaseFailed => "release failed",
        Event::AcquiredTooLate => "acquired too late",
        Event::AcquiredUnwanted => "acquired unwanted",
        Event::SuccessorChanged(_) => "successor changed",
        Event::HeldByPredecessor => "held by a predecessor",
        Event::WriteUndone(_) => "write undone",
        Event::RepeatedConflicts(_) => "repeated conflicts",
        Event::DuplicateIdentity => "duplicate identity",
        Event::Coordinated => "coordinated",
    }
}
