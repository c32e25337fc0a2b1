//! What the program does as a candidate and as a leader, seen from outside: by the API server, over HTTP, in its log.
//!
//! Every behaviour is a function that runs against the in-memory API server, each as a test of its own. The very same
//! functions run against a real kube-apiserver where one is at hand: `KUBEBUILDER_ASSETS` names a directory with `etcd`
//! and `kube-apiserver`, or `KUBECONFIG` a cluster. There each has a namespace of its own, in which the candidates'
//! ServiceAccount has exactly the shipped Role.

mod command;
mod holding;
mod leading;
mod routing;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::thread;

use leasehold_apiserver::real::{self, Real};
use leasehold_apiserver::store::Fields;
use leasehold_apiserver::{Options, Server};
use serde_json::{Value, json};

use crate::process::{Pace, World};

type Behaviour = fn(&World);

/// So many behaviours at once on a real server: most of the time they wait.
const AT_ONCE: usize = 4;

macro_rules! behaviours {
    ($($file:ident: $($name:ident)*;)*) => {
        const ALL: &[(&str, Behaviour)] = &[$($((stringify!($name), $file::$name)),*),*];

        mod in_memory {
            $($(
                #[test]
                fn $name() {
                    super::$file::$name(&crate::process::World::in_memory());
                }
            )*)*
        }
    };
}

behaviours! {
    leading:
        one_candidate_on_an_absent_lease_leads
        of_three_candidates_exactly_one_leads
        sigterm_hands_over
        sigint_ends_it_as_sigterm_does
        a_second_signal_ends_it_at_once
        a_killed_leader_is_succeeded_when_its_lease_has_run_out
        a_paused_leader_never_leads_again_on_its_old_term
        a_restarted_container_takes_its_lease_back_at_once
        a_second_process_with_the_same_identity_waits_and_says_so;
    holding:
        a_deleted_lease_ends_the_term
        a_lease_given_to_somebody_else_by_hand_ends_the_term
        a_cleared_holder_ends_the_term
        a_leader_that_is_asked_to_yield_hands_over
        only_a_healthy_workload_leads
        events_tell_the_story;
    routing:
        the_pod_is_labelled_and_the_service_follows
        a_missing_service_is_reported_and_routed_once_it_is_there
        a_selector_changed_by_hand_is_put_right
        a_service_with_a_greater_fence_is_left_alone
        the_leader_stays_until_the_service_points_elsewhere;
    command:
        a_command_runs_only_while_leading
        a_command_is_told_its_term_and_asked_to_stop
        a_commands_own_end_releases_the_lease_and_is_the_exit_code;
}

/// The kube-apiserver at hand may be too old to know the field.
#[test]
fn a_coordinated_lease_is_refused_and_said() {
    let server = Server::start(Options::default()).expect("a server in memory");
    server.store().set_lease_fields(Fields::Coordinated);
    let world = World::on(server);
    world.make_lease(&json!({ "strategy": "OldestEmulationVersion" }));
    let candidate = world.candidate("pod-a", Pace::Hours).start();
    candidate.says("has spec.strategy set, so coordinated leader election names its holders: not campaigning");
    assert!(!candidate.leads());
    let untouched = world.lease().expect("a Lease");
    assert_eq!((untouched.holder.as_str(), world.lease_history().len()), ("", 1), "{untouched:?}");
    world.patch_lease(&json!({ "spec": { "strategy": null } }));
    candidate.wait_until_it_leads();
    world.patch_lease(&json!({ "spec": { "strategy": "OldestEmulationVersion" } }));
    candidate.says("stopped being leader: the Lease was handed to coordinated leader election");
}

#[test]
fn on_a_real_api_server() {
    match real::find() {
        Ok(Some(server)) => check(&server),
        Ok(None) => {}
        Err(error) => panic!("no real API server: {error}"),
    }
}

fn check(server: &Real) {
    let queue = Mutex::new(ALL.iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((name, behaviour)) = queue.lock().expect("nobody panics with it").next() else { return };
                    let outcome = panic::catch_unwind(AssertUnwindSafe(|| behaviour(&World::real(server))));
                    println!("{name}: {}", if outcome.is_ok() { "holds" } else { "FAILS" });
                    if outcome.is_err() {
                        failed.lock().expect("nobody panics with it").push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    assert!(failed.is_empty(), "on the real API server: {failed:?}");
    println!("{} behaviours hold on the real API server", ALL.len());
    asked_for_nothing_that_is_not_granted(server);
}

/// What the API server itself wrote down: every call of a candidate was allowed, and every verb of the Role was used.
fn asked_for_nothing_that_is_not_granted(server: &Real) {
    let Some(path) = server.audit_log() else { return };
    let text = std::fs::read_to_string(path).expect("the audit log");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut used = std::collections::BTreeSet::new();
    let ours = |line: &Value| {
        let agent = line["userAgent"].as_str().unwrap_or_default();
        agent.starts_with("leasehold/")
    };
    for line in lines.filter(ours) {
        assert_ne!(line["responseStatus"]["code"], 403, "{line}");
        let object = &line["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        used.insert((text(&object["resource"]), text(&line["verb"])));
    }
    let granted = leasehold::kube::request::RULES.iter();
    let granted = granted.map(|rule| (rule.resource.plural().to_owned(), rule.verb.as_str().to_owned())).collect();
    // Only a leader that says the same thing twice counts on its Event instead of writing another.
    let mut allowed: std::collections::BTreeSet<_> = granted;
    let rest: Vec<_> = allowed.difference(&used).cloned().collect();
    assert!(used.is_subset(&allowed), "asked for {used:?}");
    allowed.retain(|grant| *grant != ("events".to_owned(), "patch".to_owned()));
    assert!(allowed.is_subset(&used), "granted and never used: {rest:?}");
}
