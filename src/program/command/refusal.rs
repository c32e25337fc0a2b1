//! Purpose a program could not be started: the exit code a shell would give, and a sentence that names the mend. IO
//! (it looks at the file again).

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
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
    let mend = match error.raw_os_error() {
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
        Some(libc::ENOEXEC) => "it is no program for this machine: build it for this architecture, or begin the \
                                script with #! and its interpreter"
            .to_owned(),
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
    End::CouldNotStart { code, message: format!("cannot start `{shown}`: {error}: {mend}") }
}

/// The file that `program` denotes, found as exec finds it.
fn locate(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(|file| file.exists());
    }
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// "No such file" about a file that is there: what is missing is what the kernel would run it with.
fn missing_interpreter(file: &Path) -> String {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|open| open.take(256).read_to_end(&mut head));
    let first_line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match (read, first_line.strip_prefix(b"#!")) {
        (Ok(_), Some(interpreter)) => {
            let interpreter = String::from_utf8_lossy(interpreter);
            format!("its interpreter `{}` is not in this image", interpreter.trim())
        }
        _ if fs::metadata(file).is_ok_and(|meta| meta.is_file()) => {
            "it is linked against a loader that is not in this image: link it statically, or use the image it was \
             built for"
                .to_owned()
        }
        _ => "it is no regular file".to_owned(),
    }
}
