use super::*;

#[test]
fn arguments_say_which_form_is_meant() {
    let command = |args: &[&str]| run(args, &[]).command;
    assert_eq!(command(&[]), None);
    assert_eq!(command(&["--", "a"]), Some(vec!["a".into()]));
    assert_eq!(command(&["--", "a", "--", "--help", ""]), Some(["a", "--", "--help", ""].map(OsString::from).to_vec()));

    for (args, json, watch) in [
        (&["status"][..], false, false),
        (&["status", "--json"], true, false),
        (&["status", "--watch", "--json"], true, true),
    ] {
        match read(args, &with(&[("SERVICE_NAME", "web")])) {
            Ok(Invocation::Status(status)) => {
                assert_eq!((status.json, status.watch), (json, watch), "{args:?}");
                assert_eq!(status.service.map(|service| service.name), Some("web".into()));
                assert_eq!(status.access.lease_name, "demo");
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }
    for (args, expected) in
        [(&["yield"][..], None), (&["yield", "--to", "pod-b"], Some("pod-b")), (&["yield", "--to=h_1"], Some("h_1"))]
    {
        match read(args, &pod()) {
            Ok(Invocation::Yield(asked)) => assert_eq!(asked.to.as_deref(), expected, "{args:?}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
}

#[test]
fn install_takes_one_folder_and_needs_no_configuration() {
    let install = |args: &[&str]| read(args, &BTreeMap::new());
    assert_eq!(install(&["install", "/opt/bin"]), Ok(Invocation::Install("/opt/bin".into())));
    for args in [&["install"][..], &["install", ""], &["install", "a", "b"], &["install", "--to"]] {
        let mistakes = install(args).unwrap_err().to_string();
        assert!(mistakes.contains("leasehold install FOLDER") && mistakes.lines().count() == 1, "{args:?}: {mistakes}");
    }
    let mistakes = install(&["install", "/opt", "--", "worker"]).unwrap_err().to_string();
    assert!(mistakes.contains("a COMMAND goes with no subcommand"), "{mistakes}");
}

#[test]
fn help_and_version_need_no_configuration() {
    for (args, expected) in [
        (&["--help"][..], Invocation::Help),
        (&["-h"], Invocation::Help),
        (&["status", "--help"], Invocation::Help),
        (&["--frobnicate", "--help"], Invocation::Help),
        (&["--version"], Invocation::Version),
        (&["-V", "--", "worker"], Invocation::Version),
    ] {
        assert_eq!(read(args, &BTreeMap::new()), Ok(expected), "{args:?}");
    }
}

#[test]
fn unknown_arguments_are_told_what_exists() {
    for (args, shown, problem) in [
        (&["--frobnicate"][..], "--frobnicate", "--help and --version"),
        (&["statsu"], "statsu", "status [--json] [--watch], yield"),
        (&["worker"], "worker", "leasehold -- COMMAND"),
        (&["--json"], "--json", "status [--json]"),
        (&["--to=a"], "--to=a", "yield [--to POD]"),
        (&["status", "--follow"], "--follow", "--json and --watch"),
        (&["yield", "pod-b"], "pod-b", "--to POD"),
        (&["yield", "--together"], "--together", "--to POD"),
        (&["yield", "--to"], "--to", "or nothing for anyone"),
        (&["yield", "--to=a", "b"], "--to=a b", "--to POD"),
        (&["yield", "--to="], "", "visible ASCII"),
        (&["yield", "--to", "a b"], "a b", "visible ASCII"),
        (&["--"], "--", "nothing to run"),
        (&["--", ""], "--", "nothing to run"),
        (&["status", "--", "worker"], "--", "no subcommand"),
        (&["yield", "--", "worker"], "--", "no subcommand"),
        (&["a\nb"], "a\\nb", "unknown"),
    ] {
        let found = mistakes(args, &[]);
        assert_eq!(found.len(), 1, "{args:?}: {found:?}");
        assert!(found[0].to_string().contains(&format!("\"{shown}\": ")), "{args:?}: {}", found[0]);
        assert!(found[0].problem.contains(problem), "{args:?}: {}", found[0]);
    }
    assert_eq!(mistakes(&["a", "b"], &[("PORT", "x")]).len(), 3);
    let not_utf8 = [OsString::from_vec(vec![0xff])];
    let env = pod();
    assert!(parse(&not_utf8, &|name| env.get(name).cloned(), &|_| Ok("a".into())).is_err());
}
