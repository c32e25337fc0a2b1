//! `leasehold install FOLDER`, by the real binary.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::program;

fn install(folder: &Path) -> Output {
    Command::new(program()).arg("install").arg(folder).env_clear().output().unwrap()
}

fn folder(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("leasehold-install-{test}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn the_copy_is_the_same_program_and_anyone_may_run_it() {
    let folder = folder("copy");
    let copy = folder.join("leasehold");
    // The second time there is one already: the init container of a Pod may be run again.
    for _ in 0..2 {
        let done = install(&folder);
        assert!(done.status.success() && done.stdout.is_empty() && done.stderr.is_empty(), "{done:?}");
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    assert!(std::fs::read(&copy).unwrap() == std::fs::read(program()).unwrap());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    let version = Command::new(&copy).arg("--version").output().unwrap();
    assert_eq!(version.stdout, concat!("leasehold ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_a_hint() {
    let folder = folder("nowhere");
    let file = folder.join("file");
    std::fs::write(&file, "").unwrap();
    for (bad, why) in [(folder.join("absent"), "No such file"), (file, "Not a directory")] {
        let done = install(&bad);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1));
        assert!(said.contains(&format!("{}/leasehold cannot be written: {why}", bad.display())), "{said}");
        assert!(said.contains("emptyDir") && said.lines().count() == 1, "{said}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
