//! Random numbers. IO.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A random number for jitter and names, not for keys: std seeds its hash maps from the kernel's generator, each
/// differently.
pub fn random_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}
