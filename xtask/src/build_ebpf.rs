//! `cargo xtask build-ebpf`: the kernel programs, from source to `target/ebpf/*.o`.

use crate::{shell, toolchain};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The objects: the balancer's programs, and the benchmark's.
const OBJECTS: [&str; 2] = ["weir", "weir-bench"];

/// Where the objects go. proxy-userspace's build script looks here too.
pub fn folder() -> PathBuf {
    shell::root().join("target/ebpf")
}

/// Builds what changed; a few hundred milliseconds when nothing did.
///
/// # Errors
/// When there is no toolchain, or the programs don't compile.
pub fn run() -> Result<()> {
    let (compiler, linker) = toolchain::find()?;
    let mut cargo = compiler.program(&compiler.cargo, &linker);
    shell::run(cargo.arg("build").args(toolchain::KERNEL_BUILD))?;
    let built = shell::root()
        .join("target/ebpf-build")
        .join(toolchain::TARGET)
        .join("release");
    fs::create_dir_all(folder()).context("cannot create target/ebpf")?;
    for name in OBJECTS {
        let (from, to) = (built.join(name), folder().join(name).with_extension("o"));
        if from.is_file() {
            place(&from, &to)?;
        }
    }
    Ok(())
}

/// Copies when the contents differ: an untouched file keeps its time, so the daemon, which embeds
/// it, isn't built again.
fn place(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // Renamed into place: a build of the daemon going on at the same time never reads half of it.
    let half = to.with_extension("o.new");
    fs::write(&half, &new).with_context(|| format!("cannot write {}", half.display()))?;
    fs::rename(&half, to).with_context(|| format!("cannot write {}", to.display()))?;
    println!("{} ({} bytes)", to.display(), new.len());
    Ok(())
}
