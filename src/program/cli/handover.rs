//! `leasehold yield`: asks the leader to hand over (P17), and waits until it has.
//!
//! IO.

use std::thread;
use std::time::Duration;

use super::{CALL_LIMIT, Outcome, get_lease, print_line, whom, with_client};
use crate::election::{Annotations, Content, Snapshot};
use crate::environment::LeaseAccess;
use crate::kube::{Client, Purpose, request};
use crate::program::config::YieldConfig;
use crate::sys;
use crate::time::human;

/// Between looks at the Lease while the hand-over is awaited.
const LOOK: Duration = Duration::from_millis(100);
/// After a look that failed: the request has been made, and the next look may succeed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often the request is written again on a Lease that others change at the same time.
const TRIES: u32 = 5;

/// `leasehold yield`.
///
/// # Errors
///
/// Why there was no hand-over.
pub(in crate::program) fn hand_over(config: &YieldConfig) -> Outcome {
    with_client(&config.access, &config.log, |client| {
        ask(&config.access, &client, config.to.as_deref().unwrap_or_default())
    })
}

/// Annotates the Lease with the request, which the holder sees through its watch, and waits.
fn ask(access: &LeaseAccess, client: &Client, to: &str) -> Outcome {
    let LeaseAccess { namespace, lease_name, .. } = access;
    let name = access.lease();
    for _ in 0..TRIES {
        let lease = get_lease(access, client, Purpose::Yield)?.ok_or_else(|| format!("there is no Lease {name}"))?;
        let Snapshot { record, annotations, coordinated, .. } = lease.snapshot.clone();
        if coordinated {
            return Err(format!(
                "the Lease {name} has spec.strategy set: coordinated leader election names its holders, and they do not \
                 take requests to yield. To use leasehold, set another LEASE_NAME, or remove spec.strategy and \
                 spec.preferredHolder together"
            ));
        }
        let holder = record.holder.clone().ok_or_else(|| format!("nobody leads {name}: there is nobody to ask"))?;
        if holder == to {
            return print_line(&format!("{to} leads already"));
        }
        let lease_duration = Duration::from_secs(record.lease_duration_seconds.unwrap_or_default().into());
        let content = Content { record, annotations: Annotations { yield_to: Some(to.to_owned()), ..annotations } };
        let request = request::replace_lease(namespace, lease_name, &lease.with(&content), Purpose::Yield);
        match client.call(&request, CALL_LIMIT) {
            Ok(_) => {
                print_line(&format!("asked {holder} to hand over to {}", whom(to)))?;
                return wait(access, client, &holder, lease_duration);
            }
            Err(error) if error.status == Some(409) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("the Lease {name} changed at each of {TRIES} tries, so the leader was not asked; try again"))
}

/// A holder that ignores the request goes on renewing: after two of its lease durations nothing will come of it.
fn wait(access: &LeaseAccess, client: &Client, holder: &str, lease_duration: Duration) -> Outcome {
    let began = sys::boot_time();
    let until = began + lease_duration * 2 + CALL_LIMIT;
    loop {
        let lease = get_lease(access, client, Purpose::Yield);
        let waited = human(sys::boot_time().since(began));
        match lease.map(|lease| lease.and_then(|lease| lease.snapshot.record.holder)) {
            Ok(Some(leader)) if leader != holder => return print_line(&format!("{leader} leads, after {waited}")),
            Err(problem) if sys::boot_time() >= until => return Err(problem),
            Err(_) => thread::sleep(LOOK_AGAIN),
            Ok(_) if sys::boot_time() >= until => {
                return Err(format!(
                    "nobody else has taken over from {holder} in {waited}: is there another candidate, and is {holder} a \
                     leasehold?"
                ));
            }
            Ok(_) => thread::sleep(LOOK),
        }
    }
}
