//! `examples/worker.rs`, run as a user would: without a cluster, and as in a Pod.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use leasehold_apiserver::{Options, Server};

/// cargo builds the examples before it runs the tests, into the folder beside them; with `--test it` alone, nobody has.
fn example() -> Command {
    let test = std::env::current_exe().expect("this test's own path");
    let path: PathBuf = test.ancestors().nth(2).expect("target/PROFILE/deps").join("examples/worker");
    if !path.exists() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--example", "worker"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(cargo.status().expect("cargo runs").success());
    }
    let mut command = Command::new(path);
    command.env_clear();
    command
}

#[test]
fn without_a_cluster_it_rehearses_and_ends_by_itself() {
    let done = example().output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let mut at = 0;
    for part in [
        "worker-a  wrote report 1 with token",
        "worker-a is cut off",
        "worker-b  wrote report",
        "a report that was on its way all the time: refused: token",
        "worker-b  stopped leading: shutting down",
        "worker-a  wrote report",
        "holds the reports of three terms",
    ] {
        at += said[at..].find(part).unwrap_or_else(|| panic!("{part:?} in order in {said}"));
    }
}

#[test]
fn as_in_a_pod_it_leads_until_it_is_told_to_end_and_releases() {
    let server = Server::start(Options::default()).unwrap();
    let mount = std::env::temp_dir().join(format!("leasehold-worker-test-{}", std::process::id()));
    let token = server.add_user("system:serviceaccount:team-a:worker");
    server.write_service_account(&mount, &token, "team-a").unwrap();
    let mut child = example()
        .env("KUBERNETES_SERVICE_HOST", server.addr().ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", server.addr().port().to_string())
        .env("SERVICE_ACCOUNT_DIR", &mount)
        .env("HOSTNAME", "worker-0")
        .env("AUDIT_LOG", mount.join("audit"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("wrote report 1 with token ")));
    assert_eq!(server.holder("team-a", "worker").as_deref(), Some("worker-0"));
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert_eq!(rest, ["no longer leading: shutting down", "nobody leads"]);
    assert_eq!(server.holder("team-a", "worker"), None);
    let audited = std::fs::read_to_string(mount.join("audit")).unwrap();
    assert!(audited.lines().any(|line| line.contains(r#""why":"release""#)), "written before it ended:\n{audited}");
    for request in server.requests() {
        assert!(audited.contains(&request.audit_id), "{request:?} is not in:\n{audited}");
    }
    std::fs::remove_dir_all(&mount).unwrap();
}

#[test]
fn a_pod_that_is_none_is_told_what_is_missing() {
    let done = example().env("KUBE_API_URL", "http://10.0.0.1:80").output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    for part in ["KUBE_API_URL", "POD_NAME", "LEASE_NAMESPACE"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(said.contains("10.0.0.1"), "{said}");
}
