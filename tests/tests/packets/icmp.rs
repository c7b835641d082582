//! docs/dataplane.md, "ICMP".

use crate::fixture::{FAMILIES, Family, Fixture, IPV4, Kind, PROTOCOLS, ip, plan, with};
use proxy_common::verdict::DropReason;
use std::net::IpAddr;
use weir_tests::model::{
    Decision,
    build::{Checksum, Frame},
    parse::{TCP, UDP},
};

fn is_ipv4(family: &Family) -> bool {
    family.vip == IPV4.vip
}

/// Types of the errors that are translated, and one that is not.
fn errors(family: &Family) -> (Vec<u8>, u8) {
    if is_ipv4(family) {
        (vec![3, 11, 12], 5)
    } else {
        (vec![1, 2, 3, 4], 5)
    }
}

/// An ICMP error that quotes a packet, at most `most` bytes of it.
fn error(from: IpAddr, to: IpAddr, kind: u8, quoted: &Frame, most: usize) -> Frame {
    let mut rest = vec![0, 0, 0x05, 0x14];
    let packet = quoted.packet();
    rest.extend(&packet[..most.min(packet.len())]);
    // Half of a TCP checksum can't be updated; a builder would have written it.
    if quoted.protocol == TCP && most == packet.len() - 8 - 3 {
        rest.pop();
        rest.push(0x5a);
    }
    Frame::icmp(from, to, (kind, 1), rest)
}

#[test]
fn echo_is_answered() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let (request, reply) = if is_ipv4(family) { (8, 0) } else { (128, 129) };
            let (client, vip) = (ip(family.client), ip(family.vip));
            for (tags, length, ttl) in [(0, 4, 64), (1, 60, 1), (2, 61, 0), (0, 1300, 255)] {
                let mut frame = Frame::icmp(client, vip, (request, 0), vec![0x3c; length]);
                frame.tags = vec![(0x8100, 77); tags];
                frame.ttl = ttl;
                frame.padding = tags;
                let mut out = frame.clone();
                (out.source, out.destination) = (frame.destination, frame.source);
                out.icmp.0 = reply;
                out.ttl = 64;
                out.macs.rotate_left(6);
                let out = out.bytes();
                fixture.row("echo", &frame.bytes(), Decision::Transmit, Some(&out));
            }
            let frame = Frame::icmp(client, vip, (request, 1), vec![0; 4]);
            fixture.row("another code", &frame.bytes(), Decision::Pass, None);
            let frame = Frame::icmp(client, vip, (request, 0), vec![0; 3]);
            fixture.row("7 bytes", &frame.bytes(), Decision::Pass, None);
            let frame = Frame::icmp(client, vip, (reply, 0), vec![0; 4]);
            fixture.row("an echo reply", &frame.bytes(), Decision::Pass, None);
            let frame = Frame::icmp(client, ip(family.translator), (request, 0), vec![0; 4]);
            fixture.row("no VIP", &frame.bytes(), Decision::Pass, None);
            let mut frame = Frame::icmp(client, vip, (request, 0), vec![0x3c; 4]);
            frame.options = vec![1; 8];
            frame.extensions = vec![(60, 0)];
            let mut out = frame.clone();
            (out.source, out.destination) = (frame.destination, frame.source);
            out.icmp.0 = reply;
            out.macs.rotate_left(6);
            fixture.row("options", &frame.bytes(), Decision::Transmit, Some(&out.bytes()));
        }
        let mut frame = Frame::icmp(ip(IPV4.client), ip(IPV4.vip), (8, 0), vec![0; 4]);
        frame.fragment = (true, 0);
        let fragment = Decision::Drop(DropReason::Fragment);
        fixture.row("a fragment", &frame.bytes(), fragment, None);
    });
}

/// What a router on the way to a backend says reaches the client.
#[test]
fn errors_about_forwarded_packets() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let frame = fixture.open(family, Kind::Other, protocol, 40_000);
                for kind in errors(family).0 {
                    for most in [8, 16, 17, 18, 19, 20, 28, 999] {
                        about_forwarded(fixture, family, &frame, kind, most);
                    }
                }
            }
        }
    });
}

fn header(family: &Family) -> usize {
    if is_ipv4(family) { 20 } else { 40 }
}

/// The packet as sent to the backend, without what the balancer did to its MACs and tags.
fn about_forwarded(fixture: &mut Fixture, family: &Family, frame: &Frame, kind: u8, most: usize) {
    let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
    let (_, quoted) = fixture.to_backend(family, Kind::Other, frame);
    let mut original = frame.clone();
    original.ttl = quoted.ttl;
    let most = header(family) + most;
    let (router, translator) = (ip(family.leaving_router), ip(family.translator));
    let message = error(router, translator, kind, &quoted, most);
    let mut out = error(ip(family.vip), ip(family.client), kind, &original, most);
    out.ttl -= 1;
    out.macs = fixture.macs(arriving, ip(family.client));
    let what = format!("type {kind}, {most} bytes of the packet");
    let redirect = Decision::Redirect(arriving);
    fixture.row_at(&what, leaving, &message.bytes(), redirect, Some(&out.bytes()));

    let mut tagged = message.clone();
    tagged.tags = vec![(0x88a8, 1), (0x8100, 2)];
    tagged.padding = 9;
    out.padding = 9;
    fixture.row_at(&what, leaving, &tagged.bytes(), redirect, Some(&out.bytes()));
    out.tags.clone_from(&tagged.tags);
    let transmit = Decision::Transmit;
    fixture.row_at(&what, arriving, &tagged.bytes(), transmit, Some(&out.bytes()));

    let mut expiring = message;
    expiring.ttl = 1;
    let expired = Decision::Drop(DropReason::TtlExpired);
    fixture.row_at(&what, leaving, &expiring.bytes(), expired, None);
}

/// What a router on the way to a client says, or the client itself, reaches the backend.
#[test]
fn errors_about_replies() {
    with(plan(), |fixture| {
        let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let frame = fixture.open(family, Kind::Other, protocol, 40_000);
                let (_, forwarded) = fixture.to_backend(family, Kind::Other, &frame);
                let answer = fixture.answer(family, Kind::Other, &frame);
                let quoted = fixture.to_client(&frame, &answer);
                let mut original = answer.clone();
                original.ttl = quoted.ttl;
                for kind in errors(family).0 {
                    for most in [8, 18, 999] {
                        let router = ip(family.arriving_router);
                        let most = header(family) + most;
                        let message = error(router, ip(family.vip), kind, &quoted, most);
                        let mut out = error(router, forwarded.destination.0, kind, &original, most);
                        out.ttl -= 1;
                        out.macs = forwarded.macs;
                        let redirect = Decision::Redirect(leaving);
                        fixture.row("to the backend", &message.bytes(), redirect, Some(&out.bytes()));
                    }
                }
                let local = fixture.open(family, Kind::Local, protocol, 40_000);
                let mut quoted = Frame::plain(local.destination, local.source, protocol);
                let (client, vip) = (ip(family.client), ip(family.vip));
                let kind = errors(family).0[0];
                let message = error(client, vip, kind, &quoted, 999);
                let (_, forwarded) = fixture.to_backend(family, Kind::Local, &local);
                (quoted.source, quoted.destination) = (forwarded.destination, forwarded.source);
                let out = error(client, forwarded.destination.0, kind, &quoted, 999);
                fixture.row_at(
                    "to a backend here",
                    arriving,
                    &message.bytes(),
                    Decision::Pass,
                    Some(&out.bytes()),
                );
            }
        }
    });
}

#[test]
fn errors_that_pass() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let frame = fixture.open(family, Kind::Other, UDP, 40_000);
            let (_, quoted) = fixture.to_backend(family, Kind::Other, &frame);
            let (kinds, other) = errors(family);
            let (router, translator) = (ip(family.leaving_router), ip(family.translator));
            let to_us = |quoted: &Frame| error(router, translator, kinds[0], quoted, 999);
            let mut rows = vec![
                ("another type", error(router, translator, other, &quoted, 999)),
                ("no IP header", error(router, translator, kinds[0], &quoted, 19)),
                (
                    "7 bytes of UDP",
                    error(router, translator, kinds[0], &quoted, header(family) + 7),
                ),
            ];
            let mut change = |what, change: &dyn Fn(&mut Frame)| {
                let mut quoted = quoted.clone();
                change(&mut quoted);
                rows.push((what, to_us(&quoted)));
            };
            change("another flow", &|quoted| quoted.source.1 ^= 1);
            change("not a NAT port", &|quoted| quoted.source.1 = 60_000);
            change("another protocol", &|quoted| quoted.protocol = 132);
            change("options inside", &|quoted| {
                quoted.options = vec![1; 4];
                quoted.extensions = vec![(60, 0)];
            });
            change("a fragment inside", &|quoted| {
                quoted.fragment = (true, 0);
                quoted.extensions = vec![(44, 0)];
            });
            rows.push((
                "to another than it is about",
                error(router, ip(family.vip), kinds[0], &quoted, 999),
            ));
            for (what, message) in rows {
                fixture.row(what, &message.bytes(), Decision::Pass, None);
            }
        }
    });
}

/// No checksum inside stays none; a wrong ICMP checksum stays wrong.
#[test]
fn checksums_inside() {
    with(plan(), |fixture| {
        let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
        for family in FAMILIES {
            let frame = fixture.open(family, Kind::Other, UDP, 40_000);
            let (_, mut quoted) = fixture.to_backend(family, Kind::Other, &frame);
            let mut original = frame.clone();
            original.ttl = quoted.ttl;
            (quoted.checksum, original.checksum) = (Checksum::Zero, Checksum::Zero);
            let (router, translator) = (ip(family.leaving_router), ip(family.translator));
            let kind = errors(family).0[0];
            let message = error(router, translator, kind, &quoted, 999);
            let mut out = error(ip(family.vip), ip(family.client), kind, &original, 999);
            out.ttl -= 1;
            out.macs = fixture.macs(arriving, ip(family.client));
            let redirect = Decision::Redirect(arriving);
            fixture.row_at(
                "none inside",
                leaving,
                &message.bytes(),
                redirect,
                Some(&out.bytes()),
            );
        }
    });
}

#[test]
fn no_way_to_the_client() {
    with(plan(), |fixture| {
        let leaving = fixture.bench.topology.leaving;
        for family in FAMILIES {
            let mut frame = family.frame(Kind::Other, TCP, 40_000);
            frame.source.0 = family.backend(Kind::Blackhole).0;
            let (decision, quoted) = fixture.to_backend(family, Kind::Other, &frame);
            fixture.row("opens", &frame.bytes(), decision, Some(&quoted.bytes()));
            let kind = errors(family).0[0];
            let message = error(
                ip(family.leaving_router),
                ip(family.translator),
                kind,
                &quoted,
                999,
            );
            let lost = Decision::Drop(DropReason::NoRoute);
            fixture.row_at("no route", leaving, &message.bytes(), lost, None);
        }
    });
}
