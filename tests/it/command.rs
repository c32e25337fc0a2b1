//! What becomes of `COMMAND`: started only in a term, stopped in time, nothing left (docs/guide.md says what is promised).
//!
//! Each test runs the stand-in of `tests/helpers/stand_in.rs`, a process with a Supervisor, and small shell scripts in
//! the COMMAND's place. No verdict depends on how fast anything is: the deadlines of most terms are hours away, those
//! that must pass are checked from below (nothing is killed early), and limits only end a hang.

mod leftovers;
mod signals;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use leasehold::sys;

/// No step takes this long; only a hang does.
const LIMIT: Duration = Duration::from_secs(60);
/// Milliseconds to a deadline that no test lives to see.
const HOURS: u64 = 10_000_000;
/// What a script ends with that traps the signal it waits for. The sleep must have been exec'ed by then: a shell's fork
/// swallows a trapped signal, and the sleep would go on.
const IDLE: &str = "sleep 60 & until grep -q sleep /proc/$!/comm; do :; done; echo ready $$; while :; do wait; done";

struct StandIn {
    process: Child,
    control: BufReader<UnixStream>,
    output: BufReader<UnixStream>,
    directory: PathBuf,
    /// The latest that its log has said of a command's end.
    how: String,
}

/// What the stand-in said when everything was gone.
#[derive(Debug)]
struct Ended {
    at: u64,
    stopped: bool,
    /// None: it was not started.
    code: Option<i32>,
    /// What the log says of it, without the pid.
    how: String,
}

fn script(text: &str) -> StandIn {
    run("sh", ["-c", text])
}

fn run(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> StandIn {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    launch(Command::new(stand_in_path()), program.as_ref(), &args, Stdio::null())
}

fn stand_in_path() -> &'static str {
    env!("CARGO_BIN_EXE_leasehold-stand-in")
}

/// Runs `launcher SOCKET PROGRAM ARG…`, which is or becomes the stand-in, and waits until it can be given orders.
fn launch(mut launcher: Command, program: &OsStr, args: &[OsString], stdin: Stdio) -> StandIn {
    let directory = fresh_directory();
    let socket = directory.join("control");
    let listener = UnixListener::bind(&socket).unwrap();
    let (output, inherited) = UnixStream::pair().unwrap();
    launcher.arg(&socket).arg(program).args(args).stdin(stdin).stdout(OwnedFd::from(inherited));
    let process = launcher.spawn().unwrap();
    // Else this process would hold the output open when everybody else has closed it.
    drop(launcher);
    let (control, _) = listener.accept().unwrap();
    for stream in [&control, &output] {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    let (control, output) = (BufReader::new(control), BufReader::new(output));
    StandIn { process, control, output, directory, how: String::new() }
}

fn fresh_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("leasehold-command-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = env::temp_dir().join(name);
    fs::create_dir(&directory).unwrap();
    directory
}

impl StandIn {
    fn order(&mut self, order: &str) {
        self.control.get_mut().write_all(format!("{order}\n").as_bytes()).unwrap();
    }

    /// The next answer that begins with this word, without it.
    fn answer(&mut self, word: &str) -> String {
        loop {
            let line = next_line(&mut self.control).unwrap_or_else(|| panic!("the stand-in is gone before `{word}`"));
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim_start().to_owned();
            }
            let line = line.strip_prefix("log ").unwrap_or_default();
            if line.starts_with("cannot start ") || line.starts_with("the command was not started") {
                self.how = line.to_owned();
            } else if let Some((_, how)) = line.strip_prefix("the command (pid ").and_then(|rest| rest.split_once(") "))
            {
                self.how = how.to_owned();
            }
        }
    }

    fn ask(&mut self, order: &str, word: &str) -> String {
        self.order(order);
        self.answer(word)
    }

    /// Starts the command in a term with these deadlines; the instant at which it must be dead.
    fn start(&mut self, valid_millis: u64, kill_millis: u64) -> u64 {
        self.ask(&format!("start {valid_millis} {kill_millis}"), "started").parse().unwrap()
    }

    fn start_for_hours(&mut self) {
        self.start(HOURS, HOURS + 1);
    }

    fn line(&mut self) -> String {
        next_line(&mut self.output).expect("a line from the command")
    }

    fn ended(&mut self) -> Ended {
        let answer = self.answer("ended");
        let words: Vec<&str> = answer.split(' ').collect();
        let how = std::mem::take(&mut self.how);
        Ended { at: words[0].parse().unwrap(), stopped: words[1] == "stopped", code: words[2].parse().ok(), how }
    }

    /// Nanoseconds on the boot clock, now.
    fn clock(&mut self) -> u64 {
        self.ask("clock", "clock").parse().unwrap()
    }

    /// Waits until the command has ended, and lets time be up for the rest.
    fn let_the_rest_be_killed(&mut self, command: &str) {
        wait_until("the command has ended", || !Path::new("/proc").join(command).exists());
        self.ask(&format!("renew {HOURS} 0"), "renewed");
        // The supervisor has no reason to look at the clock again: in no term the time becomes shorter.
        self.order("stop");
    }

    /// `descendants`, `zombies`, `files` or `threads` of the stand-in.
    fn count(&mut self, what: &str) -> usize {
        let census = self.ask("census", "census");
        let figure = census.split(' ').find_map(|part| part.strip_prefix(what)?.strip_prefix('='));
        figure.unwrap().parse().unwrap()
    }

    fn stdin(&mut self) -> ChildStdin {
        self.process.stdin.take().unwrap()
    }

    fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&mut StandIn) -> bool) {
        wait_until(what, || holds(self));
    }

    /// Runs the command for an hours-long term that it ends by itself.
    fn outcome(&mut self) -> String {
        self.start_for_hours();
        let ended = self.ended();
        assert!(!ended.stopped, "{ended:?}");
        ended.how
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A test that failed, or that killed the stand-in, may leave descendants.
        for process in bearers_of(self) {
            let _ = Command::new("kill").arg("-KILL").arg(process).stderr(Stdio::null()).status();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let length = reader.read_line(&mut line).expect("a line in time");
    (length > 0).then(|| line.trim_end().to_owned())
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether this machine has, and lets us use, what the test needs; says so if not.
fn possible(program: &str, args: &[&str]) -> bool {
    let quiet = || Stdio::null();
    let outcome = Command::new(program).args(args).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    let possible = outcome.is_ok_and(|status| status.success());
    if !possible {
        eprintln!("SKIPPED: `{program} {}` does not work here", args.join(" "));
    }
    possible
}

/// The pids of processes anywhere on this machine that were given an environment by this stand-in's Supervisor.
fn bearers_of(stand_in: &StandIn) -> Vec<String> {
    let mark = format!("LEASEHOLD_IDENTITY={}", stand_in.directory.join("control").display()).into_bytes();
    let bears = |environment: &[u8]| environment.split(|byte| *byte == 0).any(|variable| variable == mark);
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let bearers =
        processes.filter(|entry| fs::read(entry.path().join("environ")).is_ok_and(|environment| bears(&environment)));
    bearers.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

// ---------------------------------------------------------------------------------------- start, and only then

#[test]
fn it_starts_only_in_a_valid_term_and_only_once() {
    let mut stand_in = script("echo ran; while :; do sleep 60; done");
    stand_in.start(0, HOURS);
    assert_eq!(stand_in.ended().code, None);
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ran", "and had not before");
    stand_in.start_for_hours();
    assert_eq!(stand_in.ended().code, None, "it still runs");
    stand_in.order("stop");
    assert!(stand_in.ended().stopped);
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ran", "a later term may start it anew");
}

#[test]
fn it_leads_a_process_group_of_its_own() {
    let mut stand_in = script("cat /proc/$$/stat; exit 0");
    stand_in.start_for_hours();
    let stat = stand_in.line();
    let fields: Vec<&str> = stat.split(' ').collect();
    assert_eq!(fields[4], fields[0], "the group is the command's pid");
    assert_eq!(fields[3], stand_in.process.id().to_string());
}

#[test]
fn stdin_stdout_and_stderr_are_its_own() {
    let arguments = ["-c", "read line; echo \"out $line\"; echo \"err $line\" >&2"].map(OsString::from);
    let mut launcher = Command::new(stand_in_path());
    launcher.stderr(Stdio::piped());
    let mut stand_in = launch(launcher, OsStr::new("sh"), &arguments, Stdio::piped());
    stand_in.start_for_hours();
    stand_in.stdin().write_all(b"hello\n").unwrap();
    assert_eq!(stand_in.line(), "out hello");
    let mut errors = BufReader::new(stand_in.process.stderr.take().unwrap());
    assert_eq!(next_line(&mut errors).unwrap(), "err hello");
}

#[test]
fn it_gets_token_lease_and_identity_and_arguments_of_any_bytes() {
    let text = "echo $LEASEHOLD_FENCING_TOKEN $LEASEHOLD_LEASE $LEASEHOLD_IDENTITY; printf %s \"$1$ODD\" | od -An -tx1";
    let arguments = ["-c".into(), text.into(), "sh".into(), OsString::from_vec(vec![0xff, b'a', 0xfe])];
    let mut launcher = Command::new(stand_in_path());
    launcher.env("ODD", OsString::from_vec(vec![0x80, 0xc3]));
    let mut stand_in = launch(launcher, OsStr::new("sh"), &arguments, Stdio::null());
    stand_in.start_for_hours();
    let identity = stand_in.directory.join("control");
    assert_eq!(stand_in.line(), format!("8123 ns/name {}", identity.display()));
    assert_eq!(stand_in.line().trim(), "ff 61 fe 80 c3");
}

#[test]
fn signal_mask_and_dispositions_are_the_defaults() {
    // What leasehold's own parent left ignored or blocked.
    let left = ["--ignore-signal=HUP,INT,QUIT,USR1,CHLD,TTOU", "--block-signal=USR2,ALRM"];
    if !possible("env", &[left[0], left[1], "true"]) {
        return;
    }
    let mut launcher = Command::new("env");
    launcher.args(left).arg(stand_in_path());
    let arguments = ["^Sig\\(Blk\\|Ign\\)", "/proc/self/status"].map(OsString::from);
    let mut stand_in = launch(launcher, OsStr::new("grep"), &arguments, Stdio::null());
    stand_in.start_for_hours();
    for name in ["SigBlk", "SigIgn"] {
        assert_eq!(stand_in.line(), format!("{name}:\t0000000000000000"));
    }
    assert_eq!(stand_in.ended().how, "exited with code 0", "an ignored SIGCHLD would have lost the exit status");
}

#[test]
fn it_inherits_no_descriptor_of_ours() {
    // What this process itself hands down (a CI system may leave something open) is none of ours.
    let without_us = Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout;
    let mut stand_in = run("ls", ["/proc/self/fd"]);
    stand_in.start_for_hours();
    assert_eq!(stand_in.ended().how, "exited with code 0");
    for expected in String::from_utf8(without_us).unwrap().lines() {
        assert_eq!(stand_in.line(), expected);
    }
    assert!(stand_in.output.buffer().is_empty());
}

// -------------------------------------------------------------------------------------------------- how it ends

#[test]
fn its_exit_is_reported_as_it_was_with_the_code_that_a_shell_would_give() {
    for (text, code, how) in [
        ("exit 0", 0, "exited with code 0"),
        ("exit 3", 3, "exited with code 3"),
        ("exit 255", 255, "exited with code 255"),
        ("kill -KILL $$", 137, "died of signal 9"),
        ("kill -SEGV $$", 139, "died of signal 11"),
        ("kill -USR1 $$", 138, "died of signal 10"),
    ] {
        let mut stand_in = script(text);
        stand_in.start_for_hours();
        let ended = stand_in.ended();
        assert_eq!((ended.stopped, ended.code, &*ended.how), (false, Some(code), how), "{text}");
    }
}

#[test]
fn what_cannot_be_started_is_named_with_a_hint() {
    let directory = fresh_directory();
    // Written by another process: a program that this one has open for writing, even for a moment, may be inherited by
    // a child of another test, and is then too busy to run.
    let file = |name: &str, line: &str, mode: &str| {
        let path = directory.join(name).into_os_string();
        let write = "printf '%b\\n' \"$1\" > \"$0\" && chmod \"$2\" \"$0\"";
        let args = [OsStr::new("-c"), OsStr::new(write), &path, OsStr::new(line), OsStr::new(mode)];
        assert!(Command::new("sh").args(args).status().unwrap().success());
        path
    };
    let plain = file("plain", "#!/bin/sh", "644");
    let orphan = file("orphan", "#!/no/such/shell -e", "755");
    // The head of a program for a machine that there is not.
    let foreign = file("foreign", "\\0177ELF\\0002\\0001\\0001", "755");
    let no_interpreter = file("script", "echo ran", "755");
    let busy = file("busy", "#!/bin/sh", "755");
    let _writer = fs::OpenOptions::new().append(true).open(&busy).unwrap();
    for (program, code, words) in [
        (OsString::from("no-such-program"), 127, ["`no-such-program`", "looked for in PATH (/"]),
        ("/no/such/program".into(), 127, ["`/no/such/program`", "there is no such file"]),
        (plain, 126, ["plain`", "chmod +x"]),
        (directory.clone().into_os_string(), 126, ["leasehold-command", "it is a directory"]),
        (orphan, 126, ["orphan`", "its interpreter `/no/such/shell -e` is not in this image"]),
        (busy, 126, ["busy`", "Text file busy"]),
        (foreign, 126, ["Exec format error", "is it built for another architecture?"]),
        (no_interpreter, 126, ["Exec format error", "its first line must be #! and its interpreter"]),
    ] {
        let mut stand_in = run(&program, ["argument"]);
        stand_in.start_for_hours();
        let Ended { code: reported, how, stopped, .. } = stand_in.ended();
        assert_eq!((reported, stopped), (Some(code), false), "{how}");
        assert!(how.starts_with("cannot start "), "{how}");
        words.iter().for_each(|word| assert!(how.contains(word), "{how} lacks {word}"));
    }
    let how = run("true", ["@200000"]).outcome();
    assert!(how.starts_with("cannot start ") && how.contains("Argument list too long"), "{how}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn sigterm_lets_it_end_cleanly() {
    let mut stand_in = script(&format!("trap 'echo bye; exit 7' TERM; {IDLE}"));
    stand_in.start_for_hours();
    assert!(stand_in.line().starts_with("ready"));
    stand_in.order("stop");
    assert_eq!(stand_in.line(), "bye");
    let ended = stand_in.ended();
    assert!(ended.stopped && ended.how == "exited with code 7", "{ended:?}");
}

#[test]
fn another_signal_can_be_the_one_that_stops_it() {
    let mut stand_in = script(&format!("trap 'exit 5' INT; trap 'exit 6' TERM; {IDLE}"));
    stand_in.start_for_hours();
    assert!(stand_in.line().starts_with("ready"));
    stand_in.order("stop-with SIGINT");
    stand_in.order("stop");
    assert_eq!(stand_in.ended().how, "exited with code 5");
}

#[test]
fn a_stopped_command_is_continued_so_that_it_can_end() {
    let mut stand_in = script(&format!("trap 'exit 7' TERM; {IDLE}"));
    stand_in.start_for_hours();
    let pid = stand_in.line().replace("ready ", "");
    assert!(possible("kill", &["-STOP", &pid]));
    wait_until("it is stopped", || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T "));
    stand_in.order("stop");
    assert_eq!(stand_in.ended().how, "exited with code 7");
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_when_time_is_up_and_no_earlier() {
    let mut stand_in = script("trap '' TERM; (while :; do sleep 60; done) & echo ready; while :; do sleep 60; done");
    stand_in.start_for_hours();
    assert_eq!(stand_in.line(), "ready");
    let not_before = stand_in.clock() + 1_000_000_000;
    stand_in.ask(&format!("renew {HOURS} 1000"), "renewed");
    stand_in.order("stop");
    let ended = stand_in.ended();
    assert!(ended.stopped && ended.how == "died of signal 9", "{ended:?}");
    assert!(ended.at >= not_before, "{ended:?} before {not_before}");
    assert_eq!(stand_in.count("descendants"), 0);
}

#[test]
fn it_is_stopped_and_killed_in_time_without_an_order() {
    let asked = fresh_directory().join("asked");
    let mut stand_in = script(&format!("trap 'echo > {}' TERM; while :; do sleep 60 & wait; done", asked.display()));
    // A slow machine may take longer than this to begin, or to write that file.
    for millis in [500, 1000, 2000, 4000, 8000, 16_000] {
        let kill_at = stand_in.start(millis, 2 * millis);
        let ended = stand_in.ended();
        assert!(ended.stopped && ["died of signal 9", "died of signal 15"].contains(&&*ended.how), "{ended:?}");
        if ended.how == "died of signal 9" {
            assert!(ended.at >= kill_at, "{ended:?}, {kill_at}");
            if asked.exists() {
                return fs::remove_dir_all(asked.parent().unwrap()).unwrap();
            }
        }
    }
    panic!("it was never asked first and then killed");
}

/// What docs/guide.md does not guarantee, and what then helps: time that passes counts.
#[test]
fn a_stopped_leasehold_kills_as_soon_as_it_goes_on() {
    let mut stand_in = script("trap '' TERM; echo $$; while :; do sleep 60; done");
    let signal = |name: &str, stand_in: &StandIn| {
        assert!(possible("kill", &[name, &stand_in.process.id().to_string()]));
    };
    let state = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (kill_at, command) = loop {
        let kill_at = stand_in.start(1000, 1001);
        let command = stand_in.line();
        signal("-STOP", &stand_in);
        let pid = stand_in.process.id().to_string();
        wait_until("it is stopped", || state(&pid).contains(") T "));
        // On a slow machine the deadline may have been faster.
        if sys::boot_time().0 < kill_at {
            break (kill_at, command);
        }
        signal("-CONT", &stand_in);
        stand_in.ended();
    };
    wait_until("its time is up", || sys::boot_time().0 > kill_at + 100_000_000);
    assert!(state(&command).contains(") S "), "the command runs on: {}", state(&command));
    signal("-CONT", &stand_in);
    let ended = stand_in.ended();
    assert!(ended.stopped && ended.how == "died of signal 9" && ended.at > kill_at, "{ended:?}, {kill_at}");
}

#[test]
fn renewals_keep_it_running() {
    let mut stand_in = script("while :; do sleep 60; done");
    let mut millis = 500;
    let kill_at = loop {
        let kill_at = stand_in.start(millis, millis);
        stand_in.ask(&format!("renew {HOURS} {HOURS}"), "renewed");
        if stand_in.clock() < kill_at {
            break kill_at;
        }
        // On a slow machine the renewal came too late.
        stand_in.ended();
        millis *= 2;
    };
    stand_in.wait_until("its first deadline has passed", |stand_in| stand_in.clock() > kill_at + 100_000_000);
    assert_eq!(stand_in.count("descendants"), 2, "the shell and its sleep");
    stand_in.order("stop");
    assert_eq!(stand_in.ended().how, "died of signal 15");
}

#[test]
fn the_shipped_package_has_no_stand_in() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, stand_in) = manifest.split_once("leasehold-stand-in").unwrap();
    assert!(stand_in.split("[[").next().unwrap().contains("required-features = [\"_helpers\"]"));
    let default = manifest.lines().find(|line| line.starts_with("default = ")).unwrap();
    assert_eq!(default, "default = [\"program\"]");
}
