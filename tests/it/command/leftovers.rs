//! Nothing of the COMMAND is left: not after a term, not when leasehold is killed, and not as PID 1.

use super::*;

/// Ten in the foreground group, ten orphans that ignore SIGTERM, ten daemons in sessions of their own that do, and
/// the sleeps below each.
const FORTY: &str = r#"
stubborn='trap "" TERM HUP INT; while :; do sleep 60; done'
for i in 0 1 2 3 4 5 6 7 8 9; do
    sleep 60 &
    (sh -c "$stubborn" &)
    (setsid sh -c "$stubborn" &)
done
"#;

#[test]
fn forty_descendants_in_groups_and_sessions_of_their_own_are_gone_before_the_end_is_reported() {
    let mut stand_in = script(&format!("{FORTY} trap 'exit 0' TERM; echo $$; while :; do sleep 60 & wait; done"));
    stand_in.start(HOURS, HOURS);
    let command = stand_in.line();
    // A process in the middle of its exec has no environment to be known by.
    stand_in.wait_until("forty run", |stand_in| bearers_of(stand_in).len() >= 50);
    stand_in.order("stop");
    stand_in.let_the_rest_be_killed(&command);
    let ended = stand_in.ended();
    assert!(ended.stopped && ended.how == "exited with code 0", "{ended:?}");
    assert_eq!(bearers_of(&stand_in), Vec::<String>::new());
    assert_eq!(stand_in.count("descendants"), 0);
}

#[test]
fn what_a_command_leaves_behind_when_it_ends_by_itself_goes_too() {
    let mut stand_in = script(&format!("{FORTY} echo $$; exit 3"));
    stand_in.start(HOURS, HOURS);
    let command = stand_in.line();
    stand_in.let_the_rest_be_killed(&command);
    let ended = stand_in.ended();
    assert!(!ended.stopped && ended.how == "exited with code 3", "{ended:?}");
    assert_eq!(bearers_of(&stand_in), Vec::<String>::new());
}

#[test]
fn what_runs_away_is_caught() {
    // A process that is never there for long: each leaves its session, starts the next, and ends.
    let run = r#"n=$((n + 1)); if [ $n -gt 5000 ]; then echo escaped; else setsid sh -c "$run" & fi; exit 0"#;
    let mut stand_in = script(&format!("export n=0 run='{run}'; sh -c \"$run\"; echo ready; exec sleep 600"));
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ready");
    stand_in.ask(&format!("renew {HOURS} 0"), "renewed");
    stand_in.order("stop");
    assert_eq!(stand_in.ended().how, "died of signal 9");
    assert_eq!(bearers_of(&stand_in), Vec::<String>::new());
    stand_in.process.kill().unwrap();
    assert_eq!(next_line(&mut stand_in.output), None, "it was caught, it did not tire");
}

#[test]
fn what_is_left_behind_and_heeds_sigterm_does_not_have_to_be_waited_for() {
    let mut stand_in = script("setsid sleep 600 & sleep 600 & exit 3");
    assert_eq!(stand_in.outcome(), "exited with code 3");
    assert_eq!(stand_in.count("descendants"), 0);
}

#[test]
fn orphans_are_reaped_while_it_runs() {
    let mut stand_in = script("for i in 0 1 2 3 4 5 6 7 8 9; do (sh -c : &); done; echo ready; exec sleep 600");
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ready");
    stand_in.wait_until("only the command is left", |stand_in| {
        stand_in.count("descendants") + stand_in.count("zombies") == 1
    });
}

#[test]
fn two_hundred_terms_leave_no_zombie_no_descriptor_and_no_thread() {
    let mut stand_in = script("sleep 600 & exec sleep 600");
    let counts =
        |stand_in: &mut StandIn| ["descendants", "zombies", "files", "threads"].map(|what| stand_in.count(what));
    let before = counts(&mut stand_in);
    for _ in 0..200 {
        stand_in.start_for_hours();
        stand_in.order("stop");
        let ended = stand_in.ended();
        assert!(ended.stopped && ended.how == "died of signal 15", "{ended:?}");
    }
    assert_eq!(counts(&mut stand_in), before);
}

// --------------------------------------------------------------------------------- when leasehold itself is killed

#[test]
fn the_kernel_kills_it_when_leasehold_is_killed() {
    let mut stand_in = script("trap '' TERM HUP; echo ready; while :; do read line < /dev/null; done");
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ready");
    stand_in.process.kill().unwrap();
    assert_eq!(next_line(&mut stand_in.output), None, "everybody who could write is gone");
}

#[test]
fn it_outlives_the_thread_that_asked_for_it() {
    let mut stand_in = script("echo ready; while :; do sleep 60; done");
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ready");
    // The stand-in's ordering threads end at once; four threads stay: main, the listener, this order's, and ours.
    stand_in.wait_until("the ordering thread is gone", |stand_in| stand_in.count("threads") == 4);
    stand_in.order("stop");
    let ended = stand_in.ended();
    assert!(ended.how == "died of signal 15", "{ended:?}: the kernel sent SIGKILL as its parent thread ended");
}

// -------------------------------------------------------------------------------------------------------- PID 1

/// `unshare …` with which this user may make a PID namespace.
pub(crate) fn container() -> Option<Command> {
    let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    let way = ways.into_iter().find(|way| {
        let mut args = vec!["--pid", "--fork", "--mount-proc", "--kill-child"];
        args.extend_from_slice(way);
        args.push("true");
        possible("unshare", &args)
    })?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(way);
    Some(unshare)
}

fn contained(text: &str) -> Option<StandIn> {
    let mut launcher = container()?;
    launcher.arg(stand_in_path());
    Some(launch(launcher, OsStr::new("sh"), &["-c".into(), text.into()], Stdio::null()))
}

#[test]
fn as_pid_1_it_takes_signals_and_leaves_nothing() {
    let Some(mut stand_in) = contained(&format!("{FORTY} echo parent $PPID; exec sleep 600")) else { return };
    stand_in.start(HOURS, HOURS);
    assert_eq!(stand_in.line(), "parent 1");
    stand_in.wait_until("forty run", |stand_in| stand_in.count("descendants") >= 50);
    stand_in.ask("forward SIGWINCH", "forwarded");
    // What its pid is out here it can't tell us.
    let is_it = |pid: &String| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x00600\x00");
    let mut command = None;
    wait_until("the command is found", || {
        command = bearers_of(&stand_in).into_iter().find(is_it);
        command.is_some()
    });
    stand_in.order("stop");
    stand_in.let_the_rest_be_killed(&command.unwrap());
    assert_eq!(stand_in.ended().how, "died of signal 15");
    assert_eq!(stand_in.count("descendants"), 0);
    assert_eq!(bearers_of(&stand_in), Vec::<String>::new());
}

/// The pid, out here, of the PID 1 that this `unshare` has started.
fn init_of(unshare: u32) -> String {
    let children = format!("/proc/{unshare}/task/{unshare}/children");
    let init = || fs::read_to_string(&children).unwrap().trim().to_owned();
    wait_until("there is a PID 1", || !init().is_empty());
    init()
}

/// As `kubectl exec` does: a process from outside, which leaves this many children to PID 1.
fn leave_orphans(init: &str, count: usize) -> bool {
    let script = format!("for i in $(seq {count}); do sleep 0.2 & done; exit 0");
    possible("nsenter", &["--target", init, "--all", "sh", "-c", &script])
}

/// The states of the children of a process.
fn states_of_children(parent: &str) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let stat = |child: &str| fs::read(format!("/proc/{child}/stat")).ok();
    let state = |stat: Vec<u8>| sys::stat_field(&stat, 3).map(str::to_owned);
    children.split_whitespace().filter_map(stat).filter_map(state).collect()
}

#[test]
fn as_pid_1_it_reaps_orphans_while_no_command_runs() {
    let Some(mut stand_in) = contained("exit 0") else { return };
    if leave_orphans(&init_of(stand_in.process.id()), 5) {
        stand_in
            .wait_until("all are reaped", |stand_in| stand_in.count("descendants") + stand_in.count("zombies") == 0);
    }
}

#[test]
fn as_pid_1_without_a_command_leasehold_leaves_no_zombies() {
    let Some(mut launcher) = container() else { return };
    // It waits for its credentials, which never come.
    launcher.arg(env!("CARGO_BIN_EXE_leasehold")).env_clear().envs([
        ("LEASE_NAME", "web"),
        ("LEASE_NAMESPACE", "default"),
        ("POD_NAME", "pod-a"),
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", "1"),
        ("SERVICE_ACCOUNT_DIR", "/nowhere"),
        ("PORT", "0"),
    ]);
    let mut unshare = Killed(launcher.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(unshare.0.stderr.take().unwrap());
    wait_until("it is up", || next_line(&mut log).unwrap().contains("HTTP on port"));
    let init = init_of(unshare.0.id());
    if leave_orphans(&init, 5) {
        wait_until("all orphans have ended", || states_of_children(&init).iter().all(|state| state == "Z"));
        assert_eq!(states_of_children(&init), Vec::<String>::new(), "zombies");
    }
}

/// Does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn as_pid_1_its_death_takes_all_descendants_along() {
    let Some(mut stand_in) = contained(&format!("{FORTY} echo ready; exec sleep 600")) else { return };
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ready");
    stand_in.wait_until("forty run", |stand_in| stand_in.count("descendants") >= 50);
    // unshare --kill-child sends its SIGKILL to the namespace's PID 1, the stand-in.
    stand_in.process.kill().unwrap();
    assert_eq!(next_line(&mut stand_in.output), None, "everybody who could write is gone");
    wait_until("none is left", || bearers_of(&stand_in).is_empty());
}
