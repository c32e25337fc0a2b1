//! Why a program could not be started: the exit code a shell would give, and a sentence that says what to do. IO: it
//! looks at the file again.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// There is no such program.
const NOT_FOUND: i32 = 127;
/// There is, but it cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

/// Explains `error`, which exec (or fork) gave for `program`: the exit code, and the sentence.
pub(super) fn explain(program: &OsStr, error: &io::Error) -> (i32, String) {
    let found = candidates(program).into_iter().map(PathBuf::from).find(|file| file.exists());
    let shown = found.as_deref().map_or(program, Path::as_os_str).display();
    let mut code = NOT_EXECUTABLE;
    let hint = match (error.raw_os_error(), &found) {
        (Some(libc::ENOENT | libc::ENOTDIR), None) => {
            code = NOT_FOUND;
            let path = env::var_os("PATH").unwrap_or_default();
            format!("there is no such file; a name without a slash is looked for in PATH ({})", path.display())
        }
        // What is missing is what the kernel would run it with.
        (Some(libc::ENOENT | libc::ENOTDIR), Some(file)) => match first_bytes(file).strip_prefix(b"#!") {
            Some(rest) => {
                let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
                format!("its interpreter `{}` is not in this image", String::from_utf8_lossy(line).trim())
            }
            None => "it is linked against a loader that is not in this image: link it statically, or use the image it \
                     was built for"
                .to_owned(),
        },
        (Some(libc::EACCES | libc::EPERM), Some(file)) if file.is_dir() => {
            "it is a directory: name the program in it".to_owned()
        }
        (Some(libc::EACCES | libc::EPERM), _) => {
            "it may not be executed: chmod +x it, and see that its volume is not mounted noexec".to_owned()
        }
        (Some(libc::ENOEXEC), Some(file)) if first_bytes(file).starts_with(b"\x7fELF") => {
            "is it built for another architecture?".to_owned()
        }
        (Some(libc::ENOEXEC), _) => "if it is a script, its first line must be #! and its interpreter".to_owned(),
        _ => "see that this container's limits (pids, memory, open files) and the file itself allow it".to_owned(),
    };
    (code, format!("cannot start `{shown}`: {error}: {hint}"))
}

/// Where exec looks for `program`, in order.
pub(super) fn candidates(program: &OsStr) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let directories = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    env::split_paths(&directories).map(|directory| directory.join(program).into()).collect()
}

/// As many as hold the first line of a script. Only of a file that exec has read: to open a named pipe would wait.
fn first_bytes(file: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = File::open(file) {
        let _ = file.take(256).read_to_end(&mut head);
    }
    head
}
