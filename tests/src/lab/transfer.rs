//! Large transfers with every byte checked.

use super::Host;
use anyhow::{Result, ensure};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

/// Without a byte for so long a transfer has stalled.
const STALL: Duration = Duration::from_secs(10);

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
            (&stream).read_to_end(&mut received)?;
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
