//! The election's rules (P1–P20), on virtual time: one file for each, named by it.
//!
//! PURE, but for `documents.rs`, which reads source files. One rule has its tests elsewhere: P3 (unknown fields survive)
//! in `src/kube/lease.rs`.

mod documents;
mod outputs;
mod p01_deleted_lease;
mod p02_conflict;
mod p04_acquire;
mod p05_sign_of_life;
mod p06_wall_clock;
mod p07_renew;
mod p08_lost_reply;
mod p09_release;
mod p10_fencing_token;
mod p11_incarnation;
mod p12_watch;
mod p13_succession;
mod p14_refusals;
mod p15_lose;
mod p15_step_down;
mod p16_coordinated;
mod p17_yield;
mod p18_health;
mod p19_rank;
mod p20_pace;
mod scenario;
mod shutdown;
