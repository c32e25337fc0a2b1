//! AUDIT_LOG against the API server's own audit log: what the program says that it has asked for is what it has asked for.
//!
//! Every process that a [`World`] starts keeps an audit log of its own. Where the API server is the in-memory one, each
//! behaviour is compared with the requests that it remembers; where it is a real one (`crate::real`), all are compared
//! with kube-apiserver's audit log.

mod checked;
mod compare;
mod entry;
pub(crate) mod scenarios;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

pub(crate) use self::compare::{Findings, Run, Uptime, compare};
pub(crate) use self::entry::Entry;
use crate::process::{Pace, Page, World, eventually};

/// What the processes of a world have written down; for when they have ended.
pub(crate) fn runs(world: &World) -> Vec<Run> {
    world.pages().iter().map(run).collect()
}

fn run(page: &Page) -> Run {
    // Who is wrong about its settings never opens it.
    let text = std::fs::read_to_string(&page.file).unwrap_or_default();
    let whole = |line: &&str| !page.is_cut() || line.ends_with('}');
    let parsed = text.lines().filter(whole).map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line.get("droppedLines").is_none(), "{}: lines were dropped: {line}", page.name);
        Entry::of_program(&line, &page.pod)
    });
    let lines = parsed.collect();
    Run { name: page.name.clone(), pod: page.pod.clone(), lines, cut: page.is_cut() }
}

/// Lets it happen on the in-memory server, and compares.
pub(crate) fn in_memory(behaviour: impl FnOnce(&World)) {
    let world = World::in_memory();
    behaviour(&world);
    let findings = compare(&runs(&world), &entry::remembered(server(&world)), Uptime::Whole);
    assert!(findings.differences.is_empty(), "{findings}");
    assert!(findings.compared > 0, "nothing was compared");
}

fn server(world: &World) -> &leasehold_apiserver::Server {
    world.memory().expect("a server in memory")
}

/// What happened in one namespace of a real API server.
pub(crate) struct Sheet {
    pub(crate) scenario: String,
    pub(crate) namespace: String,
    pub(crate) runs: Vec<Run>,
    pub(crate) uptime: Uptime,
}

/// Compares all sheets with kube-apiserver's audit log. What it has in namespaces without a sheet is not looked at.
pub(crate) fn compare_with_log(log: &Path, sheets: &[Sheet]) -> BTreeMap<String, Findings> {
    // It writes a call down when it has answered, so a little later than the program.
    let answered = |run: &Run| -> Vec<String> { run.lines.iter().map(|line| line.id.clone()).collect() };
    let wanted: BTreeSet<String> = sheets.iter().flat_map(|sheet| &sheet.runs).flat_map(answered).collect();
    let written = eventually("all calls are in the API server's audit log", || {
        let written = entry::written(log);
        let there: BTreeSet<&str> = written.values().flatten().map(|entry| entry.id.as_str()).collect();
        wanted.iter().all(|id| id.is_empty() || there.contains(id.as_str())).then_some(written)
    });
    let of = |sheet: &Sheet| written.get(&sheet.namespace).map_or(&[][..], Vec::as_slice);
    sheets.iter().map(|sheet| (sheet.scenario.clone(), compare(&sheet.runs, of(sheet), sheet.uptime))).collect()
}

crate::process::behaviours! {
    scenarios:
        a_lease_made_beforehand_is_taken_and_none_is_created
        events_off_writes_none
        a_refused_token_is_read_again
        status_and_yield_look_and_ask_and_no_more
        a_watch_ends_in_good_order_when_its_time_is_up_and_the_next_goes_on_from_there;
}

/// Ending a watch is no reason to ask for the next one.
#[test]
fn a_watch_that_is_ended_is_not_begun_again() {
    let world = World::in_memory();
    let leader = world.candidate("pod-a", Pace::Hours).without("SERVICE_NAME").start();
    leader.wait_until_it_leads();
    let watches = || -> Vec<Entry> {
        let text = std::fs::read_to_string(&world.pages()[0].file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.map(|line| Entry::of_program(&line, "pod-a")).filter(|call| call.verb == "watch").collect()
    };
    eventually("it watches", || (!watches().is_empty()).then_some(()));
    leader.signal("TERM");
    assert_eq!(leader.exit_code(), 0);
    let told: Vec<_> = watches().iter().map(Entry::told).collect();
    assert!(told.len() == 1 && told[0].ends_with(": 200"), "{told:?}");
}
