//! The README's L7 lines, as they are typed, against `weir run config/example.yaml --no-kernel` of an ordinary user.

use anyhow::{Context, Result, ensure};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use weir_tests::{
    l7::venv_program,
    lab::{Finished, Host, Lab, Process, until, weir_binary},
};

/// What stands before and after the lines in README.md; neither is shown.
const MARKS: [&str; 2] = ["<!-- lines of tests/tests/l7/readme.rs -->", "<!-- end -->"];

/// The daemon's line; it runs as this user (Debian's `nobody`).
const DAEMON: &str = "target/release/weir run config/example.yaml --no-kernel";
const NOBODY: &str = "65534";

/// What a line prints, by what is in the line.
const PRINTED: [(&str, &str); 6] = [
    ("/healthz", "ok\n"),
    ("--data", "\"body\":\"hello\""),
    ("http://", "301"),
    ("h2load", "10000 succeeded, 0 failed"),
    ("websockets", "hello"),
    ("grpc_client.py", ""),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn lines() -> Result<Vec<String>> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let (_, rest) = readme.split_once(MARKS[0]).context("no mark in README.md")?;
    let (block, _) = rest.split_once(MARKS[1]).context("no end mark in README.md")?;
    let indented = block.lines().filter_map(|line| line.strip_prefix("    "));
    Ok(indented.map(|line| line.trim().to_owned()).collect())
}

/// A shell line on a host, with the Python of the tests first in PATH.
fn shell(host: &Host, line: &str) -> Result<Command> {
    let python = venv_program("python")?;
    let folder = python.parent().context("a folder")?;
    let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap_or_default());
    let mut command = host.command("bash")?;
    command.args(["-euo", "pipefail", "-c", line]).current_dir(root());
    command.env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// The daemon's line by `nobody`, who may not look into this workspace: with a copy of what the line names.
fn start_daemon(lab: &Lab, host: &Host) -> Result<Process> {
    let home = lab.directory().join("home");
    for folder in ["target/release", "config"] {
        fs::create_dir_all(home.join(folder))?;
    }
    // By another process: what is open for writing can't be started, and another test's child may have it open for a moment.
    let copied = Command::new("cp")
        .arg(weir_binary()?)
        .arg(home.join("target/release/weir"))
        .status()?;
    ensure!(copied.success(), "cp: {copied}");
    fs::copy(
        root().join("config/example.yaml"),
        home.join("config/example.yaml"),
    )?;
    let runtime = home.join("run");
    fs::create_dir(&runtime)?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o777))?;
    let mut command = host.command("setpriv")?;
    command
        .args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "--no-new-privs",
            "--inh-caps=-all",
        ])
        .args(["--bounding-set=-all", "--"])
        .args(DAEMON.split(' '))
        .current_dir(&home)
        .env("TMPDIR", &runtime)
        .env_remove("XDG_RUNTIME_DIR");
    host.spawn(&mut command)
}

/// The ports are those of the example, so this has a host of its own.
#[test]
fn the_lines_of_the_readme_work() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("readme")?;
    let lines = lines()?;
    ensure!(
        lines.iter().any(|line| line.starts_with(DAEMON)),
        "README.md starts the daemon by `{DAEMON}`"
    );
    let mut running = Vec::new();
    for line in &lines {
        if line.starts_with(DAEMON) {
            running.push(start_daemon(&lab, &host)?);
        } else if let Some(server) = line.strip_suffix(" &") {
            running.push(host.spawn(&mut shell(&host, server)?)?);
        }
    }
    for port in [3000, 50051, 8080, 8443] {
        let connect = || host.run(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        until(
            &format!("port {port}"),
            std::time::Duration::from_secs(60),
            || connect().then_some(()),
        )
        .with_context(|| running.iter().map(Process::output).collect::<String>())?;
    }
    let mut clients = 0;
    for line in lines
        .iter()
        .filter(|line| !line.ends_with(" &") && !line.starts_with("export "))
    {
        let typed = line.split("  #").next().unwrap_or_default();
        let line = if typed.contains("websockets") {
            typed_until_answered(&lab, typed)
        } else {
            typed.to_owned()
        };
        let output = Finished::run(&mut shell(&host, &line)?, "hello\n")?.success()?;
        let wanted = PRINTED.iter().find(|(part, _)| typed.contains(part));
        let (_, wanted) = wanted.with_context(|| format!("what `{typed}` prints is not known here"))?;
        ensure!(output.contains(wanted), "`{typed}` printed {output}");
        clients += 1;
    }
    ensure!(clients >= PRINTED.len(), "README.md has {clients} lines only");
    // Its ordinary user has no privileges at all.
    let status = fs::read_to_string(format!("/proc/{}/status", running_daemon(&running)?))?;
    ensure!(status.contains("CapEff:\t0000000000000000"), "{status}");
    Ok(())
}

/// A line that is typed to until what was typed has come back: the client leaves with its input's end, answered or not.
fn typed_until_answered(lab: &Lab, typed: &str) -> String {
    let seen = lab.directory().join("seen");
    let seen = seen.display();
    format!(
        "mkfifo {seen}; {{ echo hello; read -r _ < {seen}; }} | {typed} | tee >(grep --max-count=1 hello > {seen}; cat > /dev/null)"
    )
}

/// The one whose program is weir.
fn running_daemon(running: &[Process]) -> Result<u32> {
    let is_weir =
        |id: &u32| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "weir");
    running
        .iter()
        .map(Process::id)
        .find(is_weir)
        .context("the daemon runs")
}
