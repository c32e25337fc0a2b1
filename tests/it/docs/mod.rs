//! The documents for people: what they point at is there, what they quote is said, what they compute is computed, and
//! every command in them is run by somebody.

mod commands;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leasehold::election::Timing;
use leasehold::program::config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of this kind below a folder, by their paths from the root.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").to_owned();
        if path.is_dir() {
            found.extend(files(&name, extension));
        } else if path.extension().is_some_and(|kind| kind == extension) {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Every document: at the root, and in the folders that have some.
fn documents() -> Vec<String> {
    let here = fs::read_dir(root()).expect("the root").map(|entry| entry.expect("an entry").file_name());
    let mut found: Vec<_> =
        here.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".md")).collect();
    found.extend(["docs", "manifests", "tests/simulation"].into_iter().flat_map(|folder| files(folder, "md")));
    found.sort();
    found
}

/// The fenced blocks of a document, each with its language.
fn blocks(document: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text(document).lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.trim().to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{document}: a block is not closed");
    blocks
}

/// A document without its fenced blocks.
fn prose(document: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text(document).lines() {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if !inside && !fence {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// What stands between single backticks.
fn code_spans(prose: &str) -> Vec<&str> {
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Where a document's links point to.
fn links(document: &str) -> Vec<String> {
    let prose = prose(document);
    let without_code: String = prose.lines().flat_map(|line| line.split('`').step_by(2).chain(["\n"])).collect();
    without_code.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The anchors of a document's headings, as the usual renderers make them.
fn anchors(document: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let prose = prose(document);
    prose.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut checked = 0;
    for document in documents() {
        let folder = Path::new(&document).parent().expect("a file lies in a folder");
        for link in links(&document).iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { PathBuf::from(&document) } else { folder.join(path) };
            assert!(root().join(&target).exists(), "{document} links to {link}: there is no {}", target.display());
            if !anchor.is_empty() && path_is_document(&target) {
                let target = target.to_str().expect("UTF-8");
                assert!(anchors(target).contains(anchor), "{document} links to {link}: {target} has no such heading");
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} links were found: is the search broken?");
}

fn path_is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

#[test]
fn every_file_named_is_there() {
    let folders = ["src/", "tests/", "docs/", "manifests/", "examples/", ".ci/", ".github/"];
    for document in documents() {
        for span in code_spans(&prose(&document)) {
            let path = span.split(['`', ' ']).next().unwrap_or_default().trim_end_matches('/');
            if folders.iter().any(|folder| path.starts_with(folder)) && !path.contains(['*', '…', '<']) {
                assert!(root().join(path).exists(), "{document} names {path}, which is not there");
            }
        }
    }
}

/// A table of promises and their tests is worth something while the tests are there.
#[test]
fn every_test_named_is_there() {
    let sources: String =
        ["src", "tests"].iter().flat_map(|folder| files(folder, "rs")).map(|file| text(&file)).collect();
    for document in documents() {
        for span in code_spans(&prose(&document)) {
            let is_name =
                span.len() > 24 && span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if is_name
                && !span.starts_with("rest_client_")
                && !span.starts_with("leader_election_")
                && !span.starts_with("leasehold_")
            {
                assert!(
                    sources.contains(&format!("fn {span}(")),
                    "{document} names the test {span}, which is not there"
                );
            }
        }
    }
}

#[test]
fn every_variable_named_is_one_that_is_read() {
    let known: BTreeSet<&str> = config::VARIABLES.iter().map(|variable| variable.name).collect();
    let of_others = ["LEASEHOLD_", "SIMULATION_", "CLOCK_", "ETCD_", "LEASE_DURATON", "KUBERNETES_PORT_"];
    for document in ["README.md", "docs/guide.md", "docs/reference.md", "docs/troubleshooting.md"] {
        let prose = prose(document);
        let words = prose.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
        for word in
            words.filter(|word| word.contains('_') && word.len() > 4 && !word.starts_with(|c: char| c.is_ascii_digit()))
        {
            let ours = known.contains(word) || of_others.iter().any(|prefix| word.starts_with(prefix));
            assert!(ours, "{document} names the variable {word}, which nothing reads");
        }
    }
}

// ------------------------------------------------------------------------------------------- troubleshooting

/// The source as the log will show it: what is filled in is `…`.
fn source_as_said() -> String {
    let source: String = files("src", "rs").iter().map(|file| text(file)).collect();
    let joined = join_continued(&source);
    let mut said = String::new();
    let mut rest = joined.as_str();
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        said.push_str(before);
        let close = from[1..].find(['{', '}', '\n', '"']).map(|at| at + 1);
        match close.filter(|close| from[*close..].starts_with('}')) {
            Some(close) => {
                said.push('…');
                rest = &from[close + 1..];
            }
            None => {
                said.push('{');
                rest = &from[1..];
            }
        }
    }
    said.push_str(rest);
    said.replace("\\\"", "\"")
}

/// A string that goes on in the next line.
fn join_continued(source: &str) -> String {
    let mut joined = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while line.ends_with('\\') {
            line.pop();
            line.push_str(lines.next().unwrap_or_default().trim_start());
        }
        joined.push_str(&line);
        joined.push('\n');
    }
    joined
}

/// What a document says that the log, or an answer, says.
fn quoted(document: &str) -> Vec<String> {
    let logs = blocks(document).into_iter().filter(|(language, _)| language == "log").flat_map(|(_, lines)| lines);
    let prose = prose(document);
    let cells = prose.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    logs.chain(cells.map(str::to_owned)).collect()
}

#[test]
fn what_troubleshooting_quotes_is_what_is_said() {
    let said = source_as_said();
    let lines = quoted("docs/troubleshooting.md");
    assert!(lines.len() > 25, "only {} were found: is the search broken?", lines.len());
    for line in lines {
        let fixed = line.trim_matches(|c: char| c == '…' || c == ' ');
        assert!(said.contains(fixed), "nothing in src/ says: {line}");
    }
}

#[test]
fn what_is_not_said_is_found_out() {
    let said = source_as_said();
    assert!(said.contains("became leader of … (fencing token …)"));
    for changed in ["became leader of … (token …)", "became leader of someone (fencing token …)", "{leader}"] {
        assert!(!said.contains(changed), "{changed}");
    }
}

// ---------------------------------------------------------------------------------------------------- timings

#[test]
fn the_table_of_timings_is_what_the_program_computes() {
    let page = text("docs/guide.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.matches(" / ").count() == 2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 4, "{rows:?}");
    for row in rows {
        let given: Vec<u64> = row[0].split(" / ").map(|seconds| seconds.parse().expect("whole seconds")).collect();
        let [lease, deadline, retry] = given[..] else { panic!("{row:?}") };
        let seconds = Duration::from_secs;
        let timing =
            Timing::new(seconds(lease), seconds(deadline), seconds(retry), None).expect("a timing that is accepted");
        let ratio = |of: Duration| number(timing.lease_duration().as_secs_f64() / of.as_secs_f64());
        let duration = |of: Duration| format!("{} s", number(of.as_secs_f64()));
        let expected = [
            duration(timing.renew_interval()),
            duration(timing.call_limit()),
            duration(timing.renewal_retry()),
            duration(timing.renewal_deadline()),
            duration(timing.kill_after()),
            duration(timing.lease_duration()),
            ratio(timing.renewal_deadline()),
            ratio(timing.kill_after()),
        ];
        assert_eq!(row[1..], expected, "{}", row[0]);
    }
}

/// To three digits after the point, without zeros at the end.
fn number(value: f64) -> String {
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

// ------------------------------------------------------------------------------------------------- changelog

#[test]
fn the_changelog_knows_this_version() {
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(text("CHANGELOG.md").lines().any(|line| line.starts_with(&heading)), "{heading}");
}
