//! The end of tunnels (docs/dataplane.md, "The end of tunnels").

use super::{
    Model,
    parse::{ETHERNET_LENGTH, address, half},
    sum,
};
use proxy_common::decap::DecapOutcome;
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// Where tunnels end, what they may bring, and what they brought.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tunnels {
    /// Addresses that tunnels end at.
    pub ends: HashSet<IpAddr>,
    /// VIPs that packets inside may be for.
    pub vips: HashSet<IpAddr>,
    /// As in `decap_counters`.
    pub outcomes: HashMap<DecapOutcome, u64>,
}

/// An outer header, or one inside.
struct Header {
    /// Its bytes.
    length: usize,
    protocol: u8,
    class: u8,
    destination: IpAddr,
}

/// What is in a tunnel, from an offset on.
struct Inside {
    at: usize,
    version: u8,
    outcome: DecapOutcome,
}

impl Model {
    /// The frame that the stack gets in place of one that came by a tunnel. None: that frame itself.
    pub fn deliver(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (network, version) = network(frame)?;
        let outer = header(frame, network, version)?;
        if version == 4 && (frame[network] != 0x45 || half(frame, network + 6) & 0x3fff != 0) {
            return None;
        }
        let content = network + outer.length;
        let is_end = self.tunnels.ends.contains(&outer.destination);
        let inside = match outer.protocol {
            4 => Ok(Inside {
                at: content,
                version: 4,
                outcome: DecapOutcome::Ipip,
            }),
            41 => Ok(Inside {
                at: content,
                version: 6,
                outcome: DecapOutcome::Ipip,
            }),
            17 if frame.len() > content + 8 && half(frame, content + 2) == self.settings.gue_port => {
                gue(frame, content + 8)
            }
            _ => return None,
        };
        if !is_end {
            return None;
        }
        let delivered = inside.and_then(|inside| {
            let inner = header(frame, inside.at, inside.version).ok_or(DecapOutcome::Malformed)?;
            if !self.tunnels.vips.contains(&inner.destination) {
                return Err(DecapOutcome::NotVip);
            }
            let stripped = strip(frame, network, &inside, outer.class, inner.class);
            Ok((inside.outcome, stripped))
        });
        let (outcome, stripped) = match delivered {
            Ok((outcome, frame)) => (outcome, Some(frame)),
            Err(outcome) => (outcome, None),
        };
        *self.tunnels.outcomes.entry(outcome).or_default() += 1;
        stripped
    }
}

/// Where the IP header is, and its version by the EtherType.
fn network(frame: &[u8]) -> Option<(usize, u8)> {
    for tags in 0..=2 {
        let network = ETHERNET_LENGTH + 4 * tags;
        if frame.len() < network {
            return None;
        }
        match half(frame, network - 2) {
            0x8100 | 0x88a8 => {}
            0x0800 => return Some((network, 4)),
            0x86dd => return Some((network, 6)),
            _ => return None,
        }
    }
    None
}

/// A header of this version, if it is there.
fn header(frame: &[u8], at: usize, version: u8) -> Option<Header> {
    let length = if version == 4 { 20 } else { 40 };
    let header = frame.get(at..at + length)?;
    if header[0] >> 4 != version {
        return None;
    }
    Some(if version == 4 {
        Header {
            length,
            protocol: header[9],
            class: header[1],
            destination: address(&header[16..20]),
        }
    } else {
        Header {
            length,
            protocol: header[6],
            class: header[0] << 4 | header[1] >> 4,
            destination: address(&header[24..40]),
        }
    })
}

/// GUE, draft-ietf-intarea-gue-09 sections 3 and 4.
fn gue(frame: &[u8], at: usize) -> Result<Inside, DecapOutcome> {
    let first = frame[at];
    let (variant, is_control, words) = (first >> 6, first & 0x20 != 0, usize::from(first & 0x1f));
    let (at, version) = match (variant, first >> 4) {
        (1, version @ (4 | 6)) => (at, version),
        (0, _) if !is_control => {
            let version = match frame.get(at + 1) {
                Some(4) => 4,
                Some(41) => 6,
                _ => return Err(DecapOutcome::Malformed),
            };
            (at + 4 + 4 * words, version)
        }
        _ => return Err(DecapOutcome::Malformed),
    };
    Ok(Inside {
        at,
        version,
        outcome: DecapOutcome::Gue,
    })
}

/// The frame without its outer headers. RFC 6040 section 4.2 carries congestion over.
fn strip(frame: &[u8], network: usize, inside: &Inside, outer: u8, inner: u8) -> Vec<u8> {
    let ethertype: [u8; 2] = if inside.version == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    let mut packet = frame[inside.at..].to_vec();
    if outer & 3 == 3 && inner & 3 != 0 {
        if inside.version == 4 {
            let covered = |packet: &[u8]| sum::sum(&packet[..10]) + sum::sum(&packet[12..20]);
            let error = sum::error(half(&packet, 10), covered(&packet));
            packet[1] |= 3;
            let checksum = sum::field(error, covered(&packet));
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            packet[1] |= 0x30;
        }
    }
    [&frame[..network - 2], &ethertype, &packet].concat()
}
