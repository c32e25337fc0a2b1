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
         Exit codes: 0 after SIGTERM or SIGINT; 2 when the configuration is wrong; with a COMMAND, its own\n\
         (128 + n for a signal, 126 or 127 when it can't be started).\n",
    );
    text
}

/// Names that are probably meant to be one of ours (`LEASE_DURATON`), each with the one that is read.
///
/// A misspelt variable is otherwise a setting silently dropped. It is a hint for the log and no mistake: the name may
/// belong to another program. Names under eight letters are left alone, as they resemble too much.
pub fn misspelt<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, &'static str)> {
    let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
    let meant = |name: &str| {
        VARIABLES.iter().map(|variable| variable.name).find(|ours| ours.len() >= 8 && edits(name, ours) <= 2)
    };
    names.into_iter().filter(|name| !known(name)).filter_map(|name| Some((name, meant(name)?))).collect()
}

/// Levenshtein's distance, in bytes.
fn edits(from: &str, to: &str) -> usize {
    if from.len().abs_diff(to.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let cost = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised() {
        let names =
            ["LEASE_DURATON", "PATH", "LEASE_NAME", "PORTS", "SERVICE_NAMES", "DEMO_SERVICE_HOST", "LEASENAME", ""];
        assert_eq!(
            misspelt(names),
            [("LEASE_DURATON", "LEASE_DURATION"), ("SERVICE_NAMES", "SERVICE_NAME"), ("LEASENAME", "LEASE_NAME")]
        );
    }
}
