//! What is known of the Lease: the observed record, since when it has stood, and whose it is.
//!
//! PURE, as the whole election.

use std::time::Duration;

use super::{
    ATTEMPT_JITTER, Call, CallKind, Election, Event, Record, Snapshot, State, Term, UnresolvedWrite, Version, mark,
    mutant,
};
use crate::time::{BootTime, Now};

/// The newest version seen, and since when its record has stood.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ObservedRecord {
    /// `None`: there is no Lease.
    pub(super) lease: Option<Snapshot>,
    /// The version of the event that deleted it: what is older than that is not the Lease any more.
    pub(super) deleted: Option<Version>,
    /// When *we* first saw this record: rivals' clocks and the record's own times prove nothing.
    pub(super) since: BootTime,
    /// The version with which the watch showed its holder to have won.
    pub(super) won: Option<Version>,
    /// How long to hold back, once an attempt is due, so that candidates do not all try at once.
    pub(super) jitter: Duration,
}

impl ObservedRecord {
    pub(super) fn version(&self) -> Option<Version> {
        self.lease.as_ref().map(|lease| lease.version).or(self.deleted)
    }
}

impl Election {
    /// An answer is newer than what was known when the call was sent. It is older only than what the watch has
    /// delivered since; and after a restored backup a smaller version is the newer one.
    pub(super) fn learn_from_answer(&mut self, now: Now, call: &Call, lease: Option<Snapshot>) {
        let overtaken = self.known_version() != call.known_version;
        if !overtaken || lease.as_ref().is_some_and(|lease| self.known_version() < Some(lease.version)) {
            self.learn(now, lease);
        }
    }

    /// Takes in what the Lease says now.
    pub(super) fn learn(&mut self, now: Now, lease: Option<Snapshot>) {
        let before = self.observed.take();
        let same_lease = match (&before, &lease) {
            (Some(ObservedRecord { lease: Some(before), .. }), Some(lease)) => before.uid == lease.uid,
            (Some(ObservedRecord { lease: None, .. }), None) => true,
            _ => false,
        };
        let record = lease.as_ref().map(|lease| &lease.record);
        let stood = before.as_ref().filter(|_| same_lease).filter(|before| {
            before.lease.as_ref().map(|lease| &lease.record) == record // P5: the record, nothing else
        });
        let first = before.is_none();
        let (since, jitter) = match (stood, &before) {
            (Some(stood), _) => (stood.since, stood.jitter),
            // A newcomer takes a vacant Lease at once: no event has woken the others at the same instant.
            (None, None) if record.is_none_or(|record| record.holder.is_none()) => (now.boot, Duration::ZERO),
            (None, _) => (now.boot, self.jitter.up_to(ATTEMPT_JITTER)),
        };
        let won = self.version_that_won(before.as_ref(), lease.as_ref());
        if stood.is_none() && matches!(self.state, State::Candidate) {
            self.conflicts = 0;
        }
        let smaller = |before: &ObservedRecord| lease.as_ref().map(|lease| lease.version) < before.version();
        if let Some(before) = before.filter(|before| !same_lease || smaller(before)) {
            self.wait_out(&before);
        }
        let leader = record.and_then(|record| record.holder.clone());
        self.observed = Some(ObservedRecord { lease, deleted: None, since, won, jitter });
        self.notice_twin(first);
        if leader != self.reported_leader {
            self.reported_leader.clone_from(&leader);
            self.report(Event::LeaderChanged(leader));
        }
        self.report_successor();
        self.note_trouble();
        self.resolve_write(now.boot);
        self.check_hold(now.boot);
    }

    /// A watch delivers each version, so the first that states another acquisition is the one that won.
    fn version_that_won(&self, before: Option<&ObservedRecord>, lease: Option<&Snapshot>) -> Option<Version> {
        let (before, lease) = (before?, lease?);
        let acquisition =
            |lease: &Snapshot| (lease.uid.clone(), lease.record.holder.clone(), lease.record.acquire_time);
        let same = before.lease.as_ref().is_some_and(|before| acquisition(before) == acquisition(lease));
        if same { before.won } else { self.watching.then_some(lease.version) }
    }

    /// The Lease vanished, or went back to an older version, without a release: its holder may lead until its
    /// record runs out (P1).
    pub(super) fn wait_out(&mut self, before: &ObservedRecord) {
        let rival = before.lease.as_ref().filter(|lease| lease.record.holder.is_some() && !self.is_mine(lease));
        if let Some(lease) = rival.filter(|_| !mutant!(self, DeletionIsRelease)) {
            self.wait_out_until = self.wait_out_until.max(before.since + self.stated_duration(&lease.record));
        }
    }

    pub(super) fn note_trouble(&mut self) {
        let trouble = match self.lease() {
            Some(lease) if lease.coordinated => Some(Event::Coordinated),
            _ if self.write_trouble.is_some() => self.write_trouble.clone(),
            Some(lease) if lease.record.holder.as_ref() == Some(&self.identity.name) && !self.is_mine(lease) => {
                // A Pod of a StatefulSet that is made anew finds its predecessor's record; only a living process renews it.
                let lives = self.found_at_start.as_ref() != Some(&lease.record);
                Some(if lives { Event::DuplicateIdentity } else { Event::HeldByPredecessor })
            }
            _ => None,
        };
        self.report_trouble(trouble);
    }

    /// A record that bears this incarnation but was not written by this process proves a twin: a cloned machine, or a
    /// restored checkpoint. From then on the two differ in their incarnations, and are rivals like any other (P11).
    fn notice_twin(&mut self, first: bool) {
        let Some(lease) = self.lease().cloned() else { return };
        if first {
            self.found_at_start = Some(lease.record.clone());
        }
        let Some(acquired) = lease.record.acquire_time.filter(|_| self.is_mine(&lease)) else { return };
        if first {
            return self.acquisitions.push_back(acquired); // by the container that this one replaces
        }
        let found = self.found_at_start.as_ref().is_some_and(|record| record.acquire_time == Some(acquired));
        let renewed = !found && lease.record.renew_time > self.last_written;
        if (renewed || !self.acquisitions.contains(&acquired)) && !mutant!(self, TwinBelieved) {
            // The twin may draw the same number; it sees another record.
            self.identity.incarnation = format!("{:016x}/{}", self.jitter.draw(), acquired.0);
        }
    }

    /// Whether this life of this process wrote the record. The mark names the acquisition it was made by, so that
    /// it cannot vouch for a record that a program without annotations has written since.
    pub(super) fn is_mine(&self, lease: &Snapshot) -> bool {
        let mine = lease.record.holder.as_ref() == Some(&self.identity.name);
        let marked = lease.record.acquire_time.is_some_and(|acquired| {
            lease.annotations.incarnation.as_deref() == Some(mark(&self.identity.incarnation, acquired).as_str())
        });
        mine && (marked || mutant!(self, IdentityWithoutIncarnation))
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
        let Some(lease) = self.lease() else { return };
        let written = |unresolved: &&UnresolvedWrite| {
            unresolved.content.record == lease.record
                && unresolved.content.annotations.incarnation == lease.annotations.incarnation
        };
        if self.unresolved.as_ref().filter(written).is_none() {
            return;
        }
        let lease = lease.clone();
        let Some(unresolved) = self.unresolved.take() else { return };
        self.look_first = false;
        match (&self.state, unresolved.purpose) {
            (State::Candidate, CallKind::Acquire) => self.begin_term(now, unresolved.sent, lease),
            (State::Leading(_) | State::Stopping { forced: false, .. }, CallKind::Renew) => {
                self.acknowledge(unresolved.sent)
            }
            _ => {}
        }
    }
}
