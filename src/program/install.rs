//! `leasehold install FOLDER`: puts the program where a container of another image can run it.
//!
//! IO: reads its own binary, writes one file. The image holds nothing but the binary, so there is no `cp` that an init
//! container could call.

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What it is called there.
const NAME: &str = "leasehold";
/// Anybody may run it, and nobody change it but its owner.
const MODE: u32 = 0o755;

/// Copies the running program to `folder/leasehold`. Whoever runs that meanwhile has the old one or the new one, never
/// a part.
///
/// # Errors
///
/// What could not be read or written, and why.
pub fn install(folder: &Path) -> Result<(), String> {
    let target = folder.join(NAME);
    let partial = folder.join(format!(".{NAME}.{}", std::process::id()));
    let wrong = |error: io::Error| {
        let _ = fs::remove_file(&partial);
        format!(
            "{} cannot be written: {error}; FOLDER must be a folder that this user may write to, as an emptyDir that is \
             mounted there",
            target.display()
        )
    };
    let own = env::current_exe().map_err(|error| format!("the running binary cannot be found: {error}"))?;
    fs::copy(own, &partial).map_err(wrong)?;
    fs::set_permissions(&partial, Permissions::from_mode(MODE)).map_err(wrong)?;
    fs::rename(&partial, &target).map_err(wrong)
}
