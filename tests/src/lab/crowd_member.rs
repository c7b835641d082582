//! One connection of a crowd: what it sends next, and whether what comes is what must come.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes of an exchange, each way: less than a segment.
const EXCHANGE: usize = 512;

/// What a step led to.
pub enum Progress {
    /// Nothing to write down.
    None,
    /// An exchange is done; the next may begin.
    Round,
    /// Both ends are closed, in order.
    Ended,
}

/// A connection to an echo server that says its name first.
pub struct Connection {
    stream: Arc<TcpStream>,
    number: u64,
    round: u64,
    /// The server's line, so far.
    name: Vec<u8>,
    /// What was sent in this exchange, and how much of it has come back.
    sent: Vec<u8>,
    returned: usize,
    /// Since when an answer is due.
    waiting: Option<Instant>,
    /// To be ended as soon as the exchange is done.
    is_ending: bool,
}

impl Connection {
    /// A connection that was just opened; `number` goes into its bytes.
    pub fn new(stream: Arc<TcpStream>, number: u64) -> Self {
        Self {
            stream,
            number,
            round: 0,
            name: Vec::new(),
            sent: Vec::new(),
            returned: 0,
            waiting: None,
            is_ending: false,
        }
    }

    /// The name that the server said.
    pub fn server(&self) -> String {
        String::from_utf8_lossy(&self.name).trim_end().to_owned()
    }

    /// How long an answer has been waited for.
    pub fn waits_for(&self) -> Duration {
        self.waiting.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Begins an exchange.
    pub fn send(&mut self) -> io::Result<Progress> {
        if self.is_ending || self.waiting.is_some() {
            return Ok(Progress::None);
        }
        // Every exchange of every connection differs, so that bytes of another one or another time are noticed.
        let first = (self.number << 32 | self.round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let words = (0..EXCHANGE as u64 / 8).flat_map(|word| first.wrapping_add(word).to_le_bytes());
        self.sent = words.collect();
        self.returned = 0;
        self.waiting = Some(Instant::now());
        // Nothing else is in the socket's buffer, so that there is room for it whole.
        (&*self.stream).write_all(&self.sent)?;
        Ok(Progress::None)
    }

    /// Ends it, after the exchange that was begun.
    pub fn end(&mut self) -> io::Result<Progress> {
        self.is_ending = true;
        if self.waiting.is_none() {
            self.waiting = Some(Instant::now());
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(Progress::None)
    }

    /// Reads what has come and compares.
    pub fn receive(&mut self) -> io::Result<Progress> {
        let mut buffer = [0; 2 * EXCHANGE];
        let length = match (&*self.stream).read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::None),
            Err(error) => return Err(error),
        };
        let is_done = self.returned == self.sent.len();
        if length == 0 {
            return if self.is_ending && is_done {
                Ok(Progress::Ended)
            } else {
                Err(ErrorKind::UnexpectedEof.into())
            };
        }
        let mut came = &buffer[..length];
        if self.name.last() != Some(&b'\n') {
            let line = came
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(length, |at| at + 1);
            self.name.extend_from_slice(&came[..line]);
            came = &came[line..];
        }
        if came.is_empty() {
            return Ok(Progress::None);
        }
        if !self.sent[self.returned..].starts_with(came) {
            let message = format!("exchange {} came back changed", self.round);
            return Err(io::Error::other(message));
        }
        self.returned += came.len();
        if self.returned < self.sent.len() {
            return Ok(Progress::None);
        }
        self.round += 1;
        self.waiting = None;
        if self.is_ending {
            self.end()?;
        }
        Ok(Progress::Round)
    }
}
