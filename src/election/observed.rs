//! What is known of the Lease: the observed record, since when it has stood, and whose it is.
//!
//! PURE, as the whole election.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ATTEMPT_JITTER, Call, CallKind, Election, Event, Output, Record, Snapshot, State, Term, Version, mutant};
use crate::time::{BootTime, Now, WallTime};

/// So many of its own acquisitions a process remembers, to tell them from a twin's. Only the last few can still be
/// applied; an older one shows again only from a restored backup, and is then taken for a twin's, which is harmless.
const ACQUISITIONS_KEPT: usize = 16;

/// The newest version seen, and since when its record has stood.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ObservedRecord {
    /// `None`: there is no Lease.
    pub(super) lease: Option<Snapshot>,
    /// Its version, or that of the event that deleted it: what is older is not the Lease any more.
    pub(super) version: Option<Version>,
    /// When *we* first saw this record: rivals' clocks and the record's own times prove nothing.
    pub(super) since: BootTime,
    /// The version with which its holder was seen to have won.
    pub(super) won: Option<Version>,
    /// How long to hold back, once an attempt is due, so that candidates do not all try at once.
    pub(super) jitter: Duration,
}

/// What this process has written, applied or not: by that it tells its own records from a twin's (P11).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct OwnWrites {
    /// The latest `renewTime`: no two of its writes are alike, so the Lease tells which of them was applied.
    pub(super) last: Option<WallTime>,
    /// The `acquireTime` of its latest acquisitions, and of the one it found at its start.
    acquisitions: VecDeque<WallTime>,
    /// The record found by the first look.
    found: Option<Record>,
}

impl OwnWrites {
    /// A write that is about to be sent.
    pub(super) fn note(&mut self, purpose: CallKind, record: &Record) {
        self.last = self.last.max(record.renew_time);
        self.acquisitions.extend(record.acquire_time.filter(|_| purpose == CallKind::Acquire));
        self.acquisitions.drain(..self.acquisitions.len().saturating_sub(ACQUISITIONS_KEPT));
    }
}

impl Election {
    /// An answer is newer than what was known when the call was sent. It is older only than what the watch has
    /// delivered since; and after a restored backup a smaller version is the newer one.
    pub(super) fn learn_from_answer(&mut self, now: Now, call: &Call, lease: Option<Snapshot>) {
        let overtaken = self.known_version() != call.known_version;
        if !overtaken || lease.as_ref().is_some_and(|lease| self.known_version() < Some(lease.version)) {
            // Of what a look finds it is not known which write made it so.
            self.learn(now, lease, None, call.purpose == CallKind::Acquire);
        }
    }

    /// Takes in what the Lease says now; or that it was deleted, and by which version. `each`: no version between this
    /// and the one that was known is missing.
    pub(super) fn learn(&mut self, now: Now, lease: Option<Snapshot>, deleted: Option<Version>, each: bool) {
        let before = self.observed.take();
        let first = before.is_none();
        // P5: the record, nothing else.
        let record = |lease: &Option<Snapshot>| lease.as_ref().map(|lease| (lease.uid.clone(), lease.record.clone()));
        let stood = before.as_ref().filter(|before| record(&before.lease) == record(&lease));
        let (leader, successor) = leader_and_successor(lease.as_ref());
        let (last_leader, last_successor) = leader_and_successor(before.as_ref().and_then(|it| it.lease.as_ref()));
        let (since, jitter) = match stood {
            Some(stood) => (stood.since, stood.jitter),
            // A newcomer takes a vacant Lease at once: no event has woken the others at the same instant.
            None if first && leader.is_none() => (now.boot, Duration::ZERO),
            None => (now.boot, self.jitter.up_to(ATTEMPT_JITTER)),
        };
        if stood.is_none() && matches!(self.state, State::Candidate) && !mutant!(self, RetryAfterConflict) {
            self.conflicts = 0;
            self.write_trouble.take_if(|trouble| matches!(trouble, Event::RepeatedConflicts(_)));
        }
        let version = lease.as_ref().map(|lease| lease.version).or(deleted);
        let acquired = |lease: &Option<Snapshot>| lease.as_ref().and_then(|lease| lease.record.acquire_time);
        // The first version that states another acquisition is the one that won.
        let won = match &before {
            Some(before) if acquired(&before.lease) == acquired(&lease) => before.won,
            _ => version.filter(|_| each && !first),
        };
        if let Some(before) = &before {
            self.wait_out(before, lease.as_ref());
        }
        self.observed = Some(ObservedRecord { lease, version, since, won, jitter });
        self.notice_twin(first);
        if leader != last_leader {
            self.report(Event::LeaderChanged(leader));
        }
        if successor != last_successor {
            self.report(Event::SuccessorChanged(successor));
        }
        self.note_trouble();
        self.resolve_write(now.boot);
        self.check_hold(now.boot);
    }

    /// A Lease that vanished, or went back to an older version, was not released: its holder may lead until its record
    /// runs out (P1).
    fn wait_out(&mut self, before: &ObservedRecord, lease: Option<&Snapshot>) {
        let Some(vanished) = &before.lease else { return };
        let follows = lease.is_some_and(|lease| lease.uid == vanished.uid && lease.version >= vanished.version);
        let rival = vanished.record.holder.is_some() && !self.is_mine(vanished);
        if !follows && rival && !mutant!(self, DeletionIsRelease) {
            let run_out = before.since + self.stated_duration(&vanished.record);
            self.not_before = self.not_before.max(run_out + self.jitter.up_to(ATTEMPT_JITTER));
        }
    }

    /// Reports what is wrong once, until something else is, or nothing.
    pub(super) fn note_trouble(&mut self) {
        let trouble = match self.lease() {
            Some(lease) if lease.coordinated => Some(Event::Coordinated),
            _ if self.write_trouble.is_some() => self.write_trouble.clone(),
            Some(lease) if lease.record.holder.as_ref() == Some(&self.identity.name) && !self.is_mine(lease) => {
                // A Pod of a StatefulSet that is made anew finds its predecessor's record; only a living process renews it.
                let lives = self.own.found.as_ref() != Some(&lease.record);
                Some(if lives { Event::DuplicateIdentity } else { Event::HeldByPredecessor })
            }
            _ => None,
        };
        if self.reported_trouble != trouble {
            self.reported_trouble.clone_from(&trouble);
            self.outputs.extend(trouble.map(Output::Report));
        }
    }

    /// A record that bears this incarnation but was not written by this process proves a twin: a cloned machine, or a
    /// restored checkpoint. From then on the two differ in their incarnations, and are rivals like any other (P11).
    fn notice_twin(&mut self, first: bool) {
        let Some(lease) = self.lease().cloned() else { return };
        if first {
            self.own.found = Some(lease.record.clone());
        }
        let Some(acquired) = lease.record.acquire_time.filter(|_| self.is_mine(&lease)) else { return };
        if first {
            return self.own.acquisitions.push_back(acquired); // by the container that this one replaces
        }
        let found = self.own.found.as_ref().is_some_and(|record| record.acquire_time == Some(acquired));
        let renewed = !found && lease.record.renew_time > self.own.last;
        if (renewed || !self.own.acquisitions.contains(&acquired)) && !mutant!(self, TwinBelieved) {
            // The twin may draw the same number; it sees another record.
            self.identity.incarnation = format!("{:016x}/{}", self.jitter.draw(), acquired.0);
        }
    }

    /// Whether this life of this process wrote the record.
    pub(super) fn is_mine(&self, lease: &Snapshot) -> bool {
        lease.record.holder.as_ref() == Some(&self.identity.name)
            && (lease.incarnation() == Some(self.identity.incarnation.as_str())
                || mutant!(self, IdentityWithoutIncarnation))
    }

    /// Whether the record is the one that this term's own writes left there.
    pub(super) fn is_of_term(&self, lease: &Snapshot, term: &Term) -> bool {
        lease.uid == term.lease_uid
            && !lease.coordinated
            && self.is_mine(lease)
            && (lease.record.acquire_time == Some(term.acquire_time) || mutant!(self, IdentityWithoutIncarnation))
    }

    /// The duration that rivals must wait: the record's own, or where it states none, theirs (P4).
    pub(super) fn stated_duration(&self, record: &Record) -> Duration {
        match record.lease_duration_seconds {
            Some(seconds) if !mutant!(self, ExpiryByOwnDuration) => Duration::from_secs(seconds.into()),
            _ => self.timing.lease_duration(),
        }
    }

    /// A write in doubt counts, from its own send time, if the record is exactly the one written (P8).
    pub(super) fn resolve_write(&mut self, now: BootTime) {
        let Some(lease) = self.lease().cloned() else { return };
        let applied = |call: &mut Call| {
            call.request.content().is_some_and(|content| {
                content.record == lease.record && content.annotations.incarnation == lease.annotations.incarnation
            })
        };
        let Some(call) = self.unresolved.take_if(applied) else { return };
        self.look_first = false;
        match call.purpose {
            CallKind::Acquire if matches!(self.state, State::Candidate) => self.begin_term(now, call.sent, lease),
            CallKind::Renew => self.acknowledge(call.sent),
            _ => {}
        }
    }
}

fn leader_and_successor(lease: Option<&Snapshot>) -> (Option<String>, Option<String>) {
    let Some(lease) = lease else { return (None, None) };
    (lease.record.holder.clone(), lease.successor().map(str::to_owned))
}
