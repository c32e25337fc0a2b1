//! What a client may expect of the API, asked of the in-memory server always, and of a real kube-apiserver where one is
//! at hand: `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver`, or `KUBECONFIG` a cluster.
//!
//! The very same functions run against both, so what they assert is what the two have in common. They print what was
//! skipped; with `LEASEHOLD_REQUIRE_REAL=1` a missing real server is a failure.

mod cluster;
mod leases;
mod permissions;
mod resources;
#[path = "../support/mod.rs"]
mod support;
mod watches;

use cluster::Cluster;

type Expectation = fn(&Cluster);

/// Every expectation of every file, with its name.
fn expectations() -> Vec<(&'static str, Expectation)> {
    [leases::ALL, resources::ALL, permissions::ALL, watches::ALL].concat()
}

fn check(cluster: &Cluster) {
    let all = expectations();
    for (name, expectation) in &all {
        println!("{}: {name}", cluster.name);
        expectation(cluster);
    }
    println!("{}: {} expectations hold", cluster.name, all.len());
}

#[test]
fn the_in_memory_server_meets_the_expectations() {
    check(&Cluster::in_memory());
}

#[test]
fn a_real_kube_apiserver_meets_the_expectations() {
    match leasehold_apiserver::real::find() {
        Ok(Some(server)) => check(&Cluster::real(&server)),
        Ok(None) => {}
        Err(error) => panic!("no real API server: {error}"),
    }
}
