//! Rules 3 to 5 of docs/dataplane.md, "TCP and UDP": next hop and translation, both ways.

use crate::fixture::{ACK, BACKEND_PORT, FAMILIES, IPV4, IPV6, Kind, PROTOCOLS, ip, plan, with};
use proxy_common::{counters::Counters, net::Protocol, verdict::DropReason};
use weir_tests::{
    model::{
        Decision,
        build::{Checksum, Frame},
        generate::Input,
        parse::{TCP, UDP},
        sum,
    },
    testrun::topology::SMALL_MTU,
};

#[test]
fn every_next_hop() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                for kind in [
                    Kind::Other,
                    Kind::Same,
                    Kind::Routed,
                    Kind::Small,
                    Kind::Unresolved,
                    Kind::Local,
                ] {
                    fixture.open(family, kind, protocol, 40_000);
                }
                for kind in [Kind::Blackhole, Kind::Prohibit, Kind::Unreachable, Kind::NoRoute] {
                    let frame = family.frame(kind, protocol, 40_000).bytes();
                    let decision = Decision::Drop(DropReason::NoRoute);
                    fixture.row(&format!("{kind:?}"), &frame, decision, None);
                }
                let frame = family.frame(Kind::Nobody, protocol, 40_000).bytes();
                fixture.row("nobody", &frame, Decision::Drop(DropReason::NoBackend), None);
            }
        }
    });
}

#[test]
fn replies_go_back() {
    with(plan(), |fixture| {
        let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let frame = fixture.open(family, Kind::Other, protocol, 40_000);
                fixture.answered(family, Kind::Other, &frame);

                let mut tagged = fixture.answer(family, Kind::Other, &frame);
                tagged.tags = vec![(0x8100, 9)];
                let mut out = fixture.to_client(&frame, &tagged);
                let redirect = Decision::Redirect(arriving);
                fixture.row_at("a tag", leaving, &tagged.bytes(), redirect, Some(&out.bytes()));
                out.tags = tagged.tags.clone();
                let transmit = Decision::Transmit;
                fixture.row_at("hairpin", arriving, &tagged.bytes(), transmit, Some(&out.bytes()));

                let mut wrong = fixture.answer(family, Kind::Other, &frame);
                wrong.source.1 = BACKEND_PORT + 1;
                fixture.row_at("another port", leaving, &wrong.bytes(), Decision::Pass, None);
                let mut wrong = fixture.answer(family, Kind::Other, &frame);
                wrong.source.0 = family.backend(Kind::Routed).0;
                fixture.row_at("another host", leaving, &wrong.bytes(), Decision::Pass, None);
                let mut cut = fixture.answer(family, Kind::Other, &frame).bytes();
                cut.pop();
                fixture.row_at("cut short", leaving, &cut, Decision::Pass, None);
                far_client(fixture, family, protocol);
            }
        }
    });
}

/// A client behind a router, and one that there is no way back to.
fn far_client(fixture: &mut crate::fixture::Fixture, family: &crate::fixture::Family, protocol: u8) {
    let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
    let mut frame = family.frame(Kind::Other, protocol, 40_100);
    frame.source.0 = ip(family.far_client);
    let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
    fixture.row("a far client", &frame.bytes(), decision, Some(&out.bytes()));
    let answer = fixture.answer(family, Kind::Other, &frame);
    let mut out = answer.clone();
    (out.source, out.destination) = (frame.destination, frame.source);
    out.ttl -= 1;
    out.macs = fixture.macs(arriving, ip(family.arriving_router));
    let redirect = Decision::Redirect(arriving);
    fixture.row_at(
        "to a far client",
        leaving,
        &answer.bytes(),
        redirect,
        Some(&out.bytes()),
    );

    frame.source = (family.backend(Kind::NoRoute).0, 40_200);
    let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
    fixture.row("a lost client", &frame.bytes(), decision, Some(&out.bytes()));
    let answer = fixture.answer(family, Kind::Other, &frame).bytes();
    let lost = Decision::Drop(DropReason::NoRoute);
    fixture.row_at("to a lost client", leaving, &answer, lost, None);
}

#[test]
fn ttl() {
    with(plan(), |fixture| {
        let leaving = fixture.bench.topology.leaving;
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                for ttl in [0u8, 1, 2, 255] {
                    let mut frame = family.frame(Kind::Other, protocol, 40_000 + u16::from(ttl));
                    frame.ttl = ttl.max(2);
                    let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
                    if ttl >= 2 {
                        fixture.row("lives", &frame.bytes(), decision, Some(&out.bytes()));
                    }
                    let mut answer = fixture.answer(family, Kind::Other, &frame);
                    frame.ttl = ttl;
                    answer.ttl = ttl;
                    if ttl < 2 {
                        let arriving = fixture.bench.topology.arriving;
                        let expired = if frame.source.0.is_ipv4() { (11, 0) } else { (3, 0) };
                        fixture.told("expires", arriving, &frame, expired, 0);
                        fixture.told("expires too", leaving, &answer, expired, 0);
                    }
                    let mut local = family.frame(Kind::Local, protocol, 40_000 + u16::from(ttl));
                    local.ttl = ttl;
                    let (decision, out) = fixture.to_backend(family, Kind::Local, &local);
                    fixture.row("delivered here", &local.bytes(), decision, Some(&out.bytes()));
                }
            }
        }
    });
}

#[test]
fn mtu() {
    with(plan(), |fixture| {
        let leaving = fixture.bench.topology.leaving;
        for (family, header, small) in [(&IPV4, 20, SMALL_MTU.0), (&IPV6, 40, SMALL_MTU.1)] {
            for (protocol, transport) in [(TCP, 20), (UDP, 8)] {
                let fill = |mut frame: Frame, total: usize| {
                    frame.payload = vec![7; total - header - transport];
                    frame
                };
                let limits = [(Kind::Other, 1500), (Kind::Same, 1500), (Kind::Small, small)];
                for (kind, limit) in limits {
                    let frame = fill(family.frame(kind, protocol, 40_000), limit);
                    let (decision, out) = fixture.to_backend(family, kind, &frame);
                    fixture.row("fits", &frame.bytes(), decision, Some(&out.bytes()));
                    let mut padded = frame.clone();
                    padded.padding = 10;
                    let mut out = out.clone();
                    out.padding = 10;
                    fixture.row("fits, padded", &padded.bytes(), decision, Some(&out.bytes()));
                    let large = fill(frame, limit + 1);
                    let exceeded = if large.source.0.is_ipv4() { (3, 4) } else { (2, 0) };
                    let arriving = fixture.bench.topology.arriving;
                    fixture.told("too large", arriving, &large, exceeded, limit as u32);
                }
                let frame = family.frame(Kind::Other, protocol, 40_000);
                let answer = fill(fixture.answer(family, Kind::Other, &frame), 1501);
                let exceeded = if frame.source.0.is_ipv4() { (3, 4) } else { (2, 0) };
                fixture.told("too large an answer", leaving, &answer, exceeded, 1500);
                let local = fill(family.frame(Kind::Local, protocol, 40_000), 2000);
                let (decision, out) = fixture.to_backend(family, Kind::Local, &local);
                fixture.row(
                    "large, delivered here",
                    &local.bytes(),
                    decision,
                    Some(&out.bytes()),
                );
            }
        }
    });
}

#[test]
fn forwarding_disabled() {
    with(plan(), |fixture| {
        let closed = fixture.bench.topology.closed;
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let disabled = Decision::Drop(DropReason::ForwardingDisabled);
                let frame = family.frame(Kind::Other, protocol, 40_000);
                fixture.row_at("a client's", closed, &frame.bytes(), disabled, None);
                let answer = fixture.answer(family, Kind::Other, &frame).bytes();
                fixture.row_at("a backend's", closed, &answer, disabled, None);
                let local = family.frame(Kind::Local, protocol, 40_000);
                let (decision, out) = fixture.to_backend(family, Kind::Local, &local);
                let (local, out) = (local.bytes(), out.bytes());
                fixture.row_at("delivered here", closed, &local, decision, Some(&out));
            }
        }
    });
}

#[test]
fn no_room_for_metadata() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for (kind, full) in [
                (Kind::Unresolved, true),
                (Kind::Other, false),
                (Kind::Same, false),
            ] {
                let frame = family.frame(kind, UDP, 40_000);
                let (decision, out) = fixture.to_backend(family, kind, &frame);
                let input = Input {
                    ifindex: fixture.bench.topology.arriving,
                    frame: frame.bytes(),
                    room: false,
                    linear: frame.bytes().len(),
                };
                let decision = if full {
                    Decision::Drop(DropReason::NeighbourUnresolved)
                } else {
                    decision
                };
                fixture.check("another program's metadata", &input, decision, Some(&out.bytes()));
            }
        }
    });
}

/// Only the headers must lie in one piece of memory.
#[test]
fn fragments_of_memory() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for linear in [100, 101, 400, 1000] {
                for kind in [Kind::Other, Kind::Same, Kind::Unresolved, Kind::Local] {
                    let mut frame = family.frame(kind, TCP, 44_000 + linear as u16);
                    frame.tags = vec![(0x8100, 5)];
                    frame.payload = (0..1200u32).map(|at| (at * 7) as u8).collect();
                    let (decision, out) = fixture.to_backend(family, kind, &frame);
                    let input = Input {
                        ifindex: fixture.bench.topology.arriving,
                        frame: frame.bytes(),
                        room: true,
                        linear,
                    };
                    fixture.check("in pieces", &input, decision, Some(&out.bytes()));
                }
            }
        }
    });
}

#[test]
fn udp_checksums() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let mut none = family.frame(Kind::Other, UDP, 40_000);
            none.checksum = Checksum::Zero;
            let (decision, out) = fixture.to_backend(family, Kind::Other, &none);
            fixture.row("none stays none", &none.bytes(), decision, Some(&out.bytes()));
            let mut answer = fixture.answer(family, Kind::Other, &none);
            answer.checksum = Checksum::Zero;
            let out = fixture.to_client(&none, &answer).bytes();
            let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
            let redirect = Decision::Redirect(arriving);
            fixture.row_at("in replies too", leaving, &answer.bytes(), redirect, Some(&out));

            let field = if family.vip == IPV4.vip {
                14 + 20 + 6
            } else {
                14 + 40 + 6
            };
            let mut frame = family.frame(Kind::Other, UDP, 40_001);
            frame.payload = vec![0, 0];
            let (decision, mut out) = fixture.to_backend(family, Kind::Other, &frame);
            // A payload equal to the checksum over a payload of zero makes the sum all ones.
            let bytes = out.bytes();
            frame.payload = bytes[field..field + 2].to_vec();
            out.payload.clone_from(&frame.payload);
            let out = out.bytes();
            assert_eq!(out[field..field + 2], [0xff, 0xff], "a computed zero");
            fixture.row("zero is sent as ones", &frame.bytes(), decision, Some(&out));

            let mut frame = family.frame(Kind::Other, UDP, 40_002);
            frame.payload = vec![0, 0];
            frame.payload = frame.bytes()[field..field + 2].to_vec();
            assert_eq!(frame.bytes()[field..field + 2], [0xff, 0xff], "a computed zero");
            let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
            fixture.row("ones came in", &frame.bytes(), decision, Some(&out.bytes()));
        }
    });
}

/// A checksum that is wrong stays wrong by as much.
#[test]
fn wrong_checksums_stay_wrong() {
    with(plan(), |fixture| {
        for (family, header) in [(&IPV4, 20), (&IPV6, 40)] {
            for (protocol, field) in [(TCP, 16), (UDP, 6)] {
                for wrong in [0x0001, 0x8000, 0x5555, 0xfffe] {
                    let port = 41_000 + wrong % 97;
                    let right = family.frame(Kind::Other, protocol, port);
                    let (decision, out) = fixture.to_backend(family, Kind::Other, &right);
                    let at = 14 + header + field;
                    let shift = |frame: &Frame| {
                        let mut bytes = frame.bytes();
                        let value = u64::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
                        let moved = sum::field(value + u64::from(wrong), 0);
                        bytes[at..at + 2].copy_from_slice(&moved.to_be_bytes());
                        bytes
                    };
                    fixture.row("wrong", &shift(&right), decision, Some(&shift(&out)));
                }
            }
        }
        let frame = IPV4.frame(Kind::Other, TCP, 42_000);
        let (decision, out) = fixture.to_backend(&IPV4, Kind::Other, &frame);
        let shift = |frame: &Frame| {
            let mut bytes = frame.bytes();
            let value = u64::from(u16::from_be_bytes([bytes[24], bytes[25]]));
            let moved = sum::field(value + 5, 0);
            bytes[24..26].copy_from_slice(&moved.to_be_bytes());
            bytes
        };
        fixture.row("IPv4 header", &shift(&frame), decision, Some(&shift(&out)));
    });
}

#[test]
fn odd_payloads_and_options() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for length in [0u16, 1, 2, 3, 63, 64, 65, 999] {
                let mut frame = family.frame(Kind::Routed, TCP, 43_000 + length);
                frame.flags = ACK;
                frame.payload = vec![0xab; usize::from(length)];
                frame.tcp_options = vec![1; usize::from(length % 11) * 4];
                let (decision, out) = fixture.to_backend(family, Kind::Routed, &frame);
                fixture.row("odd", &frame.bytes(), decision, Some(&out.bytes()));
            }
        }
    });
}

#[test]
fn counters_count() {
    with(plan(), |fixture| {
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        fixture.answered(&IPV4, Kind::Other, &frame);
        let mut expiring = frame.clone();
        expiring.ttl = 1;
        let arriving = fixture.bench.topology.arriving;
        fixture.told("expires", arriving, &expiring, (11, 0), 0);
        let answer = fixture.answer(&IPV4, Kind::Other, &frame);
        let length = frame.bytes().len() as u64;
        let expected = Counters {
            untracked: 0,
            packets: 2,
            bytes: 2 * length,
            reply_packets: 1,
            reply_bytes: answer.bytes().len() as u64,
            flows: 1,
            drops: 1,
        };
        let value = fixture.model.flows[&crate::fixture::key(&frame)];
        let maps = fixture.bench.maps();
        assert_eq!(maps.service_counters(value.service).unwrap(), expected);
        let backend = Counters { drops: 0, ..expected };
        assert_eq!(maps.backend_counters(value.backend).unwrap(), backend);
        let read = fixture.bench.plane().unwrap().counters().unwrap();
        let service = read
            .services
            .iter()
            .find(|service| {
                service.protocol == Protocol::Tcp && service.address.0 == "198.18.0.1:80".parse().unwrap()
            })
            .unwrap();
        assert_eq!(service.counters, expected);
    });
}
