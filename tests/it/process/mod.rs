//! The real binary under test, and the API server it campaigns on.
//!
//! Verdicts rest on what was written, said and answered, and on lower bounds of time; never on how fast anything was.
//! [`LIMIT`] only ends a hang.

mod ledger;
mod program;
mod watched;
mod workload;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use self::ledger::Page;
pub(crate) use self::program::{Process, Program};
pub(crate) use self::watched::{Lease, Service, Watched};
pub(crate) use self::workload::Workload;
pub(crate) use self::world::{LEASE, Pace, SERVICE, World};

/// The program under test. `LEASEHOLD_TEST_BINARY` names another build of it: what cargo builds for tests has the
/// feature `mutants`, what ships has not.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("LEASEHOLD_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_leasehold").into(), PathBuf::from)
}

/// No step takes so long; only a hang does.
pub(crate) const LIMIT: Duration = Duration::from_secs(150);

/// Asks until there is something; for what announces itself in no other way.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "never came about: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the program does on either API server.
pub(crate) type Behaviour = fn(&World);

/// Lists functions of files beside, and makes of each a test on the in-memory server, in which both audit logs agree.
macro_rules! behaviours {
    ($($file:ident: $($name:ident)*;)*) => {
        pub(crate) const ALL: &[(&str, crate::process::Behaviour)] = &[$($((stringify!($name), $file::$name)),*),*];

        mod in_memory {
            $($(
                #[test]
                fn $name() {
                    crate::audit::in_memory(super::$file::$name);
                }
            )*)*
        }
    };
}
pub(crate) use behaviours;
