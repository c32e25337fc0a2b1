//! The history of the Lease: every version, who wrote it, and whether that was allowed.

use std::collections::{BTreeMap, HashMap};

use leasehold::time::BootTime;

use super::{Check, Checks};
use crate::api::{Conditions, Facts};

/// Versions with one and the same record have the same number: who sees nothing else in between sees silence.
pub type Run = u64;

/// All that rivals take for a sign of life when it changes; `None`: there is no Lease.
type Record = Option<(String, Option<String>, Option<u32>, Option<i64>, Option<i64>, u32)>;

/// Who made a change.
#[derive(Clone, Copy, Debug)]
pub enum Writer {
    Node {
        node: usize,
        life: usize,
        sent: BootTime,
    },
    /// An operator; `true`: of what only candidates may write.
    Operator(bool),
    /// A candidate that speaks client-go. `true`: it erased a record that was not its own, as client-go can.
    Foreign(bool),
}

/// A term, as the writes that were applied show it.
#[derive(Clone, Debug)]
pub struct Term {
    pub node: usize,
    incarnation: String,
    uid: String,
    acquired_micros: Option<i64>,
    /// The boot clock when the last of its applied writes was sent.
    pub sent: BootTime,
    /// The version of the write that won it.
    pub won: u128,
    /// The version of its last applied write.
    applied: u128,
}

#[derive(Clone, Debug)]
struct Version {
    run: Run,
    /// The term to which its record belongs.
    owner: Option<u128>,
    /// The same, unless a controller has been given the Lease: no term holds on such a version.
    term: Option<u128>,
    /// `None`: the Lease was deleted.
    lease: Option<Stated>,
}

#[derive(Clone, Copy, Debug)]
struct Stated {
    held: bool,
    duration_seconds: Option<u32>,
}

#[derive(Debug, Default)]
pub struct History {
    versions: BTreeMap<u128, Version>,
    terms: HashMap<u128, Term>,
    /// The term whose own writes left the present record there.
    current: Option<u128>,
    runs: HashMap<Record, Run>,
    /// Versions by which somebody spoke for the holder.
    edits: Vec<u128>,
}

impl History {
    /// The term with this token. A write in doubt that won is seen later, perhaps under a version that another edit
    /// has given it since: then that version is the token, and as good a one.
    pub fn term(&self, token: u128) -> Option<&Term> {
        self.terms.get(&token).or_else(|| self.terms.get(&self.term_at(token)?))
    }

    /// The term to which the record of this version belongs.
    pub fn term_at(&self, version: u128) -> Option<u128> {
        self.versions.get(&version).and_then(|version| version.term)
    }

    pub fn edited_between(&self, after: u128, until: u128) -> bool {
        self.edits.iter().any(|edit| after < *edit && *edit <= until)
    }

    /// Whether somebody spoke for the holder of the earlier term between its last write and the later term's first.
    pub fn edited_between_terms(&self, one: u128, other: u128) -> bool {
        let (earlier, later) = (one.min(other), one.max(other));
        let applied = self.term(earlier).map_or(earlier, |term| term.applied);
        self.edited_between(applied, later)
    }

    fn record(&mut self, version: u128, after: Option<&Facts>) {
        let record = after.map(|after| {
            let Facts { uid, holder, duration_seconds, acquire_micros, renew_micros, transitions, .. } = after.clone();
            (uid, holder, duration_seconds, acquire_micros, renew_micros, transitions)
        });
        let next = self.runs.len() as Run;
        let run = *self.runs.entry(record).or_insert(next);
        let term = self.current.filter(|_| after.is_some_and(|after| !after.coordinated));
        let lease =
            after.map(|after| Stated { held: after.holder.is_some(), duration_seconds: after.duration_seconds });
        self.versions.insert(version, Version { run, owner: self.current, term, lease });
    }
}

/// What a node sends.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    pub conditions: Option<Conditions>,
    pub releases: bool,
    pub creates: bool,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Acquisition,
    Renewal,
    Release,
}

fn kind(before: Option<&Facts>, after: &Facts) -> Kind {
    match before {
        _ if after.holder.is_none() => Kind::Release,
        Some(before) if before.holder == after.holder && before.acquire_micros == after.acquire_micros => Kind::Renewal,
        _ => Kind::Acquisition,
    }
}

impl Checks {
    pub fn sent(&mut self, node: usize, what: Sending, clock: BootTime) {
        let Sending { conditions, releases, creates } = what;
        if creates {
            self.check_patience_of_creation(node, clock);
        }
        if let Some(conditions) = conditions {
            self.require(conditions.version && conditions.uid, Check::Conditional, || {
                format!("node {node} sends a replacement with {conditions:?}")
            });
        }
        let work = self.life(node).work;
        self.require(!releases || work.is_none(), Check::Release, || {
            format!("node {node} releases while its work in term {work:?} is alive")
        });
    }

    /// The API server applied a change, at an instant at which the nodes' boot clocks showed `clocks`.
    pub fn applied(
        &mut self,
        writer: Writer,
        version: u128,
        before: Option<&Facts>,
        after: Option<&Facts>,
        clocks: &[BootTime],
    ) {
        match (writer, after) {
            (Writer::Node { node, life, sent }, Some(after)) => {
                self.applied_by_node(node, life, sent, before, after);
            }
            (Writer::Foreign(_), Some(after)) => {
                let taken = after.holder.is_some() && before.is_none_or(|before| before.holder != after.holder);
                if taken {
                    self.check_none_in_term(None, version, clocks);
                }
                self.history.current = None;
            }
            (_, after) => self.history.current = after.and_then(|after| self.term_of(after)),
        }
        if let (Writer::Node { node, .. }, Some(after)) = (writer, after)
            && kind(before, after) == Kind::Acquisition
        {
            self.check_none_in_term(Some(node), version, clocks);
        }
        if matches!(writer, Writer::Operator(true) | Writer::Foreign(true)) {
            self.history.edits.push(version);
        }
        self.history.record(version, after);
    }

    /// All of the earlier term is over before the write that begins the next can be applied.
    fn check_none_in_term(&mut self, by: Option<usize>, version: u128, clocks: &[BootTime]) {
        for other in (0..self.candidates.len()).filter(|other| Some(*other) != by) {
            let Some(life) = self.candidates[other].lives.last() else { continue };
            let work = life.work.filter(|_| !self.work_may_overlap);
            let lead = life.lead.filter(|lead| clocks[other] < lead.until).map(|lead| lead.token);
            for (token, check) in [(lead, Check::OneLeader), (work, Check::OneWorker)] {
                let Some(token) = token.filter(|token| !self.history.edited_between_terms(*token, version)) else {
                    continue;
                };
                self.fail(check, || format!("the Lease is taken as version {version}, but node {other} is in {token}"));
            }
        }
    }

    /// Whose acquisition a record states that an operator has edited, and perhaps put back as it was.
    fn term_of(&self, lease: &Facts) -> Option<u128> {
        let stated = |term: &&Term| {
            term.uid == lease.uid
                && Some(&self.candidates[term.node].name) == lease.holder.as_ref()
                && term.acquired_micros == lease.acquire_micros
        };
        self.history.terms.values().filter(stated).map(|term| term.won).max()
    }

    fn applied_by_node(&mut self, node: usize, life: usize, sent: BootTime, before: Option<&Facts>, after: &Facts) {
        let incarnation = self.candidates[node].lives[life].incarnation.clone();
        let owner = self.history.current.and_then(|token| self.history.terms.get(&token));
        let name = &self.candidates[node].name;
        let own = before.is_some_and(|before| before.holder.as_ref() == Some(name))
            && owner.is_some_and(|term| term.node == node && term.incarnation == incarnation);
        let handed = before.is_some_and(|before| before.coordinated);
        self.require(!handed, Check::Patience, || {
            format!("node {node} writes to a Lease that a controller coordinates")
        });
        if before.is_some_and(|before| before.uid == after.uid && before.same_record(after)) {
            // An announcement: no sign of life, and nothing else of the object may change.
            return self.require(before.map(|before| &before.other) == Some(&after.other), Check::Record, || {
                format!("node {node} announces itself and changes {before:?} into {after:?}")
            });
        }
        self.check_record(node, before, after);
        match kind(before, after) {
            Kind::Release => {
                self.require(own, Check::Release, || {
                    format!("node {node} releases a record that is not its own: {before:?}")
                });
                self.history.current = None;
            }
            Kind::Renewal => {
                self.require(own, Check::Patience, || {
                    format!("node {node} renews a record that is not its own: {before:?}")
                });
                let token = self.history.current;
                if let Some(term) = token.and_then(|token| self.history.terms.get_mut(&token)) {
                    term.sent = term.sent.max(sent);
                    term.applied = after.version;
                }
            }
            Kind::Acquisition => {
                if !own {
                    self.check_patience(node, life, sent, before);
                }
                let term = Term {
                    node,
                    incarnation,
                    uid: after.uid.clone(),
                    acquired_micros: after.acquire_micros,
                    sent,
                    won: after.version,
                    applied: after.version,
                };
                self.history.terms.insert(after.version, term);
                self.history.current = Some(after.version);
            }
        }
    }

    /// A record that is another's runs out before anybody takes the Lease over.
    fn check_patience(&mut self, node: usize, life: usize, sent: BootTime, before: Option<&Facts>) {
        let Some(Facts { holder: Some(_), version, duration_seconds, .. }) = before else { return };
        self.check_waited(node, life, sent, *version, *duration_seconds);
    }

    /// A creation can't be made to depend on anything, so what counts is what this life knew when it sent it: of a
    /// record that vanished, a rival's waits until that has run out all the same.
    fn check_patience_of_creation(&mut self, node: usize, sent: BootTime) {
        let life = self.candidates[node].lives.len() - 1;
        let newest = self.life(node).newest;
        if let Some((version, duration)) = newest.and_then(|newest| self.last_held(newest, node, life)) {
            self.check_waited(node, life, sent, version, duration);
        }
    }

    fn check_waited(&mut self, node: usize, life: usize, sent: BootTime, version: u128, stated: Option<u32>) {
        let own = self.candidates[node].timing.lease_duration_seconds();
        let wait = std::time::Duration::from_secs(stated.unwrap_or(own).into());
        let run = self.history.versions.get(&version).map(|version| version.run);
        let seen = run.and_then(|run| self.candidates[node].lives[life].first_seen.get(&run)).copied();
        self.require(seen.is_some_and(|seen| sent >= seen + wait), Check::Patience, || {
            format!(
                "node {node} takes the Lease at {sent:?} from version {version}, seen first at {seen:?}, stated to \
                 last {wait:?}"
            )
        });
    }

    /// The version and duration of the record that stood when the Lease vanished, if it was a rival's.
    fn last_held(&self, newest: u128, node: usize, life: usize) -> Option<(u128, Option<u32>)> {
        let life = &self.candidates[node].lives[life];
        let version = life.last_lease.filter(|version| *version <= newest)?;
        let found = self.history.versions.get(&version)?;
        let (stated, owner) = (found.lease?, found.owner);
        let own = owner
            .and_then(|token| self.history.terms.get(&token))
            .is_some_and(|term| term.node == node && term.incarnation == life.incarnation);
        (stated.held && !own).then_some((version, stated.duration_seconds))
    }

    fn check_record(&mut self, node: usize, before: Option<&Facts>, after: &Facts) {
        let holder_before = before.and_then(|before| before.holder.as_ref());
        let expected = match before {
            None => 0,
            Some(before) if after.holder.is_none() || after.holder.as_ref() == holder_before => before.transitions,
            Some(before) => before.transitions.saturating_add(1),
        };
        self.require(after.transitions == expected, Check::Record, || {
            format!("node {node} writes {} transitions where {expected} are right", after.transitions)
        });
        let kind = kind(before, after);
        let name = &self.candidates[node].name;
        self.require(after.holder.as_ref().is_none_or(|holder| holder == name), Check::Record, || {
            format!("node {node} names {:?} the holder", after.holder)
        });
        let lasting = if kind == Kind::Release { 1 } else { self.candidates[node].timing.lease_duration_seconds() };
        self.require(after.duration_seconds == Some(lasting), Check::Record, || {
            format!("node {node} writes a duration of {:?}, not {lasting}", after.duration_seconds)
        });
        let begins =
            kind == Kind::Renewal || (after.acquire_micros.is_some() && after.acquire_micros == after.renew_micros);
        self.require(begins, Check::Record, || format!("node {node} acquires or releases at two times: {after:?}"));
        let Some(before) = before else { return };
        let rises = kind != Kind::Renewal || before.renew_micros.is_none_or(|renew| after.renew_micros > Some(renew));
        self.require(rises, Check::Record, || {
            format!("node {node} renews at {:?} what was renewed at {:?}", after.renew_micros, before.renew_micros)
        });
        let kept = after.uid == before.uid && after.other == before.other && after.coordinated == before.coordinated;
        self.require(kept, Check::Record, || {
            format!("node {node} changed what is not its own: {before:?} to {after:?}")
        });
    }

    /// A version of the Lease, or of its absence, reached a node.
    pub fn delivered(&mut self, node: usize, version: u128, clock: BootTime) {
        let found = self.history.versions.get(&version);
        let (run, is_lease) = (found.map(|found| found.run), found.is_some_and(|found| found.lease.is_some()));
        let life = self.life_mut(node);
        if life.newest >= Some(version) {
            return;
        }
        life.newest = Some(version);
        if is_lease {
            life.last_lease = Some(version);
        }
        if let Some(run) = run.filter(|run| life.observed != Some(*run)) {
            life.observed = Some(run);
            life.first_seen.insert(run, clock);
        }
    }
}
