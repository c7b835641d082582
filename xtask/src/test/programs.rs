//! All test programs, two at a time: most of them wait most of the time, for a daemon's start, a timer or a peer.

use super::{FEATURES, cargo_test, environment};
use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

/// How many run at a time.
const TOGETHER: usize = 2;

/// Those that take a minute or more, the longest first: one of them must not begin last.
const LONGEST: [&str; 8] = [
    "l7",
    "e2e_rollout",
    "packets",
    "e2e_upgrade",
    "e2e_lifecycle",
    "e2e_page",
    "e2e_direct",
    "daemon",
];

/// A program of tests.
struct Program {
    name: String,
    path: PathBuf,
    /// Its package's directory, which tests are run in.
    package: PathBuf,
}

/// Builds and runs all, and then the examples in documentation. What a program prints is shown when it has ended.
///
/// # Errors
/// When one can't be built, or a test fails.
pub fn run() -> Result<()> {
    let programs = build()?;
    let count = programs.len();
    let waiting = Mutex::new(VecDeque::from(programs));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..TOGETHER.min(count) {
            scope.spawn(|| {
                while let Some(program) = locked(&waiting).pop_front() {
                    if let Err(error) = program.run() {
                        println!("{}: {error:#}", program.name);
                        locked(&failed).push(program.name);
                    }
                }
            });
        }
    });
    let mut examples = cargo_test();
    environment(examples.args(FEATURES).args(["--doc", "--quiet"]));
    if shell::run(&mut examples).is_err() {
        locked(&failed).push("the examples in documentation".to_owned());
    }
    let failed = locked(&failed);
    ensure!(failed.is_empty(), "tests failed in {}", failed.join(", "));
    println!("all tests of {count} programs passed");
    Ok(())
}

/// A panic of another thread ends this run anyway.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One cargo for all packages: features are then resolved once, and nothing is built twice.
fn build() -> Result<Vec<Program>> {
    let mut cargo = cargo_test();
    cargo
        .args(FEATURES)
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    environment(&mut cargo);
    let output = cargo.output().context("cannot start cargo test")?;
    if !output.status.success() {
        bail!("cargo test --no-run failed: {}", output.status);
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut programs = said.lines().filter_map(program).collect::<Vec<_>>();
    for name in LONGEST {
        ensure!(
            programs.iter().any(|program| program.name == name),
            "no test program is called {name} any longer: xtask/src/test/programs.rs"
        );
    }
    let place = |program: &Program| LONGEST.iter().position(|name| *name == program.name);
    programs.sort_by_key(|program| place(program).unwrap_or(LONGEST.len()));
    Ok(programs)
}

/// What a message of cargo says of a test program, if it is about one (the cargo book, "External tools").
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
        package: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
    })
}

impl Program {
    fn run(&self) -> Result<()> {
        let begin = Instant::now();
        let log = self.path.with_extension("log");
        let output = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut command = Command::new(&self.path);
        environment(&mut command);
        let status = command
            .current_dir(&self.package)
            .env("CARGO_MANIFEST_DIR", &self.package)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status();
        let status = status.with_context(|| format!("start {}", self.path.display()))?;
        let printed = fs::read(&log)?;
        let mut out = io::stdout().lock();
        writeln!(out, "\n{} ({} s)", self.name, begin.elapsed().as_secs())?;
        out.write_all(&printed)?;
        ensure!(status.success(), "ended with {status}");
        Ok(())
    }
}
