//! Leader election for any container on Kubernetes: the library behind the `leasehold` program, for blocking Rust.
//!
//! # The guarantee
//!
//! As long as the clock *rates* of two nodes differ by less than the factor LEASE_DURATION / RENEWAL_DEADLINE
//! ([`election::Timing`]; 1.5 by default), no two candidates for a Lease lead at the same instant: whatever their
//! clocks *read*, however slow, lossy or repeated the calls to the API server are, and whenever processes crash, pause
//! or restart. "Leads" means that [`Leadership::is_held`] answers true.
//!
//! - A term is valid until (the boot clock just before its last acknowledged write was *sent*) + RENEWAL_DEADLINE. A
//!   reply can be late by any amount, so nothing is counted from it.
//! - A rival takes over only after it has seen no change of the record for as long as the record itself states, by its
//!   own boot clock. It saw the last write after that was applied, so after it was sent.
//! - The boot clock continues while a machine is suspended. Wall time is written for people and never compared.
//! - Validity is computed from the clock at the moment it is asked for. It depends on no thread having run.
//!
//! It assumes that only candidates write the Lease's election fields. Deleting the Lease or clearing its holder by hand
//! counts as releasing it: the holder notices through its watch, at the latest at its next renewal, and until then a
//! newcomer may lead beside it.
//!
//! # What is not guaranteed
//!
//! - That work allowed while the term was valid takes no effect later: a packet in flight, a thread that was paused
//!   between asking and acting.
//! - That the clock continues while a virtual machine is paused from outside (a snapshot, a migration): it does not.
//! - That a closure returns because its term has ended: nothing can stop a Rust thread.
//!
//! [`Leadership::fencing_token`] protects against all of these. It is greater in each later term: send it with each write that
//! only a leader may make, and let the receiver refuse a smaller token than it has seen.
//!
//! # An example
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::time::Duration;
//!
//! use leasehold::{Elector, Leadership};
//!
//! # fn main() -> Result<(), leasehold::ElectorError> {
//! let elector = Elector::in_cluster("nightly-report")?.build()?;
//! elector.run(|leadership: &Leadership| -> ControlFlow<()> {
//!     while leadership.is_held() {
//!         println!("one step of the work, with token {}", leadership.fencing_token());
//!         leadership.wait_lost_for(Duration::from_secs(60));
//!     }
//!     ControlFlow::Continue(()) // stand for election again
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/worker.rs` is the same with a store that compares tokens; it runs without a cluster.
//!
//! # Design decisions
//!
//! - **The election is sans-IO** ([`election::Election`]): time comes in as an argument, calls go out as values. What
//!   runs in production is what the tests run on virtual time.
//! - **Threads, no async runtime.** One owns the election and never does anything that could take long; another makes
//!   the Lease's calls; a third reads the watch; callbacks have one, too. A socket that hangs delays no deadline, a
//!   callback that takes its time no renewal.
//! - **The watch only accelerates.** Without it candidates poll; safety never depends on it.
//! - **Every call in one file**: [`kube::request`]. A write carries the version that it replaces, or it is not made.
//! - **A lost term is over.** Leading again is a new term, with a new token.
//! - **IP addresses only**: no name is resolved ([why][adr-5]).
//! - A command [is supervised][adr-4] by a thread that does nothing else. All decisions: [docs/adr][adr].
//!
//! # Features
//!
//! `program` (on by default) is what only the program needs: HTTP, the command, the log's form. A library user turns it
//! off with `default-features = false`.
//!
//! # Stability
//!
//! [`Elector`], [`ElectorBuilder`], [`Control`], [`Leadership`], [`Stopped`], [`ElectorError`], [`Mistakes`] and [`election::Timing`]
//! are stable: an incompatible change of theirs waits for a major version. The modules [`election`], [`kube`] and
//! [`time`], and what of them shows through elsewhere ([`kube::ClientOptions`] in [`Elector::builder`], say), may
//! change in any minor version before 1.0; what the documentation does not show at any time. Enums that are
//! `non_exhaustive` may grow.
//!
//! [adr]: https://docs.rs/crate/leasehold/latest/source/docs/adr/
//! [adr-4]: https://docs.rs/crate/leasehold/latest/source/docs/adr/0004-supervising-a-command.md
//! [adr-5]: https://docs.rs/crate/leasehold/latest/source/docs/adr/0005-ip-addresses-only.md

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod election;
mod elector;
#[doc(hidden)]
pub mod environment;
pub mod kube;
#[cfg(feature = "program")]
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod sys;
pub mod time;

pub use elector::{Control, Elector, ElectorBuilder, ElectorError, Stopped};
pub use environment::{Mistake, Mistakes};
pub use runtime::Leadership;

/// The snippets of the documents for people compile, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/guide.md")]
#[doc = include_str!("../docs/migration.md")]
#[doc = include_str!("../docs/election.md")]
struct Documents;
