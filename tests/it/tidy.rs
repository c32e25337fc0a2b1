//! The house rules that a machine can check.

use std::path::{Path, PathBuf};

/// As many as there are now: each new one is looked at before this number is raised.
const CRATES: usize = 38;

/// Beside those whose head says so.
const PURE: &[&str] = &[
    "src/environment.rs",
    "src/environment/value.rs",
    "src/program/config/",
    "src/election/",
    "src/kube/event.rs",
    "src/kube/lease.rs",
    "src/kube/pod.rs",
    "src/kube/request.rs",
    "src/kube/service.rs",
    "src/kube/status.rs",
    "src/kube/watch_line.rs",
    "src/program/routing/mod.rs",
    "src/runtime/lease_store.rs",
    "src/time.rs",
];
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "thread::",
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "sys::boot_time",
    "sys::now",
    "sys::random",
    "libc::",
];

/// Which of the crate's modules may use which. What is not listed binds the parts together and may use any.
const ARROWS: &[(&str, &[&str])] = &[
    ("src/time.rs", &[]),
    ("src/sys/", &["sys", "time"]),
    ("src/election/", &["election", "time"]),
    ("src/kube/", &["kube", "election", "sys", "time"]),
    ("src/environment", &["environment", "kube", "election"]),
    ("src/runtime/", &["runtime", "election", "kube", "sys", "time"]),
    ("src/elector/", &["elector", "environment", "runtime", "election", "kube", "sys", "time"]),
];

struct Source {
    /// From the package's root, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The code that ships, without comments: what comes after the tests' attribute is theirs.
    fn code(&self) -> String {
        let shipped = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = |line: &&str| !line.trim_start().starts_with("//");
        shipped.lines().filter(code).collect::<Vec<_>>().join("\n")
    }

    /// What it says of itself.
    fn head(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }

    fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), extension, &mut found);
    assert!(!found.is_empty(), "{folder} has no .{extension}");
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            let text = std::fs::read_to_string(&path).expect("text");
            let path = path.strip_prefix(root()).expect("below the root").display().to_string();
            found.push(Source { path, text });
        }
    }
}

fn sources() -> Vec<Source> {
    files("src", "rs")
}

/// Says all that is wrong, not only the first.
#[track_caller]
fn nothing(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn pure_files_touch_nothing() {
    let mut wrong = Vec::new();
    let mut pure = 0;
    for source in sources().iter().filter(|source| !source.is_tests()) {
        let listed = PURE.iter().any(|start| source.path.starts_with(start));
        if !listed && !source.head().contains("PURE") {
            continue;
        }
        pure += 1;
        let code = source.code();
        let found = IMPURE.iter().filter(|word| code.contains(**word));
        wrong.extend(found.map(|word| format!("{}: {word} in a PURE file", source.path)));
        if !source.head().contains("PURE") {
            wrong.push(format!("{}: its head does not say PURE", source.path));
        }
    }
    assert!(pure >= PURE.len(), "only {pure} files were looked at");
    nothing(wrong);
}

#[test]
fn unsafe_code_is_in_sys() {
    let code_says_unsafe =
        |source: &Source| source.code().split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    let found: Vec<_> = sources().into_iter().filter(code_says_unsafe).map(|source| source.path).collect();
    let outside: Vec<_> = found.iter().filter(|path| !path.starts_with("src/sys/")).collect();
    assert!(!found.is_empty() && outside.is_empty(), "{outside:?}");
}

#[test]
fn every_file_says_what_it_is_for_and_what_it_touches() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_tests()) {
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{}: does not begin with what it is for", source.path));
        }
        // lib.rs only lists the modules.
        let kinds = ["PURE", "IO", "THREADS"];
        if source.path != "src/lib.rs" && !kinds.iter().any(|kind| source.head().contains(kind)) {
            wrong.push(format!("{}: its head says none of {kinds:?}", source.path));
        }
    }
    nothing(wrong);
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for (start, allowed) in ARROWS {
        let mut checked = 0;
        for source in sources().iter().filter(|source| source.path.starts_with(start) && !source.is_tests()) {
            checked += 1;
            for used in source.code().split("crate::").skip(1) {
                let module: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !module.is_empty() && module.starts_with(char::is_lowercase) && !allowed.contains(&module.as_str()) {
                    wrong.push(format!("{} uses {module}", source.path));
                }
            }
        }
        assert!(checked > 0, "{start} is not there any more");
    }
    nothing(wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["todo!", "unimplemented!", concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore")];
    let mut wrong = Vec::new();
    for source in ["src", "tests", "examples"].iter().flat_map(|folder| files(folder, "rs")) {
        // This list itself is no offence.
        let text = if source.path == "tests/it/tidy.rs" { String::new() } else { source.text.clone() };
        wrong.extend(words.iter().filter(|word| text.contains(**word)).map(|word| format!("{}: {word}", source.path)));
    }
    nothing(wrong);
}

#[test]
fn the_changelog_names_this_version() {
    let text = std::fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        text.lines().any(|line| line.starts_with(&format!("## [{version}]"))),
        "CHANGELOG.md does not name {version}"
    );
}

/// What ships, on Linux. Cargo.lock must be as committed, so nothing is fetched.
#[test]
fn what_ships_is_made_of_few_crates() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = std::process::Command::new(cargo)
        .args(["tree", "--edges", "normal", "--prefix", "none", "--locked", "--offline", "--package", "leasehold"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    // A star annotations one that was listed before; the first is leasehold itself.
    let mut crates: Vec<_> = text.lines().skip(1).map(|line| line.trim_end_matches(" (*)")).collect();
    crates.sort_unstable();
    crates.dedup();
    assert!((1..=CRATES).contains(&crates.len()), "{} crates: {crates:#?}", crates.len());
}
