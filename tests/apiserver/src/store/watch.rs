//! What a watch sees: a cursor over the store's log of changes.
//!
//! PURE: nothing here waits. The server's threads do, and the simulator has its own idea of time.

use std::sync::Arc;

use serde_json::{Value, json};

use super::resource::ResourceId;
use super::select::Selector;
use super::{Change, Store, status};

/// The `type` of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Created, or there when the watch began, or now matching its selector.
    Added,
    /// Changed.
    Modified,
    /// Deleted, or no longer matching the selector.
    Deleted,
    /// No change: only how far the stream has come.
    Bookmark,
    /// A Status; the stream ends with it.
    Error,
}

impl EventType {
    /// As it is on the wire.
    pub fn text(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
            EventType::Bookmark => "BOOKMARK",
            EventType::Error => "ERROR",
        }
    }
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// What happened.
    pub event: EventType,
    /// The object after it, a bookmark's skeleton, or a Status.
    pub object: Arc<Value>,
}

impl WatchEvent {
    /// One line of the stream, with its newline.
    pub fn line(&self) -> Vec<u8> {
        format!("{{\"type\":\"{}\",\"object\":{}}}\n", self.event.text(), self.object).into_bytes()
    }
}

/// An accepted watch request: what it selects and how far it has read.
#[derive(Clone, Debug)]
pub struct Watch {
    pub(super) resource: ResourceId,
    pub(super) namespace: String,
    pub(super) selector: Selector,
    pub(super) cursor: u64,
    /// The objects there are, to be told first.
    pub(super) initial: Vec<Arc<Value>>,
    ended: bool,
    bookmarks: bool,
    timeout_seconds: Option<u64>,
}

impl Watch {
    pub(super) fn new(resource: ResourceId, namespace: &str, selector: Selector, cursor: u64) -> Watch {
        Watch {
            resource,
            namespace: namespace.to_owned(),
            selector,
            cursor,
            initial: Vec::new(),
            ended: false,
            bookmarks: false,
            timeout_seconds: None,
        }
    }

    pub(super) fn with_options(mut self, bookmarks: bool, timeout_seconds: Option<u64>) -> Watch {
        self.bookmarks = bookmarks;
        self.timeout_seconds = timeout_seconds;
        self
    }

    /// Whether the client asked for bookmarks.
    pub fn wants_bookmarks(&self) -> bool {
        self.bookmarks
    }

    /// After how long the client wants the stream to end.
    pub fn timeout_seconds(&self) -> Option<u64> {
        self.timeout_seconds
    }

    /// The last resourceVersion that has been read.
    pub fn position(&self) -> u64 {
        self.cursor
    }

    /// Whether the stream is over: its version was compacted away.
    pub fn is_over(&self) -> bool {
        self.ended
    }
}

impl Store {
    /// Everything that `watch` has not seen yet, in order. An [`EventType::Error`] is the last event of a stream.
    pub fn read_watch(&self, watch: &mut Watch) -> Vec<WatchEvent> {
        if watch.ended {
            return Vec::new();
        }
        let mut events: Vec<WatchEvent> =
            watch.initial.drain(..).map(|object| WatchEvent { event: EventType::Added, object }).collect();
        if watch.cursor < self.compacted {
            watch.ended = true;
            let object = Arc::new(status::expired(watch.cursor, self.compacted));
            events.push(WatchEvent { event: EventType::Error, object });
            return events;
        }
        let first = self.log.partition_point(|change| change.resource_version <= watch.cursor);
        events.extend(self.log.range(first..).filter_map(|change| visible(watch, change)));
        watch.cursor = watch.cursor.max(self.resource_version);
        events
    }

    /// A bookmark for `watch` at its position; none for one from a version that the store has not reached.
    pub fn bookmark(&self, watch: &Watch) -> Option<WatchEvent> {
        if watch.cursor > self.resource_version {
            return None;
        }
        let row = watch.resource.row();
        let object = json!({
            "kind": row.kind,
            "apiVersion": row.api_version(),
            "metadata": { "resourceVersion": watch.cursor.to_string(), "creationTimestamp": null },
        });
        Some(WatchEvent { event: EventType::Bookmark, object: Arc::new(object) })
    }

    /// The ERROR event of a watch whose version is too old.
    pub fn gone(&self, watch: &Watch) -> WatchEvent {
        let object = status::expired(watch.cursor, self.resource_version);
        WatchEvent { event: EventType::Error, object: Arc::new(object) }
    }
}

/// The change as the watch's selector lets it appear.
fn visible(watch: &Watch, change: &Change) -> Option<WatchEvent> {
    let in_scope = change.resource == watch.resource
        && (watch.namespace.is_empty() || watch.namespace == change.object["metadata"]["namespace"]);
    if !in_scope {
        return None;
    }
    let before = change.before.as_ref().is_some_and(|object| watch.selector.matches(object));
    let after = !change.deleted && watch.selector.matches(&change.object);
    let event = match (before, after) {
        (false, true) => EventType::Added,
        (true, true) => EventType::Modified,
        (true, false) => EventType::Deleted,
        (false, false) => return None,
    };
    Some(WatchEvent { event, object: Arc::clone(&change.object) })
}
