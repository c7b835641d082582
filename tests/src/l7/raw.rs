//! A client that sends bytes as they are given, and reads responses of HTTP/1.1 strictly.

use super::{
    Answer, Site,
    answer::{parse_fields, parse_head},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// More than any answer takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// One connection.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// Connects.
    pub fn connect(site: &Site, address: SocketAddr) -> Result<Self> {
        Self::connect_patient(site, address, LIMIT)
    }

    /// Connects; reading fails after `patience` without a byte.
    pub fn connect_patient(site: &Site, address: SocketAddr, patience: Duration) -> Result<Self> {
        let stream = site
            .host()
            .run(|| TcpStream::connect(address))
            .with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends these bytes; a server that has closed already is no error here: what it answered tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Sends nothing more; answers can still come.
    pub fn finish(&mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Write);
    }

    /// Reads the next answer.
    pub fn answer(&mut self) -> Result<Answer> {
        self.answer_to("GET")
    }

    /// Reads the next answer, to a request of this method; 1xx before it are kept with it.
    pub fn answer_to(&mut self, method: &str) -> Result<Answer> {
        let mut informational = Vec::new();
        loop {
            let mut answer = parse_head(&self.head()?)?;
            if answer.status == 101 || !(100..200).contains(&answer.status) {
                self.body(method, &mut answer)?;
                answer.informational = informational;
                return Ok(answer);
            }
            informational.push((answer.status, answer.headers));
        }
    }

    /// Bytes of a tunnel.
    pub fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream
            .read_exact(&mut bytes)
            .context("read what comes through the tunnel")?;
        Ok(bytes)
    }

    /// Reads up to and with this text.
    pub fn until(&mut self, text: &str) -> Result<String> {
        let mut read = Vec::new();
        while !read.ends_with(text.as_bytes()) {
            let mut byte = [0];
            let count = self.stream.read(&mut byte);
            let count = count
                .with_context(|| format!("wait for {text:?} after {:?}", String::from_utf8_lossy(&read)))?;
            ensure!(
                count > 0,
                "the end instead of {text:?} after {:?}",
                String::from_utf8_lossy(&read)
            );
            read.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    /// Whether the server ends the connection now, without another byte.
    pub fn is_closed(&mut self) -> Result<bool> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(true),
            Ok(_) => Ok(false),
            // A reset is what a server's close becomes when it has not read all that was sent.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
            Err(error) => Err(error).context("wait for the end of the connection"),
        }
    }

    /// Whether the connection has ended, or ends while this waits.
    pub fn ended(&mut self) -> bool {
        self.is_closed().unwrap_or(false)
    }

    fn head(&mut self) -> Result<String> {
        let mut head = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() && !head.is_empty() {
                return Ok(head);
            }
            head.push_str(&line);
            head.push('\n');
        }
    }

    /// A line without its CRLF; a bare LF is an error.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).context("read a line")?;
        ensure!(!line.is_empty(), "the connection ended where a line was expected");
        let text = String::from_utf8_lossy(&line).into_owned();
        let text = text
            .strip_suffix("\r\n")
            .with_context(|| format!("a line without CRLF: {text:?}"))?;
        Ok(text.to_owned())
    }

    fn body(&mut self, method: &str, answer: &mut Answer) -> Result<()> {
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            return Ok(());
        }
        let chunked = answer
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if chunked {
            return self.chunks(answer);
        }
        match answer.header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => {
                answer.body = vec![0; length];
                self.stream.read_exact(&mut answer.body).context("read a body")?;
            }
            Some(Err(error)) => bail!("content-length is no number: {error}"),
            None => {
                self.stream
                    .read_to_end(&mut answer.body)
                    .context("read a body up to the end of the connection")?;
            }
        }
        Ok(())
    }

    fn chunks(&mut self, answer: &mut Answer) -> Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size =
                usize::from_str_radix(size, 16).with_context(|| format!("a chunk's size is `{line}`"))?;
            if size == 0 {
                break;
            }
            let begin = answer.body.len();
            answer.body.resize(begin + size, 0);
            self.stream
                .read_exact(&mut answer.body[begin..])
                .context("read a chunk")?;
            ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                answer.trailers = parse_fields(trailers.iter().map(String::as_str))?;
                return Ok(());
            }
            trailers.push(line);
        }
    }
}
