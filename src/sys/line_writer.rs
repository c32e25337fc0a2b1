//! Writes lines to a descriptor whose reader may have stopped reading.
//!
//! IO. A thread that writes a line may have a Lease to renew, so it never waits long for a reader: a line that is not taken
//! within a moment is dropped, and the next one that is taken comes after a line that says how many were.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use super::{boot_time, poll};

/// Time for a reader that is slow or has yet to be scheduled.
const PATIENCE: Duration = Duration::from_millis(50);

/// Passes whole lines on, unless it would have to wait.
///
/// O_NONBLOCK would do the same, and would do it to everyone who shares the open file, a COMMAND for example. Asking with
/// poll(2) first does not bind them: if another process takes the last room in between, that one write waits. And a terminal
/// promises room for a byte, not for a line.
pub(crate) struct DroppingWriter {
    to: File,
    /// The line that says how many lines were dropped.
    report: Box<dyn Fn(u64) -> String + Send>,
    /// What is left of a line whose beginning is out.
    rest: Vec<u8>,
    /// Lines dropped since the last report.
    dropped: u64,
    /// Off after a wait in vain, or every line would wait.
    patient: bool,
}

impl DroppingWriter {
    pub(crate) fn new(to: impl Into<File>, report: impl Fn(u64) -> String + Send + 'static) -> DroppingWriter {
        DroppingWriter { to: to.into(), report: Box::new(report), rest: Vec::new(), dropped: 0, patient: true }
    }

    /// On a duplicate of `descriptor`: std's own handles have a lock that a blocked writer holds.
    pub(crate) fn duplicate(
        descriptor: BorrowedFd,
        report: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<DroppingWriter> {
        Ok(DroppingWriter::new(descriptor.try_clone_to_owned()?, report))
    }

    /// Writes a line, newline included, or drops and counts it. The error is the system's; a reader that does not read is none.
    pub(crate) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let begun = self.write_in_order(line);
        if !matches!(begun, Ok(true)) {
            self.dropped += 1;
        }
        begun.map(drop)
    }

    /// What is older goes first. Whether this line is out, or its beginning is.
    fn write_in_order(&mut self, line: &[u8]) -> io::Result<bool> {
        if !self.finish()? {
            return Ok(false);
        }
        if self.dropped > 0 {
            let report = (self.report)(self.dropped);
            if !self.begin(report.as_bytes())? {
                return Ok(false);
            }
            self.dropped = 0;
        }
        Ok(self.finish()? && self.begin(line)?)
    }

    /// Whether the line is out, or its beginning is. One that is longer than PIPE_BUF goes piece by piece, and its end may
    /// have to wait for a later call: lines are late or dropped, never cut.
    fn begin(&mut self, line: &[u8]) -> io::Result<bool> {
        let taken = self.put(line)?;
        if taken > 0 {
            self.rest = line[taken..].to_vec();
        }
        Ok(taken > 0)
    }

    /// Whether nothing is left of a line whose beginning is out.
    fn finish(&mut self) -> io::Result<bool> {
        let mut rest = mem::take(&mut self.rest);
        let taken = self.put(&rest)?;
        rest.drain(..taken);
        self.rest = rest;
        Ok(self.rest.is_empty())
    }

    /// How many bytes are taken without waiting. An error after the first byte shows at the next call.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() && self.is_ready() {
            let left = &bytes[taken..];
            match self.to.write(&left[..left.len().min(libc::PIPE_BUF)]) {
                Ok(0) => break,
                Ok(count) => {
                    self.patient = true;
                    taken += count;
                }
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    /// Whether a write of up to PIPE_BUF bytes need not wait. (It may fail: a pipe without a reader is ready too.)
    fn is_ready(&mut self) -> bool {
        let until = boot_time() + if self.patient { PATIENCE } else { Duration::ZERO };
        let mut asked = [libc::pollfd { fd: self.to.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 }];
        loop {
            let left = until.since(boot_time());
            match poll(&mut asked, Some(left)) {
                Ok(0) if left.is_zero() => {
                    self.patient = false;
                    return false;
                }
                Ok(0) => {} // Perhaps a signal has cut it short.
                // Where poll fails, a line is worth more than the moment that a reader might take.
                Ok(_) | Err(_) => return true,
            }
        }
    }
}

impl fmt::Debug for DroppingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DroppingWriter").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// For env_logger, which writes one whole line at a time and ignores errors.
impl Write for DroppingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line).map(|()| line.len())
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

    fn report(dropped: u64) -> String {
        format!("dropped {dropped}\n")
    }

    fn with_reader() -> (PipeReader, DroppingWriter) {
        let (reader, writer) = pipe().unwrap();
        (reader, DroppingWriter::new(OwnedFd::from(writer), report))
    }

    /// Writes numbered lines of this length until one is dropped; the text of those that are not.
    fn fill(writer: &mut DroppingWriter, length: usize) -> String {
        let mut text = String::new();
        for number in 0.. {
            let line = format!("{number:0length$}\n");
            writer.write_line(line.as_bytes()).unwrap();
            if writer.dropped > 0 {
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

    fn read_to_the_end(mut reader: PipeReader, writer: DroppingWriter) -> String {
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_blocked_reader_delays_no_writer_and_dropped_lines_are_counted() {
        let (mut reader, mut writer) = with_reader();
        let before = fill(&mut writer, 100);
        assert!(!writer.patient, "it has waited once");
        for _ in 0..9 {
            writer.write_line(b"dropped\n").unwrap();
        }
        assert_eq!(read(&mut reader, before.len()), before);
        writer.write_line(b"first\n").unwrap();
        assert!(writer.patient, "a reader that reads is worth another wait");
        writer.write_line(b"second\n").unwrap();
        assert_eq!(read_to_the_end(reader, writer), "dropped 10\nfirst\nsecond\n");
    }

    #[test]
    fn a_line_longer_than_a_pipe_takes_at_once_is_whole_in_the_end() {
        let (mut reader, mut writer) = with_reader();
        let before = fill(&mut writer, libc::PIPE_BUF - 1);
        writer.dropped = 0;
        let mut heard = String::new();
        while !writer.is_ready() {
            heard += &read(&mut reader, libc::PIPE_BUF);
        }
        // Room for its beginning now, and for no more.
        let long = "7".repeat(100_000) + "\n";
        writer.write_line(long.as_bytes()).unwrap();
        assert!(writer.dropped == 0 && !writer.rest.is_empty());
        writer.write_line(b"dropped\n").unwrap();
        let begun = long.len() - writer.rest.len();
        heard += &read(&mut reader, before.len() + begun - heard.len());
        assert_eq!(heard, before + &long[..begun]);
        // It does not fit into the pipe: each later line pushes out as much as fits, and comes after it.
        let mut rest = String::new();
        while !writer.rest.is_empty() {
            let left = writer.rest.len();
            writer.write_line(b"late\n").unwrap();
            if !writer.rest.is_empty() {
                rest += &read(&mut reader, left - writer.rest.len());
            }
        }
        rest += &read_to_the_end(reader, writer);
        let after = rest.strip_prefix(&long[begun..]).expect("the end of the line that was begun comes first");
        assert!(after.starts_with("dropped ") && after.ends_with("\nlate\n"), "{after}");
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_each_time() {
        let (reader, mut writer) = with_reader();
        drop(reader);
        for _ in 0..3 {
            assert_eq!(writer.write_line(b"dropped\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
        assert_eq!((writer.dropped, writer.patient), (3, true), "ready, and of no use");
    }

    #[test]
    fn a_file_takes_everything() {
        let path = std::env::temp_dir().join(format!("leasehold-lines-{}", std::process::id()));
        let mut writer = DroppingWriter::new(File::create(&path).unwrap(), report);
        let line = "x".repeat(3 * libc::PIPE_BUF) + "\n";
        for _ in 0..100 {
            writer.write_line(line.as_bytes()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((text.len(), writer.dropped), (100 * line.len(), 0));
    }
}
