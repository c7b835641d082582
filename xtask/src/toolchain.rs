//! The compiler and the linker for the kernel programs: which there are, and which fit together.

use crate::shell;
use anyhow::{Result, bail};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The target the kernel programs are built for.
pub const TARGET: &str = "bpfel-unknown-none";

/// The oldest compiler that will do, as the workspace says.
pub const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// What to build, and how, for cargo and for clippy alike.
pub const KERNEL_BUILD: [&str; 9] = [
    "--quiet",
    "--package=proxy-ebpf",
    "--bins",
    "--release",
    "-Z",
    "build-std=core",
    "--target",
    TARGET,
    "--target-dir=target/ebpf-build",
];

/// A Rust compiler that can build `core` for BPF: it takes unstable options and has the sources.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Where it is from, for messages.
    pub name: &'static str,
    /// `rustc`.
    pub rustc: PathBuf,
    /// `cargo` of the same release.
    pub cargo: PathBuf,
    /// Major version of its LLVM: the linker reads its bitcode and must not be older.
    pub llvm: u32,
}

/// bpf-linker.
#[derive(Clone, Debug)]
pub struct Linker {
    /// The program.
    pub path: PathBuf,
    /// Major version of the LLVM it is linked to; none when it holds its own.
    pub llvm: Option<u32>,
}

/// Every compiler that would do, in the order of preference: rustup's nightly with the component
/// rust-src, then Debian's rustc-web.
pub fn compilers() -> Vec<Compiler> {
    let nightly = rustup_nightly().and_then(|bin| compiler("rustup nightly", &bin));
    let debian = compiler("Debian rustc-web", Path::new("/usr/bin"));
    nightly.into_iter().chain(debian).collect()
}

/// The installed bpf-linker, if it runs.
pub fn linker() -> Option<Linker> {
    let path = shell::find("bpf-linker")?;
    let libraries = shell::output(&mut shell::command("ldd", &[&path])).unwrap_or_default();
    if libraries
        .lines()
        .any(|line| line.contains("libLLVM") && line.contains("not found"))
    {
        return None;
    }
    let llvm = libraries.split("libLLVM").nth(1).and_then(first_number);
    Some(Linker { path, llvm })
}

/// The first compiler whose bitcode the installed linker can read.
///
/// # Errors
/// When one of the two is missing, or they don't fit.
pub fn find() -> Result<(Compiler, Linker)> {
    let compilers = compilers();
    if compilers.is_empty() {
        bail!("no compiler for the kernel programs; run `cargo xtask setup`");
    }
    let Some(linker) = linker() else {
        bail!("bpf-linker is missing or doesn't start; run `cargo xtask setup`");
    };
    match compilers.iter().find(|compiler| fits(compiler, &linker)) {
        Some(compiler) => Ok((compiler.clone(), linker)),
        None => bail!(
            "bpf-linker's LLVM {} is older than the compiler's ({}: {}); run `cargo xtask setup`",
            linker.llvm.unwrap_or_default(),
            compilers[0].name,
            compilers[0].llvm
        ),
    }
}

/// Whether the linker can read what the compiler writes.
pub fn fits(compiler: &Compiler, linker: &Linker) -> bool {
    linker.llvm.is_none_or(|llvm| llvm >= compiler.llvm)
}

impl Compiler {
    /// A program of this compiler's release (its cargo, or cargo-clippy), in the workspace's root,
    /// for the kernel crate: nothing of the host build's flags, profile or toolchain reaches it.
    pub fn program(&self, program: &Path, linker: &Linker) -> Command {
        let mut command = Command::new(program);
        command.current_dir(shell::root());
        shell::forget_package(&mut command);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let leaks = ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_", "RUSTC"]
                .iter()
                .any(|prefix| text.starts_with(prefix));
            if leaks
                || [
                    "CARGO",
                    "RUSTFLAGS",
                    "CARGO_ENCODED_RUSTFLAGS",
                    "RUSTUP_TOOLCHAIN",
                ]
                .contains(&&*text)
            {
                command.env_remove(&name);
            }
        }
        command
            .env("CARGO", &self.cargo)
            .env("RUSTC", &self.rustc)
            // Lets a released compiler take -Z build-std; a nightly ignores it.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", flags(linker))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            // bpf-linker optimises the whole program by itself.
            .env("CARGO_PROFILE_RELEASE_LTO", "off");
        command
    }
}

/// Flags of the kernel build: BTF is made from debug information, and maps need it for their types. Without the last argument bpf-linker
/// has LLVM call memset for three bytes of padding too, a loop of a round a byte, which costs packets time and the verifier more.
fn flags(linker: &Linker) -> String {
    format!(
        "-C debuginfo=2 -C linker={} -C link-arg=--btf -C link-arg=--disable-expand-memcpy-in-order",
        linker.path.display()
    )
}

/// The folder of a toolchain's programs, if it has the sources of `core`.
fn compiler(name: &'static str, bin: &Path) -> Option<Compiler> {
    let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
    let sources = bin.parent()?.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !cargo.is_file() || !sources.is_file() {
        return None;
    }
    let version = shell::output(Command::new(&rustc).arg("-vV").env_remove("LD_LIBRARY_PATH")).ok()?;
    let llvm = version.split("LLVM version:").nth(1).and_then(first_number)?;
    let release = version.split("release:").nth(1)?;
    (minor(release)? >= minor(OLDEST)?).then_some(Compiler {
        name,
        rustc,
        cargo,
        llvm,
    })
}

/// The second number of a release such as 1.95.0: the first has been 1 since 2015.
fn minor(release: &str) -> Option<u32> {
    first_number(release.split('.').nth(1)?)
}

/// The folder of the nightly's own programs, not of rustup's stand-ins for them.
fn rustup_nightly() -> Option<PathBuf> {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or("/root".into())).join(".rustup");
    let toolchains = env::var_os("RUSTUP_HOME")
        .map_or_else(home, PathBuf::from)
        .join("toolchains");
    let nightly = format!("nightly-{}-unknown-linux-gnu", env::consts::ARCH);
    Some(toolchains.join(nightly).join("bin")).filter(|bin| bin.is_dir())
}

/// The first run of digits in a text.
fn first_number(text: &str) -> Option<u32> {
    text.split(|character: char| !character.is_ascii_digit())
        .find(|digits| !digits.is_empty())?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(minor(" 1.96.0\nLLVM version: 22.1.8\n"), Some(96));
        assert_eq!(minor("1.97.0-nightly"), Some(97));
        assert_eq!(minor("1"), None);
        assert_eq!(first_number(".so.22.1 => /usr/lib/llvm-22"), Some(22));
    }
}
