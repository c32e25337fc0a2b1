//! One heap for all threads. IO.

/// Keeps glibc from making a heap for each thread. Nothing here allocates so often that threads would wait for each
/// other, and a heap keeps pages that other threads could use: some 40 KiB in a routing leader. Call it before any
/// thread starts.
pub fn share_one_heap() {
    // SAFETY: mallopt takes numbers.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
