//! Every variable wrong, in turn and all at once.

use std::collections::BTreeSet;
use std::io::pipe;
use std::net::TcpListener;
use std::process::Command;

use leasehold::program::config;

use crate::process::{Program, program};

/// The variable, a wrong value, and what is said about it. `said_of` differs where one is only wrong beside another.
struct Wrong {
    name: &'static str,
    value: &'static str,
    said_of: &'static str,
    problem: &'static str,
}

const fn wrong(name: &'static str, value: &'static str, problem: &'static str) -> Wrong {
    Wrong { name, value, said_of: name, problem }
}

const TABLE: &[Wrong] = &[
    wrong("LEASE_NAME", "Web_1", "not a valid name"),
    wrong("LEASE_NAMESPACE", "team.a", "not a valid name"),
    wrong("LEASE_DURATION", "fast", "not a duration"),
    wrong("RENEWAL_DEADLINE", "soon", "not a duration"),
    wrong("RETRY_PERIOD", "0", "must be more than zero"),
    wrong("RENEW_INTERVAL", "-1", "not a duration"),
    wrong("POD_NAME", "pod a", "not a valid name"),
    wrong("POD_UID", "a b", "visible ASCII"),
    wrong("POD_REVISION", "a b", "visible ASCII"),
    wrong("SERVICE_NAME", "Web", "not a valid name"),
    wrong("ROUTE_LABEL", "a/b/c", "not a label key"),
    wrong("PORT", "65536", "not a port"),
    wrong("TASK_INTERVAL", "0s", "must be more than zero"),
    wrong("HEALTH_URL", "https://127.0.0.1/", "must be http:// to a loopback address"),
    wrong("HEALTH_INTERVAL", "often", "not a duration"),
    wrong("HEALTH_FAILURES", "0", "not a count"),
    wrong("EVENTS", "maybe", "neither on nor off"),
    wrong("DRAIN_TIMEOUT", "1e3", "not a duration"),
    wrong("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc", "not an IP address"),
    wrong("KUBERNETES_SERVICE_PORT", "0", "not a port"),
    wrong("AUDIT_LOG", "on", "unknown"),
    wrong("RUST_LOG", "inof", "not a level"),
    wrong("LOG_FORMAT", "xml", "write text or json"),
];

/// Each of these stands in the place of another, so it cannot be wrong in the same breath.
const INSTEAD: &[Wrong] = &[
    wrong("KUBE_API_URL", "http://10.0.0.1:8001", "loopback"),
    wrong("HOSTNAME", "pod a", "not a valid name"),
    wrong("KUBERNETES_PORT_443_TCP_ADDR", "fd00::zz", "not an IP address"),
    Wrong { name: "SERVICE_ACCOUNT_DIR", value: "/nowhere", said_of: "LEASE_NAMESPACE", problem: "/nowhere/namespace" },
];

fn right() -> Program {
    Program::default()
        .with("LEASE_NAME", "web")
        .with("LEASE_NAMESPACE", "team-a")
        .with("POD_NAME", "pod-a")
        .with("SERVICE_NAME", "web")
        .with("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .with("KUBERNETES_SERVICE_PORT", "6443")
        .with("PORT", "0")
}

/// Runs it to its end with exit code 2; what it said.
#[track_caller]
fn refused(program: &Program) -> Vec<String> {
    let process = program.start();
    assert_eq!(process.exit_code(), 2, "{}", process.log.text());
    assert_eq!(process.stdout.to_the_end(), [""; 0]);
    let lines = process.log.to_the_end();
    assert_eq!(lines[0], "leasehold: the configuration is wrong:");
    lines[1..].to_vec()
}

#[test]
fn every_variable_is_in_the_table() {
    let listed: BTreeSet<_> = TABLE.iter().chain(INSTEAD).map(|wrong| wrong.name).collect();
    let known: BTreeSet<_> = config::VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(listed, known);
}

#[test]
fn each_wrong_value_is_named_with_its_variable_and_what_would_be_right() {
    for Wrong { name, value, said_of, problem } in TABLE.iter().chain(INSTEAD) {
        let mut program = right().with(name, *value);
        match *name {
            "KUBERNETES_PORT_443_TCP_ADDR" => program = program.with("KUBERNETES_SERVICE_HOST", "api.shoot.internal"),
            "HOSTNAME" => program = program.without("POD_NAME"),
            "SERVICE_ACCOUNT_DIR" => program = program.without("LEASE_NAMESPACE"),
            _ => {}
        }
        let lines = refused(&program);
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        assert!(lines[0].starts_with(said_of) && lines[0].contains(problem), "{name}: {lines:?}");
        assert!(said_of != name || lines[0].starts_with(&format!("{name}=\"{value}\": ")), "{name}: {lines:?}");
    }
}

#[test]
fn all_wrong_values_are_named_at_once() {
    let program = TABLE.iter().fold(right(), |program, wrong| program.with(wrong.name, wrong.value));
    let lines = refused(&program);
    for Wrong { name, problem, .. } in TABLE {
        let said = lines.iter().filter(|line| line.starts_with(&format!("{name}=")) && line.contains(problem)).count();
        assert_eq!(said, 1, "{name}: {lines:#?}");
    }
    assert_eq!(lines.len(), TABLE.len(), "{lines:#?}");
}

#[test]
fn what_is_missing_is_named() {
    for (name, problem) in [
        ("LEASE_NAME", "not set"),
        ("LEASE_NAMESPACE", "Set it to the namespace of the Lease"),
        ("POD_NAME", "metadata.name"),
        ("KUBERNETES_SERVICE_HOST", "every Pod has it"),
        ("KUBERNETES_SERVICE_PORT", "every Pod has it"),
    ] {
        for program in [right().without(name), right().with(name, "")] {
            let lines = refused(&program);
            assert_eq!(lines.len(), 1, "{name}: {lines:?}");
            assert!(lines[0].starts_with(&format!("{name}: ")) && lines[0].contains(problem), "{name}: {lines:?}");
        }
    }
    let lines = refused(&Program::default());
    let starts = ["LEASE_NAME: ", "LEASE_NAMESPACE: ", "KUBERNETES_SERVICE_HOST: ", "POD_NAME: "];
    assert!(starts.iter().all(|start| lines.iter().any(|line| line.starts_with(start))), "{lines:#?}");
}

#[test]
fn wrong_arguments_are_named() {
    for (args, problem) in [
        (&["lead"][..], "argument \"lead\""),
        (&["--verbose"], "argument \"--verbose\""),
        (&["--"], "nothing to run after it"),
    ] {
        let lines = refused(&right().args(args));
        assert!(lines[0].contains(problem), "{args:?}: {lines:?}");
    }
}

#[test]
fn the_exit_code_is_right_though_nobody_reads_standard_error() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let ended = Command::new(program()).env_clear().stderr(writer).status().expect("it runs");
    assert_eq!(ended.code(), Some(2), "{ended}");
}

#[test]
fn help_and_version_need_no_settings() {
    for (argument, text) in [("--help", "LEASE_DURATION"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let process = Program::default().args([argument]).start();
        assert_eq!(process.exit_code(), 0);
        assert!(process.stdout.to_the_end().join("\n").contains(text), "{argument}");
        assert_eq!(process.log.to_the_end(), [""; 0]);
    }
}

#[test]
fn what_only_the_machine_can_refuse_is_named_too() {
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let process = right().with("PORT", &port).start();
    assert_eq!(process.exit_code(), 1);
    process.log.line_with(&format!("PORT {port} cannot be listened on"));
    let process = right().with("AUDIT_LOG", "/nowhere/at/all").start();
    assert_eq!(process.exit_code(), 1);
    process.log.line_with("AUDIT_LOG: cannot append to the audit log /nowhere/at/all");
}

#[test]
fn a_misspelt_variable_is_mentioned() {
    let process = right().with("LEASE_DURATON", "30").start();
    process.says("the variable LEASE_DURATON is not known; is LEASE_DURATION meant?");
}
