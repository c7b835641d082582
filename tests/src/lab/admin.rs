//! A client of the daemon's admin API, as small as HTTP over a UNIX socket can be.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where a daemon's admin API listens.
#[derive(Clone)]
pub struct Admin {
    socket: PathBuf,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// HTTP's status code.
    pub code: u16,
    /// The JSON in it.
    pub body: Value,
}

impl Admin {
    /// A client for this socket; connects with each request.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request, with a JSON body where there is one to send.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let what = || format!("{method} {path} on {}", self.socket.display());
        let mut stream = UnixStream::connect(&self.socket).with_context(what)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .with_context(what)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(what)?;
        parse(&answer).with_context(what)
    }

    /// The daemon's status.
    pub fn status(&self) -> Result<Value> {
        self.expect_success("GET", "/status", None)
    }

    /// A request that must succeed; returns the answer's body.
    pub fn expect_success(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.request(method, path, body)?;
        if !(200..300).contains(&answer.code) {
            bail!(
                "{method} {path} was answered with {}: {}",
                answer.code,
                answer.body
            );
        }
        Ok(answer.body)
    }
}

fn parse(answer: &str) -> Result<Answer> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without an end of its head")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        code: code.context("an answer without a status code")?,
        body: serde_json::from_str(body).with_context(|| format!("not JSON: {body}"))?,
    })
}
