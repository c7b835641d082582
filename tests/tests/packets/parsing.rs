//! Rules 1 to 6 of docs/dataplane.md, "Parsing".

use crate::fixture::{FAMILIES, Family, Fixture, IPV4, IPV6, Kind, PROTOCOLS, ip, plan, with};
use proxy_common::verdict::DropReason;
use weir_tests::model::{
    Decision,
    build::Frame,
    parse::{TCP, UDP},
};

const ETHERNET: usize = 14;

fn dropped(reason: DropReason) -> Decision {
    Decision::Drop(reason)
}

/// A frame for a VIP with one field changed: dropped; the same for another address: passes.
fn malformed(
    fixture: &mut Fixture,
    what: &str,
    frame: &Frame,
    change: impl Fn(&mut Vec<u8>),
    reason: DropReason,
) {
    let mut bytes = frame.bytes();
    change(&mut bytes);
    fixture.row(what, &bytes, dropped(reason), None);
    let mut other = frame.clone();
    other.destination.0 = ip(if frame.destination.0.is_ipv4() { IPV4 } else { IPV6 }.not_vip);
    let mut bytes = other.bytes();
    change(&mut bytes);
    fixture.row(&format!("{what}, for no VIP"), &bytes, Decision::Pass, None);
}

#[test]
fn what_is_not_ours_passes() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let frame = family.frame(Kind::Other, TCP, 40_000);
            let with_mac = |first: u8| {
                let mut frame = frame.clone();
                frame.macs[0] = first;
                frame.bytes()
            };
            fixture.row("multicast MAC", &with_mac(0x01), Decision::Pass, None);
            fixture.row("broadcast MAC", &with_mac(0xff), Decision::Pass, None);
            let mut bytes = frame.bytes();
            bytes[12..14].copy_from_slice(&[0x08, 0x06]);
            fixture.row("ARP", &bytes, Decision::Pass, None);
            bytes[12..14].copy_from_slice(&[0x88, 0x47]);
            fixture.row("MPLS", &bytes, Decision::Pass, None);
            let mut other = frame.clone();
            other.destination.0 = ip(family.not_vip);
            fixture.row("another address", &other.bytes(), Decision::Pass, None);
            let mut other = frame.clone();
            other.destination.1 = 7;
            fixture.row("a VIP, no such service", &other.bytes(), Decision::Pass, None);
            other.destination.1 = 2500;
            fixture.row(
                "a VIP, no such service, a NAT port",
                &other.bytes(),
                Decision::Pass,
                None,
            );
            other.destination.0 = ip(family.translator);
            fixture.row(
                "a NAT source and port without a flow",
                &other.bytes(),
                Decision::Pass,
                None,
            );
            for protocol in [4, 47, 50, 59, 132, 1 + 57 * u8::from(family.vip.contains('.'))] {
                let mut other = frame.clone();
                other.protocol = protocol;
                fixture.row("another protocol", &other.bytes(), Decision::Pass, None);
            }
        }
        assert!(fixture.bench.maps().flows().unwrap().is_empty());
    });
}

#[test]
fn vlan_tags() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for (kinds, port) in [
                (vec![0x8100], 1),
                (vec![0x88a8, 0x8100], 2),
                (vec![0x8100, 0x88a8], 3),
            ] {
                for kind in [Kind::Other, Kind::Same, Kind::Unresolved, Kind::Local] {
                    let mut frame = family.frame(kind, UDP, port);
                    frame.tags = kinds.iter().map(|kind| (*kind, 0x6123)).collect();
                    let (decision, out) = fixture.to_backend(family, kind, &frame);
                    let what = format!("{} tags, {kind:?}", kinds.len());
                    fixture.row(&what, &frame.bytes(), decision, Some(&out.bytes()));
                }
            }
            let mut frame = family.frame(Kind::Other, UDP, 4);
            frame.tags = vec![(0x88a8, 1), (0x8100, 2), (0x8100, 3)];
            fixture.row("three tags", &frame.bytes(), Decision::Pass, None);
            frame.tags = vec![(0x9100, 1)];
            fixture.row("a tag of another kind", &frame.bytes(), Decision::Pass, None);
        }
    });
}

/// Cut at every length: below the destination address it passes, above it is truncated.
#[test]
fn truncated_at_every_byte() {
    with(plan(), |fixture| {
        for (family, destination_end) in [(&IPV4, 20), (&IPV6, 40)] {
            for protocol in PROTOCOLS {
                for tags in 0..3 {
                    let mut frame = family.frame(Kind::Other, protocol, 40_000);
                    frame.tags = vec![(0x8100, 5); tags];
                    if protocol == UDP {
                        frame.options = vec![1; 8];
                        frame.extensions = vec![(0, 0), (60, 1)];
                    }
                    let bytes = frame.bytes();
                    for length in ETHERNET..bytes.len() {
                        let seen = length >= ETHERNET + 4 * tags + destination_end;
                        let decision = if seen {
                            dropped(DropReason::Truncated)
                        } else {
                            Decision::Pass
                        };
                        let what = format!("{tags} tags, protocol {protocol}, cut to {length} bytes");
                        fixture.row(&what, &bytes[..length], decision, None);
                    }
                }
            }
        }
    });
}

/// The IP length says that the transport header is cut; the frame goes on (padding), or not.
#[test]
fn transport_headers_cut_by_the_ip_length() {
    with(plan(), |fixture| {
        for (family, header, field) in [(&IPV4, 20, 2), (&IPV6, 40, 4)] {
            for (protocol, least) in [(TCP, 20), (UDP, 8)] {
                let frame = family.frame(Kind::Other, protocol, 40_000);
                for left in 0..least {
                    let length = if header == 20 { header + left } else { left };
                    let set = |bytes: &mut Vec<u8>| {
                        let at = ETHERNET + field;
                        bytes[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
                    };
                    let what = format!("protocol {protocol}, {left} bytes of it");
                    malformed(fixture, &what, &frame, set, DropReason::Truncated);
                    let exact = |bytes: &mut Vec<u8>| {
                        set(bytes);
                        bytes.truncate(ETHERNET + header + left);
                    };
                    malformed(fixture, &what, &frame, exact, DropReason::Truncated);
                }
            }
        }
    });
}

#[test]
fn ipv4_headers() {
    with(plan(), |fixture| {
        let frame = IPV4.frame(Kind::Other, TCP, 40_000);
        let whole = frame.packet().len() as u8;
        let set = |at: usize, value: u8| move |bytes: &mut Vec<u8>| bytes[ETHERNET + at] = value;
        let rows = [
            ("version 5", 0, 0x55, DropReason::BadHeader),
            ("version 6", 0, 0x65, DropReason::BadHeader),
            ("IHL 0", 0, 0x40, DropReason::BadHeader),
            ("IHL 4", 0, 0x44, DropReason::BadHeader),
            ("IHL 15, beyond the frame", 0, 0x4f, DropReason::Truncated),
            (
                "version 5, IHL 15, beyond the frame",
                0,
                0x5f,
                DropReason::Truncated,
            ),
            ("total length below the header", 3, 19, DropReason::Truncated),
            ("total length 0", 3, 0, DropReason::Truncated),
            ("total length one too many", 3, whole + 1, DropReason::Truncated),
            ("fragment offset", 7, 1, DropReason::Fragment),
            ("fragment offset, high bits", 6, 0x1f, DropReason::Fragment),
        ];
        for (what, at, value, reason) in rows {
            malformed(fixture, what, &frame, set(at, value), reason);
        }
        let beyond_total = |bytes: &mut Vec<u8>| {
            bytes[ETHERNET] = 0x47;
            bytes[ETHERNET + 3] = 24;
        };
        malformed(
            fixture,
            "IHL beyond the total length",
            &frame,
            beyond_total,
            DropReason::Truncated,
        );
        let both = |bytes: &mut Vec<u8>| {
            bytes[ETHERNET + 3] = whole + 1;
            bytes[ETHERNET + 6] = 0x20;
        };
        malformed(
            fixture,
            "a fragment, cut short",
            &frame,
            both,
            DropReason::Truncated,
        );
    });
}

#[test]
fn ipv4_flags_and_options() {
    with(plan(), |fixture| {
        for (what, flags) in [("reserved flag", 0x80), ("don't fragment", 0x40)] {
            let frame = IPV4.frame(Kind::Other, UDP, u16::from(flags));
            let (decision, out) = fixture.to_backend(&IPV4, Kind::Other, &frame);
            let flagged = |frame: &Frame| {
                let mut bytes = frame.bytes();
                bytes[ETHERNET + 6] = flags;
                // The header checksum's high byte covers the same place: no carry in these two.
                let sum = u16::from_be_bytes([bytes[ETHERNET + 10], bytes[ETHERNET + 11]]);
                let delta = u16::from(flags) << 8;
                let sum = if sum > delta {
                    sum - delta
                } else {
                    sum.wrapping_sub(delta) - 1
                };
                bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
                bytes
            };
            fixture.row(what, &flagged(&frame), decision, Some(&flagged(&out)));
        }
        for words in 1..=10 {
            let mut frame = IPV4.frame(Kind::Other, TCP, 100 + words);
            frame.options = vec![1; 4 * usize::from(words)];
            let (decision, out) = fixture.to_backend(&IPV4, Kind::Other, &frame);
            fixture.row("options", &frame.bytes(), decision, Some(&out.bytes()));
        }
    });
}

#[test]
fn ipv6_headers() {
    with(plan(), |fixture| {
        let frame = IPV6.frame(Kind::Other, TCP, 40_000);
        let set = |at: usize, value: u8| move |bytes: &mut Vec<u8>| bytes[ETHERNET + at] = value;
        malformed(fixture, "version 4", &frame, set(0, 0x45), DropReason::BadHeader);
        malformed(
            fixture,
            "payload one too many",
            &frame,
            set(5, 29),
            DropReason::Truncated,
        );
        malformed(fixture, "payload 0", &frame, set(5, 0), DropReason::Truncated);
        let mut extended = frame.clone();
        for count in 1..=6u16 {
            extended.extensions = (0..count)
                .map(|at| ([0, 43, 60][usize::from(at % 3)], (at % 2) as u8))
                .collect();
            extended.source.1 = count;
            let (decision, out) = fixture.to_backend(&IPV6, Kind::Other, &extended);
            let what = format!("{count} extension headers");
            fixture.row(&what, &extended.bytes(), decision, Some(&out.bytes()));
        }
        extended.extensions.push((60, 0));
        let nothing = |_: &mut Vec<u8>| {};
        malformed(fixture, "seven", &extended, nothing, DropReason::ExtensionHeaders);
        extended.extensions[6].0 = 44;
        malformed(
            fixture,
            "six and a fragment",
            &extended,
            nothing,
            DropReason::ExtensionHeaders,
        );
        extended.extensions = vec![(44, 0)];
        malformed(
            fixture,
            "a later fragment",
            &extended,
            nothing,
            DropReason::Fragment,
        );
        extended.extensions = vec![(0, 0)];
        let long = |bytes: &mut Vec<u8>| bytes[ETHERNET + 41] = 40;
        malformed(
            fixture,
            "beyond the payload",
            &extended,
            long,
            DropReason::Truncated,
        );
        let short = |bytes: &mut Vec<u8>| bytes[ETHERNET + 5] = 1;
        malformed(fixture, "one byte of it", &extended, short, DropReason::Truncated);
        extended.extensions = vec![(51, 0)];
        fixture.row("authentication header", &extended.bytes(), Decision::Pass, None);
    });
}

/// An IPv4-mapped address stands for IPv4 in the maps, never in a packet.
#[test]
fn ipv4_mapped_addresses_pass() {
    with(plan(), |fixture| {
        let mapped = |text: &str| match ip(text) {
            std::net::IpAddr::V4(address) => address.to_ipv6_mapped().into(),
            address => address,
        };
        for protocol in PROTOCOLS {
            let mut frame = IPV6.frame(Kind::Other, protocol, 40_000);
            frame.destination.0 = mapped(IPV4.vip);
            fixture.row("to a mapped VIP", &frame.bytes(), Decision::Pass, None);
            frame.source.0 = mapped(IPV4.client);
            fixture.row("between mapped addresses", &frame.bytes(), Decision::Pass, None);
            frame.destination.0 = ip(IPV6.vip);
            fixture.row("from a mapped address", &frame.bytes(), Decision::Pass, None);
        }
        assert!(fixture.bench.maps().flows().unwrap().is_empty());
    });
}

#[test]
fn transport_headers() {
    with(plan(), |fixture| {
        for (family, header) in [(&IPV4, 20), (&IPV6, 40)] {
            let at = ETHERNET + header;
            let tcp = family.frame(Kind::Other, TCP, 40_000);
            for offset in [0x00, 0x40, 0x80, 0xf0] {
                let set = |bytes: &mut Vec<u8>| bytes[at + 12] = offset;
                malformed(fixture, "data offset", &tcp, set, DropReason::BadHeader);
            }
            let udp = family.frame(Kind::Other, UDP, 40_000);
            for length in [0, 7, 17, 255] {
                let set = |bytes: &mut Vec<u8>| bytes[at + 5] = length;
                malformed(fixture, "UDP length", &udp, set, DropReason::BadHeader);
            }
            padded(fixture, family);
        }
    });
}

/// Ethernet padding is carried along, and a UDP length below the IP payload is fine.
fn padded(fixture: &mut Fixture, family: &Family) {
    for protocol in PROTOCOLS {
        for padding in [1, 6, 18, 46] {
            let mut frame = family.frame(Kind::Other, protocol, 200 + padding as u16);
            frame.payload.clear();
            frame.padding = padding;
            let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
            fixture.row("padding", &frame.bytes(), decision, Some(&out.bytes()));
        }
    }
}
