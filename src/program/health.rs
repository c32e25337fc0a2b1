//! The health gate (P18): asks the workload beside us whether it is fit to lead.
//!
//! THREADS. One thread, one question at a time, to a loopback address.

use std::io;
use std::thread;
use std::time::Duration;

use log::{debug, info, warn};

use crate::kube::plain_agent;
use crate::program::config::Health;
use crate::runtime::inbox::Inbox;
use crate::runtime::{Message, STACK};

/// Tells the election at once that the workload is not fit, until it says otherwise; and from then on each change.
pub(crate) fn watch_over(health: Health, inbox: Inbox<Message>) -> io::Result<()> {
    inbox.post(Message::Fit(false));
    let watch = move || {
        let url = &health.url;
        let agent = plain_agent();
        let mut gate = Gate { limit: health.failures, failures: 0, fit: false };
        loop {
            let answer = ask(&agent, url, health.interval);
            if let Err(reason) = &answer {
                debug!("GET {url}: {reason}");
            }
            if let Some(fit) = gate.judge(answer.is_ok()) {
                match fit {
                    true => info!("the workload at {url} is healthy: campaigning"),
                    false => warn!("the workload at {url} failed {} times in a row: not leading", health.failures),
                }
                inbox.post(Message::Fit(fit));
            }
            thread::sleep(health.interval);
        }
    };
    thread::Builder::new().name("health".into()).stack_size(STACK).spawn(watch).map(drop)
}

fn ask(agent: &ureq::Agent, url: &str, limit: Duration) -> Result<(), String> {
    let answer = agent.get(url).config().timeout_global(Some(limit)).build().call();
    let status = answer.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(status.to_string()) }
}

/// One success opens it, so many failures in a row close it.
struct Gate {
    limit: u32,
    failures: u32,
    fit: bool,
}

impl Gate {
    /// Takes one answer in; whether the workload is fit, if that has changed.
    fn judge(&mut self, healthy: bool) -> Option<bool> {
        self.failures = if healthy { 0 } else { self.failures.saturating_add(1) };
        let fit = healthy || (self.fit && self.failures < self.limit);
        let changed = fit != self.fit;
        self.fit = fit;
        changed.then_some(fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_success_opens_the_gate_and_only_failures_in_a_row_close_it() {
        let mut gate = Gate { limit: 3, failures: 0, fit: false };
        let answers = [false, false, true, false, false, true, false, false, false, false, true];
        let changes: Vec<_> = answers.into_iter().map(|healthy| gate.judge(healthy)).collect();
        let mut expected = [None; 11];
        (expected[2], expected[8], expected[10]) = (Some(true), Some(false), Some(true));
        assert_eq!(changes, expected);
    }
}
