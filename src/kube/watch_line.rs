//! A watch's bytes → lines → events.
//!
//! PURE. The server sends one JSON object a line; the network cuts the stream anywhere.

use serde::Deserialize;
use serde_json::Value;

use crate::election::Version;
use crate::kube::lease::version;
use crate::kube::status::{Failure, failure_in_watch};

/// The longest line that is waited for: as much as any whole answer may be (see `client`), and a little for the
/// event around the object.
pub const LINE_LIMIT: usize = (1 << 20) + 1024;

/// One event of a watch.
#[derive(Clone, PartialEq, Debug)]
pub enum WatchEvent {
    /// The object was made or changed, and is now so.
    Modified(Value),
    /// The object was deleted, and was last so. Its `resourceVersion` is that of the deletion.
    Deleted(Value),
    /// Nothing happened up to this version. It is no sign of life.
    Bookmark(Version),
    /// The version asked for is forgotten (410): read the object, then watch from there.
    Gone,
    /// The watch broke. It ends here.
    Failed(Failure),
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Value,
}

impl WatchEvent {
    /// Reads one line.
    pub fn parse(line: &[u8]) -> WatchEvent {
        let malformed = |why: String| WatchEvent::Failed(Failure::Malformed(why));
        let Line { r#type, object } = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return malformed(format!("in a watch: {error}")),
        };
        match r#type.as_str() {
            "ADDED" | "MODIFIED" => WatchEvent::Modified(object),
            "DELETED" => WatchEvent::Deleted(object),
            "BOOKMARK" => match version(object.pointer("/metadata/resourceVersion").and_then(Value::as_str)) {
                Ok(version) => WatchEvent::Bookmark(version),
                Err(why) => malformed(format!("in a watch's bookmark: {why}")),
            },
            "ERROR" => match failure_in_watch(&object) {
                Failure::Gone => WatchEvent::Gone,
                failure => WatchEvent::Failed(failure),
            },
            other => malformed(format!("a watch event of the unknown type {other:.40?}")),
        }
    }
}

/// Puts lines together from pieces of any size.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// How much of `bytes` was given out already.
    taken: usize,
    /// How much of `bytes` is known to hold no further newline.
    searched: usize,
}

/// A line went on for longer than [`LINE_LIMIT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

impl Lines {
    /// Adds what came over the network.
    pub fn push(&mut self, piece: &[u8]) {
        // Before, not after, giving a line out: the line is borrowed from here.
        self.bytes.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        // One event in a thousand may be large (a Service full of annotations); the room it took is not kept.
        if self.bytes.is_empty() && self.bytes.capacity() > 64 << 10 {
            self.bytes = Vec::new();
        }
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole line, without its newline; blank ones are passed over.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, TooLong> {
        loop {
            let Some(at) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.bytes.len();
                return if self.searched - self.taken > LINE_LIMIT { Err(TooLong) } else { Ok(None) };
            };
            let line = self.taken..self.searched + at;
            self.searched = line.end + 1;
            self.taken = self.searched;
            if line.len() > LINE_LIMIT {
                return Err(TooLong);
            }
            if !self.bytes[line.clone()].trim_ascii().is_empty() {
                return Ok(Some(&self.bytes[line]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn collected(lines: &mut Lines) -> Vec<Vec<u8>> {
        let mut collected = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            collected.push(line.to_vec());
        }
        collected
    }

    #[test]
    fn lines_come_out_whole_wherever_they_were_cut() {
        let stream = "{\"a\":1}\n\n  \r\n{\"b\":\"é\"}\n{\"c\":3}\nrest".as_bytes();
        let expected: Vec<Vec<u8>> = ["{\"a\":1}", "{\"b\":\"é\"}", "{\"c\":3}"].map(|line| line.into()).to_vec();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let (mut lines, mut seen) = (Lines::default(), Vec::new());
                for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                    lines.push(piece);
                    seen.extend(collected(&mut lines));
                }
                assert_eq!(seen, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut lines = Lines::default();
        let piece = [b'x'; 4096];
        let pushed = (0..10_000).find(|_| {
            lines.push(&piece);
            lines.next_line() == Err(TooLong)
        });
        assert_eq!(pushed, Some(LINE_LIMIT / 4096));
        assert!(lines.bytes.len() <= LINE_LIMIT + 4096);
    }

    #[test]
    fn memory_of_a_large_line_is_given_back() {
        let mut lines = Lines::default();
        lines.push(&[b'x'; 200 << 10]);
        lines.push(b"\n");
        assert_eq!(collected(&mut lines).len(), 1);
        lines.push(b"small");
        assert!(lines.bytes.capacity() < 1024);
    }

    #[test]
    fn each_type_is_its_event() {
        let object = json!({ "kind": "Lease", "metadata": { "resourceVersion": "12" } });
        let parse = |kind: &str, object: &Value| {
            WatchEvent::parse(json!({ "type": kind, "object": object }).to_string().as_bytes())
        };
        assert_eq!(parse("ADDED", &object), WatchEvent::Modified(object.clone()));
        assert_eq!(parse("MODIFIED", &object), WatchEvent::Modified(object.clone()));
        assert_eq!(parse("DELETED", &object), WatchEvent::Deleted(object.clone()));
        assert_eq!(parse("BOOKMARK", &object), WatchEvent::Bookmark(12));
        let expired = json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old" });
        assert_eq!(parse("ERROR", &expired), WatchEvent::Gone);
        let timeout = json!({ "kind": "Status", "code": 504, "reason": "Timeout", "message": "etcd" });
        assert_eq!(
            parse("ERROR", &timeout),
            WatchEvent::Failed(Failure::Unavailable { status: 504, retry_after: None })
        );
    }

    #[test]
    fn nonsense_is_malformed() {
        let line = br#"{"type":"MODIFIED","object":{"metadata":{"resourceVersion":"12"}}}"#;
        for cut in 0..line.len() {
            assert!(matches!(WatchEvent::parse(&line[..cut]), WatchEvent::Failed(Failure::Malformed(_))), "{cut}");
        }
        for line in [
            &b"null"[..],
            b"[]",
            b"{}",
            b"\xff",
            br#"{"type":"BOOKMARK","object":{}}"#,
            br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"x"}}}"#,
            br#"{"type":"NEWS","object":{}}"#,
            br#"{"type":"MODIFIED"}"#,
            br#"{"type":7,"object":{}}"#,
        ] {
            assert!(matches!(WatchEvent::parse(line), WatchEvent::Failed(Failure::Malformed(_))), "{line:?}");
        }
        // An ERROR whose Status says nothing is still an error.
        assert!(matches!(WatchEvent::parse(br#"{"type":"ERROR","object":{}}"#), WatchEvent::Failed(_)));
    }
}
