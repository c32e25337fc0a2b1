//! The service account's files: missing, empty, unreadable, garbage, late.

use std::fs;
use std::path::Path;

use super::{account, nothing_leaked, server, talkative, token_of};
use crate::process::{Process, Workload, World, eventually};

/// Starts with a service account that `damage` has been done to, waits for the error, repairs it, waits until it leads.
fn recovers_from(damage: impl FnOnce(&Path), complaint: &[&str]) {
    let world = World::in_memory();
    let program = talkative(&world).with("LEASE_NAMESPACE", &world.namespace);
    let (token, mount) = (token_of(&world), account(&world));
    damage(&mount);
    let process = program.start();
    let said = process.says(" ERROR ");
    complaint.iter().for_each(|part| assert!(said.contains(part), "{said} lacks {part}"));
    assert!(said.contains("SERVICE_ACCOUNT_DIR"), "{said} names no hint");
    waits_in_good_health(&process);
    for file in ["token", "ca.crt"] {
        let _ = fs::remove_dir(mount.join(file)); // One case has made a directory of it.
    }
    world.write_account("pod-a", &mount);
    process.wait_until_it_leads();
    nothing_leaked(&process, server(&world), &token);
}

fn waits_in_good_health(process: &Process) {
    for (path, status) in [("/healthz", 200), ("/readyz", 503), ("/leading", 503), ("/", 200)] {
        assert_eq!(process.get(path).status, status, "{path}");
    }
}

#[test]
fn a_token_that_is_missing() {
    recovers_from(|mount| fs::remove_file(mount.join("token")).unwrap(), &["token: cannot be read: No such file"]);
}

#[test]
fn a_token_that_is_empty() {
    recovers_from(|mount| fs::write(mount.join("token"), " \n").unwrap(), &["token: is empty"]);
}

#[test]
fn a_token_that_cannot_be_read() {
    let make_a_directory = |mount: &Path| {
        fs::remove_file(mount.join("token")).unwrap();
        fs::create_dir(mount.join("token")).unwrap(); // Permissions would not stop root.
    };
    recovers_from(make_a_directory, &["token: cannot be read"]);
}

#[test]
fn a_ca_that_is_missing() {
    recovers_from(|mount| fs::remove_file(mount.join("ca.crt")).unwrap(), &["ca.crt: cannot be read: No such file"]);
}

#[test]
fn a_ca_that_is_garbage() {
    let garbage = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    recovers_from(|mount| fs::write(mount.join("ca.crt"), garbage).unwrap(), &["ca.crt: ", "is no CA certificate"]);
    recovers_from(|mount| fs::write(mount.join("ca.crt"), "garbage").unwrap(), &["ca.crt: holds no certificate"]);
}

#[test]
fn a_namespace_file_that_is_missing_ends_it_with_the_mend() {
    let world = World::in_memory();
    let program = talkative(&world);
    fs::remove_file(account(&world).join("namespace")).unwrap();
    let process = program.start();
    assert_eq!(process.exit_code(), 2);
    process.log.line_with("LEASE_NAMESPACE: not set, and ");
}

#[test]
fn it_can_be_ended_while_it_waits_for_its_credentials() {
    let world = World::in_memory();
    let program = talkative(&world);
    fs::remove_file(account(&world).join("token")).unwrap();
    let process = program.start();
    process.says("token: cannot be read");
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);
    assert!(server(&world).requests().iter().all(|request| request.user != world.user("pod-a")));
}

/// The health gate is shut from the beginning, however long the credentials take.
#[test]
fn a_workload_that_is_not_healthy_does_not_lead_when_the_credentials_come_late() {
    let (world, sick) = (World::in_memory(), Workload::new(false));
    let program = talkative(&world).with("HEALTH_URL", sick.url()).with("HEALTH_INTERVAL", "50ms");
    let mount = account(&world);
    fs::remove_file(mount.join("token")).unwrap();
    let process = program.start();
    process.says("token: cannot be read");
    // Time for whatever would be lost to be lost: it looks for the token again and again.
    process.log.lines_with("still: ", 3);
    world.write_account("pod-a", &mount);
    eventually("it has looked", || (process.get("/readyz").status == 200 && sick.asked() > 2).then_some(()));
    assert_eq!(world.lease(), None, "it campaigns");
    sick.set(true);
    process.wait_until_it_leads();
}
