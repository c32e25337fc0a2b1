//! Everything that is expected of either API server, on a real kube-apiserver where one is at hand: `KUBEBUILDER_ASSETS`
//! names a directory with `etcd` and `kube-apiserver`, or `KUBECONFIG` a cluster. Side by side, as most of the time they
//! wait; each in a namespace of its own, in which the candidates' ServiceAccount has exactly the shipped Role, or that of a
//! variant of the manifests, or the shipped one without one right.
//!
//! Then the audit logs are compared, the program's and the API server's, and what was asked for with what is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::thread;

use leasehold_apiserver::real::{self, Real};

use crate::audit::{self, Findings, Sheet, Uptime};
use crate::election;
use crate::process::{Pace, World, eventually};
use crate::rights::missing::{self, RIGHTS};
use crate::rights::variants::{self, VARIANTS};
use crate::rules::RULES;

/// So many at once.
const AT_ONCE: usize = 4;

struct Scenario {
    name: String,
    /// The candidates' Role lacks something, so that calls are refused.
    refused: bool,
    play: Box<dyn Fn(&World) + Send + Sync>,
}

impl Scenario {
    fn new(name: &str, play: impl Fn(&World) + Send + Sync + 'static) -> Scenario {
        Scenario { name: name.to_owned(), refused: false, play: Box::new(play) }
    }
}

/// `said`: what the program says of each right that it lacks.
fn scenarios() -> Vec<Scenario> {
    let behaviours = election::ALL.iter().chain(audit::ALL).map(|(name, behaviour)| Scenario::new(name, behaviour));
    let variants = VARIANTS.iter().map(|components| {
        Scenario::new(&variants::title(components), |world| variants::uses_what_its_role_grants(world, components))
    });
    let missing =
        RIGHTS.iter().map(|right| Scenario::new(&right.title(), move |world| missing::take_away(world, right)));
    let update = "a_lease_that_is_made_and_cannot_be_updated_is_led_for_one_term";
    let update = Scenario::new(update, missing::a_lease_that_is_made_and_cannot_be_updated_is_led_for_one_term);
    let lacking = missing.chain([update]).map(|scenario| Scenario { refused: true, ..scenario });
    behaviours.chain(variants).chain(lacking).collect()
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
    let scenarios = scenarios();
    let mut sheets = side_by_side(server, &scenarios);
    let outage = an_outage_of_the_api_server(server);
    // An API server that has just started knows no Roles yet, and refuses what it will allow a moment later.
    let starting = outage.iter().map(|sheet| sheet.scenario.clone());
    let refused: BTreeSet<String> =
        scenarios.iter().filter(|it| it.refused).map(|it| it.name.clone()).chain(starting).collect();
    sheets.extend(outage);
    // Not by println!, which is kept back when all is well: these are the results.
    let mut out = io::stderr();
    let Some(log) = server.audit_log() else { return };
    let all = agree(&audit::compare_with_log(&log, &sheets), &refused);
    writeln!(out, "the program's audit log and kube-apiserver's, in {} scenarios: {all}", sheets.len())
        .expect("standard error takes it");
    assert!(all.differences.is_empty(), "see above");
}

/// Nothing is refused but what is meant to be, and what is used in the scenarios with the whole Role is what that grants.
fn agree(found: &BTreeMap<String, Findings>, refused: &BTreeSet<String>) -> Findings {
    let (mut all, mut allowed) = (Findings::default(), Findings::default());
    for (name, findings) in found {
        assert!(findings.compared > 0, "{name}: nothing was compared");
        if !refused.contains(name) {
            let refused = findings.calls.values().any(|statuses| statuses.contains_key(&403));
            assert!(!refused, "{name}: {findings}");
            allowed.add(findings.clone());
        }
        all.add(findings.clone());
    }
    let granted = RULES.iter().map(|rule| (rule.resource.plural().to_owned(), rule.verb.as_str().to_owned()));
    assert_eq!(allowed.used(), granted.collect::<BTreeSet<_>>(), "what is used (left) and what is granted (right)");
    all
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
