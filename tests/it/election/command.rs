//! `leasehold -- COMMAND`: it runs only while leading.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::process::{Pace, Program, World};

/// Writes into `file` when it begins and when it is asked to stop. It is the background process that says `runs`: before
/// that a shell's child can lose a signal between fork and exec, and outlive it.
fn diarist(file: &Path) -> [String; 3] {
    let file = file.display();
    let script = format!(
        "echo $LEASEHOLD_IDENTITY begins >> {file}; \
         trap 'echo $LEASEHOLD_IDENTITY ends >> {file}; kill $!; exit 7' TERM; \
         (echo runs; exec sleep 1000000) & while :; do wait $!; done"
    );
    ["sh".into(), "-c".into(), script]
}

fn running(program: Program, command: impl IntoIterator<Item = String>) -> Program {
    program.args(["--".to_owned()]).args(command).without("SERVICE_NAME")
}

pub(super) fn a_leader_whose_loop_cannot_start_releases_the_lease_and_ends(world: &World) {
    let first = world.candidate("pod-a", Pace::Hours).without("SERVICE_NAME").start();
    first.wait_until_it_leads();
    // A heap with room from the start: it must not have to grow under the limit.
    let room = ("GLIBC_TUNABLES", "glibc.malloc.top_pad=4194304");
    let second = world.candidate("pod-b", Pace::Hours).without("SERVICE_NAME").with(room.0, room.1).start();
    second.says("new leader pod-a");
    // Room for less than another thread's stack.
    let status = fs::read_to_string(format!("/proc/{}/status", second.pid())).expect("its status");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("its size");
    let size: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number");
    let limit = format!("--as={}", (size + 200) << 10);
    let limited = Command::new("prlimit").args(["--pid", &second.pid().to_string(), &limit]).status();
    if !limited.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: prlimit does not work here");
    }
    first.signal("TERM");
    assert_eq!(second.exit_code(), 1, "{}", second.log.text());
    assert!(second.said("no thread for the leader loop"), "{}", second.log.text());
    let holders: Vec<String> = world.lease_history().into_iter().map(|lease| lease.holder).collect();
    assert_eq!(holders, ["pod-a", "", "pod-b", ""], "acquired once, and released");
}

/// An image may name SIGQUIT its stop signal (nginx does): the kubelet sends it to the leader and to its standbys.
pub(super) fn sigquit_goes_to_a_running_command_and_ends_a_standby(world: &World) {
    let quits = "trap 'exit 9' QUIT; (echo runs; exec sleep 1000000) & while :; do wait $!; done";
    let start = |pod: &str| running(world.candidate(pod, Pace::Hours), ["sh", "-c", quits].map(str::to_owned)).start();
    let first = start("pod-a");
    first.stdout.line_with("runs");
    let second = start("pod-b");
    second.says("new leader pod-a");
    second.signal("QUIT");
    assert_eq!(second.exit_code(), 0, "{}", second.log.text());
    first.signal("QUIT");
    assert_eq!(first.exit_code(), 9, "the command's own: {}", first.log.text());
}

pub(super) fn a_command_runs_only_while_leading(world: &World) {
    let diary = world.file("diary");
    let start = |pod: &str| running(world.candidate(pod, Pace::Hours), diarist(&diary)).start();
    let first = start("pod-a");
    first.stdout.line_with("runs");
    let second = start("pod-b");
    second.says("new leader pod-a");
    first.signal("TERM");
    second.stdout.line_with("runs");
    assert_eq!(first.exit_code(), 0, "it was asked to end, whatever the command made of it");
    second.signal("TERM");
    assert_eq!(second.exit_code(), 0);
    let diary = fs::read_to_string(diary).expect("the diary");
    assert_eq!(diary.lines().collect::<Vec<_>>(), ["pod-a begins", "pod-a ends", "pod-b begins", "pod-b ends"]);
}

pub(super) fn a_command_is_told_its_term_and_asked_to_stop(world: &World) {
    let tell = "trap 'echo asked; exit 0' TERM; \
                (echo $LEASEHOLD_LEASE $LEASEHOLD_IDENTITY $LEASEHOLD_FENCING_TOKEN; exec sleep 1000000) & \
                while :; do wait $!; done";
    let program = running(world.candidate("pod-a", Pace::Hours), ["sh", "-c", tell].map(str::to_owned));
    let leader = program.start();
    let told = leader.stdout.line_with("pod-a");
    let token = leader.token();
    assert_eq!(told, format!("{}/leasehold pod-a {token}", world.namespace));
    world.delete_lease();
    leader.stdout.line_with("asked");
    // A new term, so a new process that is told the new token.
    let again = leader.token();
    leader.stdout.line_with(&format!("pod-a {again}"));
    assert!(again > token);
    leader.signal("TERM");
    assert_eq!(leader.exit_code(), 0);
}

pub(super) fn a_commands_own_end_releases_the_lease_and_is_the_exit_code(world: &World) {
    let unfit = world.file("not-executable");
    fs::write(&unfit, "#!/bin/sh\n").expect("a file");
    fs::set_permissions(&unfit, fs::Permissions::from_mode(0o644)).expect("a mode");
    let unfit = unfit.display().to_string();
    let table: [(&[&str], i32); 5] = [
        (&["sh", "-c", "exit 0"], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["/nowhere/to/be/found"], 127),
        (&[&unfit], 126),
    ];
    let program = world.candidate("pod-a", Pace::Hours);
    for (command, code) in table {
        let process = running(program.clone(), command.iter().map(|word| (*word).to_owned())).start();
        assert_eq!(process.exit_code(), code, "{command:?}: {}", process.log.text());
        let lease = world.lease().expect("a Lease");
        assert_eq!(lease.holder, "", "released after {command:?}");
    }
    let taken = world.lease_history().into_iter().filter(|lease| lease.holder == "pod-a").count();
    assert_eq!(taken, table.len(), "each ran in a term of its own");
}
