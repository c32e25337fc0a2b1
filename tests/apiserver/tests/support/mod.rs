//! The client of these tests, which other crates' tests use too.

pub use leasehold_apiserver::client::*;
