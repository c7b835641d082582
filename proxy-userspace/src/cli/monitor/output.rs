//! Sightings as lines, as JSON, and as a pcap file.

use super::{
    pcap::Pcap,
    sighting::{ServiceSeen, Sighting},
};
use anyhow::{Context, bail};
use proxy_common::events::{Event, EventKind, SNAPSHOT};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Where events are shown.
pub(super) struct Output {
    lines: Lines,
    pcap: Option<(Pcap, PathBuf)>,
    buffer: Vec<u8>,
    shown: u64,
}

/// What standard output gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    Text,
    Json,
    /// The pcap file is there.
    None,
}

impl Output {
    /// # Errors
    /// The file can't be written, or standard output would get two things.
    pub(super) fn new(json: bool, pcap: Option<&Path>) -> anyhow::Result<Self> {
        let is_stdout = pcap == Some(Path::new("-"));
        let lines = match (json, is_stdout) {
            (true, true) => {
                bail!("standard output can't get both; name a file for --pcap, or leave out --json")
            }
            (true, false) => Lines::Json,
            (false, true) => Lines::None,
            (false, false) => Lines::Text,
        };
        let create = |path: &Path| -> anyhow::Result<_> {
            let pcap = Pcap::create(path, SNAPSHOT).with_context(|| format!("writing {}", path.display()))?;
            Ok((pcap, path.to_owned()))
        };
        Ok(Self {
            lines,
            pcap: pcap.map(create).transpose()?,
            buffer: Vec::new(),
            shown: 0,
        })
    }

    /// Shows one; it may stay in memory until [`Output::flush`].
    pub(super) fn show(&mut self, sighting: &Sighting, event: &Event) -> anyhow::Result<()> {
        self.shown += 1;
        match self.lines {
            Lines::Text => self.buffer.extend(line(sighting).as_bytes()),
            Lines::Json => self.buffer.extend(json(sighting)?.as_bytes()),
            Lines::None => {}
        }
        if self.lines != Lines::None {
            self.buffer.push(b'\n');
        }
        if let Some((pcap, path)) = &mut self.pcap {
            let captured = usize::from(event.captured).min(event.frame.len());
            named(
                pcap.write(sighting.time, &event.frame[..captured], event.length),
                path,
            )?;
        }
        Ok(())
    }

    /// Hands on what was shown.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        if !self.buffer.is_empty() {
            let mut output = io::stdout().lock();
            output.write_all(&self.buffer)?;
            output.flush()?;
            self.buffer.clear();
        }
        if let Some((pcap, path)) = &mut self.pcap {
            named(pcap.flush(), path)?;
        }
        Ok(())
    }

    /// How many.
    pub(super) fn shown(&self) -> u64 {
        self.shown
    }
}

/// An error names the file, but for a pipe that nobody reads, which is none.
fn named(outcome: io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).with_context(|| format!("writing {}", path.display()))
        }
        outcome => Ok(outcome?),
    }
}

/// Columns: time, what, protocol, from and to, why or where to, service, interface, bytes of the frame.
fn line(sighting: &Sighting) -> String {
    let seconds = sighting.time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let way = match (sighting.source(), sighting.destination()) {
        (Some(source), Some(destination)) => format!("{source} → {destination}"),
        _ => "an unreadable frame".to_owned(),
    };
    let service = match &sighting.service {
        Some(ServiceSeen { name: Some(name), .. }) => name.clone(),
        Some(service) => format!("{}/{}", service.address, service.protocol.name()),
        None => "-".to_owned(),
    };
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{:06}  {:<8}  {:<4} {way:<45}  {:<21}  {service:<8}  {}  {} B",
        sighting.time.subsec_micros(),
        sighting.kind.label(),
        sighting.protocol().unwrap_or_default(),
        outcome(sighting),
        sighting.interface,
        sighting.length,
    )
}

/// Why the packet went nowhere, or where its flow goes.
fn outcome(sighting: &Sighting) -> String {
    let backend = sighting.backend.map(|backend| backend.to_string());
    if let Some(reason) = sighting.reason {
        return match backend {
            Some(backend) => format!("{} ({backend})", reason.label()),
            None => reason.label().to_owned(),
        };
    }
    let backend = backend.unwrap_or_else(|| "a backend that is gone".to_owned());
    match (sighting.kind, sighting.previous) {
        (EventKind::Moved, Some(previous)) => format!("{previous} → {backend}"),
        (EventKind::Moved, None) => format!("gone → {backend}"),
        _ => backend,
    }
}

/// A line of `--json`.
#[derive(Serialize)]
struct Record<'a> {
    /// RFC 3339, UTC.
    time: String,
    event: &'static str,
    reason: Option<&'static str>,
    /// The listener's name; null if no daemon tells it.
    service: Option<&'a str>,
    vip: Option<String>,
    protocol: Option<String>,
    source: Option<String>,
    destination: Option<String>,
    backend: Option<String>,
    previous_backend: Option<String>,
    interface: &'a str,
    /// Bytes of the frame.
    length: u32,
}

fn json(sighting: &Sighting) -> anyhow::Result<String> {
    let seconds = i64::try_from(sighting.time.as_secs())?;
    let time = jiff::Timestamp::new(seconds, sighting.time.subsec_nanos() as i32)?;
    let service = sighting.service.as_ref();
    Ok(serde_json::to_string(&Record {
        time: format!("{time:.9}"),
        event: sighting.kind.label(),
        reason: sighting.reason.map(|reason| reason.label()),
        service: service.and_then(|service| service.name.as_deref()),
        vip: service.map(|service| service.address.to_string()),
        protocol: sighting.protocol(),
        source: sighting.source(),
        destination: sighting.destination(),
        backend: sighting.backend.map(|backend| backend.to_string()),
        previous_backend: sighting.previous.map(|backend| backend.to_string()),
        interface: &sighting.interface,
        length: sighting.length,
    })?)
}

#[cfg(test)]
pub(super) use tests::examples;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::monitor::frame::Addresses;
    use proxy_common::{net::Protocol, verdict::DropReason};
    use std::time::Duration;

    /// One of each kind, the last of a service without a name over IPv6.
    pub(in crate::cli::monitor) fn examples() -> [Sighting; 4] {
        let dropped = Sighting {
            time: Duration::new(1_764_219_845, 1_002_003),
            kind: EventKind::Dropped,
            reason: Some(DropReason::NoBackend),
            service: Some(ServiceSeen {
                name: Some("dns".to_owned()),
                address: "192.0.2.53:53".parse().unwrap(),
                protocol: Protocol::Udp,
            }),
            addresses: Some(Addresses {
                protocol: 17,
                source: "198.51.100.7".parse().unwrap(),
                destination: "192.0.2.53".parse().unwrap(),
                ports: Some((4711, 53)),
            }),
            backend: None,
            previous: None,
            interface: "eth0".to_owned(),
            length: 74,
        };
        let mut opened = dropped.clone();
        (opened.kind, opened.reason) = (EventKind::Opened, None);
        opened.backend = Some("10.0.0.11:53".parse().unwrap());
        let mut moved = opened.clone();
        moved.kind = EventKind::Moved;
        (moved.previous, moved.backend) = (moved.backend, Some("10.0.0.12:53".parse().unwrap()));
        let mut answered = dropped.clone();
        (answered.kind, answered.reason) = (EventKind::Answered, Some(DropReason::TtlExpired));
        answered.backend = Some("[2001:db8:1::11]:80".parse().unwrap());
        answered.service = Some(ServiceSeen {
            name: None,
            address: "[2001:db8::1]:80".parse().unwrap(),
            protocol: Protocol::Tcp,
        });
        answered.addresses = Some(Addresses {
            protocol: 6,
            source: "2001:db8::7".parse().unwrap(),
            destination: "2001:db8::1".parse().unwrap(),
            ports: Some((4711, 80)),
        });
        [dropped, opened, moved, answered]
    }

    #[test]
    fn an_event_is_a_line() {
        let lines = examples().map(|sighting| line(&sighting));
        let way = format!("{:<45}", "198.51.100.7:4711 → 192.0.2.53:53");
        assert_eq!(
            lines,
            [
                format!("05:04:05.001002  dropped   udp  {way}  no_backend             dns       eth0  74 B"),
                format!("05:04:05.001002  opened    udp  {way}  10.0.0.11:53           dns       eth0  74 B"),
                format!(
                    "05:04:05.001002  moved     udp  {way}  10.0.0.11:53 → 10.0.0.12:53  dns       eth0  74 B"
                ),
                "05:04:05.001002  answered  tcp  [2001:db8::7]:4711 → [2001:db8::1]:80          \
                 ttl_expired ([2001:db8:1::11]:80)  [2001:db8::1]:80/tcp  eth0  74 B"
                    .to_owned(),
            ]
        );
        let [mut dropped, _, mut moved, _] = examples();
        (dropped.addresses, dropped.service) = (None, None);
        assert!(
            line(&dropped).contains("an unreadable frame  "),
            "{}",
            line(&dropped)
        );
        moved.previous = None;
        assert!(
            line(&moved).contains("  gone → 10.0.0.12:53  "),
            "{}",
            line(&moved)
        );
    }

    #[test]
    fn an_event_is_a_json_object() {
        let [dropped, _, moved, _] = examples();
        assert_eq!(
            json(&dropped).unwrap(),
            r#"{"time":"2025-11-27T05:04:05.001002003Z","event":"dropped","reason":"no_backend","service":"dns","#
                .to_owned()
                + r#""vip":"192.0.2.53:53","protocol":"udp","source":"198.51.100.7:4711","#
                + r#""destination":"192.0.2.53:53","backend":null,"previous_backend":null,"#
                + r#""interface":"eth0","length":74}"#
        );
        let moved: serde_json::Value = serde_json::from_str(&json(&moved).unwrap()).unwrap();
        assert_eq!(moved["previous_backend"], "10.0.0.11:53");
        assert_eq!(moved["reason"], serde_json::Value::Null);
    }

    #[test]
    fn standard_output_gets_one_thing() {
        let error = Output::new(true, Some(Path::new("-"))).err().unwrap();
        assert!(error.to_string().contains("leave out --json"), "{error}");
    }
}
