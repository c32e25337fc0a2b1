//! Everything that is expected of either API server, on a real kube-apiserver where one is at hand: `KUBEBUILDER_ASSETS`
//! names a directory with `etcd` and `kube-apiserver`, or `KUBECONFIG` a cluster. Side by side, as most of the time they
//! wait; each in a namespace of its own, in which the candidates' ServiceAccount has exactly the shipped Role.
//!
//! Then the audit logs are compared, the program's and the API server's, and what was asked for with what is granted.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::thread;

use leasehold::kube::request::RULES;
use leasehold_apiserver::real::{self, Real};

use crate::audit::{self, Findings, Sheet, Uptime};
use crate::election;
use crate::process::{Pace, World, eventually};

/// So many at once.
const AT_ONCE: usize = 4;

struct Scenario {
    name: String,
    play: Box<dyn Fn(&World) + Send + Sync>,
}

fn scenarios() -> Vec<Scenario> {
    let behaviours = election::ALL.iter().chain(audit::ALL);
    behaviours.map(|(name, behaviour)| Scenario { name: (*name).to_owned(), play: Box::new(behaviour) }).collect()
}

#[test]
fn on_a_real_api_server() {
    match real::find() {
        Ok(Some(mut server)) => check(&mut server),
        Ok(None) => {}
        Err(error) => panic!("no real API server: {error}"),
    }
}

fn check(server: &mut Real) {
    let mut sheets = side_by_side(server, &scenarios());
    let outage = an_outage_of_the_api_server(server);
    // An API server that has just started knows no Roles yet, and refuses what it will allow a moment later.
    let may_refuse: Vec<_> = outage.iter().map(|sheet| sheet.scenario.clone()).collect();
    sheets.extend(outage);
    let Some(log) = server.audit_log() else { return };
    let found = audit::compare_with_log(&log, &sheets);
    let mut all = Findings::default();
    for (name, findings) in &found {
        assert!(findings.compared > 0, "{name}: nothing was compared");
        let refused: Vec<_> = findings.calls.iter().filter(|(_, statuses)| statuses.contains_key(&403)).collect();
        assert!(refused.is_empty() || may_refuse.contains(name), "{name}: {refused:?}");
        all.add(findings.clone());
    }
    // Not by println!, which is kept back when all is well: this is the result.
    let told =
        writeln!(io::stderr(), "the program's audit log and kube-apiserver's, in {} scenarios: {all}", found.len());
    told.expect("standard error takes it");
    assert!(all.differences.is_empty(), "see above");
    let granted = RULES.iter().map(|rule| (rule.resource.plural().to_owned(), rule.verb.as_str().to_owned()));
    assert_eq!(all.used(), granted.collect::<BTreeSet<_>>(), "what is used (left) and what is granted (right)");
}

fn side_by_side(server: &Real, scenarios: &[Scenario]) -> Vec<Sheet> {
    let (queue, sheets, failed) = (Mutex::new(scenarios.iter()), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(scenario) = next(&queue) {
                    let played = panic::catch_unwind(AssertUnwindSafe(|| play(server, scenario)));
                    println!("{}: {}", scenario.name, if played.is_ok() { "holds" } else { "FAILS" });
                    match played {
                        Ok(sheet) => lock(&sheets).push(sheet),
                        Err(_) => lock(&failed).push(&scenario.name),
                    }
                }
            });
        }
    });
    assert!(lock(&failed).is_empty(), "on the real API server: {:?}", lock(&failed));
    println!("{} scenarios hold on the real API server", scenarios.len());
    sheets.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn next<'a>(queue: &Mutex<std::slice::Iter<'a, Scenario>>) -> Option<&'a Scenario> {
    lock(queue).next()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn play(server: &Real, scenario: &Scenario) -> Sheet {
    let world = World::real(server);
    (scenario.play)(&world);
    sheet(&scenario.name, &world, Uptime::Whole)
}

fn sheet(name: &str, world: &World, uptime: Uptime) -> Sheet {
    Sheet { scenario: name.to_owned(), namespace: world.namespace.clone(), runs: audit::runs(world), uptime }
}

/// It is killed and started again: watches break, calls get no answer, and versions from before are forgotten (410).
fn an_outage_of_the_api_server(server: &mut Real) -> Option<Sheet> {
    let world = World::real(server);
    world.make_service();
    let start = |pod: &str| {
        let program = world.candidate(pod, Pace::Hours).with("RENEW_INTERVAL", "1s").with("DRAIN_TIMEOUT", "0");
        program.start()
    };
    let leader = start("pod-a");
    leader.says("updated Service");
    let other = start("pod-b");
    other.says("new leader pod-a");
    let token = leader.token();
    if !server.restart(|| drop(leader.says("; trying again"))).expect("it starts again") {
        return None;
    }
    leader.says("works again: ");
    assert_eq!(leader.token(), token, "it led all the time");
    let asked = world.stranger("pod-a").args(["yield", "--to", "pod-b"]).start();
    assert_eq!(asked.exit_code(), 0, "{}", asked.log.text());
    eventually("the Service follows", || (world.service()["spec"]["selector"]["pod"] == "pod-b").then_some(()));
    for process in [&leader, &other] {
        process.signal("TERM");
        assert_eq!(process.exit_code(), 0);
    }
    Some(sheet("an outage of the API server", &world, Uptime::Broken))
}
