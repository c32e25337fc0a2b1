//! Compares what processes have written down (AUDIT_LOG) with what the API server has, line for line.
//!
//! Calls are joined by `auditID`; but a watch, to which kube-apiserver 1.20 gives no name in its answer, by its path, in
//! which stand the version that it begins at and a length that is drawn by lot. Then everything that both sides know must
//! be the same, and of the calls that a thread makes one after the other the order. Only three things are no difference, and
//! each is counted and named:
//!
//! - a call without an answer: the program cannot know whether the server has had it, nor under which name;
//! - a call of a process that was killed, after the last one that it has written down of its kind;
//! - a watch that was open when the API server was killed: that writes it down when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::entry::Entry;

/// What one process has written down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// For people.
    pub(crate) name: String,
    pub(crate) pod: String,
    pub(crate) lines: Vec<Entry>,
    /// It did not end in its own time, so it may have had no time to write all down.
    pub(crate) cut: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) processes: usize,
    /// Calls that both sides know.
    pub(crate) compared: usize,
    /// Those of them that were joined by their paths.
    pub(crate) by_path: usize,
    pub(crate) differences: Vec<String>,
    pub(crate) without_answer: Vec<String>,
    pub(crate) without_line: Vec<String>,
    pub(crate) without_entry: Vec<String>,
    /// How often each verb was answered with each status.
    pub(crate) calls: BTreeMap<(String, String), BTreeMap<u64, usize>>,
}

/// How the API server fared meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Uptime {
    Whole,
    /// It was killed, and started again.
    Broken,
}

/// The processes of one namespace, and all that its API server knows of it.
pub(crate) fn compare(runs: &[Run], server: &[Entry], uptime: Uptime) -> Findings {
    let mut findings = Findings { processes: runs.len(), ..Findings::default() };
    let mut open: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in server {
        if entry.id.is_empty() || open.insert(&entry.id, entry).is_some() {
            findings.differ(&entry.pod, "two of the API server's entries have one ID, or none", entry);
        }
    }
    let mut last: Vec<BTreeMap<&str, &str>> = Vec::new();
    for run in runs {
        let pairs = findings.join(run, &mut open, uptime);
        last.push(findings.check_order(run, &pairs));
    }
    for run in runs {
        for line in run.lines.iter().filter(|line| line.status.is_none()) {
            findings.lost(run, line, &mut open);
        }
    }
    for entry in open.into_values() {
        let cut = |(run, last): &(&Run, &BTreeMap<&str, &str>)| {
            let after = entry.sequence().and_then(|sequence| last.get(sequence));
            run.cut && run.pod == entry.pod && after.is_none_or(|last| entry.received.as_str() > *last)
        };
        match runs.iter().zip(&last).find(cut) {
            Some((run, _)) => findings.without_line.push(format!("{}: {}", run.name, entry.told())),
            None => findings.differ(&entry.pod, "the program has no line for", entry),
        }
    }
    findings
}

impl Findings {
    fn differ(&mut self, who: &str, what: &str, entry: &Entry) {
        self.differences.push(format!("{who}: {what}: {}", entry.told()));
    }

    /// Finds the server's entry for each line that names one, and compares the two.
    fn join<'a>(
        &mut self,
        run: &'a Run,
        open: &mut BTreeMap<&str, &'a Entry>,
        uptime: Uptime,
    ) -> Vec<(&'a Entry, &'a Entry)> {
        let mut pairs = Vec::new();
        for line in run.lines.iter().filter(|line| line.status.is_some()) {
            let by_path = line.verb == "watch" && line.id.is_empty();
            let found = if by_path { take_alike(line, open) } else { open.remove(line.id.as_str()) };
            let Some(entry) = found else {
                if line.verb == "watch" && uptime == Uptime::Broken {
                    self.without_entry.push(format!("{}: {}", run.name, line.told()));
                    continue;
                }
                self.differ(&run.name, "the API server has no entry for", line);
                continue;
            };
            self.compared += 1;
            self.by_path += usize::from(by_path);
            let kind = (line.resource.clone(), line.verb.clone());
            *self.calls.entry(kind).or_default().entry(line.status.unwrap_or_default()).or_default() += 1;
            for (field, ours, theirs) in differing(line, entry) {
                self.differ(&run.name, &format!("{field} is {ours:?} here and {theirs:?} there"), line);
            }
            pairs.push((line, entry));
        }
        pairs
    }

    /// When the server had the last call of each sequence.
    fn check_order<'a>(&mut self, run: &Run, pairs: &[(&Entry, &'a Entry)]) -> BTreeMap<&'static str, &'a str> {
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for (line, entry) in pairs {
            let Some(sequence) = line.sequence() else { continue };
            if last.insert(sequence, &entry.received).is_some_and(|before| before > entry.received.as_str()) {
                self.differ(&run.name, "the API server had it before the line above", line);
            }
        }
        last
    }

    /// A call without an answer: the server may have had it all the same.
    fn lost(&mut self, run: &Run, line: &Entry, open: &mut BTreeMap<&str, &Entry>) {
        let never_sent = matches!(line.reason.as_str(), "connect" | "tls");
        let found = if never_sent { None } else { take_alike(line, open) };
        let there = match found {
            Some(entry) => {
                format!("there {}", entry.status.map_or("no answer either".to_owned(), |status| status.to_string()))
            }
            None => "not there".to_owned(),
        };
        self.without_answer.push(format!("{}: {} ({}), {there}", run.name, line.told(), line.reason));
    }

    pub(crate) fn add(&mut self, other: Findings) {
        self.processes += other.processes;
        self.compared += other.compared;
        self.by_path += other.by_path;
        self.differences.extend(other.differences);
        self.without_answer.extend(other.without_answer);
        self.without_line.extend(other.without_line);
        self.without_entry.extend(other.without_entry);
        for (kind, statuses) in other.calls {
            let mine = self.calls.entry(kind).or_default();
            statuses.into_iter().for_each(|(status, count)| *mine.entry(status).or_default() += count);
        }
    }

    /// What was done to what, and not refused.
    pub(crate) fn used(&self) -> BTreeSet<(String, String)> {
        let refused = |statuses: &BTreeMap<u64, usize>| statuses.keys().all(|status| matches!(status, 401 | 403));
        self.calls.iter().filter(|(_, statuses)| !refused(statuses)).map(|(kind, _)| kind.clone()).collect()
    }
}

/// The first call that is there of the same Pod, and looks the same.
fn take_alike<'a>(line: &Entry, open: &mut BTreeMap<&str, &'a Entry>) -> Option<&'a Entry> {
    let same = |entry: &&Entry| (&entry.pod, &entry.verb, &entry.path) == (&line.pod, &line.verb, &line.path);
    let found = open.values().copied().filter(same).min_by_key(|entry| &entry.received)?;
    open.remove(found.id.as_str())
}

/// What both sides know and say otherwise.
fn differing<'a>(ours: &'a Entry, theirs: &'a Entry) -> Vec<(&'static str, String, String)> {
    // An object's name stands in a POST's body, which is not read before the caller is known and allowed to.
    let unread = ours.verb == "create" && matches!(ours.status, Some(401 | 403)) && theirs.name.is_empty();
    // Nobody's token: the server can't say whose.
    let unknown = ours.status == Some(401) && theirs.pod.is_empty();
    let status = |entry: &Entry| entry.status.map_or_else(String::new, |status| status.to_string());
    let (status_here, status_there) = (status(ours), status(theirs));
    let texts = [
        ("verb", &ours.verb, &theirs.verb, true),
        ("group", &ours.group, &theirs.group, true),
        ("resource", &ours.resource, &theirs.resource, true),
        ("subresource", &ours.subresource, &theirs.subresource, true),
        ("namespace", &ours.namespace, &theirs.namespace, true),
        ("name", &ours.name, &theirs.name, !unread),
        ("path", &ours.path, &theirs.path, true),
        ("status", &status_here, &status_there, true),
        // The server notes a reason with some failures, and a version with some writes.
        ("reason", &ours.reason, &theirs.reason, !theirs.reason.is_empty()),
        ("resourceVersion", &ours.version, &theirs.version, !theirs.version.is_empty()),
        ("Pod", &ours.pod, &theirs.pod, !unknown),
    ];
    let differ = texts.into_iter().filter(|(_, ours, theirs, both_know)| *both_know && ours != theirs);
    differ.map(|(field, ours, theirs, _)| (field, ours.clone(), theirs.clone())).collect()
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (processes, compared, differences) = (self.processes, self.compared, self.differences.len());
        writeln!(f, "{compared} calls of {processes} processes compared, {differences} differences")?;
        writeln!(f, "{} of them joined by auditID, {} watches by their path", compared - self.by_path, self.by_path)?;
        for ((resource, verb), statuses) in &self.calls {
            let all: usize = statuses.values().sum();
            let each: Vec<_> = statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
            writeln!(f, "  {resource:9} {verb:7} {all:5}  ({})", each.join(", "))?;
        }
        for (what, list) in [
            ("without an answer", &self.without_answer),
            ("of killed processes without a line", &self.without_line),
            ("of a killed API server without an entry", &self.without_entry),
            ("different", &self.differences),
        ] {
            writeln!(f, "{} calls {what}{}", list.len(), if list.is_empty() { "" } else { ":" })?;
            list.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}
