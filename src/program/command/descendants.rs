//! Everything that descends from this process, as `/proc` shows it, and a signal for all of it. IO.
//!
//! A process group is not enough: a daemon leaves it. So the whole tree is read by parent, which works because
//! leasehold is PID 1 or a subreaper: an orphan becomes our child, and stays our descendant. What is read is not a
//! snapshot (processes fork and die meanwhile), so it serves to *find* what to kill, never to prove that nothing is
//! left: the proof is the kernel's answer that there is no child to wait for.

use std::collections::HashMap;
use std::fs;
use std::io;

use crate::sys::{self, Pid};

/// A process below this one, as `/proc` showed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Descendant {
    pub(super) pid: Pid,
    pub(super) group: Pid,
    parent: Pid,
    /// Clock ticks after boot: with the pid, it identifies a process for good.
    started: u64,
}

/// All descendants of this process, zombies too: a signal does nothing to them.
pub(super) fn all() -> io::Result<Vec<Descendant>> {
    let own = std::process::id();
    if fs::read_link("/proc/self")?.to_str() != Some(&own.to_string()) {
        return Err(io::Error::other("/proc belongs to another PID namespace: mount this container's own"));
    }
    let mut by_parent: HashMap<Pid, Vec<Descendant>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(process) = look(pid) {
            by_parent.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![Pid::try_from(own).unwrap_or(Pid::MAX)];
    while let Some(parent) = parents.pop() {
        // Taking the entry out makes each process count once, even if /proc, read over time, shows a circle.
        let children = by_parent.remove(&parent).unwrap_or_default();
        parents.extend(children.iter().map(|process| process.pid));
        found.extend(children);
    }
    Ok(found)
}

impl Descendant {
    /// Sends it a signal (a number), unless it has died since it was found. It may have changed its group meanwhile, or
    /// been adopted (by us, then): it is the same process still, and below us.
    pub(super) fn signal(self, signal: i32) -> io::Result<()> {
        sys::signal_if(self.pid, signal, || look(self.pid).is_some_and(|process| process.started == self.started))
    }
}

/// The process that has this pid now.
fn look(pid: Pid) -> Option<Descendant> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(pid: Pid, stat: &[u8]) -> Option<Descendant> {
    let field = |number| sys::stat_field(stat, number);
    let (parent, group, started) = (field(4)?.parse().ok()?, field(5)?.parse().ok()?, field(22)?.parse().ok()?);
    Some(Descendant { pid, group, parent, started })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_full_of_brackets_does_not_shift_the_fields() {
        let stat = b"42 (evil) Z 1 (\n) S 7 40 40 0 -1 4194560 120 0 0 0 0 0 0 0 20 0 1 0 99887 2 3";
        let expected = Descendant { pid: 42, group: 40, parent: 7, started: 99_887 };
        assert_eq!(parse(42, stat), Some(expected));
    }

    #[test]
    fn text_that_is_not_a_stat_is_not_a_process() {
        for stat in [&b""[..], b"1", b"1 (x", b"1 (x)", b"1 (x) S", b"1 (x) S one 2 3", b"1 (x) S 1 2 3 4"] {
            assert_eq!(parse(1, stat), None);
        }
    }

    /// A daemon may leave its group right before the signal.
    #[test]
    fn a_process_that_has_changed_its_group_gets_the_signal() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exec setsid sleep 600"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let pid = Pid::try_from(child.id()).expect("a pid");
        let found = look(pid).expect("it is there");
        child.stdin.take().expect("piped").write_all(b"go on\n").expect("it reads");
        while look(pid).expect("it is there").group == found.group {
            assert_eq!(child.try_wait().expect("it can be asked"), None, "there is no setsid on this machine");
            std::thread::yield_now();
        }
        found.signal(libc::SIGTERM).expect("it can be signalled");
        assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGTERM));
    }

    #[test]
    fn a_process_that_started_at_another_time_gets_no_signal() {
        let own = look(Pid::try_from(std::process::id()).expect("a pid")).expect("it is there");
        let earlier = Descendant { started: own.started - 1, ..own };
        // It would end this test.
        earlier.signal(libc::SIGKILL).expect("nothing is sent");
    }

    #[test]
    fn this_process_is_there() {
        let own = Pid::try_from(std::process::id()).unwrap();
        assert_eq!(look(own).unwrap().pid, own);
        assert!(all().is_ok());
    }
}
