//! Why a program could not be started: the exit code a shell would give, and a sentence that says what to do. IO: it
//! looks at the file again.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::End;

/// There is no such program.
const NOT_FOUND: u8 = 127;
/// There is, but it cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// Explains `error`, which exec (or fork) gave for `program`.
pub(super) fn explain(program: &OsStr, error: &io::Error) -> End {
    let found = locate(program);
    let code = match (&found, error.raw_os_error()) {
        (None, Some(libc::ENOENT | libc::ENOTDIR)) => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    let shown = found.as_deref().map_or(program, Path::as_os_str).display();
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => match &found {
            Some(file) => missing_interpreter(file),
            None if program.as_bytes().contains(&b'/') => "there is no such file in this image".to_owned(),
            None => {
                let path = env::var_os("PATH").unwrap_or_default();
                format!("it is in no directory of PATH ({}): copy it there, or give its full path", path.display())
            }
        },
        Some(libc::EACCES | libc::EPERM) => match &found {
            Some(file) if file.is_dir() => "it is a directory: name the program in it".to_owned(),
            _ => "it may not be executed: chmod +x it, and see that its volume is not mounted noexec".to_owned(),
        },
        Some(libc::ENOEXEC) => match found.as_deref().map(first_bytes) {
            Some(Ok(head)) if head.starts_with(b"\x7fELF") => "is it built for another architecture?".to_owned(),
            _ => "if it is a script, its first line must be #! and its interpreter".to_owned(),
        },
        Some(libc::ETXTBSY) => "it is still open for writing: let whatever copies it there finish first".to_owned(),
        Some(libc::E2BIG) => {
            "its arguments and environment are too long for the kernel: pass long values in files".to_owned()
        }
        Some(libc::EAGAIN) => "no more processes are allowed: raise the pod's pids limit".to_owned(),
        Some(libc::ENOMEM) => "there is not enough memory to start it: raise the container's memory limit".to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "no more files may be open: raise the limit on open files".to_owned(),
        None => "neither its name, its arguments nor its environment can hold a NUL byte".to_owned(),
        _ => "see that this file can be run in this container".to_owned(),
    };
    End::CouldNotStart { code, message: format!("cannot start `{shown}`: {error}: {hint}") }
}

/// Where exec looks for `program`, in order.
pub(super) fn candidates(program: &OsStr) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let directories = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    env::split_paths(&directories).map(|directory| directory.join(program)).collect()
}

/// The file that `program` denotes.
fn locate(program: &OsStr) -> Option<PathBuf> {
    let named = program.as_bytes().contains(&b'/');
    candidates(program).into_iter().find(|file| if named { file.exists() } else { file.is_file() })
}

fn first_bytes(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(file)?.take(256).read_to_end(&mut head)?;
    Ok(head)
}

/// "No such file" about a file that is there: what is missing is what the kernel would run it with.
fn missing_interpreter(file: &Path) -> String {
    let head = first_bytes(file).unwrap_or_default();
    match head.split(|byte| *byte == b'\n').next().and_then(|line| line.strip_prefix(b"#!")) {
        Some(interpreter) => {
            format!("its interpreter `{}` is not in this image", String::from_utf8_lossy(interpreter).trim())
        }
        None if file.is_file() => {
            "it is linked against a loader that is not in this image: link it statically, or use the image it was \
             built for"
                .to_owned()
        }
        None => "it is not a regular file".to_owned(),
    }
}
