//! `leasehold install FOLDER`: puts the program where a container of another image can run it.
//!
//! IO: reads its own binary, writes one file. The image holds nothing but the binary, so there is no `cp` that an init
//! container could call.

use std::env;
use std::fs;
use std::io;
use std::path::Path;

/// The copy's name.
const NAME: &str = "leasehold";

/// Copies the running program to `folder/leasehold`, with its permissions. A process that starts it meanwhile gets the old file or the new
/// one, never a part.
///
/// # Errors
///
/// What could not be read or written, and why.
pub(in crate::program) fn install(folder: &Path) -> Result<(), String> {
    let target = folder.join(NAME);
    let partial = folder.join(format!(".{NAME}.{}", std::process::id()));
    let failed = |error: io::Error| {
        let _ = fs::remove_file(&partial);
        format!(
            "{} cannot be written: {error}; FOLDER must be a folder that this user may write to, such as a mounted \
             emptyDir",
            target.display()
        )
    };
    let own = env::current_exe().map_err(|error| format!("the running binary cannot be found: {error}"))?;
    fs::copy(own, &partial).map_err(failed)?;
    fs::rename(&partial, &target).map_err(failed)
}
