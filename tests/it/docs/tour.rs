//! The guided tour of the source (`docs/audit.md`): it leads through every file, in an hour, what it says is in a file is
//! there, and what it greps for is what is found.

use std::collections::BTreeSet;
use std::process::Command;

use super::{files, root, text};

pub(super) const PAGE: &str = "docs/audit.md";
const HOUR: u32 = 60;

/// A row of a stop's table.
struct Row {
    file: String,
    lines: usize,
    /// Functions, types and macros to be read.
    names: Vec<String>,
}

/// The minutes in the stops' headings: `## 2. Every call: 10 minutes`.
fn minutes(page: &str) -> Vec<u32> {
    let headings = page.lines().filter_map(|line| line.strip_prefix("## ")?.rsplit_once(": "));
    headings.filter_map(|(_, time)| time.split(' ').next()?.parse().ok()).collect()
}

fn rows(page: &str) -> Vec<Row> {
    page.lines().filter_map(row).collect()
}

/// ``| [`src/x.rs`](../src/x.rs) | 148 | `this`, `that` |``
fn row(line: &str) -> Option<Row> {
    let rest = line.strip_prefix("| [`")?;
    let (file, rest) = rest.split_once('`')?;
    let mut cells = rest.split(" | ").skip(1);
    let lines = cells.next()?.parse().ok()?;
    let is_name = |span: &&str| span.trim_end_matches('!').bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let spans = cells.next()?.split('`').skip(1).step_by(2);
    Some(Row { file: file.to_owned(), lines, names: spans.filter(is_name).map(str::to_owned).collect() })
}

/// What ships of a source file.
fn shipped(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

fn has(source: &str, name: &str) -> bool {
    let forms = match name.strip_suffix('!') {
        Some(name) => vec![format!("macro_rules! {name} ")],
        None => ["fn NAME(", "fn NAME<", "struct NAME", "enum NAME"].map(|form| form.replace("NAME", name)).to_vec(),
    };
    forms.iter().any(|form| source.contains(form.as_str()))
}

/// All that the page says wrongly of the files.
fn wrong(page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if minutes(page).iter().sum::<u32>() != HOUR {
        wrong.push(format!("{:?} is not an hour", minutes(page)));
    }
    let mut unseen: BTreeSet<String> = files("src", "rs")
        .into_iter()
        .filter(|file| !file.ends_with("/tests.rs") && !file.contains("/tests/"))
        .collect();
    for Row { file, lines, names } in rows(page) {
        if !unseen.remove(&file) {
            wrong.push(format!("{file} is not there, or twice on the way"));
            continue;
        }
        let source = text(&file);
        let there = shipped(&source).lines().count();
        if lines.abs_diff(there) > 5 + there / 20 {
            wrong.push(format!("{file} has {there} lines, not {lines}"));
        }
        wrong.extend(names.iter().filter(|name| !has(&source, name)).map(|name| format!("{file} has no {name}")));
    }
    wrong.extend(unseen.iter().map(|file| format!("{file} is not on the way")));
    wrong
}

/// Each command in a `console` block, and the lines under it.
fn greps(page: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines().map(str::trim) {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            found.push((command.to_owned(), Vec::new()));
        } else if let Some((_, lines)) = found.last_mut().filter(|_| inside) {
            lines.push(line.to_owned());
        }
    }
    found
}

/// What it says now, sorted: in which order a folder is gone through is not grep's to say.
fn output(command: &str) -> Vec<String> {
    assert!(command.starts_with("grep "), "{command}: only grep is run");
    let done = Command::new("sh").arg("-c").arg(command).current_dir(root()).output().expect("a shell");
    let text = String::from_utf8(done.stdout).expect("text");
    sorted(text.lines().map(|line| line.trim().to_owned()).collect())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn the_tour_leads_through_every_file() {
    let page = text(PAGE);
    assert!(rows(&page).iter().map(|row| row.names.len()).sum::<usize>() > 60, "is the search broken?");
    assert_eq!(wrong(&page), Vec::<String>::new());
}

#[test]
fn a_tour_that_leaves_something_out_or_says_it_wrongly_is_found_out() {
    let page = text(PAGE);
    let changed = |from: &str, to: &str| {
        assert!(page.contains(from), "{from} is not on the page");
        wrong(&page.replace(from, to))
    };
    let row = page.lines().find(|line| line.contains("`src/mailbox.rs`")).expect("a row").to_owned();
    for (from, to, said) in [
        (row.as_str(), "", "src/mailbox.rs is not on the way"),
        (row.as_str(), &format!("{row}\n{row}"), "twice on the way"),
        ("`take_until`", "`take_when`", "src/mailbox.rs has no take_when"),
        (": 10 minutes", ": 11 minutes", "is not an hour"),
        ("(../src/mailbox.rs) | ", "(../src/mailbox.rs) | 9", "src/mailbox.rs has "),
    ] {
        let wrong = changed(from, to);
        assert!(wrong.len() == 1 && wrong[0].contains(said), "{said}: {wrong:?}");
    }
}

#[test]
fn what_the_tour_greps_for_is_what_is_there() {
    let greps = greps(&text(PAGE));
    assert!(greps.len() >= 6, "{greps:?}");
    for (command, expected) in greps {
        let found = output(&command);
        assert_ne!(found, sorted(expected[1..].to_vec()), "{command}: one line less goes unnoticed");
        assert_eq!(found, sorted(expected), "{command}");
    }
}
