//! Linker options of the static program. They are here because RUSTFLAGS, which the static build needs, would hide those
//! of `.cargo/config.toml`. Each works with GNU ld and with lld. Sizes are those of 2026-11-24; 2.84 MB without them.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    // The other profiles unwind, and cargo does not tell a build script which do.
    if !is_static || variable("CARGO_CFG_TARGET_ENV") != "gnu" || variable("PROFILE") != "release" {
        return;
    }
    let folder = format!("{}/link", variable("CARGO_MANIFEST_DIR"));
    let link = |option: &str| println!("cargo::rustc-link-arg-bin=leasehold={option}");
    // 98 KB: relative relocations as bitmaps instead of 24 bytes each. A static glibc (2.36 or later) applies them
    // itself; a dynamic one might be older than that, so this is for the static build alone. A GNU ld that does not know
    // the option warns and ignores it.
    link("-Wl,-z,pack-relative-relocs");
    // 332 KB: no unwind tables, and no index of them.
    link(&format!("-Wl,-T,{folder}/no-unwind-tables.ld"));
    link("-Wl,--no-eh-frame-hdr");
    // rustc links a static x86-64 program so that it can be loaded at any address, but not an arm64 one. (32-bit Arm
    // stays at a fixed address: its glibc has no start code for a static program that moves itself, no rcrt1.o.)
    if variable("CARGO_CFG_TARGET_ARCH") == "aarch64" {
        link(&format!("-specs={folder}/static-pie.specs"));
    }
}
