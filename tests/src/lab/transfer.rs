//! Transfers with every byte checked: large ones by TCP, a datagram by socat, and one that any backend may answer.

use super::Host;
use anyhow::{Context, Result, ensure};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

/// Without a byte for so long a transfer has stalled.
const STALL: Duration = Duration::from_secs(10);

/// Longer than any transfer takes that doesn't live on retransmissions.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes in which every stretch differs from every other.
pub fn distinct_bytes(count: usize) -> Vec<u8> {
    let words = 0..count.div_ceil(8) as u64;
    // An odd factor, so that all words differ; this one spreads the bits.
    let bytes = words.flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes.take(count).collect()
}

/// Sends bytes to an echo server while reading what comes back, and compares.
///
/// # Errors
/// The connection breaks or stalls, or what comes back differs.
pub fn exchange(client: &Host, target: SocketAddr, bytes: &[u8]) -> Result<()> {
    let received = client.run(|| -> io::Result<Vec<u8>> {
        let stream = TcpStream::connect_timeout(&target, STALL)?;
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        let mut received = Vec::new();
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                (&stream).write_all(bytes)?;
                stream.shutdown(Shutdown::Write)
            });
            let started = Instant::now();
            let mut buffer = vec![0; 1 << 16];
            loop {
                let length = (&stream).read(&mut buffer)?;
                received.extend_from_slice(&buffer[..length]);
                if length == 0 {
                    break;
                }
                if started.elapsed() > LIMIT {
                    stream.shutdown(Shutdown::Both)?;
                    let count = received.len();
                    return Err(io::Error::other(format!("{count} bytes came back in {LIMIT:?}")));
                }
            }
            sending
                .join()
                .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        })?;
        Ok(received)
    })?;
    // In front stands the server's name.
    ensure!(
        received.ends_with(bytes),
        "{} of {} bytes came back",
        received.len(),
        bytes.len()
    );
    Ok(())
}

/// Sends a datagram with socat and compares the answer.
///
/// # Errors
/// There is no answer, or another.
pub fn expect_datagram(client: &Host, target: SocketAddr, text: &str, answer: &str) -> Result<()> {
    let kind = if target.is_ipv4() { "UDP4" } else { "UDP6" };
    let mut command = client.command("socat")?;
    // It ends when nothing has come for 10 s: UDP has no end of its own.
    command
        .args(["-T", "10", "-", &format!("{kind}:{target}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut socat = command.spawn().context("start socat")?;
    // Both were asked for. The input stays open, or socat would end before the answer.
    let (Some(mut input), Some(mut output)) = (socat.stdin.take(), socat.stdout.take()) else {
        unreachable!("socat's input and output are pipes")
    };
    let mut received = vec![0; answer.len()];
    let outcome = input
        .write_all(text.as_bytes())
        .and_then(|()| output.read_exact(&mut received));
    socat.kill()?;
    socat.wait()?;
    outcome.with_context(|| format!("no answer from {target} to socat on {}", client.name()))?;
    let received = String::from_utf8_lossy(&received);
    ensure!(
        received == answer,
        "{target} answered {received:?} instead of {answer:?} on {}",
        client.name()
    );
    Ok(())
}

/// Sends a datagram from a port of its own and has it answered by a backend of the topology, whichever gets it.
///
/// # Errors
/// There is no answer, or another.
pub fn expect_any_backend(client: &Host, target: SocketAddr, text: &str) -> Result<()> {
    let received = client.run(|| -> io::Result<String> {
        let any: IpAddr = if target.is_ipv4() {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.connect(target)?;
        socket.send(text.as_bytes())?;
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    let received = received.with_context(|| format!("no answer from {target} on {}", client.name()))?;
    ensure!(
        received.starts_with("backend-") && received.ends_with(&format!("\n{text}")),
        "{target} answered {received:?} on {}",
        client.name()
    );
    Ok(())
}
