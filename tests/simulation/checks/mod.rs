//! The observers. They share no code with the election: they know real time, every node's clocks, all that was sent,
//! applied and delivered, and compare it with what each node says of itself.
//!
//! PURE. A violation names the check that found it; the first one stands.
//!
//! Instants are not sampled. Whether a node leads, or its work is alive, begins only where the simulator hands an
//! input to that node, and ends by itself at an instant known beforehand. Two such intervals overlap exactly if, at
//! the beginning of the later one, the earlier one has not ended; so every beginning is checked against all others.

mod accounts;
mod history;
mod service;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use leasehold::election::{Timing, Validity};
use leasehold::time::BootTime;

use history::{History, Run};
pub use history::{Sending, Writer};

/// What is checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Check {
    /// Never two nodes for which `leading` holds at one real instant.
    OneLeader,
    /// Never two nodes whose work is alive at one real instant; work starts only in a valid term.
    OneWorker,
    /// A term is valid from before the send of an applied write, for the renewal deadline, and not longer.
    TermLength,
    /// Tokens rise from term to term, are constant in one, and a term that ended is over.
    Tokens,
    /// Every replacement carries `resourceVersion` and uid.
    Conditional,
    /// No write by a non-holder before expiry, by the record's own duration on the writer's clock, or vacancy.
    Patience,
    /// Released is only one's own record, and only after the work has ended.
    Release,
    /// Transitions, times, and the fields that are not ours.
    Record,
    /// Every term that started its work reports its end, and its work ends, exactly once.
    Accounts,
    /// Who has been told of a rival, a vacancy or a deletion does not lead.
    WatchUpdate,
    /// The Service's fence never falls; only a term's own node turns it, with its own token.
    Route,
    /// When nothing is wrong, the Service points at the leader.
    Settled,
    /// Calls that do not reach their goal are not repeated without a pause (P20).
    Pace,
    /// A leader again within the bound after the faults stop, after a crash, and after a shutdown.
    Liveness,
    /// Shut down, a node is done in bounded time, and the Lease is left vacant.
    Shutdown,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub check: Check,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

/// What a node says of itself, after it was handed an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lead {
    pub token: u128,
    pub until: BootTime,
}

/// One life of one node.
#[derive(Debug)]
struct Life {
    incarnation: String,
    lead: Option<Lead>,
    /// Terms in which it led, and does not any more.
    over: HashSet<u128>,
    work: Option<u128>,
    /// The terms it began, by the write that won them.
    begun: HashMap<u128, u128>,
    /// The record that the newest version delivered to it states.
    observed: Option<Run>,
    /// Since when it has stood, in that life's eyes; of each record, the last time.
    first_seen: HashMap<Run, BootTime>,
    /// The newest version that was delivered to it.
    newest: Option<u128>,
    /// The newest of them that was a Lease, not its deletion.
    last_lease: Option<u128>,
    accounts: BTreeMap<u128, accounts::Account>,
}

/// What the checks know of a node in all its lives.
#[derive(Debug)]
struct Candidate {
    name: String,
    timing: Timing,
    lives: Vec<Life>,
}

#[derive(Debug)]
pub struct Checks {
    violation: Option<Violation>,
    candidates: Vec<Candidate>,
    history: History,
    /// The highest token with which anybody has led so far.
    highest: u128,
    /// Clock rates are so far apart that only leading, not dying work, is guaranteed to be alone.
    work_may_overlap: bool,
    /// The versions were rewound: from here on only what a restored backup leaves is expected.
    restored: bool,
    route_calls: HashMap<usize, service::RouteCalls>,
    lease_calls: HashMap<(usize, usize), service::RouteCalls>,
}

impl Checks {
    pub fn new(work_may_overlap: bool) -> Checks {
        Checks {
            violation: None,
            candidates: Vec::new(),
            history: History::default(),
            highest: 0,
            work_may_overlap,
            restored: false,
            route_calls: HashMap::new(),
            lease_calls: HashMap::new(),
        }
    }

    pub fn add_candidate(&mut self, name: &str, timing: Timing) {
        self.candidates.push(Candidate { name: name.to_owned(), timing, lives: Vec::new() });
    }

    /// A new life; the one before is dead, and with it its work and whether it led.
    pub fn born(&mut self, node: usize, incarnation: &str) {
        self.died(node);
        self.route_begins(node);
        self.candidates[node].lives.push(Life {
            incarnation: incarnation.to_owned(),
            lead: None,
            over: HashSet::new(),
            work: None,
            begun: HashMap::new(),
            observed: None,
            last_lease: None,
            first_seen: HashMap::new(),
            newest: None,
            accounts: BTreeMap::new(),
        });
    }

    pub fn died(&mut self, node: usize) {
        if let Some(life) = self.candidates[node].lives.last_mut() {
            life.lead = None;
            life.work = None;
            life.accounts.clear();
        }
    }

    pub fn versions_rewound(&mut self) {
        self.restored = true;
    }

    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub fn fail(&mut self, check: Check, what: impl FnOnce() -> String) {
        let kept = [Check::Accounts, Check::Liveness, Check::Shutdown, Check::Settled, Check::Pace];
        let lost_by_restoring = !kept.contains(&check);
        if self.violation.is_none() && !(self.restored && lost_by_restoring) {
            self.violation = Some(Violation { check, what: what() });
        }
    }

    fn require(&mut self, holds: bool, check: Check, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(check, what);
        }
    }

    fn life(&self, node: usize) -> &Life {
        self.candidates[node].lives.last().expect("born before it acts")
    }

    fn life_mut(&mut self, node: usize) -> &mut Life {
        self.candidates[node].lives.last_mut().expect("born before it acts")
    }

    fn called(&self, node: usize) -> String {
        format!("node {node} ({})", self.candidates[node].name)
    }

    /// A node has taken an input. `clocks`: all nodes' boot clocks at this instant.
    pub fn handled(&mut self, node: usize, lead: Option<Lead>, validity: Option<Validity>, clocks: &[BootTime]) {
        let before = self.life(node).lead;
        if let Some(before) = before
            && (lead.map(|lead| lead.token) != Some(before.token) || clocks[node] >= before.until)
        {
            self.life_mut(node).over.insert(before.token);
        }
        if let Some(lead) = lead {
            self.check_term(node, lead, before.map(|before| before.token), validity);
            self.check_alone(node, lead.token, clocks);
            self.check_news(node, lead.token);
        }
        if let (Some(work), Some(validity)) = (self.life(node).work, validity) {
            self.check_kill(node, work, validity.kill_at);
        }
        self.life_mut(node).lead = lead;
    }

    fn check_term(&mut self, node: usize, lead: Lead, before: Option<u128>, validity: Option<Validity>) {
        let token = lead.token;
        let resumed = self.life(node).over.contains(&token);
        self.require(!resumed, Check::Tokens, || format!("node {node} resumes term {token}, which was over"));
        let Some(term) = self.history.term(token).filter(|term| term.node == node).cloned() else {
            return self.fail(Check::Tokens, || format!("node {node} leads with {token}, which no write of its won"));
        };
        let longest = term.sent + self.candidates[node].timing.renewal_deadline();
        self.require(lead.until <= longest, Check::TermLength, || {
            format!("node {node} leads until {:?}, but its last applied write allows {longest:?}", lead.until)
        });
        self.check_kill(node, token, validity.map_or(BootTime(u64::MAX), |validity| validity.kill_at));
        if before != Some(token) {
            let highest = self.highest;
            let edited = self.history.edited_between(token, highest);
            self.require(token > highest || edited, Check::Tokens, || {
                format!("node {node} begins term {token} after term {highest} began")
            });
            self.highest = highest.max(token);
            let again = self.life_mut(node).begun.insert(term.won, token).filter(|before| *before != token);
            self.require(again.is_none(), Check::Tokens, || {
                format!("node {node} begins terms {again:?} and {token}, and won both by version {}", term.won)
            });
        }
    }

    /// Three quarters of the way from the renewal deadline to the lease duration is the latest that leaves a margin.
    fn check_kill(&mut self, node: usize, token: u128, kill_at: BootTime) {
        let Some(term) = self.history.term(token) else { return };
        let timing = &self.candidates[node].timing;
        let latest = term.sent + timing.lease_duration() - (timing.lease_duration() - timing.renewal_deadline()) / 4;
        self.require(kill_at <= latest, Check::TermLength, || {
            format!("node {node} kills the work of term {token} at {kill_at:?}, later than {latest:?}")
        });
    }

    /// At the instant in which `node` begins, or is about, to lead in term `token`: nobody else does.
    fn check_alone(&mut self, node: usize, token: u128, clocks: &[BootTime]) {
        for other in (0..self.candidates.len()).filter(|other| *other != node) {
            let Some(life) = self.candidates[other].lives.last() else { continue };
            if let Some(lead) = life.lead.filter(|lead| clocks[other] < lead.until)
                && !self.history.edited_between_terms(lead.token, token)
            {
                let (who, whom) = (self.called(node), self.called(other));
                self.fail(Check::OneLeader, || {
                    format!("{who} leads in term {token} while {whom} leads in term {}", lead.token)
                });
            }
        }
        self.check_no_other_work(node, token);
    }

    fn check_no_other_work(&mut self, node: usize, token: u128) {
        for other in (0..self.candidates.len()).filter(|other| *other != node) {
            let work = self.candidates[other].lives.last().and_then(|life| life.work);
            if let Some(work) = work.filter(|_| !self.work_may_overlap)
                && !self.history.edited_between_terms(work, token)
            {
                let (who, whom) = (self.called(node), self.called(other));
                self.fail(Check::OneWorker, || format!("{who} in term {token}, but {whom} still works in term {work}"));
            }
        }
    }

    fn check_news(&mut self, node: usize, token: u128) {
        let newest = self.life(node).newest.unwrap_or(0);
        let still_its_own = newest <= token || self.history.term_at(newest) == self.history.term_at(token);
        self.require(still_its_own, Check::WatchUpdate, || {
            format!("node {node} leads in term {token} though version {newest}, which it was told of, is not its own")
        });
    }

    /// `leading` depends on the instant alone: what the node says now must hold until then, and no longer.
    pub fn contradiction(&mut self, node: usize, what: &str) {
        self.fail(Check::TermLength, || format!("node {node}: {what}"));
    }

    pub fn work_started(&mut self, node: usize, token: u128, clocks: &[BootTime]) {
        let lead = self.life(node).lead.filter(|lead| clocks[node] < lead.until);
        self.require(lead.is_some_and(|lead| lead.token == token), Check::OneWorker, || {
            format!("node {node} starts the work of term {token}, in which it does not lead")
        });
        let earlier = self.life_mut(node).work.replace(token);
        self.require(earlier.is_none(), Check::OneWorker, || {
            format!("node {node} starts the work of term {token} beside that of term {earlier:?}")
        });
        self.check_no_other_work(node, token);
    }

    pub fn work_ended(&mut self, node: usize) {
        self.life_mut(node).work = None;
    }

    /// A suspended machine wakes, its work with it; what the alarm on the boot clock kills is dead already.
    pub fn work_woke(&mut self, node: usize, token: u128) {
        self.life_mut(node).work = Some(token);
        for other in (0..self.candidates.len()).filter(|other| *other != node) {
            let lives = &self.candidates[other].lives;
            if let Some(work) = lives.last().and_then(|life| life.work).filter(|_| !self.work_may_overlap)
                && !self.history.edited_between_terms(work.min(token), work.max(token))
            {
                self.fail(Check::OneWorker, || {
                    format!("node {node} wakes in term {token}, node {other} works in {work}")
                });
            }
        }
    }

    pub fn work_without_limit(&mut self, node: usize) {
        self.fail(Check::OneWorker, || format!("node {node}'s work is alive and nothing says until when"));
    }
}
