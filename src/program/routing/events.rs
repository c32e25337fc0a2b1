//! Kubernetes Events that wait to be sent.
//!
//! IO: reads the clocks. The worker makes the calls.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use crate::kube::event::{self, Subject};
use crate::sys;
use crate::time::{BootTime, Now};

/// In an API outage only the latest Events are kept.
const KEPT: usize = 16;

/// An Event waits this long for the Service to be routed, and is then sent all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// The Events that have not been sent yet.
#[derive(Default)]
pub(crate) struct Events {
    waiting: VecDeque<(BootTime, String, Value)>,
}

impl Events {
    /// Adds an Event that happens now.
    pub(crate) fn add(&mut self, subject: &Subject<'_>, message: &str) {
        let Now { boot, wall } = sys::now();
        let (name, object) = event::event(subject, message, wall, sys::random_u64());
        if self.waiting.len() == KEPT {
            self.waiting.pop_front();
        }
        self.waiting.push_back((boot + PATIENCE, name, object));
    }

    /// When the next one must not be held back any longer.
    pub(crate) fn due(&self) -> Option<BootTime> {
        self.waiting.front().map(|(due, ..)| *due)
    }

    /// Takes the next one: its name and object.
    pub(crate) fn next(&mut self) -> Option<(String, Value)> {
        self.waiting.pop_front().map(|(_, name, object)| (name, object))
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}
