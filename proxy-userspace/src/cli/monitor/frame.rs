//! Addresses of a frame that the kernel programs dropped before they had read them: as much as its first bytes tell.

use proxy_common::headers::{ethernet, ipv4, ipv6, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where to where, as far as it can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Addresses {
    /// IANA protocol number.
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Source and destination port, where the frame has them.
    pub(super) ports: Option<(u16, u16)>,
}

/// Reads a frame, which may be cut off or malformed; none if not even the addresses are there. Extension headers of IPv6
/// aren't walked: the protocol is the first header's then.
pub(super) fn read(frame: &[u8]) -> Option<Addresses> {
    let mut at = 12;
    let mut ethertype = u16_at(frame, at)?;
    // At most two tags, as the programs have it.
    for _ in 0..2 {
        if !matches!(ethertype, ethernet::VLAN | ethernet::VLAN_SERVICE) {
            break;
        }
        at += ethernet::VLAN_LENGTH;
        ethertype = u16_at(frame, at)?;
    }
    let packet = frame.get(at + 2..)?;
    match ethertype {
        ethernet::IPV4 => read_ipv4(packet),
        ethernet::IPV6 => read_ipv6(packet),
        _ => None,
    }
}

fn read_ipv4(packet: &[u8]) -> Option<Addresses> {
    let address = |at| Some(IpAddr::V4(Ipv4Addr::from(bytes_at::<4>(packet, at)?)));
    let protocol = *packet.get(9)?;
    let is_first = u16_at(packet, 6)? & 0x1fff == 0;
    let length = usize::from(packet.first()? & 0xf) * 4;
    Some(Addresses {
        protocol,
        source: address(12)?,
        destination: address(16)?,
        ports: if is_first && length >= ipv4::LENGTH {
            ports(packet, length, protocol)
        } else {
            None
        },
    })
}

fn read_ipv6(packet: &[u8]) -> Option<Addresses> {
    let address = |at| Some(IpAddr::V6(Ipv6Addr::from(bytes_at::<16>(packet, at)?)));
    let protocol = *packet.get(6)?;
    Some(Addresses {
        protocol,
        source: address(8)?,
        destination: address(24)?,
        ports: ports(packet, ipv6::LENGTH, protocol),
    })
}

fn ports(packet: &[u8], at: usize, protocol: u8) -> Option<(u16, u16)> {
    matches!(protocol, protocol::TCP | protocol::UDP)
        .then(|| Some((u16_at(packet, at)?, u16_at(packet, at + 2)?)))
        .flatten()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_be_bytes)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet header with tags, and a packet.
    fn frame(tags: &[u16], ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        frame
    }

    #[test]
    fn reads_what_is_there_and_no_more() {
        let mut ipv4 = vec![
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1,
        ];
        ipv4.extend([0x12, 0x67, 0, 53, 0, 8, 0, 0]);
        let mut expected = Addresses {
            protocol: 17,
            source: "192.0.2.7".parse().unwrap(),
            destination: "198.51.100.1".parse().unwrap(),
            ports: Some((4711, 53)),
        };
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
            assert_eq!(read(&frame(tags, 0x0800, &ipv4)), Some(expected));
        }
        expected.ports = None;
        assert_eq!(read(&frame(&[], 0x0800, &ipv4[..20])), Some(expected), "cut off");
        assert_eq!(read(&frame(&[], 0x0800, &ipv4[..19])), None, "no destination");
        ipv4[7] = 1;
        assert_eq!(
            read(&frame(&[], 0x0800, &ipv4)),
            Some(expected),
            "a later fragment"
        );
        assert_eq!(read(&frame(&[], 0x0806, &ipv4)), None, "ARP");
        assert_eq!(read(&[]), None);
        let mut ipv6 = vec![0x60, 0, 0, 0, 0, 4, 6, 64];
        ipv6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        ipv6.extend([
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 80, 0, 81,
        ]);
        let read = read(&frame(&[], 0x86dd, &ipv6)).unwrap();
        assert_eq!(read.ports, Some((80, 81)));
        assert_eq!(read.destination.to_string(), "2001:db8::2");
    }
}
