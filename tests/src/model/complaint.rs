//! ICMP errors that the balancer sends itself (docs/dataplane.md, "ICMP").

use super::{
    Decision, Job, Model,
    parse::{Packet, Piece},
    sum,
    translate::octets,
};
use proxy_common::verdict::DropReason;

/// Of an IPv6 packet that is too large so much more is quoted: a fragment header.
const FRAGMENT: usize = 8;

/// Bytes of TCP or UDP that are quoted.
const TRANSPORT: usize = 8;

impl Model {
    /// The error that a dropped packet's sender gets, if it gets one.
    pub(super) fn complaint(
        &self,
        job: &Job,
        packet: &Packet,
        reason: DropReason,
    ) -> Option<(Decision, Vec<u8>)> {
        let is_ipv4 = packet.destination.is_ipv4();
        let rest = match reason {
            DropReason::TtlExpired => 0,
            DropReason::MtuExceeded if is_ipv4 => job.mtu.min(0xffff),
            DropReason::MtuExceeded => job.mtu.max(1280),
            _ => return None,
        };
        let has_options = is_ipv4 && job.frame[packet.network] != 0x45;
        if has_options || !job.room || matches!(packet.piece, Piece::Later(_)) {
            return None;
        }
        let quoted = match (is_ipv4, reason) {
            (true, _) => 20 + TRANSPORT,
            (false, DropReason::MtuExceeded) => 40 + FRAGMENT + TRANSPORT,
            (false, _) => 40 + TRANSPORT,
        };
        let quoted = &job.frame[packet.network..packet.network + quoted];
        let (kind, code) = match (reason, is_ipv4) {
            (DropReason::TtlExpired, true) => (11, 0),
            (DropReason::TtlExpired, false) => (3, 0),
            (_, true) => (3, 4),
            (_, false) => (2, 0),
        };
        let mut message = vec![kind, code, 0, 0];
        message.extend((rest as u32).to_be_bytes());
        message.extend(quoted);
        let (source, destination) = (octets(packet.destination), octets(packet.source));
        let mut covered = sum::sum(&message);
        if !is_ipv4 {
            covered += sum::sum(&source) + sum::sum(&destination) + message.len() as u64 + 58;
        }
        let checksum = sum::field(0, covered);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut header = if is_ipv4 {
            let total = (20 + message.len()) as u16;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0, 0, 64, 1, 0, 0]);
            header
        } else {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((message.len() as u16).to_be_bytes());
            header.extend([58, 64]);
            header
        };
        header.extend(source);
        header.extend(destination);
        if is_ipv4 {
            let checksum = sum::field(0, sum::sum(&header));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        let mut frame = job.frame[6..12].to_vec();
        frame.extend(&job.frame[0..6]);
        frame.extend(&job.frame[12..packet.network]);
        frame.extend(header);
        frame.extend(message);
        Some((Decision::Transmit, frame))
    }
}
