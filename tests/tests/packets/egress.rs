//! What this host sends: replies of backends on it, and packets of clients on it, by `tc_egress`.

use crate::fixture::{ACK, FAMILIES, Family, Fixture, Kind, PROTOCOLS, SYN, ip, key, nat_port, plan, with};
use proxy_common::values::{flow_flags, seen};
use weir_tests::{
    model::{
        build::{Checksum, Frame},
        parse::{ICMP, UDP},
    },
    testrun::classifier::{PASS, REDIRECT},
};

/// One row: a frame that this host sends by the arriving interface, what the program does, frame out.
fn row(fixture: &Fixture, what: &str, frame: &Frame, action: u32, out: &Frame) {
    let ifindex = fixture.bench.topology.arriving;
    let egress = fixture.bench.egress("tc_egress").unwrap();
    let (theirs, bytes) = egress.run(ifindex, 0, &frame.bytes()).unwrap();
    assert_eq!(theirs, action, "{what}: the action");
    assert_eq!(bytes, out.bytes(), "{what}: the frame");
}

/// The flow of a far client to the backend on this host, and the backend's answer.
fn open(fixture: &mut Fixture, family: &Family, protocol: u8) -> (Frame, Frame) {
    let frame = fixture.open(family, Kind::Local, protocol, 40_000);
    let mut answer = fixture.answer(family, Kind::Local, &frame);
    answer.flags = SYN | ACK;
    (frame, answer)
}

#[test]
fn replies_of_a_backend_here() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let (frame, answer) = open(fixture, family, protocol);
                let mut out = answer.clone();
                (out.source, out.destination) = (frame.destination, frame.source);
                row(fixture, "an answer", &answer, PASS, &out);
                let maps = fixture.bench.maps();
                let forward = maps.flow(&key(&frame)).unwrap().unwrap();
                assert_eq!(forward.peer_seen, seen::PACKET);
                for ttl in [1, 0] {
                    let (mut answer, mut out) = (answer.clone(), out.clone());
                    (answer.ttl, out.ttl) = (ttl, ttl);
                    row(fixture, "this host is no hop", &answer, PASS, &out);
                }
                let mut other = answer.clone();
                other.source.1 += 1;
                row(fixture, "of another port", &other, PASS, &other);
                let mut other = answer.clone();
                other.destination.1 ^= 1;
                row(fixture, "to another port", &other, PASS, &other);
                let leaving = fixture.bench.topology.leaving;
                let egress = fixture.bench.egress("tc_egress").unwrap();
                let ran = egress.run(leaving, leaving, &answer.bytes()).unwrap();
                assert_eq!(ran, (PASS, answer.bytes()), "not sent by this host");
            }
        }
    });
}

#[test]
fn udp_checksums() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let (frame, mut answer) = open(fixture, family, UDP);
            answer.checksum = Checksum::Zero;
            let mut out = answer.clone();
            (out.source, out.destination) = (frame.destination, frame.source);
            row(fixture, "none stays none", &answer, PASS, &out);
            answer.checksum = Checksum::Right;
            out.checksum = Checksum::Right;
            out.payload = vec![0, 0];
            let bytes = out.bytes();
            out.payload = bytes[bytes.len() - 4..bytes.len() - 2].to_vec();
            answer.payload.clone_from(&out.payload);
            let bytes = out.bytes();
            assert_eq!(bytes[bytes.len() - 4..bytes.len() - 2], [0xff, 0xff]);
            row(fixture, "zero is sent as ones", &answer, PASS, &out);
        }
    });
}

/// Flows of others whose packets this host happens to send pass.
#[test]
fn flows_that_are_not_this_hosts() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let frame = fixture.open(family, Kind::Other, protocol, 40_000);
                let answer = fixture.answer(family, Kind::Other, &frame);
                row(fixture, "a reply", &answer, PASS, &answer);
                row(fixture, "a client's", &frame, PASS, &frame);
            }
        }
    });
}

/// A client on this host: to a backend elsewhere, and to one here.
#[test]
fn clients_here() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let mut frame = family.frame(Kind::Other, protocol, 40_000);
                frame.source.0 = ip(family.translator);
                let mut out = frame.clone();
                out.source.1 = nat_port(&frame, fixture.plan.ports);
                out.destination = family.backend(Kind::Other);
                row(fixture, "to a backend elsewhere", &frame, REDIRECT, &out);
                let maps = fixture.bench.maps();
                let entry = maps.flow(&key(&frame)).unwrap().unwrap();
                assert_eq!(entry.flags, flow_flags::FROM_HOST);
                let reply = maps.flow(&entry.peer_key()).unwrap().unwrap();
                assert_eq!(reply.flags, flow_flags::REPLY | flow_flags::TO_HOST);

                let mut frame = family.frame(Kind::Local, protocol, 40_001);
                frame.source.0 = ip(family.translator);
                let mut out = frame.clone();
                out.source = (frame.destination.0, nat_port(&frame, fixture.plan.ports));
                out.destination = family.backend(Kind::Local);
                // It turns around, and must look like a frame for this host.
                out.macs.copy_within(6..12, 0);
                row(fixture, "to a backend here", &frame, REDIRECT, &out);
                let maps = fixture.bench.maps();
                let entry = maps.flow(&key(&frame)).unwrap().unwrap();
                assert_eq!(entry.flags, flow_flags::FROM_HOST | flow_flags::TO_HOST);
            }
        }
    });
}

/// The host says that the backend's port is closed: the client hears it from the VIP.
#[test]
fn errors_of_this_host() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let (frame, answer) = open(fixture, family, UDP);
            let (_, delivered) = fixture.to_backend(family, Kind::Local, &frame);
            let kind = if answer.source.0.is_ipv4() { (3, 3) } else { (1, 4) };
            let quote = |frame: &Frame| [&[0; 4], frame.packet().as_slice()].concat();
            let from = delivered.destination.0;
            let error = Frame::icmp(from, delivered.source.0, kind, quote(&delivered));
            let mut out = Frame::icmp(ip(family.vip), frame.source.0, kind, quote(&frame));
            out.ttl = error.ttl;
            row(fixture, "port unreachable", &error, PASS, &out);
            let stranger = Frame::plain((from, 0), (ip(family.client), 0), ICMP);
            row(fixture, "another message", &stranger, PASS, &stranger);
        }
    });
}
