//! What the L7 tests and benches talk to and through that Debian has no program for: a Python environment with
//! Envoy, gRPC and WebSocket, and Node's ws.

use super::{Apt, say};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

/// The variable by which tests and benches find what is installed here.
pub const VARIABLE: &str = "WEIR_TOOLS";

/// Where it is installed.
pub fn folder() -> PathBuf {
    shell::target().join("tools")
}

/// Debian's package of Node's WebSocket library, and where it is.
const NODE_WS: (&str, &str) = ("node-ws", "/usr/share/nodejs/ws/package.json");

/// Finds or installs both.
///
/// # Errors
/// When one is missing and can't be installed here: the message says what to do.
pub(super) fn run(apt: &mut Apt) -> Result<()> {
    node(apt)?;
    python(apt)
}

fn node(apt: &mut Apt) -> Result<()> {
    let (package, path) = NODE_WS;
    let mut state = "found";
    if !Path::new(path).is_file() {
        apt.install(&[package])?;
        state = "installed";
    }
    say(apt.show, "node: ws", state, path);
    Ok(())
}

/// The environment holds a copy of the requirements it was made from: while they are equal there is nothing to do.
fn python(apt: &mut Apt) -> Result<()> {
    let requirements = shell::root().join("tests/requirements.txt");
    let wanted =
        fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = folder().join("venv");
    let installed = venv.join("requirements.txt");
    let shown = venv.display().to_string();
    if fs::read(&installed).is_ok_and(|found| found == wanted) {
        say(apt.show, "python venv", "found", &shown);
        return Ok(());
    }
    if shell::output(&mut shell::command("python3", &["-c", "import ensurepip"])).is_err() {
        apt.install(&["python3-venv"])?;
    }
    println!("Envoy and the Python clients are installed into {shown}");
    // `--clear`: one that was left half made, or made from other requirements, is no ground to build on.
    shell::run(shell::command("python3", &["-m", "venv", "--clear"]).arg(&venv))?;
    let install = shell::run(
        shell::command(
            venv.join("bin/pip"),
            &["install", "--quiet", "--disable-pip-version-check"],
        )
        .args(["--only-binary", ":all:", "--no-deps", "--requirement"])
        .arg(&requirements)
        .stdin(Stdio::null()),
    );
    if install.is_err() {
        bail!(
            "pip could not install tests/requirements.txt: is PyPI (or the index that pip is configured with) \
             reachable? Then run `cargo xtask setup` again"
        );
    }
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    say(apt.show, "python venv", "installed", &shown);
    Ok(())
}
