//! curl, and Node's client of HTTP/2, with what they got.

use super::{Answer, Site, answer::parse_head, script};
use crate::lab::Finished;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Debug;

/// A curl command.
pub struct Curl<'a> {
    site: &'a Site,
    arguments: Vec<String>,
}

impl<'a> Curl<'a> {
    /// For this URL.
    pub fn new(site: &'a Site, url: &str) -> Self {
        let arguments = [
            "--silent",
            "--show-error",
            "--include",
            "--max-time",
            "120",
            "--path-as-is",
            url,
        ];
        Self {
            site,
            arguments: arguments.map(str::to_owned).to_vec(),
        }
    }

    /// More arguments, split at spaces.
    pub fn with(mut self, arguments: &str) -> Self {
        self.arguments
            .extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// One more argument, spaces and all.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A request header.
    pub fn header(self, line: &str) -> Self {
        self.arg("--header").arg(line)
    }

    /// Runs it, whatever comes of it.
    pub fn run(&self) -> Result<Finished> {
        let mut command = self.site.host().command("curl")?;
        Finished::run(command.args(&self.arguments).current_dir(self.site.folder()), "")
    }

    /// Runs it, and reads what it got. Bodies must be text.
    pub fn answer(&self) -> Result<Answer> {
        let finished = self.run()?;
        let command = finished.command.clone();
        read(&finished.success()?).with_context(|| format!("what {command} printed"))
    }
}

/// Reads what curl prints with `--include`: every head, then the body.
fn read(output: &str) -> Result<Answer> {
    let mut rest = output;
    let mut informational = Vec::new();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").context("no end of the head")?;
        let mut answer = parse_head(head)?;
        if answer.status == 101 || answer.status >= 200 {
            answer.informational = informational;
            answer.body = body.as_bytes().to_vec();
            return Ok(answer);
        }
        informational.push((answer.status, answer.headers));
        rest = body;
    }
}

/// One request by Node's client of HTTP/2: `request` and the result are described in h2_client.mjs.
pub fn h2_request(site: &Site, request: &Value) -> Result<Value> {
    let mut command = script(site, "h2_client.mjs")?;
    let output = Finished::run(command.arg(request.to_string()), "")?.success()?;
    serde_json::from_str(&output).with_context(|| shown("h2_client.mjs printed", &output))
}

fn shown(what: &str, value: &impl Debug) -> String {
    format!("{what} {value:?}")
}
