mod arguments;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::environment::Mistake;
use crate::kube::AuditTarget;

/// A Pod with nothing set but what every Pod has, and the one variable without a default.
fn pod() -> BTreeMap<String, OsString> {
    let set = [
        ("LEASE_NAME", "demo"),
        ("HOSTNAME", "demo-7d4f-x2x9z"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ];
    set.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect()
}

fn with(changes: &[(&str, &str)]) -> BTreeMap<String, OsString> {
    let mut env = pod();
    env.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))));
    env
}

fn read(args: &[&str], env: &BTreeMap<String, OsString>) -> Result<Invocation, Mistakes> {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    parse(&args, &|name| env.get(name).cloned(), &|path| {
        assert!(path.ends_with("namespace"), "{path:?}");
        Ok("team-a\n".into())
    })
}

#[track_caller]
fn run(args: &[&str], changes: &[(&str, &str)]) -> Config {
    match read(args, &with(changes)) {
        Ok(Invocation::Run(config)) => config,
        other => panic!("{changes:?}: {other:?}"),
    }
}

#[track_caller]
fn mistakes(args: &[&str], changes: &[(&str, &str)]) -> Vec<Mistake> {
    match read(args, &with(changes)) {
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty());
            mistakes.0
        }
        Ok(invocation) => panic!("{args:?} {changes:?} was accepted: {invocation:?}"),
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn in_a_pod_a_lease_name_is_all_that_is_needed() {
    let config = run(&[], &[]);
    assert_eq!(
        config,
        Config {
            access: LeaseAccess {
                lease_name: "demo".into(),
                namespace: "team-a".into(),
                api_url: "https://10.96.0.1:443".into(),
                service_account_dir: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
                audit_log: None,
            },
            log: LogConfig { filter: "info".into(), format: LogFormat::Text },
            identity: "demo-7d4f-x2x9z".into(),
            pod_uid: None,
            pod_revision: None,
            timing: Timing::default(),
            service: None,
            port: 8080,
            task_interval: seconds(1),
            health: None,
            events: true,
            drain_timeout: seconds(5),
            command: None,
        }
    );
    assert_eq!(config.timing.renew_interval(), seconds(5));
}

#[test]
fn everything_can_be_set() {
    let config = run(
        &["--", "worker", "--json", "status"],
        &[
            ("LEASE_NAME", "demo.example.com"),
            ("LEASE_NAMESPACE", "team-b"),
            ("LEASE_DURATION", "1m"),
            ("RENEWAL_DEADLINE", "40s"),
            ("RETRY_PERIOD", "2500ms"),
            ("RENEW_INTERVAL", "7.5"),
            ("POD_NAME", "demo-0"),
            ("POD_UID", "6c1f5bb2-0d54-4a9a-9a4e-0b2a6f1f3a11"),
            ("POD_REVISION", "7d4f9c6b5"),
            ("SERVICE_NAME", "demo"),
            ("ROUTE_LABEL", "statefulset.kubernetes.io/pod-name"),
            ("PORT", "0"),
            ("TASK_INTERVAL", "0.25"),
            ("HEALTH_URL", "http://[::1]:9000/healthz?deep=1"),
            ("HEALTH_INTERVAL", "500ms"),
            ("HEALTH_FAILURES", "1"),
            ("EVENTS", "off"),
            ("DRAIN_TIMEOUT", "0"),
            ("KUBE_API_URL", "https://[fd00::1]/"),
            ("SERVICE_ACCOUNT_DIR", "/tmp/sa"),
            ("AUDIT_LOG", "/tmp/audit.jsonl"),
            ("RUST_LOG", "my_app[span]=trace"),
            ("LOG_FORMAT", "json"),
        ],
    );
    let timing = Timing::new(seconds(60), seconds(40), Duration::from_millis(2500), Some(Duration::from_millis(7500)));
    assert_eq!(
        config,
        Config {
            access: LeaseAccess {
                lease_name: "demo.example.com".into(),
                namespace: "team-b".into(),
                api_url: "https://[fd00::1]:443".into(),
                service_account_dir: "/tmp/sa".into(),
                audit_log: Some(AuditTarget::File("/tmp/audit.jsonl".into())),
            },
            log: LogConfig { filter: "my_app[span]=trace".into(), format: LogFormat::Json },
            identity: "demo-0".into(),
            pod_uid: Some("6c1f5bb2-0d54-4a9a-9a4e-0b2a6f1f3a11".into()),
            pod_revision: Some("7d4f9c6b5".into()),
            timing: timing.unwrap(),
            service: Some(ServiceConfig {
                name: "demo".into(),
                route_label: "statefulset.kubernetes.io/pod-name".into()
            }),
            port: 0,
            task_interval: Duration::from_millis(250),
            health: Some(Health {
                url: "http://[::1]:9000/healthz?deep=1".into(),
                interval: Duration::from_millis(500),
                failures: 1,
            }),
            events: false,
            drain_timeout: Duration::ZERO,
            command: Some(vec!["worker".into(), "--json".into(), "status".into()]),
        }
    );
}

#[test]
fn an_empty_value_counts_as_unset() {
    let names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    let needed: Vec<_> = pod().into_keys().collect();
    let empty: Vec<_> =
        names.iter().filter(|name| !needed.iter().any(|n| n == *name)).map(|name| (*name, "")).collect();
    assert_eq!(run(&[], &empty), run(&[], &[]));
    assert_eq!(mistakes(&[], &[("LEASE_NAME", "")])[0].name, "LEASE_NAME");
}

/// Variable, a wrong value, and what the message must say.
const WRONG: &[(&str, &str, &str)] = &[
    ("LEASE_NAME", "Demo", "at most 253 of a-z"),
    ("LEASE_NAME", "a..b", "each part"),
    ("LEASE_NAME", "a/../b", "at most 253"),
    ("LEASE_NAME", "-a", "beginning and ending"),
    ("LEASE_NAMESPACE", "team.a", "at most 63 of a-z"),
    ("LEASE_NAMESPACE", "../x", "at most 63 of a-z"),
    ("LEASE_DURATION", "fifteen", "not a duration; write seconds"),
    ("LEASE_DURATION", "15.5", "whole seconds"),
    ("LEASE_DURATION", "15500ms", "must be whole seconds, from 1 to 2147483647, as a Lease holds no fractions"),
    ("LEASE_DURATION", "10", "must be more than RENEWAL_DEADLINE (10s)"),
    ("LEASE_DURATION", "9", "set RENEWAL_DEADLINE below 9s"),
    ("LEASE_DURATION", "2147483648", "the longest is 2147483647 seconds"),
    ("RENEWAL_DEADLINE", "2.4", "must be more than 1.2 x RETRY_PERIOD (2s)"),
    ("RENEWAL_DEADLINE", "2", "set RETRY_PERIOD below 1.66"),
    ("RENEWAL_DEADLINE", "0", "more than zero"),
    ("RETRY_PERIOD", "0", "more than zero"),
    ("RETRY_PERIOD", "0ms", "more than zero"),
    ("RETRY_PERIOD", "-2", "not a duration"),
    ("RETRY_PERIOD", "2 s", "not a duration"),
    ("RENEW_INTERVAL", "5.001", "at most half of RENEWAL_DEADLINE (10s)"),
    ("RENEW_INTERVAL", "6", "set it to 5s or less"),
    ("RENEW_INTERVAL", "0", "more than zero"),
    ("RENEW_INTERVAL", "inf", "not a duration"),
    ("POD_NAME", "pod a", "visible ASCII characters, without spaces"),
    ("POD_NAME", "pod\n", "visible ASCII"),
    ("HOSTNAME", " node", "visible ASCII"),
    ("POD_UID", "\u{7}", "1 to 253 visible ASCII"),
    ("POD_REVISION", "a b", "1 to 253 visible ASCII"),
    ("SERVICE_NAME", "my_service", "at most 63 of a-z"),
    ("SERVICE_NAME", "a.b", "at most 63 of a-z"),
    ("ROUTE_LABEL", "a/b/c", "not a label key"),
    ("ROUTE_LABEL", "/pod", "not a label key"),
    ("ROUTE_LABEL", "example.com/", "not a label key"),
    ("ROUTE_LABEL", "_pod", "not a label key"),
    ("ROUTE_LABEL", "Example.com/pod", "not a label key"),
    ("PORT", "65536", "from 1 to 65535"),
    ("PORT", "-80", "not a port"),
    ("PORT", "http", "not a port"),
    ("TASK_INTERVAL", "0", "more than zero"),
    ("HEALTH_URL", "https://127.0.0.1/", "http:// to a loopback"),
    ("HEALTH_URL", "http://10.0.0.1/", "http:// to a loopback"),
    ("HEALTH_URL", "http://app/healthz", "names are not resolved"),
    ("HEALTH_URL", "127.0.0.1:80/", "begins with http://"),
    ("HEALTH_URL", "http://localhost/a b", "without spaces"),
    ("HEALTH_URL", "http://localhost/#x", "spaces or #"),
    ("HEALTH_INTERVAL", "1x", "not a duration"),
    ("HEALTH_FAILURES", "0", "1 or more"),
    ("HEALTH_FAILURES", "1.5", "not a count"),
    ("EVENTS", "maybe", "neither on nor off"),
    ("DRAIN_TIMEOUT", "-1", "not a duration"),
    ("KUBERNETES_SERVICE_HOST", "api.example.com", "set KUBE_API_URL=https://ADDRESS:PORT"),
    ("KUBERNETES_SERVICE_HOST", "10.0.0.256", "not an IP address"),
    ("KUBERNETES_SERVICE_PORT", "0", "from 1 to 65535"),
    ("KUBERNETES_SERVICE_PORT", "tcp://10.0.0.1:443", "not a port"),
    ("KUBE_API_URL", "http://10.0.0.1:8001", "loopback address only"),
    ("KUBE_API_URL", "http://0.0.0.0:8001", "loopback address only"),
    ("KUBE_API_URL", "https://api.example.com", "IP address or localhost"),
    ("KUBE_API_URL", "https://10.0.0.1/k8s/clusters/c-1", "a path or query is not supported"),
    ("KUBE_API_URL", "https://10.0.0.1?x=1", "a path or query is not supported"),
    ("KUBE_API_URL", "https://10.0.0.1:0", "not a port"),
    ("KUBE_API_URL", "https://10.0.0.1:", "not a port"),
    ("KUBE_API_URL", "https://fd00::1", "stands in brackets"),
    ("KUBE_API_URL", "https://[fd00::1", "IP address or localhost"),
    ("KUBE_API_URL", "https://[10.0.0.1]:443", "IP address or localhost"),
    ("KUBE_API_URL", "https://", "IP address or localhost"),
    ("KUBE_API_URL", "ftp://10.0.0.1", "http:// or https://"),
    ("AUDIT_LOG", "on", "off, stdout, stderr or the path of a file"),
    ("RUST_LOG", "inof", "\"inof\" is not a level"),
    ("RUST_LOG", "info,ureq=verbose", "\"verbose\" is not a level"),
    ("LOG_FORMAT", "xml", "text or json"),
];

#[test]
fn each_wrong_value_is_one_mistake_that_names_the_variable_the_value_and_what_would_be_right() {
    for &(name, value, problem) in WRONG {
        let found = mistakes(&[], &[(name, value)]);
        assert_eq!(found.len(), 1, "{name}={value}: {found:?}");
        assert_eq!(found[0].name, name, "{found:?}");
        let line = found[0].to_string();
        assert!(line.contains(problem), "{line}\nlacks {problem:?}");
        assert!(line.contains(&format!("{name}=\"{}\": ", value.escape_debug())), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn every_variable_is_wrong_at_once() {
    // Text that no variable accepts; a path may be anything that is UTF-8.
    let anything_but_utf8: BTreeMap<String, OsString> =
        VARIABLES.iter().map(|variable| (variable.name.into(), OsString::from_vec(vec![b'a', 0xff]))).collect();
    let Err(found) = read(&[], &anything_but_utf8) else { panic!("accepted") };
    // HOSTNAME, and host and port, don't matter once POD_NAME and KUBE_API_URL are set.
    let unread = ["HOSTNAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_PORT_443_TCP_ADDR"];
    let expected: BTreeSet<_> =
        VARIABLES.iter().map(|variable| variable.name).filter(|name| !unread.contains(name)).collect();
    assert_eq!(found.0.iter().map(|mistake| mistake.name.as_str()).collect::<BTreeSet<_>>(), expected);
    assert_eq!(found.0.len(), expected.len(), "{found}");
    assert_eq!(found.to_string().lines().count(), expected.len());
    assert!(found.0.iter().all(|mistake| mistake.problem == "not valid UTF-8"));

    // The same with a readable but wrong value for each: its last one above.
    let one_each: BTreeMap<&str, &str> = WRONG.iter().map(|&(name, value, _)| (name, value)).collect();
    let all: Vec<_> = one_each.into_iter().collect();
    let found = mistakes(&["--frobnicate"], &all);
    let names: BTreeSet<_> = found.iter().map(|mistake| mistake.name.as_str()).collect();
    let expected: BTreeSet<_> = all
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !unread.contains(name))
        .chain(["argument \"--frobnicate\""])
        .collect();
    assert_eq!(names, expected, "{found:?}");
}

#[test]
fn an_unreadable_duration_hides_nothing_that_is_wrong_between_the_others() {
    let names =
        |changes: &[(&str, &str)]| mistakes(&[], changes).into_iter().map(|mistake| mistake.name).collect::<Vec<_>>();
    assert_eq!(names(&[("LEASE_DURATION", "x"), ("RETRY_PERIOD", "9")]), ["LEASE_DURATION", "RENEWAL_DEADLINE"]);
    assert_eq!(names(&[("RETRY_PERIOD", "x"), ("LEASE_DURATION", "9")]), ["RETRY_PERIOD", "LEASE_DURATION"]);
    assert_eq!(names(&[("RENEWAL_DEADLINE", "x"), ("LEASE_DURATION", "1.5")]), ["RENEWAL_DEADLINE", "LEASE_DURATION"]);
    assert_eq!(names(&[("RENEWAL_DEADLINE", "x"), ("RETRY_PERIOD", "1h")]), ["RENEWAL_DEADLINE"]);
    assert_eq!(names(&[("RENEWAL_DEADLINE", "x"), ("RENEW_INTERVAL", "1h")]), ["RENEWAL_DEADLINE"]);
    assert_eq!(names(&[("LEASE_DURATION", "x"), ("RETRY_PERIOD", "y")]), ["LEASE_DURATION", "RETRY_PERIOD"]);
    assert_eq!(names(&[("RENEW_INTERVAL", "x"), ("LEASE_DURATION", "9")]), ["RENEW_INTERVAL", "LEASE_DURATION"]);
    let all = [("LEASE_DURATION", "1500ms"), ("RENEWAL_DEADLINE", "6"), ("RETRY_PERIOD", "5"), ("RENEW_INTERVAL", "4")];
    assert_eq!(names(&all), ["LEASE_DURATION", "LEASE_DURATION", "RENEWAL_DEADLINE", "RENEW_INTERVAL"]);
    // A default that no longer fits is shown like a value that was given.
    let found = mistakes(&[], &[("RENEWAL_DEADLINE", "20")]);
    assert_eq!((found[0].name.as_str(), found[0].value.as_deref()), ("LEASE_DURATION", Some("15s")));
}

#[test]
fn every_timing_that_client_go_accepts_is_accepted() {
    let timings = [
        ("15", "10", "2"),
        ("15", "10", "5"),
        ("30", "15", "10"),
        ("60", "15", "5"),
        ("60s", "30s", "15s"),
        ("137", "107", "26"),
        ("11", "10", "8"),
        ("1", "0.999999999", "0.8"),
        ("2147483647", "2147483646", "1"),
        ("13", "12.000000001", "10"),
    ];
    for (lease, deadline, retry) in timings {
        run(&[], &[("LEASE_DURATION", lease), ("RENEWAL_DEADLINE", deadline), ("RETRY_PERIOD", retry)]);
    }
    // 1.2 × 10 s is 12 s exactly, whatever 1.2 is in binary.
    mistakes(&[], &[("LEASE_DURATION", "13"), ("RENEWAL_DEADLINE", "12"), ("RETRY_PERIOD", "10")]);
}

#[test]
fn a_command_needs_room_to_be_stopped_in() {
    let timing = [("LEASE_DURATION", "3"), ("RENEWAL_DEADLINE", "2.501"), ("RETRY_PERIOD", "1")];
    run(&[], &timing);
    let found = mistakes(&["--", "worker"], &timing);
    assert_eq!(found.len(), 1, "{found:?}");
    for part in ["no room to stop COMMAND", "500ms", "RENEWAL_DEADLINE to 2.5s or less"] {
        assert!(found[0].problem.contains(part), "{}", found[0]);
    }
    run(&["--", "worker"], &[("LEASE_DURATION", "3"), ("RENEWAL_DEADLINE", "2.5"), ("RETRY_PERIOD", "1")]);
}

#[test]
fn identity_is_the_pod_name_else_the_hostname() {
    assert_eq!(run(&[], &[("POD_NAME", "a"), ("HOSTNAME", "not read")]).identity, "a");
    assert_eq!(run(&[], &[("POD_NAME", ""), ("HOSTNAME", "b")]).identity, "b");
    assert_eq!(run(&[], &[("POD_NAME", "Host_1:worker")]).identity, "Host_1:worker");
    // With routing it is also the name of the Pod to label.
    let found = mistakes(&[], &[("POD_NAME", "Host_1"), ("SERVICE_NAME", "web")]);
    assert_eq!((found.len(), found[0].name.as_str()), (1, "POD_NAME"));
    let found = mistakes(&[], &[("HOSTNAME", "")]);
    assert_eq!((found.len(), found[0].name.as_str()), (1, "POD_NAME"));
    assert!(found[0].problem.contains("metadata.name"), "{}", found[0]);
}

#[test]
fn the_namespace_is_the_service_accounts_unless_given() {
    let env = with(&[("SERVICE_ACCOUNT_DIR", "/tmp/sa")]);
    let read = |file: Result<&str, &str>| {
        parse(&[], &|name| env.get(name).cloned(), &|path| {
            assert_eq!(path, Path::new("/tmp/sa/namespace"));
            file.map(str::to_owned).map_err(io::Error::other)
        })
    };
    assert!(matches!(read(Ok("b")), Ok(Invocation::Run(config)) if config.access.namespace == "b"));
    for (file, parts) in [
        (Err("no such file"), &["/tmp/sa/namespace cannot be used (no such file)", "Set it"][..]),
        (Ok(""), &["/tmp/sa/namespace cannot be used (it holds \"\"", "not a valid name"]),
        (Ok("a\0b"), &["it holds \"a\\0b\""]),
    ] {
        let line = read(file).unwrap_err().to_string();
        assert!(line.starts_with("LEASE_NAMESPACE: not set, and "), "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    let env = with(&[("LEASE_NAMESPACE", "given")]);
    let found = parse(&[], &|name| env.get(name).cloned(), &|path| panic!("{path:?} read"));
    assert!(matches!(found, Ok(Invocation::Run(config)) if config.access.namespace == "given"));
}

#[test]
fn the_api_server_is_found_by_address() {
    let api = |changes: &[(&str, &str)]| run(&[], changes).access.api_url;
    assert_eq!(api(&[]), "https://10.96.0.1:443");
    let v6 = "https://[fd00::1]:443";
    assert_eq!(api(&[("KUBERNETES_SERVICE_HOST", "fd00::1")]), v6);
    assert_eq!(api(&[("KUBERNETES_SERVICE_HOST", "[FD00:0::1]")]), v6);
    let localhost = "https://localhost:6443";
    assert_eq!(api(&[("KUBERNETES_SERVICE_HOST", "localhost"), ("KUBERNETES_SERVICE_PORT", "6443")]), localhost);
    // The hint for a name in KUBERNETES_SERVICE_HOST must work while the name is still there.
    let overridden = [("KUBERNETES_SERVICE_HOST", "api.example.com"), ("KUBE_API_URL", "https://10.0.0.1")];
    assert_eq!(api(&overridden), "https://10.0.0.1:443");
    assert_eq!(api(&[("KUBE_API_URL", "HTTP://LocalHost:8001/")]), "http://localhost:8001");
    assert_eq!(api(&[("KUBE_API_URL", "http://[::1]")]), "http://[::1]:80");
    assert_eq!(api(&[("KUBE_API_URL", "http://127.9.9.9:1")]), "http://127.9.9.9:1");

    let unset = |names: &[&str]| {
        let mut env = pod();
        env.retain(|name, _| !names.contains(&name.as_str()));
        read(&["status"], &env).unwrap_err().to_string()
    };
    let outside = unset(&["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"]);
    assert!(
        outside.contains("not running in a Pod") && outside.contains("KUBE_API_URL=http://127.0.0.1:8001"),
        "{outside}"
    );
    assert_eq!(outside.lines().count(), 1);
    assert!(unset(&["KUBERNETES_SERVICE_PORT"]).starts_with("KUBERNETES_SERVICE_PORT: not set"));
    assert!(unset(&["KUBERNETES_SERVICE_HOST"]).starts_with("KUBERNETES_SERVICE_HOST: not set"));
}

/// Gardener sets a name; the kubelet sets the address as well.
#[test]
fn where_the_host_is_no_address_the_address_of_the_kubelet_is_used() {
    let name = ("KUBERNETES_SERVICE_HOST", "api.example.com");
    for (address, url) in [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")] {
        let access = run(&[], &[name, ("KUBERNETES_PORT_443_TCP_ADDR", address)]).access;
        assert_eq!(access.api_url, url);
    }
    let unused = run(&[], &[("KUBERNETES_PORT_443_TCP_ADDR", "10.1.2.3")]).access;
    assert_eq!(unused.api_url, "https://10.96.0.1:443");
    for (host, address, wrong) in [
        (name.1, "", "KUBERNETES_SERVICE_HOST"),
        (name.1, "api.example.com", "KUBERNETES_PORT_443_TCP_ADDR"),
        ("10.0.0.256", "", "KUBERNETES_SERVICE_HOST"),
    ] {
        let found = mistakes(&[], &[("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_PORT_443_TCP_ADDR", address)]);
        assert_eq!((found.len(), found[0].name.as_str()), (1, wrong), "{found:?}");
        assert!(found[0].problem.contains("set KUBE_API_URL=https://ADDRESS:PORT"), "{found:?}");
    }
}

#[test]
fn passwords_and_long_values_do_not_reach_the_message() {
    for (name, url, problem) in [
        ("KUBE_API_URL", "https://me:s3cret@10.0.0.1", "must not hold a user name or password"),
        ("HEALTH_URL", "http://s3cret@127.0.0.1/a@b", "must not hold a user name or password"),
        ("KUBE_API_URL", "me:s3cret@10.0.0.1", "not a URL"),
    ] {
        let line = mistakes(&[], &[(name, url)])[0].to_string();
        assert!(!line.contains("s3cret") && line.contains(problem), "{line}");
    }
    let long = "\u{202e}\u{1b}é".repeat(1000);
    let mistake = &mistakes(&[], &[("LEASE_NAME", &long)])[0];
    let value = mistake.value.as_deref().unwrap();
    assert!(value.len() <= 80 * 8 + 3 && value.ends_with("..."), "{value}");
    assert!(value.starts_with("\\u{202e}\\u{1b}é"), "{value}");
}

#[test]
fn status_and_yield_need_no_identity() {
    let mut env = with(&[("KUBE_API_URL", "http://127.0.0.1:8001"), ("LEASE_DURATION", "not read")]);
    env.retain(|name, _| !matches!(name.as_str(), "HOSTNAME" | "KUBERNETES_SERVICE_HOST" | "KUBERNETES_SERVICE_PORT"));
    assert!(matches!(read(&["status"], &env), Ok(Invocation::Status(_))));
    assert!(matches!(read(&["yield"], &env), Ok(Invocation::Yield(_))));
}

#[test]
fn small_choices_are_read_in_every_spelling() {
    for (text, on) in [("on", true), ("True", true), ("1", true), ("OFF", false), ("false", false), ("0", false)] {
        assert_eq!(run(&[], &[("EVENTS", text)]).events, on, "{text}");
    }
    for (text, target) in [
        ("off", None),
        ("stdout", Some(AuditTarget::Stdout)),
        ("stderr", Some(AuditTarget::Stderr)),
        ("audit.jsonl", Some(AuditTarget::File("audit.jsonl".into()))),
    ] {
        assert_eq!(run(&[], &[("AUDIT_LOG", text)]).access.audit_log, target, "{text}");
    }
    for text in ["debug", "INFO", "warn,leasehold::election=trace", "leasehold=debug,ureq=off,", "info/renew"] {
        assert_eq!(run(&[], &[("RUST_LOG", text)]).log.filter, text);
    }
    for text in ["http://127.0.0.1", "http://127.0.0.1/", "http://localhost:9000?x", "http://[::1]:9000/a?b=http://c:1"]
    {
        run(&[], &[("HEALTH_URL", text)]);
    }
    assert_eq!(value::health_url("http://localhost?x").unwrap(), "http://localhost:80/?x");
}

#[test]
fn parse_reads_the_variables_of_the_table_and_no_others() {
    let asked = RefCell::new(BTreeSet::new());
    for args in [&[][..], &["status".into()]] {
        for env in [
            pod(),
            with(&[("KUBERNETES_SERVICE_HOST", "kubernetes"), ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1")]),
            with(&[("KUBE_API_URL", "http://localhost"), ("POD_NAME", "a")]),
        ] {
            let lookup = |name: &str| {
                asked.borrow_mut().insert(name.to_owned());
                env.get(name).cloned()
            };
            parse(args, &lookup, &|_| Ok("team-a".into())).unwrap();
        }
    }
    let known: BTreeSet<_> = VARIABLES.iter().map(|variable| variable.name.to_owned()).collect();
    assert_eq!(asked.into_inner(), known);
}

#[test]
fn help_and_the_documentation_show_exactly_what_exists() {
    let (help, page) = (help(), include_str!("../../../docs/reference.md"));
    let listed: Vec<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(" ["))
        .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
        .map(|(name, default)| (name, default.trim_end_matches(']')))
        .collect();
    let known: Vec<_> = VARIABLES.iter().map(|variable| (variable.name, variable.default.text())).collect();
    assert_eq!(listed, known);
    assert!(help.lines().all(|line| line.len() <= 110), "{help}");

    let (_, variables) = page.split_once("\n## Variables\n").expect("the table of variables");
    let variables = variables.split("\n## ").next().unwrap_or_default();
    let rows: Vec<_> = variables.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<_> = VARIABLES
        .iter()
        .map(|variable| format!("| `{}` | {} | {} |", variable.name, variable.default.text(), variable.meaning))
        .collect();
    assert_eq!(rows, expected);

    // Every form in the usage is understood, and the page shows the same ones.
    for (form, meaning) in help::USAGE {
        assert!(help.contains(form) && help.contains(meaning));
        assert!(page.contains(&format!("| `{}` | {meaning} |", form.replace('|', "\\|"))), "{form}");
        let words = form.replace(['[', ']'], "").replace(" | --version", "").replace("leasehold", "");
        let args: Vec<_> = words.split_whitespace().collect();
        assert!(read(&args, &pod()).is_ok(), "{form}");
    }
}

#[test]
fn no_text_brings_the_parser_down_or_breaks_the_message_into_lines() {
    let pieces =
        ["http://", "https://", "localhost", "127.0.0.1", "[::1]", "[", "]", ":", "/", "@", "?", "#", ".", "-", "="]
            .into_iter()
            .chain([
                "0",
                "1.2",
                "9999999999",
                "ms",
                "h",
                "\u{1f600}",
                "\n",
                "\0",
                "é",
                " ",
                "--to",
                "--",
                "status",
                "yield",
            ])
            .collect::<Vec<_>>();
    let mut jitter = crate::election::Jitter::new(1);
    let mut below = |n: usize| jitter.up_to(Duration::from_nanos(n as u64 - 1)).as_nanos() as usize;
    for _ in 0..5_000 {
        let mut text = || (0..below(6)).map(|_| pieces[below(pieces.len())]).collect::<String>();
        let env: BTreeMap<_, OsString> =
            VARIABLES.iter().map(|variable| (variable.name.into(), text().into())).collect();
        let (one, two) = (text(), text());
        if let Err(mistakes) = read(&[&one, &two], &env) {
            assert_eq!(mistakes.to_string().lines().count(), mistakes.0.len(), "{mistakes}");
            assert!(!mistakes.0.is_empty());
        }
    }
}
