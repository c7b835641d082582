//! Hands the BPF object to the crate: `$WEIR_EBPF_OBJECT`, else the workspace's `target/ebpf/weir.o`,
//! else an empty file, so that the userspace side builds and checks without a BPF toolchain.

use std::{env, fs, path::PathBuf};

fn main() {
    let workspace = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let object =
        env::var_os("WEIR_EBPF_OBJECT").map_or_else(|| workspace.join("target/ebpf/weir.o"), PathBuf::from);
    println!("cargo::rerun-if-env-changed=WEIR_EBPF_OBJECT");
    println!("cargo::rerun-if-changed={}", object.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("weir.o");
    let bytes = fs::read(&object).unwrap_or_default();
    if let Err(error) = fs::write(&out, bytes) {
        println!("cargo::error=can't write {}: {error}", out.display());
    }
}
