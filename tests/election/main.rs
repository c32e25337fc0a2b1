//! The election's rules (P1–P18), one file for each behaviour, on virtual time.
//!
//! PURE, but for `documents.rs`, which reads source files. What each file covers is listed in `docs/election.md`.

mod acquire;
mod ambiguous;
mod conflict;
mod coordinated;
mod documents;

mod expiry;
mod fitness;
mod identity;
mod lose;
mod outputs;
mod release;
mod renew;
mod scenario;
mod shutdown;
mod step_down;
mod vanished;
mod wall_clock;
mod watch;
mod yielding;
