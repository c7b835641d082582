//! `cargo xtask setup`: finds or installs what building, the demo, the tests and the benches need.

pub mod peers;

use crate::{
    shell,
    toolchain::{self, Compiler},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

/// Programs and the Debian packages that hold them.
const PROGRAMS: [(&str, &str); 32] = [
    ("bpftool", "bpftool"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("xdp-loader", "xdp-tools"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("iperf3", "iperf3"),
    ("curl", "curl"),
    ("tcpdump", "tcpdump"),
    ("gzip", "gzip"),
    ("tmux", "tmux"),
    ("ping", "iputils-ping"),
    ("socat", "socat"),
    ("wrk", "wrk"),
    ("dnsmasq", "dnsmasq-base"),
    ("faketime", "faketime"),
    ("h2load", "nghttp2-client"),
    ("nghttp", "nghttp2-client"),
    ("nghttpd", "nghttp2-server"),
    ("haproxy", "haproxy"),
    ("openssl", "openssl"),
    ("node", "nodejs"),
    ("python3", "python3"),
    ("setpriv", "util-linux"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    // The container image, and containers as Kubernetes makes them.
    ("buildah", "buildah"),
    ("crun", "crun"),
    ("systemd-analyze", "systemd"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    // Builds bpf-linker, which links C++.
    ("g++", "g++"),
];

/// Debian's Rust that is new enough for aya, and its sources, from which `core` is built for BPF.
const COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A clippy of the same release, for `cargo xtask check`.
const CLIPPY: &str = "rust-web-clippy";

/// The linker's release, and the LLVMs it can be built with.
const LINKER_VERSION: &str = "0.13.0";
const LINKER_LLVMS: std::ops::RangeInclusive<u32> = 21..=23;

/// What is printed: a line for every item, or for those alone that weren't there.
#[derive(Clone, Copy, PartialEq)]
pub enum Show {
    /// All items.
    All,
    /// What was installed or is missing.
    News,
}

/// Finds or installs everything.
///
/// # Errors
/// When something is missing and can't be installed here: the message says what to do.
pub fn run(show: Show) -> Result<()> {
    let mut apt = Apt::new(show);
    programs(&mut apt)?;
    peers::run(&mut apt)?;
    let compiler = compiler(&mut apt)?;
    clippy(&mut apt, &compiler)?;
    linker(&mut apt, &compiler)?;
    bpf_filesystem(show)
}

/// One line about one item.
fn say(show: Show, item: &str, state: &str, detail: &str) {
    if show == Show::All || state != "found" {
        println!("{item:<12} {state:<10} {detail}");
    }
}

fn programs(apt: &mut Apt) -> Result<()> {
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| shell::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    apt.install(&missing)?;
    for (program, package) in PROGRAMS {
        let Some(path) = shell::find(program) else {
            bail!("package {package} is installed, but there is no {program}");
        };
        let state = if missing.contains(&package) {
            "installed"
        } else {
            "found"
        };
        say(apt.show, program, state, &path.display().to_string());
    }
    Ok(())
}

/// The compiler for the kernel programs: whichever is there and fits the linker that is there,
/// else Debian's, else (Ubuntu has no rustc-web) a nightly by rustup.
fn compiler(apt: &mut Apt) -> Result<Compiler> {
    let found = toolchain::find().ok().map(|(compiler, _)| compiler);
    if let Some(compiler) = found.or_else(|| toolchain::compilers().into_iter().find(supported)) {
        say(apt.show, "rustc (BPF)", "found", &described(&compiler));
        return Ok(compiler);
    }
    // Debian keeps an older one beside it, and its newer one is in the security archive: lists that
    // were never updated know the older one alone.
    if apt.has(COMPILER[0], Some(toolchain::OLDEST))? {
        apt.install(&COMPILER)?;
    } else if let Some(rustup) = shell::find("rustup") {
        shell::run(Command::new(rustup).args([
            "toolchain",
            "install",
            "nightly",
            "--profile=minimal",
            "--component=rust-src,clippy",
        ]))?;
    }
    match toolchain::compilers().into_iter().find(supported) {
        Some(compiler) => {
            say(apt.show, "rustc (BPF)", "installed", &described(&compiler));
            Ok(compiler)
        }
        None => bail!(
            "no compiler for the kernel programs: install rustup (https://rustup.rs), then run \
             `rustup toolchain install nightly --component rust-src` and `cargo xtask setup` again"
        ),
    }
}

/// Whether a bpf-linker can be had for the compiler's LLVM.
fn supported(compiler: &Compiler) -> bool {
    LINKER_LLVMS.contains(&compiler.llvm)
}

fn described(compiler: &Compiler) -> String {
    format!(
        "{}, LLVM {}, {}",
        compiler.name,
        compiler.llvm,
        compiler.rustc.display()
    )
}

/// Clippy must be of the compiler's own release.
fn clippy(apt: &mut Apt, compiler: &Compiler) -> Result<()> {
    let driver = compiler.rustc.with_file_name("clippy-driver");
    let mut state = "found";
    if !driver.is_file() {
        state = "installed";
        if compiler.rustc.starts_with("/usr/bin") {
            apt.install(&[CLIPPY])?;
        } else if let Some(rustup) = shell::find("rustup") {
            shell::run(Command::new(rustup).args(["component", "add", "clippy", "--toolchain=nightly"]))?;
        }
    }
    say(apt.show, "clippy (BPF)", state, &driver.display().to_string());
    Ok(())
}

/// bpf-linker, with an LLVM not older than the compiler's.
fn linker(apt: &mut Apt, compiler: &Compiler) -> Result<()> {
    if let Some(linker) = toolchain::linker()
        && toolchain::fits(compiler, &linker)
    {
        let llvm = linker
            .llvm
            .map_or("its own LLVM".into(), |major| format!("LLVM {major}"));
        say(
            apt.show,
            "bpf-linker",
            "found",
            &format!("{llvm}, {}", linker.path.display()),
        );
        return Ok(());
    }
    let llvm = compiler.llvm;
    apt.install(&[&format!("llvm-{llvm}-dev")])?;
    println!("bpf-linker {LINKER_VERSION} is built, which takes a minute or two");
    shell::run(
        shell::cargo()
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))
            .args([
                "install",
                "bpf-linker",
                "--version",
                LINKER_VERSION,
                "--locked",
                "--force",
            ])
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}")]),
    )?;
    match toolchain::linker() {
        Some(linker) => say(
            apt.show,
            "bpf-linker",
            "installed",
            &linker.path.display().to_string(),
        ),
        None => bail!("bpf-linker was installed but doesn't start; `ldd` on it says what it lacks"),
    }
    Ok(())
}

/// Maps and links are pinned on a bpffs; most systems mount it at boot.
fn bpf_filesystem(show: Show) -> Result<()> {
    const PATH: &str = "/sys/fs/bpf";
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some(PATH)) {
        say(show, "bpffs", "found", PATH);
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || !Path::new(PATH).is_dir() {
        say(
            show,
            "bpffs",
            "missing",
            &format!("run `sudo mount -t bpf bpf {PATH}` before Weir forwards packets"),
        );
        return Ok(());
    }
    shell::run(&mut shell::command("mount", &["-t", "bpf", "bpf", PATH]))?;
    say(show, "bpffs", "mounted", PATH);
    Ok(())
}

/// The package manager, asked only when something is missing.
pub struct Apt {
    /// Whether the package lists were fetched in this run.
    updated: bool,
    show: Show,
}

impl Apt {
    /// Asks nothing yet.
    pub fn new(show: Show) -> Self {
        Self { updated: false, show }
    }

    /// Installs packages, fetching the package lists when they don't know one of them.
    ///
    /// # Errors
    /// When there is no such package, or this is not a system or user that can install it.
    pub fn install(&mut self, packages: &[&str]) -> Result<()> {
        if packages.is_empty() {
            return Ok(());
        }
        self.check_system(packages)?;
        for package in packages {
            if !self.has(package, None)? {
                bail!("package {package} is not to be had from this system's apt sources");
            }
        }
        if self.install_now(packages).is_err() && !self.updated {
            // Lists that are old name files the mirror no longer has.
            self.update()?;
            self.install_now(packages)?;
        }
        Ok(())
    }

    /// Whether there is such a package to install, of a version that is not older.
    fn has(&mut self, package: &str, oldest: Option<&str>) -> Result<bool> {
        self.check_system(&[package])?;
        if has_candidate(package, oldest) {
            return Ok(true);
        }
        if self.updated {
            return Ok(false);
        }
        self.update()?;
        Ok(has_candidate(package, oldest))
    }

    fn update(&mut self) -> Result<()> {
        self.updated = true;
        shell::run(&mut shell::command("apt-get", &["update", "-qq"]))
    }

    fn install_now(&self, packages: &[&str]) -> Result<()> {
        println!("apt-get install {}", packages.join(" "));
        let _quiet = NoServices::new();
        shell::run(
            shell::command("apt-get", &["install", "-y", "-qq", "--no-install-recommends"])
                .args(packages)
                // What it unpacks is not news; what goes wrong is said on standard error.
                .stdout(Stdio::null())
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    }

    /// Stops where installing is not for us to do, and says what to install.
    fn check_system(&self, packages: &[&str]) -> Result<()> {
        let packages = packages.join(" ");
        if shell::find("apt-get").is_none() {
            bail!(
                "this is not Debian or Ubuntu: install by hand what these Debian packages hold: {packages}"
            );
        }
        if !rustix::process::geteuid().is_root() {
            bail!("installing needs root: sudo apt-get install {packages}");
        }
        Ok(())
    }
}

/// While it lives, packages don't start the services they bring: the tests start nginx themselves,
/// in namespaces, and a machine should not get a web server from a build. (policy-rc.d is the
/// interface that Debian's invoke-rc.d and deb-systemd-invoke ask; 101 forbids the action.)
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    /// Leaves a policy that is already there alone.
    fn new() -> Self {
        let is_ours = !Path::new(Self::PATH).exists()
            && fs::write(Self::PATH, "#!/bin/sh\nexit 101\n").is_ok()
            && fs::set_permissions(Self::PATH, fs::Permissions::from_mode(0o755)).is_ok();
        Self { is_ours }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            // Nothing to be done about an error here, and the next package installed would tell.
            let _ = fs::remove_file(Self::PATH);
        }
    }
}

/// Whether apt's lists hold a version that can be installed and is not older.
fn has_candidate(package: &str, oldest: Option<&str>) -> bool {
    let policy = shell::output(&mut shell::command("apt-cache", &["policy", package])).unwrap_or_default();
    let candidate = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "));
    match (candidate, oldest) {
        (None | Some("(none)"), _) => false,
        (Some(_), None) => true,
        (Some(version), Some(oldest)) => shell::output(&mut shell::command(
            "dpkg",
            &["--compare-versions", version, "ge", oldest],
        ))
        .is_ok(),
    }
}
