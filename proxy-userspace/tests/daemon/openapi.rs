//! The OpenAPI document, and whether the daemon does as it says: checked by others' tools.

use super::{
    WEB,
    support::{Daemon, Home, free_port, text, weir as weir_command},
};
use serde_json::Value;
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

const TOKEN: &str = "a-token-of-schemathesis";

/// A program of the Python environment that `cargo xtask setup` makes.
fn venv_program(name: &str) -> PathBuf {
    let tools = env::var_os("WEIR_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
        PathBuf::from,
    );
    let program = tools.join("venv/bin").join(name);
    assert!(
        program.is_file(),
        "{} is missing: run `cargo xtask setup`",
        program.display()
    );
    program
}

#[test]
fn the_document_is_valid_and_the_daemon_answers_what_the_command_prints() {
    let home = Home::new(WEB);
    let daemon = Daemon::start(&home);
    let printed = weir_command(&["schema", "--openapi"]).output().unwrap();
    let file = home.config().with_file_name("openapi.json");
    fs::write(&file, &printed.stdout).unwrap();
    let checked = Command::new(venv_program("python"))
        .args(["-m", "openapi_spec_validator", "--schema", "3.1"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}{}",
        text(&checked.stdout),
        text(&checked.stderr)
    );
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(daemon.curl("GET", "/openapi.json", None), (200, printed));
}

/// How many the document has.
fn openapi_operations() -> usize {
    let document = weir::admin::openapi();
    let paths = document["paths"].as_object().unwrap();
    paths
        .values()
        .map(|of_path| of_path.as_object().unwrap().len())
        .sum()
}

/// schemathesis makes requests from the document, right ones and wrong ones, always the same with one seed, and holds every
/// answer against it.
#[test]
fn schemathesis_finds_no_server_error_and_no_answer_that_is_not_described() {
    let home = Home::new("");
    let port = free_port();
    let token = home.config().with_file_name("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    home.write(&format!(
        "admin: {{ socket: {}, address: 127.0.0.1:{port}, tokens: [{{ name: schemathesis, file: token }}] }}
listeners:
  - {{ name: vip, address: \"192.0.2.10:80\", forward: {{ cluster: web }} }}
  - {{ name: site, address: 127.0.0.1:{}, tls: {{ self_signed: true }}, routes: [{{ cluster: web }}] }}
clusters:\n{WEB}",
        home.socket().display(),
        free_port(),
    ));
    let daemon = Daemon::start(&home);
    let url = format!("http://127.0.0.1:{port}");
    let run = Command::new(venv_program("schemathesis"))
        .args(["run", &format!("{url}/openapi.json"), "--url", &url])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args([
            "--seed",
            "1",
            "--max-examples",
            "20",
            "--workers",
            "1",
            "--no-color",
        ])
        // Patterns of addresses take more than addresses, such as 999.0.0.0:0, and a filter is more than a text.
        .args(["--exclude-checks", "positive_data_acceptance"])
        // It would end the daemon.
        .args(["--exclude-operation-id", "drain"])
        // A slow machine is no finding.
        .args(["--request-timeout", "60", "--suppress-health-check", "all"])
        // Data of its own elsewhere, so that nothing of earlier runs plays a part.
        .current_dir(home.config().parent().unwrap())
        .env(
            "HYPOTHESIS_STORAGE_DIRECTORY",
            home.config().with_file_name("hypothesis"),
        )
        .output()
        .unwrap();
    let said = text(&run.stdout);
    assert!(run.status.success(), "{said}{}", text(&run.stderr));
    // All but the document itself, and the drain.
    let operations = openapi_operations() - 2;
    assert!(said.contains(&format!("Tested: {operations}")), "{said}");
    assert_eq!(daemon.status()["pid"], daemon.pid());
}
