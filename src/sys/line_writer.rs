//! Writes lines to a descriptor whose reader may have stopped reading.
//!
//! IO. A thread that writes a line may have a Lease to renew, so it never waits long for a reader: one line may be late, those
//! that come meanwhile are dropped, and the next one that is taken comes after a line that says how many were.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::poll;

/// Time for a reader that is slow or has yet to be scheduled.
const PATIENCE: Duration = Duration::from_millis(50);

/// Passes whole lines on, unless it would have to wait: lines are late or dropped, never cut.
///
/// O_NONBLOCK would do the same, and would do it to everyone who shares the open file, a COMMAND for example. Asking with
/// poll(2) first does not bind them: if another process takes the last room in between, that one write waits. And a terminal
/// promises room for a byte, not for a line.
pub(crate) struct DroppingWriter {
    to: File,
    /// The line that says how many lines were dropped.
    report: Box<dyn Fn(u64) -> String + Send>,
    /// What is not out yet of the last line that was not dropped, and of the report before it.
    late: Vec<u8>,
    /// Lines dropped since the last report.
    dropped: u64,
    /// Off after a wait in vain, or every line would wait.
    patient: bool,
}

impl DroppingWriter {
    /// On a file, or a duplicate of stdout or stderr: std's own handles have a lock that a blocked writer holds.
    pub(crate) fn new(to: OwnedFd, report: impl Fn(u64) -> String + Send + 'static) -> DroppingWriter {
        DroppingWriter { to: to.into(), report: Box::new(report), late: Vec::new(), dropped: 0, patient: true }
    }

    /// Writes a line, newline included, or drops and counts it. The error is the system's; a reader that does not read is none.
    pub(crate) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.write_late();
        if !self.late.is_empty() {
            self.dropped += 1;
            return written;
        }
        if self.dropped > 0 {
            self.late.extend((self.report)(self.dropped).as_bytes());
            self.dropped = 0;
        }
        self.late.extend(line);
        self.write_late()
    }

    /// Writes as much of what is late as is taken without waiting.
    fn write_late(&mut self) -> io::Result<()> {
        while !self.late.is_empty() && self.is_ready() {
            let piece = self.late.len().min(libc::PIPE_BUF);
            match self.to.write(&self.late[..piece])? {
                0 => break,
                taken => drop(self.late.drain(..taken)),
            }
        }
        Ok(())
    }

    /// Whether a write of up to PIPE_BUF bytes need not wait. (It may fail: a pipe without a reader is ready too.)
    fn is_ready(&mut self) -> bool {
        let wait = if self.patient { PATIENCE } else { Duration::ZERO };
        let mut asked = [libc::pollfd { fd: self.to.as_raw_fd(), events: libc::POLLOUT, revents: 0 }];
        // Where poll fails, a line is worth more than the moment that a reader might take.
        self.patient = !matches!(poll(&mut asked, Some(wait)), Ok(0));
        self.patient
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

    fn report(dropped: u64) -> String {
        format!("dropped {dropped}\n")
    }

    fn with_reader() -> (PipeReader, DroppingWriter) {
        let (reader, writer) = pipe().unwrap();
        (reader, DroppingWriter::new(writer.into(), report))
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
        let (taken, late) = before.split_at(before.len() - writer.late.len());
        assert_eq!(read(&mut reader, taken.len()), taken);
        writer.write_line(b"first\n").unwrap();
        assert!(writer.patient, "a reader that reads is worth another wait");
        writer.write_line(b"second\n").unwrap();
        assert_eq!(read_to_the_end(reader, writer), format!("{late}dropped 10\nfirst\nsecond\n"));
    }

    #[test]
    fn a_line_longer_than_a_pipe_takes_at_once_is_whole_in_the_end() {
        let (mut reader, mut writer) = with_reader();
        let long = "7".repeat(100_000) + "\n";
        writer.write_line(long.as_bytes()).unwrap();
        assert!(writer.dropped == 0 && !writer.late.is_empty(), "its beginning is out");
        writer.write_line(b"dropped\n").unwrap();
        let mut heard = String::new();
        while !writer.late.is_empty() {
            heard += &read(&mut reader, long.len() - writer.late.len() - heard.len());
            writer.write_late().unwrap();
        }
        writer.write_line(b"last\n").unwrap();
        assert_eq!(heard + &read_to_the_end(reader, writer), long + "dropped 1\nlast\n");
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_each_time() {
        let (reader, mut writer) = with_reader();
        drop(reader);
        for _ in 0..3 {
            assert_eq!(writer.write_line(b"dropped\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
        assert_eq!((writer.dropped, writer.late.as_slice()), (2, &b"dropped\n"[..]), "the first may come late");
        assert!(writer.patient, "ready, and of no use");
    }

    #[test]
    fn a_file_takes_everything() {
        let path = std::env::temp_dir().join(format!("leasehold-lines-{}", std::process::id()));
        let mut writer = DroppingWriter::new(File::create(&path).unwrap().into(), report);
        let line = "x".repeat(3 * libc::PIPE_BUF) + "\n";
        for _ in 0..100 {
            writer.write_line(line.as_bytes()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((text.len(), writer.dropped), (100 * line.len(), 0));
    }
}
