//! A stand-in for leasehold, for `tests/it/command.rs`: a process whose main thread takes the signals, and whose
//! Supervisor is told over a Unix socket what to do, a line at a time. It must be a process of its own, because a
//! Supervisor reaps every child of the process that it is in.
//!
//! `leasehold-stand-in SOCKET PROGRAM ARG…`; an argument `@N` becomes N letters (no process could be handed so long a
//! one). Orders are listed at [`obey`].

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use leasehold::Leadership;
use leasehold::election::{Term, Validity};
use leasehold::program::command::{Ended, Supervisor};
use leasehold::sys::{self, Signal, Signals};
use leasehold::time::WallTime;

struct StandIn {
    supervisor: Supervisor,
    /// The latest term, whose deadlines only an order moves.
    term: Mutex<Leadership>,
    answers: Mutex<UnixStream>,
}

fn term(valid_millis: u64, kill_millis: u64) -> Leadership {
    let term = Term { token: 8123, lease_uid: "uid".into(), acquire_time: WallTime(0) };
    Leadership::new(term, "ns/name".into(), validity(valid_millis, kill_millis))
}

fn validity(valid_millis: u64, kill_millis: u64) -> Validity {
    let now = sys::boot_time();
    let after = |millis| now + Duration::from_millis(millis);
    Validity { valid_until: after(valid_millis), kill_at: after(kill_millis) }
}

fn main() {
    let signals = Signals::block();
    let mut args = env::args_os().skip(1);
    let socket = args.next().expect("a socket");
    let control = UnixStream::connect(&socket).expect("the test listens");
    let command = args.map(stretched).collect();
    // The identity is that by which the test knows our descendants, wherever they go.
    let identity = socket.into_string().expect("a path that is text");
    let lines = control.try_clone().expect("a second handle");
    let log = move |_, line: String| write_line(&lines, &format!("log {line}"));
    let stand_in = Arc::new(StandIn {
        supervisor: Supervisor::new(&signals, command, identity, log).expect("a supervisor"),
        term: Mutex::new(term(0, 0)),
        answers: Mutex::new(control.try_clone().expect("a second handle")),
    });
    let listener = Arc::clone(&stand_in);
    thread::spawn(move || {
        for order in BufReader::new(control).lines().map_while(Result::ok) {
            // Each on a thread that ends at once: nothing may depend on the thread that asked.
            let stand_in = Arc::clone(&listener);
            thread::spawn(move || obey(&stand_in, &order)).join().expect("an order is obeyed");
        }
        sys::terminate_now(0);
    });
    let descriptor = signals.descriptor().expect("a descriptor");
    loop {
        let mut polled = [libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        sys::poll(&mut polled, None).expect("signals can be waited for");
        while let Some(signal) = signals.take() {
            stand_in.supervisor.forward(signal);
            stand_in.answer(&format!("took {}", signal.name));
        }
    }
}

fn stretched(arg: OsString) -> OsString {
    let length = arg.to_str().and_then(|text| text.strip_prefix('@')).and_then(|digits| digits.parse().ok());
    length.map_or(arg, |length| "x".repeat(length).into())
}

fn obey(stand_in: &Arc<StandIn>, order: &str) {
    let words: Vec<&str> = order.split(' ').collect();
    match words[..] {
        ["start", valid, kill] => stand_in.start(millis(valid), millis(kill)),
        // As fast as it can be asked, hence (nearly always) before exec.
        ["start-and-forward", valid, kill, name] => {
            stand_in.start(millis(valid), millis(kill));
            stand_in.supervisor.forward(signal(name));
        }
        ["start-and-stop", valid, kill] => {
            stand_in.start(millis(valid), millis(kill));
            stand_in.supervisor.stop(Signal::TERMINATE);
        }
        ["renew", valid, kill] => {
            stand_in.term.lock().expect("no order panics").set_validity(validity(millis(valid), millis(kill)));
            stand_in.answer("renewed");
        }
        ["stop"] => stand_in.supervisor.stop(Signal::TERMINATE),
        ["stop-with", name] => stand_in.supervisor.stop(signal(name)),
        ["forward", name] => {
            stand_in.supervisor.forward(signal(name));
            stand_in.answer("forwarded");
        }
        ["census"] => stand_in.answer(&census()),
        ["clock"] => stand_in.answer(&format!("clock {}", sys::boot_time().0)),
        _ => panic!("no such order: {order}"),
    }
}

impl StandIn {
    fn start(self: &Arc<Self>, valid_millis: u64, kill_millis: u64) {
        let term = term(valid_millis, kill_millis);
        *self.term.lock().expect("no order panics") = term.clone();
        let kill_at = term.kill_at().0;
        let reporter = Arc::clone(self);
        // The answer is held back until this one is out: "started" comes before "ended".
        let answers = self.answers.lock().expect("no answer panics");
        self.supervisor.start(term, move |ended: Ended| reporter.answer(&said(ended)));
        write_line(&answers, &format!("started {kill_at}"));
    }

    fn answer(&self, line: &str) {
        write_line(&self.answers.lock().expect("no answer panics"), line);
    }
}

fn write_line(mut answers: &UnixStream, line: &str) {
    // The test may have ended; then so will this process.
    let _ = answers.write_all(format!("{line}\n").as_bytes());
}

fn said(ended: Ended) -> String {
    let code = ended.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    let by = if ended.stopped { "stopped" } else { "itself" };
    format!("ended {} {by} {code}", sys::boot_time().0)
}

fn millis(word: &str) -> u64 {
    word.parse().expect("milliseconds")
}

fn signal(name: &str) -> Signal {
    Signal::ALL.into_iter().find(|signal| signal.name == name).expect("a signal's name")
}

/// How many living descendants this process has, how many dead and not reaped, how many descriptors and threads.
fn census() -> String {
    let mut processes: Vec<(u32, u32, bool)> = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        let field = |number| sys::stat_field(&stat, number).expect("a field");
        processes.push((pid, field(4).parse().expect("a parent"), field(3) == "Z"));
    }
    let (mut family, mut zombies, mut next) = (vec![std::process::id()], 0, 0);
    while let Some(parent) = family.get(next).copied() {
        for (pid, _, zombie) in processes.iter().filter(|process| process.1 == parent) {
            family.push(*pid);
            zombies += usize::from(*zombie);
        }
        next += 1;
    }
    let entries = |directory: &str| fs::read_dir(directory).expect("/proc").count();
    let (files, threads) = (entries("/proc/self/fd"), entries("/proc/self/task"));
    format!("census descendants={} zombies={zombies} files={files} threads={threads}", family.len() - 1 - zombies)
}
