//! The log: env_logger, in two forms, and standard error, which may have nobody who reads it.
//!
//! IO: writes to standard error. Nothing below `debug` ever comes out, whatever RUST_LOG says: ureq's `trace` shows
//! whole requests, and with them the bearer token.
//!
//! Whoever logs may have a Lease to renew, and so does not wait for a reader: a line that standard error does not take
//! within a moment is left out, and the next one that it takes is preceded by how many were.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};
use serde_json::json;

use crate::config::LogFormat;
use crate::sys;

/// A reader that is only slow, or has yet to be scheduled, is waited for so long.
const PATIENCE: Duration = Duration::from_millis(50);

/// Starts logging, once a process.
pub fn start(filter: &str, format: LogFormat) {
    let mut builder = Builder::new();
    // tiny_http reports an error each time that it is stopped; what matters of it the door says. RUST_LOG can undo it.
    builder.filter_module("tiny_http", LevelFilter::Off).parse_filters(filter);
    builder
        .format(move |out, record| out.write_all(line(format, record.level(), &record.args().to_string()).as_bytes()));
    // A descriptor of our own, because std's lock on standard error is held by whoever waits in a write to it: the audit
    // log's thread may. Without one to spare (there are none open yet) the log is as before.
    if let Ok(own) = io::stderr().as_fd().try_clone_to_owned() {
        builder.target(Target::Pipe(Box::new(Unwaiting::new(own.into(), format))));
    }
    // A logger that is there already is the caller's; then this one is not needed.
    if builder.try_init().is_ok() {
        log::set_max_level(log::max_level().min(LevelFilter::Debug));
    }
}

fn line(format: LogFormat, level: Level, message: &str) -> String {
    let time = sys::now().wall.to_string();
    match format {
        LogFormat::Text => format!("{time} {level:5} {}\n", single_line(message)),
        LogFormat::Json => format!("{}\n", json!({ "time": time, "level": level.as_str(), "message": message })),
    }
}

/// What comes from outside cannot begin a line of its own, nor move a terminal's cursor.
fn single_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    } else {
        text.to_owned()
    }
}

/// Takes one whole line at a time and passes it on, unless that would be to wait.
///
/// O_NONBLOCK would do the same, and would do it to the COMMAND too, and to all others that have the open file. Asking
/// first does not bind the others: if one of them (the COMMAND, the audit log) takes the last room between the question
/// and the write, that one write waits. And a terminal promises room for a byte, not for a line.
struct Unwaiting {
    to: File,
    format: LogFormat,
    /// What is left of a line that was begun.
    rest: Vec<u8>,
    /// Lines left out since one was told about.
    dropped: u64,
    /// Not after having waited in vain: that would be to wait at every line.
    patient: bool,
}

impl Unwaiting {
    fn new(to: File, format: LogFormat) -> Unwaiting {
        Unwaiting { to, format, rest: Vec::new(), dropped: 0, patient: true }
    }

    /// Whether a write of up to PIPE_BUF bytes need not wait. (It may fail: a pipe without a reader is ready too.)
    fn ready(&mut self) -> bool {
        let until = sys::boot_time() + if self.patient { PATIENCE } else { Duration::ZERO };
        let mut asked = [libc::pollfd { fd: self.to.as_raw_fd(), events: libc::POLLOUT, revents: 0 }];
        loop {
            let left = until.since(sys::boot_time());
            match sys::poll(&mut asked, Some(left)) {
                Ok(0) if left.is_zero() => {
                    self.patient = false;
                    return false;
                }
                Ok(0) => {} // Perhaps a signal has cut it short.
                // Where it may not be asked, a log is worth more than the moment that a reader might take.
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// How many bytes of this are taken.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.ready() {
            let left = &bytes[taken..];
            match self.to.write(&left[..left.len().min(libc::PIPE_BUF)]) {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    self.patient = true;
                    taken += count;
                }
            }
        }
        taken
    }

    /// Whether the line is out, or begun. One that is longer than PIPE_BUF goes piece by piece, and may have to be ended
    /// later: then before anything else, so that lines are late, or left out, but never cut.
    fn send(&mut self, line: &[u8]) -> bool {
        let taken = self.put(line);
        if taken > 0 {
            self.rest = line[taken..].to_vec();
        }
        taken > 0
    }

    /// Whether nothing is left of a line that was begun.
    fn end(&mut self) -> bool {
        let mut rest = mem::take(&mut self.rest);
        rest.drain(..self.put(&rest));
        self.rest = rest;
        self.rest.is_empty()
    }

    /// Whether nothing is left to be told of lines that were left out.
    fn tell(&mut self) -> bool {
        if self.dropped > 0 {
            let message = format!("lines missing here, which standard error did not take: {}", self.dropped);
            if self.send(line(self.format, Level::Warn, &message).as_bytes()) {
                self.dropped = 0;
            }
        }
        self.dropped == 0
    }
}

impl Write for Unwaiting {
    /// env_logger brings one line, newline included, and has nobody to tell of an error.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !(self.end() && self.tell() && self.end() && self.send(line)) {
            self.dropped += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read, pipe};
    use std::os::fd::OwnedFd;

    fn with_reader(format: LogFormat) -> (PipeReader, Unwaiting) {
        let (reader, writer) = pipe().unwrap();
        (reader, Unwaiting::new(OwnedFd::from(writer).into(), format))
    }

    /// Writes numbered lines of this length until one is left out; the text of those that are not.
    fn fill(log: &mut Unwaiting, length: usize) -> String {
        let mut text = String::new();
        for number in 0.. {
            let line = format!("{number:0length$}\n");
            log.write_all(line.as_bytes()).unwrap();
            if log.dropped > 0 {
                break;
            }
            text += &line;
        }
        text
    }

    fn read(reader: &mut PipeReader, length: usize) -> String {
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn read_to_the_end(mut reader: PipeReader, log: Unwaiting) -> String {
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_left_out_is_counted() {
        let (mut reader, mut log) = with_reader(LogFormat::Text);
        let before = fill(&mut log, 100);
        assert!(!log.patient, "it has waited once");
        for _ in 0..9 {
            log.write_all(b"nobody will know\n").unwrap();
        }
        assert_eq!(read(&mut reader, before.len()), before);
        log.write_all(b"first\n").unwrap();
        assert!(log.patient, "a reader that reads is worth another wait");
        log.write_all(b"second\n").unwrap();
        let text = read_to_the_end(reader, log);
        let (told, rest) = text.split_once('\n').unwrap();
        let message = " WARN  lines missing here, which standard error did not take: 10";
        assert!(told.ends_with(message), "{told}");
        assert_eq!(rest, "first\nsecond\n");
    }

    #[test]
    fn the_count_is_json_where_the_log_is() {
        let (mut reader, mut log) = with_reader(LogFormat::Json);
        let before = fill(&mut log, 100);
        read(&mut reader, before.len());
        log.write_all(b"{}\n").unwrap();
        let text = read_to_the_end(reader, log);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["message"], "lines missing here, which standard error did not take: 1");
        assert_eq!((&lines[0]["level"], &lines[1]), (&json!("WARN"), &json!({})));
    }

    #[test]
    fn a_line_longer_than_a_pipe_takes_at_once_is_whole_in_the_end() {
        let (mut reader, mut log) = with_reader(LogFormat::Text);
        let before = fill(&mut log, libc::PIPE_BUF - 1);
        log.dropped = 0;
        let mut heard = String::new();
        while !log.ready() {
            heard += &read(&mut reader, libc::PIPE_BUF);
        }
        // Room for its beginning now, and for no more.
        let long = "7".repeat(100_000) + "\n";
        log.write_all(long.as_bytes()).unwrap();
        assert!(log.dropped == 0 && !log.rest.is_empty());
        log.write_all(b"nobody will know\n").unwrap();
        let begun = long.len() - log.rest.len();
        heard += &read(&mut reader, before.len() + begun - heard.len());
        assert_eq!(heard, before + &long[..begun]);
        // It does not fit into the pipe: whoever writes next adds as much as does, and comes after it.
        let mut rest = String::new();
        while !log.rest.is_empty() {
            let left = log.rest.len();
            log.write_all(b"late\n").unwrap();
            if !log.rest.is_empty() {
                rest += &read(&mut reader, left - log.rest.len());
            }
        }
        rest += &read_to_the_end(reader, log);
        let after = rest.strip_prefix(&long[begun..]).expect("the end of the line that was begun comes first");
        assert!(after.contains("did not take: ") && after.ends_with("\nlate\n"), "{after}");
    }

    #[test]
    fn a_reader_that_has_gone_stops_nothing() {
        let (reader, mut log) = with_reader(LogFormat::Text);
        drop(reader);
        for _ in 0..3 {
            log.write_all(b"nobody will know\n").unwrap();
        }
        assert_eq!((log.dropped, log.patient), (3, true), "ready, and of no use");
    }

    #[test]
    fn a_file_takes_everything() {
        let path = std::env::temp_dir().join(format!("leasehold-log-{}", std::process::id()));
        let mut log = Unwaiting::new(File::create(&path).unwrap(), LogFormat::Text);
        let lines = "x".repeat(3 * libc::PIPE_BUF) + "\n";
        for _ in 0..100 {
            log.write_all(lines.as_bytes()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((text.len(), log.dropped), (100 * lines.len(), 0));
    }

    #[test]
    fn what_comes_from_outside_begins_no_line() {
        let text = line(LogFormat::Text, Level::Info, "a\nb\u{1b}[2J");
        assert!(text.ends_with(" INFO  a\\nb\\u{1b}[2J\n"), "{text}");
    }
}
