//! The system calls that std does not wrap, each as a small safe function: clocks, randomness, signals, children.
//!
//! IO, and the only file with `unsafe`. It decides nothing: what to do about a signal, a dead child or a deadline is the
//! business of its callers. Linux only, as Kubernetes nodes that run this are.

#![allow(unsafe_code)] // std offers none of these calls; each block says why it is sound.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::{BootTime, Now, WallTime};

/// A process id, as the kernel gives it.
pub type Pid = libc::pid_t;

// ---------------------------------------------------------------------------------------------------- clocks

/// Both clocks, read one right after the other.
pub fn now() -> Now {
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    };
    Now { boot: boot_time(), wall: WallTime(wall) }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The boot clock alone.
///
/// # Panics
///
/// Where the kernel has no `CLOCK_BOOTTIME` (before Linux 2.6.39). Without that clock there is no promise to keep.
pub fn boot_time() -> BootTime {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to writable memory of the right type; it is read only after the call succeeded.
    let time = unsafe {
        assert_eq!(libc::clock_gettime(libc::CLOCK_BOOTTIME, time.as_mut_ptr()), 0, "the kernel has no CLOCK_BOOTTIME");
        time.assume_init()
    };
    BootTime::default() + Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timespec(span: Duration) -> libc::timespec {
    // SAFETY: a timespec is plain numbers (and, on some targets, padding), for which zero is a value.
    let mut spec: libc::timespec = unsafe { MaybeUninit::zeroed().assume_init() };
    spec.tv_sec = libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX);
    spec.tv_nsec = span.subsec_nanos() as _;
    spec
}

// ---------------------------------------------------------------------------------------------------- memory

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

// ------------------------------------------------------------------------------------------------ randomness

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

// --------------------------------------------------------------------------------------------------- signals

/// A signal that people and the kubelet send to leasehold, and that it may pass on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// SIGTERM: the kubelet's request to end.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGHUP: by custom, read the configuration again.
    HangUp,
    /// SIGQUIT: Ctrl-\.
    Quit,
    /// SIGUSR1
    User1,
    /// SIGUSR2
    User2,
    /// SIGWINCH: the terminal has another size.
    WindowChange,
}

impl Signal {
    /// All of them.
    pub const ALL: [Signal; 7] = [
        Signal::Terminate,
        Signal::Interrupt,
        Signal::HangUp,
        Signal::Quit,
        Signal::User1,
        Signal::User2,
        Signal::WindowChange,
    ];

    /// The kernel's number for it.
    pub fn number(self) -> i32 {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::HangUp => libc::SIGHUP,
            Signal::Quit => libc::SIGQUIT,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
            Signal::WindowChange => libc::SIGWINCH,
        }
    }

    /// `SIGTERM` and so on, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
            Signal::HangUp => "SIGHUP",
            Signal::Quit => "SIGQUIT",
            Signal::User1 => "SIGUSR1",
            Signal::User2 => "SIGUSR2",
            Signal::WindowChange => "SIGWINCH",
        }
    }

    fn from_number(number: i32) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.number() == number)
    }
}

fn signal_set(numbers: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set; sigaddset changes it, and refuses a number that is no signal.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in numbers {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        set.assume_init()
    }
}

fn change_mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialized and outlives the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The process's signals, taken one at a time by a thread that waits for them, so that no code of ours ever runs in
/// a signal handler.
#[derive(Debug)]
pub struct Signals(());

impl Signals {
    /// Blocks every [`Signal`] and SIGCHLD in this thread and in all threads that it starts from now on. Call it
    /// first thing in `main`: a thread that started earlier would still die of a SIGTERM, in everybody's place.
    pub fn block() -> io::Result<Signals> {
        // A parent may have left it ignored, and then the kernel throws away how children ended.
        // SAFETY: this sets a disposition that every program may have; no handler is involved.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let numbers = Signal::ALL.into_iter().map(Signal::number);
        change_mask(libc::SIG_BLOCK, &signal_set(numbers.chain([libc::SIGCHLD])))?;
        Ok(Signals(()))
    }

    /// Waits for the next signal. SIGCHLD is not among them: it belongs to whoever holds the [`Alarm`].
    pub fn wait(&self) -> Signal {
        loop {
            if let Some(signal) = self.wait_timeout(Duration::from_secs(3600)) {
                return signal;
            }
        }
    }

    /// Waits for the next signal for at most `limit`.
    pub fn wait_timeout(&self, limit: Duration) -> Option<Signal> {
        let set = signal_set(Signal::ALL.into_iter().map(Signal::number));
        let until = boot_time() + limit;
        loop {
            let left = timespec(until.since(boot_time()));
            // SAFETY: set and timeout are initialized and outlive the call; no siginfo is asked for.
            let number = unsafe { libc::sigtimedwait(&set, ptr::null_mut(), &left) };
            if number >= 0 {
                return Signal::from_number(number);
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return None;
            }
        }
    }
}

/// Ends the process now: no destructors, no exit handlers, no flushing.
pub fn terminate_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

// ---------------------------------------------------------------------------------- descriptors and sockets

/// Waits until one of `descriptors` has an event it asked for, or `wait` has passed (`None`: for ever). How many have one.
///
/// A signal's interruption is no error: it counts as nothing ready, and the caller's loop comes round again.
pub fn poll(descriptors: &mut [libc::pollfd], wait: Option<Duration>) -> io::Result<usize> {
    // Rounded up, lest the last part of a millisecond be spent in a busy loop.
    let millis = wait.map_or(-1, |wait| i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    let count = libc::nfds_t::try_from(descriptors.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the count are those of one exclusively borrowed slice, of the type poll(2) names; it
    // writes to nothing but its `revents`. A descriptor that is closed or not ours is answered with POLLNVAL.
    let ready = unsafe { libc::poll(descriptors.as_mut_ptr(), count, millis) };
    usize::try_from(ready).or_else(|_| match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        error => Err(error),
    })
}

/// Bounds what the kernel buffers for `socket`, in bytes each way; what a listener has, its connections inherit.
///
/// The kernel charges its socket buffers to the container's memory limit, and would let each grow to megabytes.
pub fn bound_socket_buffers(socket: &impl AsFd, send: u32, receive: u32) -> io::Result<()> {
    for (option, bytes) in [(libc::SO_SNDBUF, send), (libc::SO_RCVBUF, receive)] {
        set_socket_option(socket, option, &libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))?;
    }
    Ok(())
}

/// Has the kernel throw away, when `socket` is closed, what its peer has not taken yet, and reset the connection.
/// Otherwise it would hold those bytes for minutes, for a socket that nobody has any more.
pub fn discard_when_closed(socket: &impl AsFd) -> io::Result<()> {
    set_socket_option(socket, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
}

/// Sets one of the options at the level of sockets, whose value the kernel takes as a `T`.
fn set_socket_option<T: Copy>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of one live value, which the call only reads. An option that takes
    // something else than a `T` is an EINVAL, or a value not meant; it cannot harm memory.
    let outcome = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, option, (&raw const *value).cast(), length)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// ---------------------------------------------------------------------------------------------------- alarm

/// What a thread sleeps on that must wake for a dead child, for an instant on the boot clock, and for a ring.
///
/// The instant is a timerfd's on CLOCK_BOOTTIME, because every plain timeout (of poll, of a condition variable)
/// stands still while the machine is suspended: a leader would go on for the rest of it after waking up.
#[derive(Debug)]
pub struct Alarm {
    children: Option<OwnedFd>,
    timer: OwnedFd,
    bell: OwnedFd,
}

impl Alarm {
    /// SIGCHLD must be blocked in all threads ([`Signals::block`]), or its default action swallows it.
    pub fn new() -> io::Result<Alarm> {
        let set = signal_set([libc::SIGCHLD]);
        // SAFETY: the call takes plain numbers and a live set, and returns a new descriptor, or -1.
        let children = unsafe { owned(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))? };
        Ok(Alarm { children: Some(children), ..Alarm::without_children()? })
    }

    /// One that only an instant and a ring wake: there may be many of these, but who waits for children is one.
    pub fn without_children() -> io::Result<Alarm> {
        // SAFETY: each call takes plain numbers and returns a new descriptor, or -1.
        unsafe {
            Ok(Alarm {
                children: None,
                timer: owned(libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK))?,
                bell: owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?,
            })
        }
    }

    /// Sleeps until a child changes state, somebody rings, or the instant has come. It may return early for no reason.
    pub fn wait_until(&self, instant: Option<BootTime>) -> io::Result<()> {
        // Zero would disarm the timer; the first nanosecond after boot is as good as any instant in the past.
        let expiry = instant.map_or(Duration::ZERO, |at| Duration::from_nanos(at.0.max(1)));
        let setting = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(expiry) };
        // SAFETY: the descriptor is ours and open, the setting is initialized, the old one is not asked for.
        let set = unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &setting, ptr::null_mut())
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // A negative descriptor is one that poll(2) passes over.
        let children = self.children.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let descriptors = [children, self.timer.as_raw_fd(), self.bell.as_raw_fd()];
        let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        poll(&mut polled, None)?;
        polled.iter().filter(|ready| ready.revents != 0).for_each(|ready| drain(ready.fd));
        Ok(())
    }

    /// Wakes the thread that sleeps in [`Alarm::wait_until`], now or when it next does.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: pointer and length are those of one live array. A full counter (EAGAIN) has rung already.
        unsafe { libc::write(self.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

fn drain(fd: RawFd) {
    let mut buffer = [0_u8; 512];
    // SAFETY: pointer and length are those of one live array. The descriptor does not block.
    while unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}

/// # Safety
///
/// `fd` is -1, or a descriptor that nobody else owns.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

// ------------------------------------------------------------------------------------------------- children

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// What [`reap`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaped {
    /// A dead child, which is no more.
    Child(Pid, Status),
    /// A child that was stopped by this signal, and lives.
    Stopped(Pid, i32),
    /// There are children; none has died or stopped.
    Nothing,
    /// There is no child at all, and so no descendant either: an orphan would be a child of ours
    /// ([`become_subreaper`]).
    NoChildren,
}

/// Takes one dead child, whichever it is, without waiting.
pub fn reap() -> io::Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: the pointer is to writable memory of the right type.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) } != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(Reaped::NoChildren),
            Some(libc::EINTR) => Ok(Reaped::Nothing),
            _ => Err(error),
        };
    }
    // SAFETY: zeroed above, which is what waitid leaves when no child is ready; else it filled in a SIGCHLD's fields.
    let (code, pid, status) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_pid(), info.si_status())
    };
    Ok(match code {
        _ if pid == 0 => Reaped::Nothing,
        libc::CLD_EXITED => Reaped::Child(pid, Status::Exited(status)),
        libc::CLD_STOPPED | libc::CLD_TRAPPED => Reaped::Stopped(pid, status),
        _ => Reaped::Child(pid, Status::Signaled(status)),
    })
}

/// Makes orphans among this process's descendants its own children, as they are PID 1's anyway.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this operation takes one number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

/// Sends a signal (a number) to each process of a group. A group without a process is no error.
pub fn signal_group(group: Pid, signal: i32) -> io::Result<()> {
    // 1 and 0 and below mean "everybody" to kill(2).
    if group <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes numbers and touches no memory.
    gone_is_fine(check(unsafe { libc::kill(-group, signal) }))
}

/// Sends a signal (a number) to a child that has not been reaped. Its pid therefore is still its own.
pub fn signal_child(child: Pid, signal: i32) -> io::Result<()> {
    if child <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes numbers and touches no memory.
    gone_is_fine(check(unsafe { libc::kill(child, signal) }))
}

/// Sends a signal (a number) to a process that is somebody else's to reap, if `still_it` says that the pid denotes
/// the process that is meant. The question is asked while a pidfd holds on to whatever has the pid, so no other
/// process can come to bear it between the answer and the signal. (A kernel or a seccomp profile without pidfds gets
/// the plain call, which has that gap.)
pub fn signal_if(pid: Pid, signal: i32, still_it: impl FnOnce() -> bool) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: pidfd_open takes numbers and returns a new descriptor (close-on-exec by definition), or -1.
    let pidfd = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0) as RawFd) };
    if !still_it() {
        return Ok(());
    }
    let sent = match &pidfd {
        // SAFETY: the descriptor is open; a null siginfo is allowed and means the one that kill(2) would make.
        Ok(fd) => unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0) as i32
        },
        // SAFETY: kill takes numbers and touches no memory.
        Err(_) => unsafe { libc::kill(pid, signal) },
    };
    gone_is_fine(check(sent))
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) })
}

/// The error of [`guard_child`]'s own refusal to start the program.
pub const NOT_STARTED: i32 = libc::ECANCELED;

/// The kernel's `struct sigaction` (larger on no architecture) with the default handler, no flag, an empty mask.
const DEFAULT_ACTION: [u64; 8] = [libc::SIG_DFL as u64; 8];

/// Arranges what happens in the child between fork and exec; its process group is made before.
///
/// - The kernel kills it when the *thread* that spawns it ends, so spawn from one that lives as long as the process.
///   Had this process died before the kernel was told, the child would never hear of it: it asks, and gives up.
/// - It gives up too when `latest` has passed: after a pause between fork and exec, the term may be over. Both come
///   back from `spawn` as [`NOT_STARTED`].
/// - With `terminal`, its group becomes the foreground group of the terminal on stdin, as a shell would do for it.
/// - Dispositions and mask are the defaults, whatever this process blocks and ignores, or was told to ignore.
pub fn guard_child(command: &mut Command, latest: BootTime, terminal: bool) {
    let parent = std::process::id();
    let everything = signal_set(1..=64);
    let nothing = signal_set([]);
    let prepare = move || {
        // SAFETY: these calls take numbers, or pointers to sets that were made before the fork; all are
        // async-signal-safe, as they must be in the child of a process with threads, and allocate nothing.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
            if libc::getppid() as u32 != parent || boot_time() >= latest {
                return Err(io::Error::from_raw_os_error(NOT_STARTED));
            }
            // Blocked, SIGTTOU cannot stop a background process that takes the terminal.
            libc::sigprocmask(libc::SIG_SETMASK, &everything, ptr::null_mut());
            if terminal {
                libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid());
            }
            for number in 1..=64 {
                // Not by libc's function, which refuses the two or three signals that it uses itself. The kernel
                // refuses SIGKILL and SIGSTOP.
                libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT_ACTION.as_ptr(), ptr::null::<u64>(), 8_usize);
            }
            check(libc::sigprocmask(libc::SIG_SETMASK, &nothing, ptr::null_mut()))
        }
    };
    // SAFETY: the closure does only what a child of a threaded process may do before exec (see above).
    unsafe { command.pre_exec(prepare) };
}

// ------------------------------------------------------------------------------------------------- terminal

/// Whether stdin is a terminal and this process's group is in its foreground.
pub fn has_terminal() -> bool {
    // SAFETY: both calls take numbers; tcgetpgrp answers -1 where stdin is no terminal of ours.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}

/// Puts this process's own group into the foreground of the terminal on stdin again.
pub fn take_terminal() -> io::Result<()> {
    let stop_signal = signal_set([libc::SIGTTOU]);
    change_mask(libc::SIG_BLOCK, &stop_signal)?;
    // SAFETY: both calls take numbers. SIGTTOU is blocked, so the kernel lets a background group do this.
    let taken = check(unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpgrp()) });
    change_mask(libc::SIG_UNBLOCK, &stop_signal)?;
    taken
}

#[cfg(test)]
mod tests;
