//! What is said to the API server, and what it answers.
//!
//! | file | | |
//! |---|---|---|
//! | `request` | PURE | **the audit file**: every call the program can make |
//! | `lease`, `service`, `pod`, `event`, `object` | PURE | the JSON of each resource, and what all have |
//! | `status` | PURE | an HTTP answer, or the lack of one → an error |
//! | `watch_line` | PURE | a line of a watch → an event |
//! | `tls_error` | PURE | a TLS error → the algorithm that is not supported |
//! | `url` | PURE | the URLs that are understood |
//! | `credentials` | IO | the service account's files, re-read as they rotate |
//! | `connection` | IO | what a connection is made of: no proxy, no redirect, no name to be resolved |
//! | `client` | IO | one call at a time limit: TLS, keep-alive, the retry after a 401 |
//! | `answer` | IO | an answer, read within its bounds |
//! | `watch` | IO | one long response |
//! | `audit` | IO | one line for each call made |
//!
//! A call, from end to end:
//!
//! ```no_run
//! use leasehold::kube::{Client, ClientOptions, Credentials, Lease, Purpose, request};
//! use std::{sync::Arc, time::Duration};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let account = Credentials::open("/var/run/secrets/kubernetes.io/serviceaccount")?;
//! let mut options = ClientOptions::new("https://10.96.0.1:443");
//! options.credentials = Some(Arc::new(account));
//! let client = Client::new(options)?;
//!
//! let request = request::get_lease("default", "web", Purpose::Observe);
//! let reply = client.call(&request, Duration::from_secs(3))?;
//! let lease = reply.parse(&request, Lease::parse)?;
//! println!("{:?} leads", lease.snapshot.record.holder);
//! # Ok(())
//! # }
//! ```

mod answer;
pub mod audit;
pub mod client;
mod connection;
pub mod credentials;
pub mod event;
pub(crate) mod hash;
pub mod lease;
mod object;
pub mod pod;
pub mod request;
pub mod service;
pub mod status;
mod tls_error;
pub(crate) mod url;
pub mod watch;
pub mod watch_line;

pub use audit::{Audit, AuditTarget, ObservedCall};
pub use client::{CallObserver, Client, ClientOptions};
pub use credentials::{Credentials, CredentialsError};
pub use lease::Lease;
pub use pod::Pod;
pub use request::{Purpose, Request, Resource, Verb};
pub use service::{Fence, Service};
pub use status::{CallError, Reply, TransportKind};
pub use watch::{Watch, WatchStop};
pub use watch_line::WatchEvent;

/// An agent for plain HTTP to a loopback address, with limits like the client's and no token to lose.
#[doc(hidden)]
pub fn plain_agent() -> ureq::Agent {
    connection::new_agent(concat!("leasehold/", env!("CARGO_PKG_VERSION")), None)
}
