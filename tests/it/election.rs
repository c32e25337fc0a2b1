//! What the program does as a candidate and as a leader, seen from outside: by the API server, over HTTP, in its log.
//!
//! Every behaviour is a function that runs against the in-memory API server, each as a test of its own. The very same
//! functions run against a real kube-apiserver: see `crate::real`.

mod command;
mod holding;
mod leading;
mod routing;
mod routing_pace;

use leasehold_apiserver::store::Fields;
use leasehold_apiserver::{Action, Fault, Options, Reply, Server};
use serde_json::json;

use crate::process::{Pace, World};

crate::process::behaviours! {
    leading:
        one_candidate_on_an_absent_lease_leads
        of_three_candidates_exactly_one_leads
        sigterm_hands_over
        sigint_ends_it_as_sigterm_does
        a_second_signal_ends_it_at_once
        a_killed_leader_is_succeeded_when_its_lease_has_run_out
        a_paused_leader_never_leads_again_on_its_old_term
        a_restarted_container_takes_its_lease_back_at_once
        a_second_process_with_the_same_identity_waits_and_says_so
        a_log_that_nobody_reads_costs_no_term;
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
        a_service_with_the_fence_of_a_later_term_is_left_alone
        a_fence_of_another_history_is_void
        a_lease_name_changed_and_changed_back_does_not_lock_the_service
        the_leader_stays_until_the_service_points_elsewhere;
    command:
        a_command_runs_only_while_leading
        a_command_is_told_its_term_and_asked_to_stop
        sigquit_goes_to_a_running_command_and_ends_a_standby
        a_leader_whose_loop_cannot_start_releases_the_lease_and_ends
        a_commands_own_end_releases_the_lease_and_is_the_exit_code;
}

/// The log goes to the same pipe, and neither waits for its reader.
#[test]
fn an_audit_log_that_nobody_reads_costs_no_term() {
    let world = World::in_memory();
    let program = world.candidate("pod-a", Pace::Hours).with("AUDIT_LOG", "stderr");
    leading::leads_unheard(&world, program);
}

#[test]
fn looks_that_fail_while_a_hand_over_is_awaited_do_not_end_it() {
    let world = World::in_memory();
    let start = |pod: &str| world.candidate(pod, Pace::Hours).without("SERVICE_NAME").start();
    let leader = start("pod-a");
    leader.wait_until_it_leads();
    let other = start("pod-b");
    other.says("new leader pod-a");
    let program = world.candidate("operator", Pace::Hours).args(["yield"]);
    let look = Fault::new(Action::Answer(Reply::status(500))).user(&world.user("operator")).verb("get");
    let failing = world.memory().expect("a server in memory").faults().add(look.after(1).times(1));
    let asked = program.start();
    assert_eq!(asked.exit_code(), 0, "{}", asked.log.text());
    assert_eq!(world.memory().expect("a server in memory").faults().fired(failing), 1);
    asked.stdout.line_with("pod-b leads, after ");
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
    candidate.says("remove spec.strategy and spec.preferredHolder together");
    assert!(!candidate.leads());
    let untouched = world.lease().expect("a Lease");
    assert_eq!((untouched.holder.as_str(), world.lease_history().len()), ("", 1), "{untouched:?}");
    world.patch_lease(&json!({ "spec": { "strategy": null } }));
    candidate.wait_until_it_leads();
    world.patch_lease(&json!({ "spec": { "strategy": "OldestEmulationVersion" } }));
    candidate.says("stopped being leader: the Lease was handed to coordinated leader election");
    let asked = world.candidate("pod-a", Pace::Hours).args(["yield"]).start();
    assert_eq!(asked.exit_code(), 1);
    asked.says("remove spec.strategy and spec.preferredHolder together");
}
