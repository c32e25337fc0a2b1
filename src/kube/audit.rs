//! The audit log (`AUDIT_LOG`): one JSON line for each call made to the API server, and nothing else in it.
//!
//! IO: writes to stdout, stderr or a file, on a thread of its own. A reader that does not read must not hold up a
//! renewal: lines wait in a bounded queue, and those that find it full are counted and reported in the log itself.
//! A write that fails is reported once, and the election goes on: losing the lease would be the greater harm.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::kube::client::Call;
use crate::time::WallTime;

/// Lines that may wait: minutes of an election's calls.
const QUEUE: usize = 256;

/// The last lines are waited for so long at the end: whoever reads them may have stopped reading.
pub(crate) const AT_THE_END: Duration = Duration::from_secs(1);

/// Where the lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file; made when it is not there.
    File(PathBuf),
}

impl fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuditTarget::Stdout => f.write_str("stdout"),
            AuditTarget::Stderr => f.write_str("stderr"),
            AuditTarget::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    queue: SyncSender<Entry>,
    dropped: AtomicU64,
    /// Calls that have begun and are not written down yet.
    begun: AtomicUsize,
}

/// A call that has begun, until it is written down.
pub(crate) struct Begun<'a>(&'a Audit);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.begun.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
enum Entry {
    Line(String),
    /// All before this is written: say so.
    Flush(SyncSender<()>),
}

impl Audit {
    /// Opens the target. The error names it.
    pub fn open(target: &AuditTarget) -> Result<Audit, String> {
        let writer: Box<dyn Write + Send> = match target {
            AuditTarget::Stdout => Box::new(std::io::stdout()),
            AuditTarget::Stderr => Box::new(std::io::stderr()),
            AuditTarget::File(path) => match OpenOptions::new().append(true).create(true).open(path) {
                Ok(file) => Box::new(file),
                Err(error) => return Err(format!("cannot append to the audit log {target}: {error}")),
            },
        };
        Audit::to(writer, target.to_string()).map_err(|error| format!("no thread for the audit log: {error}"))
    }

    fn to(writer: Box<dyn Write + Send>, name: String) -> std::io::Result<Audit> {
        let (queue, entries) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("audit".to_owned())
            .stack_size(64 << 10)
            .spawn(move || write_all(writer, &entries, &name))?;
        Ok(Audit { queue, dropped: AtomicU64::new(0), begun: AtomicUsize::new(0) })
    }

    /// A call begins.
    pub(crate) fn begin(&self) -> Begun<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Begun(self)
    }

    /// Writes one call's line; never waits.
    pub(crate) fn write(&self, call: &Call) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 && !self.send(json!({ "time": now(), "droppedLines": dropped })) {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        if !self.send(line(call)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, line: Value) -> bool {
        match self.queue.try_send(Entry::Line(line.to_string())) {
            Ok(()) => true,
            // The writer ends only with this queue; were it gone, nothing could be written any more either way.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Waits until all calls so far have ended and are written down, or `limit` has passed. Call it before the process
    /// ends: another thread may be about to learn what the API server has made of its call.
    pub fn flush(&self, limit: Duration) {
        let begun = Instant::now();
        // At the end of a process a short pause is good enough, here and below.
        while self.begun.load(Ordering::SeqCst) > 0 && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        let (done, written) = sync_channel(1);
        let mut entry = Entry::Flush(done);
        // A full queue has no wait with a limit.
        while let Err(TrySendError::Full(refused)) = self.queue.try_send(entry) {
            if begun.elapsed() >= limit {
                return;
            }
            entry = refused;
            thread::sleep(Duration::from_millis(5));
        }
        // Disconnected or timed out: nothing more can be done for the lines.
        let _ = written.recv_timeout(limit.saturating_sub(begun.elapsed()));
    }
}

fn write_all(mut writer: Box<dyn Write + Send>, entries: &Receiver<Entry>, name: &str) {
    let mut reported = false;
    for entry in entries {
        match entry {
            // One write for the line and its newline: several processes may append to one file.
            Entry::Line(line) => {
                let written = writer.write_all(format!("{line}\n").as_bytes()).and_then(|()| writer.flush());
                if let (Err(error), false) = (written, reported) {
                    reported = true;
                    log::error!("the audit log {name} cannot be written: {error} (the election goes on without it)");
                }
            }
            Entry::Flush(done) => drop(done.send(())),
        }
    }
}

/// What an auditor asks of a call. Neither token nor body is among it.
fn line(call: &Call) -> Value {
    let request = call.request;
    json!({
        "time": now(),
        "verb": request.verb.as_str(),
        "group": request.resource.group(),
        "resource": request.resource.plural(),
        "namespace": request.namespace,
        "name": request.name,
        "path": request.path,
        "why": request.why.as_str(),
        "host": call.host,
        "attempt": call.attempt,
        "sentVersion": request.sent_version,
        "receivedVersion": call.received_version,
        "status": call.status,
        // Spelt as in the API server's own audit log, so that the two can be joined by it.
        "auditID": call.audit_id,
        "reason": call.reason(),
        "millis": u64::try_from(call.duration.as_millis()).unwrap_or(u64::MAX),
        "bytesSent": call.bytes_sent,
        "bytesReceived": call.bytes_received,
    })
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::request::{Purpose, get_lease};
    use std::io;
    use std::sync::mpsc::{Sender, channel};

    const LONG: Duration = Duration::from_secs(20);

    fn write(audit: &Audit) {
        let request = get_lease("ns", "web", Purpose::Observe);
        audit.write(&Call {
            request: &request,
            attempt: 1,
            host: "10.96.0.1:443",
            status: Some(200),
            audit_id: None,
            error: None,
            received_version: None,
            duration: Duration::from_millis(3),
            bytes_sent: 200,
            bytes_received: 900,
        });
    }

    /// Hands over what it is given, once it may.
    struct Gate {
        open: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Open for good once the other end is gone.
            let _ = self.open.recv();
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody_and_what_is_lost_is_counted() {
        let (opener, open) = channel::<()>();
        let (written, lines) = channel();
        let audit = Audit::to(Box::new(Gate { open, written }), "gate".to_owned()).unwrap();
        // The writer may hold one line already; so many do not fit in any case.
        let calls = QUEUE + 10;
        for _ in 0..calls {
            write(&audit);
        }
        drop(opener);
        audit.flush(LONG);
        // Room again: the next line is preceded by the count of those that found none.
        write(&audit);
        audit.flush(LONG);
        drop(audit);
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_slice(&line).unwrap()).collect();
        let dropped: Vec<u64> = lines.iter().filter_map(|line| line["droppedLines"].as_u64()).collect();
        assert_eq!(dropped.len(), 1, "reported once");
        assert_eq!(lines.len() - 1 + usize::try_from(dropped[0]).unwrap(), calls + 1, "every call is told or counted");
        assert!(lines[lines.len() - 2]["droppedLines"].is_u64());
    }

    #[test]
    fn the_end_waits_for_a_call_that_another_thread_makes_but_not_for_ever() {
        let (opener, open) = channel::<()>();
        drop(opener);
        let (written, lines) = channel();
        let audit = Audit::to(Box::new(Gate { open, written }), "gate".to_owned()).unwrap();
        let begun = audit.begin();
        audit.flush(Duration::from_millis(10));
        thread::scope(|scope| {
            let end = scope.spawn(|| audit.flush(LONG));
            // Whoever does not wait has time to be through; whoever does gets the line.
            thread::sleep(Duration::from_millis(50));
            assert!(!end.is_finished());
            write(&audit);
            drop(begun);
        });
        assert_eq!(lines.try_iter().count(), 1);
    }

    #[test]
    fn a_target_that_fails_stops_nothing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let audit = Audit::to(Box::new(Full), "full".to_owned()).unwrap();
        for _ in 0..3 {
            write(&audit);
        }
        audit.flush(LONG);
        assert_eq!(audit.dropped.load(Ordering::Relaxed), 0, "taken, if not written");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Audit::open(&AuditTarget::File("/nowhere/audit.log".into())).unwrap_err();
        assert!(error.starts_with("cannot append to the audit log /nowhere/audit.log: No such file"), "{error}");
    }
}
