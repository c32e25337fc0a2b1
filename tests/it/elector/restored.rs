//! etcd is restored from a backup: watches from versions that it has not reached are accepted, and silent.

use std::time::Duration;

use leasehold_apiserver::store::LEASES;
use leasehold_apiserver::{Action, Fault, Reply, View};

use super::{LONG, Running, World};

const SOON: Duration = Duration::from_millis(50);

#[test]
fn a_watch_that_a_restored_backup_made_deaf_is_restarted() {
    let world = World::new();
    let server = &world.server;
    let a = Running::start(world.candidate("a").renew_interval(SOON));
    a.leads();
    let b = Running::start(world.candidate("b"));
    assert!(server.wait_until(LONG, |now| now.watches == 2));
    let version = |now: View| now.store.object_version(LEASES, "ns", "web").unwrap_or_default();
    let backup = server.store().snapshot();
    let far = backup.resource_version() + 1_000_000;
    server.store().advance_resource_version(far);
    assert!(server.wait_until(LONG, |now| version(now) > far + 5));

    // The candidate's looks fail until its watch is open again: from a version that the server has not reached.
    let looks = server.faults().add(Fault::new(Action::Answer(Reply::status(503))).user("b").verb("get"));
    server.store().restore(&backup);
    let opened =
        |now: View| now.requests.iter().filter(|request| request.user == "b" && request.verb == "watch").count();
    server.watches().of("b").cut();
    assert!(server.wait_until(LONG, |now| opened(now) == 2 && now.watches == 2));
    assert!(server.wait_until(LONG, |now| version(now) > backup.resource_version() && version(now) < far));
    server.faults().remove(looks);
    // Its next look brings a smaller version, which is newer: it watches from there.
    assert!(server.wait_until(LONG, |now| opened(now) == 3 && now.watches == 2), "the watch stays deaf");

    let _ = (b.end(), a.end());
}
