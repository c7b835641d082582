//! Files gone: the config, the program, the admin socket. What runs goes on, says so, and takes what comes back.

use super::{Client, last_error, said, until};
use crate::support::{Daemon, Home, free_port, weir_on};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

fn config(home: &Home, listen: SocketAddr, body: &str) -> String {
    format!(
        "admin: {{ socket: {} }}\nlisteners:\n  - {{ name: web, address: \"{listen}\", routes: [{{ respond: {{ status: 200, body: {body} }} }}] }}\n",
        home.socket().display()
    )
}

/// Refuses what is there by all three ways, serves what it had, and takes the file that comes back by itself.
fn goes_on(what: &str, take_away: impl Fn(&Home)) {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    home.write(&config(&home, listen, "old"));
    let daemon = Daemon::start(&home);
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/"), Ok((200, "old".into())));
    let generation = daemon.status()["generation"].clone();

    take_away(&home);
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(code, 422, "{what}: {answer}");
    let path = home.config().display().to_string();
    assert!(
        answer["error"].as_str().unwrap().contains(&path),
        "{what}: {answer}"
    );
    daemon.signal("HUP");
    let names_it = |status: &Value| last_error(status).contains(&path);
    let status = daemon.status_when(what, names_it);
    assert_eq!(status["generation"], generation, "{what}");
    assert!(
        said(&daemon).starts_with("degraded: "),
        "{what}: {}",
        said(&daemon)
    );
    assert_eq!(client.get("/"), Ok((200, "old".into())), "{what}");
    assert_eq!(
        Client::connect(listen).get("/"),
        Ok((200, "old".into())),
        "{what}"
    );

    // A directory is not renamed over.
    if home.config().is_dir() {
        fs::remove_dir(home.config()).unwrap();
    }
    home.write(&config(&home, listen, "new"));
    daemon.status_when("it is taken", |status| status["last_error"].is_null());
    until("the new one", || {
        Client::connect(listen).get("/") == Ok((200, "new".into()))
    });
}

#[test]
fn a_config_that_is_deleted_changes_nothing() {
    goes_on("deleted", |home| fs::remove_file(home.config()).unwrap());
}

#[test]
fn a_config_that_is_emptied_changes_nothing() {
    goes_on("emptied", |home| fs::write(home.config(), "").unwrap());
    goes_on("only comments", |home| {
        fs::write(home.config(), "# listeners:\n").unwrap()
    });
}

#[test]
fn a_config_that_became_a_directory_or_a_broken_link_changes_nothing() {
    goes_on("a directory", |home| {
        fs::remove_file(home.config()).unwrap();
        fs::create_dir(home.config()).unwrap();
    });
    goes_on("a broken link", |home| {
        fs::remove_file(home.config()).unwrap();
        symlink("/nowhere/weir.yaml", home.config()).unwrap();
    });
    goes_on("no text", |home| {
        fs::write(home.config(), [0xff, 0xfe, 0]).unwrap()
    });
}

#[test]
fn an_admin_socket_that_was_removed_is_made_again() {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    home.write(&config(&home, listen, "here"));
    let daemon = Daemon::start(&home);
    fs::remove_file(home.socket()).unwrap();
    until("made again", || home.socket().exists());
    let mode = fs::metadata(home.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    until("it answers", || {
        weir_on(&home.socket(), &["status"]).status.success()
    });
    assert_eq!(daemon.status()["pid"], daemon.pid());
    // Another daemon doesn't take its place meanwhile: the lock is what counts.
    let second = crate::support::weir(&["run", "--no-kernel"])
        .arg(home.config())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("another weir is running"));
    // The next process is handed the new one.
    let upgraded = weir_on(&home.socket(), &["upgrade"]);
    assert!(
        upgraded.status.success(),
        "{}",
        String::from_utf8_lossy(&upgraded.stderr)
    );
    let heir = Heir(serde_json::from_value(daemon.status()["pid"].clone()).unwrap());
    assert_ne!(heir.0, daemon.pid());
    assert_eq!(Client::connect(listen).get("/"), Ok((200, "here".into())));
}

/// A process that took over; ended with the test.
struct Heir(u32);

impl Drop for Heir {
    fn drop(&mut self) {
        super::run("kill", &["-s", "TERM", &self.0.to_string()]);
    }
}

#[test]
fn an_upgrade_without_a_program_says_so_and_changes_nothing() {
    let home = Home::new("");
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    home.write(&config(&home, listen, "here"));
    let program = home.path().join("weir");
    // By another process: a program can't be started while it is open for writing, as it would be in whatever another test starts
    // at this moment.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_weir"))
        .arg(&program)
        .status()
        .unwrap();
    assert!(copied.success());
    let daemon = Daemon::start_as(&home, &program);
    fs::remove_file(&program).unwrap();
    let upgraded = weir_on(&home.socket(), &["upgrade"]);
    assert_eq!(upgraded.status.code(), Some(1));
    let error = String::from_utf8(upgraded.stderr).unwrap();
    let expected = format!("starting {}: No such file or directory", program.display());
    assert!(error.contains(&expected), "{error}");
    assert_eq!(daemon.status()["pid"], daemon.pid());
    assert_eq!(Client::connect(listen).get("/"), Ok((200, "here".into())));
    let (code, answer) = daemon.curl("POST", "/reload", None);
    assert_eq!(code, 200, "{answer}");
}
