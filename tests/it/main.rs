//! The integration tests, as one binary: one module for each part of the behaviour.

#[cfg(feature = "program")]
mod admission;
mod api_calls;
#[cfg(feature = "program")]
mod audit;
#[cfg(feature = "program")]
mod bad_input;
#[cfg(feature = "program")]
mod broken;
mod client;
#[cfg(feature = "program")]
mod command;
#[cfg(feature = "program")]
mod docs;
#[cfg(feature = "program")]
mod election;
mod elector;
#[cfg(feature = "program")]
mod forgotten;
#[cfg(feature = "program")]
mod install;
mod manifests;
#[cfg(feature = "program")]
mod paced;
#[cfg(feature = "program")]
mod process;
mod properties;
#[cfg(feature = "program")]
mod real;
#[cfg(feature = "program")]
mod recipes;
#[cfg(feature = "program")]
mod rights;
mod rules;
mod scripted;
mod secure;
mod tidy;
#[cfg(feature = "program")]
mod watch;
#[cfg(feature = "program")]
mod web;
mod worker;
