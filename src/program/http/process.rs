//! The `process_*` metrics that every Prometheus client library has, from `/proc`. IO.

use crate::program::metrics::Text;
use crate::sys;
use std::fs;
use std::sync::LazyLock;

/// Ticks per second in `/proc/*/stat`: Linux presents its times to programs at 100 Hz on every architecture Rust targets.
const TICKS_PER_SECOND: f64 = 100.0;

/// Does not change, and `/proc/stat` takes the kernel longer than all the rest together.
static STARTED: LazyLock<Option<f64>> =
    LazyLock::new(|| start_time(&fs::read("/proc/self/stat").ok()?, &fs::read_to_string("/proc/stat").ok()?));

/// What this process uses. What cannot be read is left out.
pub(super) fn metrics() -> String {
    let stat = fs::read("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let kibibytes = |start: &str| Some(first_number(&status, start)? * 1024.0);
    let mut text = Text::default();
    for (name, help, value) in [
        ("process_cpu_seconds_total", "User and system CPU time.", cpu_seconds(&stat)),
        ("process_open_fds", "Open file descriptors.", open_descriptors()),
        ("process_max_fds", "Limit on open file descriptors.", first_number(&limits, "Max open files")),
        ("process_resident_memory_bytes", "Memory in RAM.", kibibytes("VmRSS:")),
        ("process_virtual_memory_bytes", "Memory mapped.", kibibytes("VmSize:")),
        ("process_threads", "Threads.", first_number(&status, "Threads:")),
        ("process_start_time_seconds", "When it started, since 1970.", *STARTED),
    ] {
        if value.is_some() {
            text.single(name, help, value);
        }
    }
    text.0
}

fn ticks(stat: &[u8], field: usize) -> Option<f64> {
    sys::stat_field(stat, field)?.parse().ok()
}

fn cpu_seconds(stat: &[u8]) -> Option<f64> {
    Some((ticks(stat, 14)? + ticks(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_time(stat: &[u8], boot: &str) -> Option<f64> {
    Some(first_number(boot, "btime ")? + ticks(stat, 22)? / TICKS_PER_SECOND)
}

/// The first number of the line that begins so.
fn first_number(text: &str, start: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn open_descriptors() -> Option<f64> {
    // One of them is the directory being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = b"7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 6 0 12300 9999 888 1";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(start_time(stat, "cpu 1 2\nbtime 1000\nprocesses 3\n"), Some(1123.0));
        assert_eq!(start_time(stat, ""), None);
        assert_eq!(cpu_seconds(b"garbage"), None);
    }

    #[test]
    fn this_process_is_told_as_it_is() {
        let text = metrics();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} is missing in {text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        let started = value("process_start_time_seconds");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3_600.0..now + 60.0).contains(&started), "{started}");
    }
}
