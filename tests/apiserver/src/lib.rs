//! An in-memory Kubernetes API server for tests, good enough that a client cannot tell: Leases, Pods, Services and
//! Events; HTTPS with a CA of its own; bearer tokens and RBAC; watches; and faults on demand.
//!
//! Three layers, each usable without the ones above it:
//!
//! - [`store`]: a pure function from requests (and the time) to answers. Simulations drive it directly.
//! - [`rbac`] and [`faults`]: pure tables of who may do what, and of what goes wrong.
//! - [`Server`]: threads and sockets in front of them.
//!
//! Beside them, for suites that ask a real kube-apiserver the same things: [`client`] and [`real`].
//!
//! It shares no code with leasehold: an oracle must not share its subject's mistakes. What it answers is compared with a
//! real kube-apiserver's answers by the suite `tests/conformance`, where one is at hand.
//!
//! ```
//! use std::time::Duration;
//! use leasehold_apiserver::{Action, Fault, Options, Server};
//! use leasehold_apiserver::store::LEASES;
//!
//! # fn main() -> std::io::Result<()> {
//! let server = Server::start(Options::default())?;
//! server.create_service("default", "web", &serde_json::json!({ "app": "web" }));
//! let token = server.add_user("system:serviceaccount:default:leasehold");
//! let mount = std::env::temp_dir().join(format!("apiserver-doc-{}", std::process::id()));
//! server.write_service_account(&mount, &token, "default")?;
//!
//! // The next renewal is applied, but its reply is lost.
//! let lost = server.faults().add(Fault::new(Action::DropReply).verb("update").path("/leases/").times(1));
//!
//! // Here a client would be started that knows server.url() and the mount. What it does can be waited for:
//! let led = server.wait_until(Duration::from_millis(1), |now| now.store.object(LEASES, "default", "web").is_some());
//! assert!(!led && server.requests().is_empty() && server.faults().fired(lost) == 0);
//! # std::fs::remove_dir_all(mount)?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod client;
pub mod faults;
pub mod rbac;
pub mod real;
mod server;
pub mod store;

pub use faults::{Action, Fault, FaultId, Reply};
pub use server::{Certificate, Faults, Options, Recorded, Server, StoreGuard, View, Watches};
pub use store::{Request, Response, Store, User};
