//! Random numbers from the kernel. IO.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Fills `bytes` from the kernel's generator. For jitter and names, not for keys: where `getrandom` is refused
/// (a strict seccomp profile), the seed of std's hash maps must do.
pub fn random_bytes(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        // SAFETY: the pointer and the length are those of one live, writable slice.
        let filled = unsafe { libc::getrandom(chunk.as_mut_ptr().cast(), chunk.len(), 0) };
        if usize::try_from(filled) != Ok(chunk.len()) {
            let fallback = RandomState::new().build_hasher().finish().to_ne_bytes();
            chunk.copy_from_slice(&fallback[..chunk.len()]);
        }
    }
}

/// A random number; see [`random_bytes`].
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    random_bytes(&mut bytes);
    u64::from_ne_bytes(bytes)
}
