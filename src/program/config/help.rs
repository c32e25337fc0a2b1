//! The help text, and the names that are probably misspelt: both made from the table of variables.
//!
//! PURE.

use std::fmt::Write as _;

use crate::environment::VARIABLES;

/// The forms in which the program is called, and what each does.
pub(super) const USAGE: &[(&str, &str)] = &[
    ("leasehold", "elect, route, run the leader loop, serve HTTP"),
    ("leasehold -- COMMAND ARG...", "the same, with COMMAND in the leader loop's place: it runs only while leading"),
    ("leasehold status [--json] [--watch]", "one look at the Lease and the Service; --watch follows them"),
    ("leasehold yield [--to POD]", "ask the leader to hand over, to POD or to anyone"),
    ("leasehold install FOLDER", "copy this binary into FOLDER, for a container of another image to run"),
    ("leasehold --help | --version", "this text, or the version"),
];

/// The longest line of the variables' meanings.
const WIDTH: usize = 96;

/// What `leasehold --help` prints.
pub fn help() -> String {
    let mut text = String::from("Leader election for any container on Kubernetes.\n\nUsage:\n");
    // Writing to a String cannot fail, here and below.
    for (form, meaning) in USAGE {
        let _ = writeln!(text, "  {form}\n      {meaning}");
    }
    text.push_str("\nSettings, from the environment (an empty value counts as unset):\n");
    for variable in VARIABLES {
        let _ = write!(text, "  {} [{}]", variable.name, variable.default.text());
        let mut column = WIDTH;
        for word in variable.meaning.split(' ') {
            if column + 1 + word.len() > WIDTH {
                text.push_str("\n     ");
                column = 5;
            }
            let _ = write!(text, " {word}");
            column += 1 + word.len();
        }
        text.push('\n');
    }
    text.push_str(
        "\nDurations are seconds (15, 0.5) or a number with ms, s, m or h. It must hold that\n\
         LEASE_DURATION > RENEWAL_DEADLINE > 1.2 x RETRY_PERIOD > 0, and that RENEW_INTERVAL is at most\n\
         half of RENEWAL_DEADLINE.\n\n\
         Exit codes: 0 after SIGTERM or SIGINT; 1 when it gave up; 2 when the configuration is wrong; with a\n\
         COMMAND, its own (128 + n for a signal, 126 or 127 when it can't be started).\n",
    );
    text
}

/// The variable that this name is probably meant to be, such as LEASE_DURATION for `LEASE_DURATON`.
///
/// A misspelt variable is otherwise a setting silently dropped. It is a hint for the log and no mistake: the name may
/// belong to another program. Names under eight letters are left alone, as they resemble too much.
pub fn misspelt(name: &str) -> Option<&'static str> {
    let mut names = VARIABLES.iter().map(|variable| variable.name);
    if names.clone().any(|ours| ours == name) {
        return None;
    }
    names.find(|ours| ours.len() >= 8 && resembles(name, ours))
}

/// Whether two names differ in one place only, by two letters at most.
fn resembles(one: &str, other: &str) -> bool {
    let same_start = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let same_end = one.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
    same_start + same_end + 2 >= one.len().max(other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised() {
        for (name, meant) in [
            ("LEASE_DURATON", "LEASE_DURATION"),
            ("LEASE_DURATOIN", "LEASE_DURATION"),
            ("LEASE_DURATIOON", "LEASE_DURATION"),
            ("SERVICE_NAMES", "SERVICE_NAME"),
            ("LEASENAME", "LEASE_NAME"),
            ("LEASE_NAMESPASE", "LEASE_NAMESPACE"),
        ] {
            assert_eq!(misspelt(name), Some(meant), "{name}");
        }
        for name in ["PATH", "LEASE_NAME", "PORTS", "DEMO_SERVICE_HOST", "KUBERNETES_PORT_80_TCP_ADDR", "LEASE", ""] {
            assert_eq!(misspelt(name), None, "{name}");
        }
    }
}
