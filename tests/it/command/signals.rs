//! Signals that are passed on to the COMMAND, and the terminal that sends some of them.

use super::*;

#[test]
fn every_signal_is_forwarded_to_the_command_and_not_to_its_group() {
    let names = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"];
    let traps: String = names.iter().map(|name| format!("trap 'echo {name}' {name};")).collect();
    // The sleep would die of any of them (but SIGWINCH).
    let mut stand_in =
        script(&format!("{traps} sleep 600 & echo ready; while kill -0 $!; do wait $!; done; echo the sleep died"));
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ready");
    for name in names {
        let pid = stand_in.process.id().to_string();
        assert!(possible("kill", &[&format!("-{name}"), &pid]));
        assert_eq!(stand_in.answer("took"), format!("SIG{name}"));
        assert_eq!(stand_in.line(), name);
    }
    assert_eq!(stand_in.count("descendants"), 2);
}

#[test]
fn a_signal_without_a_command_goes_nowhere() {
    let mut stand_in = script("exit 0");
    stand_in.ask("forward SIGUSR1", "forwarded");
    assert_eq!(stand_in.outcome(), "exited with code 0", "and not to a later one");
}

#[test]
fn a_signal_that_comes_while_it_is_being_started_is_not_lost() {
    let mut stand_in = run("sleep", ["600"]);
    for _ in 0..20 {
        stand_in.ask(&format!("start-and-forward {HOURS} {HOURS} SIGUSR2"), "started");
        let ended = stand_in.ended();
        assert!(!ended.stopped && ended.how == "died of signal 12", "{ended:?}");
        stand_in.ask(&format!("start-and-stop {HOURS} {HOURS}"), "started");
        let ended = stand_in.ended();
        assert!(ended.stopped && ended.how == "died of signal 15", "{ended:?}");
    }
}

// ----------------------------------------------------------------------------------------------------- terminal

/// The stand-in on a pseudo-terminal, which `script` makes; its input is typed there, its output comes from there.
fn on_a_terminal(text: &str) -> Option<StandIn> {
    if !possible("script", &["-qec", "true", "/dev/null"]) {
        return None;
    }
    let mut launcher = Command::new("sh");
    launcher.args([
        "-c",
        r#"export socket="$1" text="$3"; exec script -qec "exec $0 \$socket sh -c \"\$text\"" /dev/null"#,
    ]);
    launcher.arg(stand_in_path());
    Some(launch(launcher, OsStr::new("unused"), &[text.into()], Stdio::piped()))
}

#[test]
fn on_a_terminal_it_has_the_foreground_and_gives_it_back() {
    let Some(mut stand_in) = on_a_terminal("cat /proc/$PPID/stat /proc/$$/stat; read line; echo got $line") else {
        return;
    };
    stand_in.start_for_hours();
    let group = |stat: &str, number| sys::stat_field(stat.as_bytes(), number).unwrap().to_owned();
    let (parent, own) = (stand_in.line(), stand_in.line());
    let (leasehold, _) = parent.split_once(' ').unwrap();
    assert_eq!(own.split_once(' ').unwrap().0, group(&own, 5), "it leads its group");
    assert_eq!(group(&own, 8), group(&own, 5), "which is the terminal's foreground group");
    stand_in.stdin().write_all(b"hello\n").unwrap();
    wait_until("it got the line", || stand_in.line() == "got hello");
    assert_eq!(stand_in.ended().how, "exited with code 0");
    let after = fs::read_to_string(format!("/proc/{leasehold}/stat")).unwrap();
    assert_eq!(group(&after, 8), group(&after, 5), "leasehold's group is again");
}

#[test]
fn on_a_terminal_ctrl_c_ends_it() {
    let Some(mut stand_in) = on_a_terminal("echo ready; exec sleep 600") else { return };
    stand_in.start_for_hours();
    wait_until("it runs", || stand_in.line() == "ready");
    stand_in.stdin().write_all(b"\x03").unwrap();
    let ended = stand_in.ended();
    assert!(!ended.stopped && ended.how == "died of signal 2", "{ended:?}");
}
