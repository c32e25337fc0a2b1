//! The subcommands: `leasehold status`, `yield` and `install`. None of them takes part in the election.
//!
//! IO: calls, and standard output.

mod handover;
mod install;
mod status;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::handover::hand_over;
pub(super) use self::install::install;
pub(super) use self::status::status;
use crate::environment::LeaseAccess;
use crate::kube::audit::AT_THE_END;
use crate::kube::{Client, Lease, Purpose, request};
use crate::program::config::LogConfig;
use crate::program::log;

const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What could not be done, and why.
type Outcome = Result<(), String>;

/// Connects, does it, and waits until the audit log is written.
fn with_client(access: &LeaseAccess, log: &LogConfig, work: impl FnOnce(Arc<Client>) -> Outcome) -> Outcome {
    log::start(log);
    let mut options = access.client_options()?;
    options.credentials = access.credentials().map_err(|error| error.to_string())?;
    let audit = options.audit.clone();
    let outcome = Client::new(options).and_then(|client| work(Arc::new(client)));
    if let Some(audit) = audit {
        audit.flush(AT_THE_END);
    }
    outcome
}

fn get_lease(access: &LeaseAccess, client: &Client, purpose: Purpose) -> Result<Option<Lease>, String> {
    let request = request::get_lease(&access.namespace, &access.lease_name, purpose);
    match client.call(&request, CALL_LIMIT).and_then(|reply| reply.parse(&request, Lease::parse)) {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.status == Some(404) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Who is asked to take over, as in a request to yield: empty is anyone else.
fn whom(to: &str) -> &str {
    if to.is_empty() { "anyone else" } else { to }
}

pub(super) fn print_line(line: &str) -> Outcome {
    writeln!(io::stdout().lock(), "{line}").map_err(|error| format!("standard output: {error}"))
}
