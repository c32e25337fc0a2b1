//! The API server: out of reach, not to be trusted, not answering, answering nonsense.

use leasehold_apiserver::{Action, Certificate, Fault, Reply, Server};
use serde_json::json;

use super::{account, nothing_leaked, server, talkative, token_of};
use crate::process::{LIMIT, World, eventually};

const GET: &str = "GET /apis/coordination.k8s.io/v1/namespaces/team-a/leases/leasehold: ";
const POST: &str = "POST /apis/coordination.k8s.io/v1/namespaces/team-a/leases?fieldManager=leasehold: ";
const PUT: &str = "PUT /apis/coordination.k8s.io/v1/namespaces/team-a/leases/leasehold?fieldManager=leasehold: ";

/// Starts while `harm` is done, waits for the complaint, undoes it, waits until it leads. What it then has said.
#[track_caller]
fn recovers(world: &World, harm: impl FnOnce(&Server), complaint: &[&str], undo: impl FnOnce(&Server)) -> String {
    let program = talkative(world);
    let token = token_of(world);
    harm(server(world));
    let process = program.start();
    let said = process.says(" WARN ");
    complaint.iter().for_each(|part| assert!(said.contains(part), "{said} lacks {part}"));
    assert!(said.ends_with("; trying again"), "{said}");
    undo(server(world));
    process.wait_until_it_leads();
    nothing_leaked(&process, server(world), &token);
    process.log.text()
}

/// A fault for one verb on the Lease.
#[track_caller]
fn recovers_from(world: &World, verb: &str, action: Action, complaint: &[&str]) {
    let (reads, refuses) = (verb == "get", matches!(action, Action::Answer(_) | Action::ResetBefore));
    let fault = Fault::new(action).verb(verb).path("/leases").user(&world.user("pod-a"));
    let harm = |server: &Server| {
        server.faults().add(fault);
    };
    let said = recovers(world, harm, complaint, |server| server.faults().clear());
    // A write that was applied all the same needs no second one: the Lease tells.
    assert!(said.contains("works again: ") || !(reads || refuses), "{said}");
}

#[test]
fn a_server_that_is_out_of_reach() {
    let harm = |server: &Server| server.refuse_connections().unwrap();
    let undo = |server: &Server| server.accept_connections().unwrap();
    let said = recovers(&World::in_memory(), harm, &[GET, "connect: ", "refused"], undo);
    assert!(said.contains("works again: "), "{said}");
}

#[test]
fn a_certificate_that_is_not_to_be_trusted() {
    for kind in [Certificate::OtherAuthority, Certificate::WrongName, Certificate::Expired] {
        let harm = |server: &Server| server.serve_certificate(kind).unwrap();
        let undo = |server: &Server| server.serve_certificate(Certificate::Valid).unwrap();
        let world = World::in_memory();
        recovers(&world, harm, &[GET, "tls: ", "certificate"], undo);
    }
}

#[test]
fn a_token_that_is_not_accepted_until_another_is_mounted() {
    let world = World::in_memory();
    let program = talkative(&world);
    let refused = token_of(&world);
    server(&world).revoke_token(&refused);
    let process = program.start();
    let said = process.says(" WARN ");
    assert!(said.contains(GET) && said.contains("401 Unauthorized"), "{said}");
    let accepted = world.write_account("pod-a", &account(&world));
    process.wait_until_it_leads();
    nothing_leaked(&process, server(&world), &refused);
    nothing_leaked(&process, server(&world), &accepted);
}

#[test]
fn a_namespace_that_is_not_there() {
    let harm = |server: &Server| server.store().set_namespaces(&[]);
    let undo = |server: &Server| server.store().set_namespaces(&["team-a"]);
    recovers(&World::in_memory(), harm, &[POST, "404 NotFound", "namespaces \"team-a\" not found"], undo);
}

#[test]
fn answers_that_make_no_sense() {
    let existing = || {
        let world = World::in_memory();
        world.make_lease(&json!({}));
        world
    };
    for (action, complaint) in [
        (Action::Answer(Reply::garbage()), "200 with a malformed body"),
        (Action::Answer(Reply::bytes(200, "text/html", "<html>Login</html>")), "200 with a malformed body"),
        (Action::Answer(Reply::bytes(200, "application/json", "{}")), "200 with a malformed body"),
        (Action::TruncateBody(40), "200 with a malformed body"),
        (Action::CutReply(40), "cut: "),
        (Action::Answer(Reply::huge(10 << 20)), "protocol: the response body is larger than request limit: 1048576"),
    ] {
        recovers_from(&existing(), "get", action.clone(), &[GET, complaint]);
        // A write may have been applied all the same: it is not said to lead before it has looked.
        recovers_from(&existing(), "update", action, &[PUT, complaint]);
    }
}

#[test]
fn answers_that_are_errors() {
    for (reply, complaint) in [
        (Reply::status(500), "500 InternalError"),
        (Reply::status(503).retry_after(1), "503 ServiceUnavailable"),
        (Reply::status(429).retry_after(1), "429 TooManyRequests"),
        (Reply::status(422), "422: a fault of the test"),
        (Reply::bytes(502, "text/html", "<html>\r\n<b>Bad Gateway</b>"), "502: <html>"),
        (Reply::bytes(302, "text/html", "elsewhere").header("Location", "http://127.0.0.1:1/"), "302: elsewhere"),
    ] {
        recovers_from(&World::in_memory(), "get", Action::Answer(reply.clone()), &[GET, complaint]);
        recovers_from(&World::in_memory(), "create", Action::Answer(reply), &[POST, complaint]);
    }
}

#[test]
fn connections_that_break() {
    for action in [Action::ResetBefore, Action::DropReply] {
        recovers_from(&World::in_memory(), "get", action.clone(), &[GET, "cut: "]);
        recovers_from(&World::in_memory(), "create", action, &[POST, "cut: "]);
    }
}

/// A look that works says nothing of the write that does not: "works again" must not come for it.
#[test]
fn a_failure_is_said_once_however_often_it_is_met() {
    let world = World::in_memory();
    world.make_lease(&json!({}));
    let fault = Fault::new(Action::Answer(Reply::status(500))).verb("update").path("/leases/");
    let fault = server(&world).faults().add(fault);
    let process = talkative(&world).start();
    assert!(server(&world).faults().wait_fired(fault, 4, LIMIT), "it tries again");
    let complaints = process.log.lines().into_iter().filter(|line| line.contains(" WARN ")).count();
    assert_eq!((complaints, process.said("works again")), (1, false), "{}", process.log.text());
    server(&world).faults().clear();
    process.wait_until_it_leads();
    process.says("works again: PUT ");
}

/// A leader whose server goes away stops in time, and leads again when it comes back.
#[test]
fn a_leader_outlives_its_server() {
    let world = World::in_memory();
    let program = talkative(&world).with("LEASE_DURATION", "3s").with("RENEWAL_DEADLINE", "2s");
    let process = program.start();
    let before = process.token();
    server(&world).refuse_connections().unwrap();
    process.says("stopped being leader: no renewal was acknowledged before the deadline");
    assert!(!process.leads());
    server(&world).accept_connections().unwrap();
    eventually("a new term", || (process.token() > before).then_some(()));
}
