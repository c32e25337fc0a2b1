//! One process of the program, what it says, and what it answers over HTTP.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ledger::{Ledger, Page};
use super::{LIMIT, eventually};

/// The exit code after a second SIGTERM: nothing is waited for, the audit log's last lines neither.
const AT_ONCE: i32 = 128 + 15;

/// How to start one.
#[derive(Clone, Default)]
pub(crate) struct Program {
    environment: BTreeMap<String, OsString>,
    args: Vec<OsString>,
    ledger: Option<Ledger>,
}

impl Program {
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Program {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Program {
        self.environment.remove(name);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With an audit log for each process, unless AUDIT_LOG says otherwise.
    pub(super) fn audited(mut self, ledger: &Ledger) -> Program {
        self.ledger = Some(ledger.clone());
        self
    }

    /// Starts it with this environment and no other.
    pub(crate) fn start(&self) -> Process {
        self.start_with(Process::spawn)
    }

    /// Starts it with a standard error that is full already, and that is read only once the sender is dropped.
    pub(crate) fn start_unheard(&self) -> (Process, Sender<()>) {
        let (reader, writer) = io::pipe().expect("a pipe");
        fill(&writer);
        let (listen, from) = channel();
        let log = move |_: &mut Child| Output::of(Unheard { from, reader });
        (self.start_with(|program| Process::spawn_with(program.stderr(writer), log)), listen)
    }

    fn start_with(&self, spawn: impl FnOnce(&mut Command) -> Process) -> Process {
        let mut program = Command::new(super::program());
        let program = program.args(&self.args).env_clear().envs(&self.environment);
        let text = |word: Option<&OsString>| word.map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let ledger = self.ledger.as_ref().filter(|_| !self.environment.contains_key("AUDIT_LOG"));
        let page = ledger.map(|it| it.open(&text(self.environment.get("POD_NAME")), &text(self.args.first())));
        if let Some(page) = &page {
            program.env("AUDIT_LOG", &page.file);
        }
        let mut process = spawn(program);
        process.page = page;
        process
    }
}

/// A running one; it does not outlive this value.
pub(crate) struct Process {
    child: Mutex<Child>,
    page: Option<Page>,
    pub(crate) stdout: Output,
    pub(crate) log: Output,
}

impl Process {
    /// Starts any program, and listens to it.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        Process::spawn_with(command.stderr(Stdio::piped()), |child| {
            Output::of(child.stderr.take().expect("stderr is piped"))
        })
    }

    fn spawn_with(command: &mut Command, log: impl FnOnce(&mut Child) -> Output) -> Process {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = Output::of(child.stdout.take().expect("stdout is piped"));
        let log = log(&mut child);
        Process { child: Mutex::new(child), page: None, stdout, log }
    }

    /// Waits until it says this.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> String {
        self.log.line_with(text)
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.log.lines().iter().any(|line| line.contains(text))
    }

    /// The port it listens on: it says so.
    #[track_caller]
    pub(crate) fn port(&self) -> u16 {
        let line = self.says("HTTP on port ");
        line.rsplit(' ').next().and_then(|port| port.parse().ok()).expect("a port at the line's end")
    }

    /// Asks over HTTP on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(path).expect("a connection").answer().expect("an answer")
    }

    /// Asks, and does not wait for the answer.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str) -> io::Result<Question> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        Ok(Question(stream))
    }

    #[track_caller]
    pub(crate) fn leads(&self) -> bool {
        self.get("/leading").status == 200
    }

    /// Waits until it leads; what it says of its term.
    #[track_caller]
    pub(crate) fn wait_until_it_leads(&self) -> Value {
        eventually(&format!("it leads; it said:\n{}", self.log.text()), || {
            let leader = self.get("/leader").json();
            (leader["isLeader"] == true && self.leads()).then_some(leader)
        })
    }

    /// The fencing token of the term that it leads in.
    #[track_caller]
    pub(crate) fn token(&self) -> u128 {
        let leader = self.wait_until_it_leads();
        leader["fencingToken"].as_str().and_then(|token| token.parse().ok()).expect("a token")
    }

    /// Sends it a signal, by its name without SIG.
    #[track_caller]
    pub(crate) fn pid(&self) -> u32 {
        self.child().id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let mut child = self.child();
        assert!(child.try_wait().expect("it can be waited for").is_none(), "it has ended:\n{}", self.log.text());
        let sent = Command::new("sh").arg("-c").arg(format!("kill -s {name} {}", child.id())).status();
        assert!(sent.expect("sh starts").success(), "SIG{name} is sent");
    }

    /// Ends it with SIGKILL, and is back when it has ended.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill(); // It may have ended by itself.
        let ended = child.wait();
        self.note_end(ended.ok());
    }

    #[track_caller]
    pub(crate) fn wait_for_end(&self) -> ExitStatus {
        let what = "the process ends";
        let status = eventually(what, || self.child().try_wait().expect("it can be waited for"));
        self.note_end(Some(status));
        status
    }

    /// A signal's end leaves no time to write things down.
    fn note_end(&self, status: Option<ExitStatus>) {
        let code = status.and_then(|status| status.code());
        if let (None | Some(AT_ONCE), Some(page)) = (code, &self.page) {
            page.cut();
        }
    }

    /// Waits for its end; its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&self) -> i32 {
        let status = self.wait_for_end();
        status.code().unwrap_or_else(|| panic!("{status}; it said:\n{}", self.log.text()))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- a process of the failing test said:\n{}", self.log.text());
        }
    }
}

/// Writes lines of dots until a pipe takes nothing more.
fn fill(pipe: &impl AsRawFd) {
    // Opened anew, so that O_NONBLOCK is not for all that have the pipe.
    let name = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let mut writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(name).expect("the pipe");
    for size in [libc::PIPE_BUF, 1] {
        let line = ".".repeat(size - 1) + "\n";
        while writer.write(line.as_bytes()).is_ok() {}
    }
}

/// Nobody reads it until the other end of the channel is gone.
struct Unheard {
    from: Receiver<()>,
    reader: PipeReader,
}

impl Read for Unheard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = self.from.recv();
        self.reader.read(buffer)
    }
}

/// Lines that a thread reads as they come.
#[derive(Clone)]
pub(crate) struct Output(Arc<(Mutex<Heard>, Condvar)>);

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    closed: bool,
}

impl Output {
    fn of(source: impl Read + Send + 'static) -> Output {
        let output = Output(Arc::default());
        let shared = output.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                shared.change(|read| read.lines.push(text));
                line.clear();
            }
            shared.change(|read| read.closed = true);
        });
        output
    }

    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits until the other end is closed; all that was said.
    #[track_caller]
    pub(crate) fn to_the_end(&self) -> Vec<String> {
        self.wait("its end", |read| read.closed.then(|| read.lines.clone()))
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub(crate) fn line_with(&self, text: &str) -> String {
        self.wait(text, |read| read.lines.iter().find(|line| line.contains(text)).cloned())
    }

    /// Waits until so many lines have this text.
    #[track_caller]
    pub(crate) fn lines_with(&self, text: &str, count: usize) {
        let counted = |read: &Heard| read.lines.iter().filter(|line| line.contains(text)).count();
        self.wait(&format!("{text}, {count} times"), |read| (counted(read) >= count).then_some(()));
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, mut find: impl FnMut(&Heard) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut read = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&read) {
                return found;
            }
            let said = || read.lines.join("\n");
            assert!(!read.closed, "it has ended and never said {what:?}, but:\n{}", said());
            assert!(begun.elapsed() < LIMIT, "it never said {what:?}, but:\n{}", said());
            let pause = Duration::from_secs(1);
            read = self.0.1.wait_timeout(read, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A question that is not answered yet.
pub(crate) struct Question(TcpStream);

impl Question {
    pub(crate) fn answer(mut self) -> io::Result<Answer> {
        let mut text = Vec::new();
        self.0.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Answer { status: status.ok_or(io::ErrorKind::InvalidData)?, body: body.to_owned() })
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}
