//! Link options of the static program. They stand here because RUSTFLAGS, by which it is built statically, would hide
//! those of `.cargo/config.toml`. What each is worth was measured on the program of 2026-11-22 (3.06 MB without them).

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link/no-unwind-tables.ld");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    // rustc brings its own lld for this target; elsewhere the linker is whatever there is, and keeps its defaults.
    let is_lld = variable("TARGET") == "x86_64-unknown-linux-gnu";
    // The other profiles unwind, and cargo does not tell a build script which do.
    if !is_static || !is_lld || variable("PROFILE") != "release" {
        return;
    }
    let option = |option: String| println!("cargo::rustc-link-arg-bin=leasehold=-Wl,{option}");
    // 113 KB: relative relocations as bitmaps instead of 24 bytes each. A static glibc (2.36 or later) applies them
    // itself; a dynamic one might be older than that, so this is for the static build alone.
    option("-z,pack-relative-relocs".to_owned());
    // 337 KB: no unwind tables, and no index of them.
    option(format!("-T,{}/link/no-unwind-tables.ld", variable("CARGO_MANIFEST_DIR")));
    option("--no-eh-frame-hdr".to_owned());
    // 10 KB: functions that came out the same are one. (Nothing compares the addresses of functions.)
    option("--icf=all".to_owned());
}
