//! Memory that glibc keeps. IO.

use std::mem::MaybeUninit;
use std::ptr;

/// One heap for what glibc itself allocates, whatever the thread. It would make one for each, which keeps pages that the
/// others could use; and nothing here allocates so often that threads would wait for each other.
pub fn share_one_heap() {
    // SAFETY: mallopt takes numbers; called before there is another thread, it races with nobody.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives the pages of this thread's stack that nothing uses now back to the kernel, which keeps whatever was touched
/// once. For after something that goes deep and seldom happens.
pub fn give_back_stack() {
    const KEPT: usize = 4 << 10; // More than the calls below need.
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut lowest, mut size) = (ptr::null_mut(), 0);
    let here = (&raw const size).addr();
    // SAFETY: the attributes are read, and destroyed, only if the first call has made them; the rest is ours to write.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return;
        }
        libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    // SAFETY: sysconf takes a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(usize::MAX);
    let end = here.saturating_sub(KEPT) / page * page;
    // Not where a thread runs on a stack that is not its own.
    if lowest.addr() < end && here < lowest.addr() + size {
        // SAFETY: the pages from the stack's lowest one to `end`, all below this frame: a stack grows downwards on every
        // target of Linux, so nothing lives there. What is pushed next finds zeros, as on the first time.
        unsafe { libc::madvise(lowest, end - lowest.addr(), libc::MADV_DONTNEED) };
    }
}

/// The translation of a message of glibc's: itself. There are no others in the image, and what would look for them is 24 KB.
// SAFETY: the signature is that of the function in whose place a static link puts it, which may return `message` as well.
#[cfg(all(feature = "program", target_env = "gnu", target_feature = "crt-static"))]
#[unsafe(no_mangle)]
extern "C" fn __dcgettext(_: *const libc::c_char, message: *const libc::c_char, _: libc::c_int) -> *const libc::c_char {
    message
}

// What glibc would print and scan by itself, it does as where memory is short: these return -1, "failed". That is the text of an
// error number that it does not know, and of its own failed assertions; and the main thread's stack, which it looks up in
// /proc/self/maps: Rust then says "segmentation fault" where it would say "stack overflow". Linked, all of printf, scanf and what
// they need of floating point would be 200 KB. Weak: where a glibc brings its own all the same, that is taken.
// SAFETY: a caller of a C function leaves nothing on the stack for it to clear, whatever it passes; no argument is read.
#[cfg(all(feature = "program", target_env = "gnu", target_feature = "crt-static", target_arch = "x86_64"))]
std::arch::global_asm!(
    ".text",
    ".weak __vfprintf_internal",
    ".weak __vfwprintf_internal",
    ".weak __isoc99_sscanf",
    "__vfprintf_internal:",
    "__vfwprintf_internal:",
    "__isoc99_sscanf:",
    "mov eax, -1",
    "ret",
);
