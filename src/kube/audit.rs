//! The audit log (`AUDIT_LOG`): one JSON line for each call made to the API server, and nothing else in it.
//!
//! IO: writes to stdout, stderr or a file. A reader that does not read must not delay a renewal: the lines that it does not
//! take are dropped, counted, and reported in the log itself. A write that fails is reported once, and the election goes on:
//! losing the lease would be the greater harm.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kube::request::Request;
use crate::kube::status::{CallError, Reply};
use crate::sys;
use crate::sys::line_writer::DroppingWriter;

/// How long the end of a process waits for the lines of calls that other threads make.
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

/// The audit log.
pub struct Audit {
    writer: Mutex<DroppingWriter>,
    target: String,
    /// Whether a write has failed, which is reported once.
    failed: AtomicBool,
    /// Each call that has begun and is not written down yet has a clone.
    begun: Arc<()>,
}

impl Audit {
    /// Opens the target. The error names it.
    pub fn open(target: &AuditTarget) -> Result<Audit, String> {
        let (target, file) = match target {
            AuditTarget::Stdout => ("stdout".into(), io::stdout().as_fd().try_clone_to_owned()),
            AuditTarget::Stderr => ("stderr".into(), io::stderr().as_fd().try_clone_to_owned()),
            AuditTarget::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                (path.to_string_lossy(), file.map(OwnedFd::from))
            }
        };
        let file = file.map_err(|error| format!("cannot append to the audit log {target}: {error}"))?;
        Ok(Audit::to(DroppingWriter::new(file, dropped_line), &target))
    }

    fn to(writer: DroppingWriter, target: &str) -> Audit {
        let (writer, target) = (Mutex::new(writer), target.to_owned());
        Audit { writer, target, failed: AtomicBool::new(false), begun: Arc::default() }
    }

    /// A call begins; it is written down before what is returned is dropped.
    pub(crate) fn begin(&self) -> Arc<()> {
        Arc::clone(&self.begun)
    }

    /// Writes one call's line.
    pub(crate) fn write(&self, call: &ObservedCall) {
        let line = format!("{}\n", line(call));
        let written = sys::lock(&self.writer).write_line(line.as_bytes());
        if let Err(error) = written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            log::error!("the audit log {} cannot be written: {error} (the election goes on without it)", self.target);
        }
    }

    /// Waits until the calls that have begun are written down, or `limit` has passed. Call it before the process ends:
    /// another thread may be about to learn what the API server has made of its call.
    pub fn flush(&self, limit: Duration) {
        let begun = Instant::now();
        while Arc::strong_count(&self.begun) > 1 && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn dropped_line(dropped: u64) -> String {
    format!("{}\n", json!({ "time": now(), "droppedLines": dropped }))
}

/// One exchange with the API server, as the audit log and the metrics see it.
#[derive(Debug)]
pub struct ObservedCall<'a> {
    /// What was asked.
    pub request: &'a Request,
    /// 1, or 2 when it is the retry.
    pub attempt: u32,
    /// Address and port.
    pub host: &'a str,
    /// What came of it.
    pub result: Result<&'a Reply, &'a CallError>,
    /// What the API server's own audit log calls this call, when it said so.
    pub audit_id: Option<String>,
    /// From before the connection to the end of the answer; of a watch, to its beginning.
    pub duration: Duration,
    /// Bytes of the request, head and body.
    pub bytes_sent: u64,
    /// Bytes of the answer, head and body.
    pub bytes_received: u64,
}

impl ObservedCall<'_> {
    /// The HTTP status, when one came.
    pub fn status(&self) -> Option<u16> {
        self.result.map_or_else(|error| error.status, |reply| Some(reply.status))
    }
}

/// What an auditor asks of a call. Neither token nor body is among it.
fn line(call: &ObservedCall) -> Value {
    let request = call.request;
    let received = call.result.ok().and_then(|reply| serde_json::from_slice(&reply.body).ok());
    json!({
        "time": now(),
        "verb": request.verb.as_str(),
        "group": request.resource.group(),
        "resource": request.resource.plural(),
        "namespace": request.namespace,
        "name": request.name,
        "path": request.path,
        "why": request.purpose,
        "host": call.host,
        "attempt": call.attempt,
        "sentVersion": request.sent_version,
        "receivedVersion": received.as_ref().and_then(|object: &Value| object.pointer("/metadata/resourceVersion")),
        "status": call.status(),
        // Spelt as in the API server's own audit log, so that the two can be joined by it.
        "auditID": call.audit_id,
        "reason": call.result.err().map_or("", |error| &error.reason),
        "millis": u64::try_from(call.duration.as_millis()).unwrap_or(u64::MAX),
        "bytesSent": call.bytes_sent,
        "bytesReceived": call.bytes_received,
    })
}

fn now() -> String {
    sys::now().wall.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::request::{Purpose, get_lease};
    use std::io::{PipeReader, Read, pipe};

    const LONG: Duration = Duration::from_secs(20);

    fn write(audit: &Audit) {
        let request = get_lease("ns", "web", Purpose::Observe);
        let reply = Reply { status: 200, body: Vec::new() };
        audit.write(&ObservedCall {
            request: &request,
            attempt: 1,
            host: "10.96.0.1:443",
            result: Ok(&reply),
            audit_id: None,
            duration: Duration::from_millis(3),
            bytes_sent: 200,
            bytes_received: 900,
        });
    }

    fn with_reader() -> (PipeReader, Audit) {
        let (reader, writer) = pipe().unwrap();
        (reader, Audit::to(DroppingWriter::new(writer.into(), dropped_line), "pipe"))
    }

    fn lines(mut reader: PipeReader, audit: Audit, mut text: String) -> Vec<Value> {
        drop(audit);
        reader.read_to_string(&mut text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_blocked_reader_delays_no_call_and_dropped_lines_are_reported() {
        let (mut reader, audit) = with_reader();
        let calls = 1000; // More than a pipe holds.
        for _ in 0..calls {
            write(&audit);
        }
        let mut first = vec![0; 16 << 10];
        reader.read_exact(&mut first).unwrap();
        write(&audit);
        let lines = lines(reader, audit, String::from_utf8(first).unwrap());
        let dropped = lines[lines.len() - 2]["droppedLines"].as_u64().unwrap();
        assert_eq!(lines.len() - 2 + usize::try_from(dropped).unwrap(), calls, "every call is told or counted");
    }

    #[test]
    fn the_end_waits_for_a_call_that_another_thread_makes_but_not_for_ever() {
        let (reader, audit) = with_reader();
        let begun = audit.begin();
        audit.flush(Duration::from_millis(10));
        thread::scope(|scope| {
            let end = scope.spawn(|| audit.flush(LONG));
            // Time to return for a flush that does not wait.
            thread::sleep(Duration::from_millis(50));
            assert!(!end.is_finished());
            write(&audit);
            drop(begun);
        });
        assert_eq!(lines(reader, audit, String::new()).len(), 1);
    }

    #[test]
    fn a_target_that_fails_stops_nothing_and_is_reported_once() {
        let (reader, audit) = with_reader();
        drop(reader);
        for _ in 0..3 {
            write(&audit);
        }
        assert!(audit.failed.load(Ordering::Relaxed));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Audit::open(&AuditTarget::File("/nowhere/audit.log".into())).err().expect("no such folder");
        assert!(error.starts_with("cannot append to the audit log /nowhere/audit.log: No such file"), "{error}");
    }
}
