//! The daemon's own log.

use super::{
    WEB,
    support::{Home, weir},
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

/// Killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already can't be killed.
        let _ended = self.0.kill();
        self.0.wait().unwrap();
    }
}

#[test]
fn every_line_is_an_object_where_that_is_asked_for() {
    let home = Home::new(WEB);
    let mut command = weir(&["run", "--no-kernel", "--log-format", "json"]);
    let child = command.arg(home.config()).stderr(Stdio::piped()).spawn().unwrap();
    let mut daemon = Running(child);
    let mut lines = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
    let said = loop {
        let line = lines
            .next()
            .expect("the daemon ended before it was ready")
            .unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(
            said["timestamp"].is_string() && said["target"].is_string(),
            "{line}"
        );
        if said["message"].as_str().unwrap().starts_with("ready: ") {
            break said;
        }
    };
    assert_eq!(said["level"], "INFO");
}

#[test]
fn another_form_is_refused_with_those_that_there_are() {
    let output = weir(&["run", "--log-format", "xml", "/nonexistent"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && error.contains("[possible values: text, json]"),
        "{error}"
    );
}
