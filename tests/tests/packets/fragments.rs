//! Datagrams in fragments: the later ones follow the first.

use crate::fixture::{FAMILIES, Family, Fixture, IPV4, Kind, PROTOCOLS, ip, plan, with};
use proxy_common::{values::Settings, verdict::DropReason};
use weir_tests::{
    model::{
        Decision,
        build::Frame,
        generate::fragments::split,
        parse::{TCP, UDP},
    },
    testrun::{
        classifier::{PASS, REDIRECT, SHOT},
        coarse_now,
    },
};

const UNKNOWN: Decision = Decision::Drop(DropReason::Fragment);

/// Bytes of a fragment, but for the last of a datagram.
const STEP: usize = 48;

fn fragments(frame: &Frame, identification: u32) -> Vec<Vec<u8>> {
    split(&frame.bytes(), identification, STEP)
}

/// A packet of the near client that makes three fragments.
fn long(family: &Family, kind: Kind, protocol: u8, port: u16) -> Frame {
    let mut frame = family.frame(kind, protocol, port);
    frame.payload = (0..110).collect();
    frame
}

/// Has the model's clock be the program's.
fn keep_time(fixture: &mut Fixture) {
    fixture.model.now = coarse_now() + fixture.model.settings.clock_offset_ns;
}

/// What a datagram's fragments become is what fragments of the translated datagram would be: the checksum in the first one is right.
fn become_those_of(
    fixture: &mut Fixture,
    what: &str,
    ifindex: u32,
    (frame, identification): (&Frame, u32),
    decision: Decision,
    out: &Frame,
) {
    keep_time(fixture);
    let expected = fragments(out, identification);
    for (at, piece) in fragments(frame, identification).iter().enumerate() {
        let what = format!("{what}, fragment {at}");
        fixture.row_at(&what, ifindex, piece, decision, Some(&expected[at]));
    }
}

#[test]
fn of_clients_and_backends() {
    with(plan(), |fixture| {
        let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                for kind in [
                    Kind::Other,
                    Kind::Same,
                    Kind::Routed,
                    Kind::Unresolved,
                    Kind::Local,
                ] {
                    let frame = long(family, kind, protocol, 40_000);
                    let (decision, out) = fixture.to_backend(family, kind, &frame);
                    become_those_of(fixture, "a client's", arriving, (&frame, 7), decision, &out);
                }
                let frame = long(family, Kind::Other, protocol, 40_000);
                let mut answer = fixture.answer(family, Kind::Other, &frame);
                answer.payload = (0..130).collect();
                let out = fixture.to_client(&frame, &answer);
                let decision = Decision::Redirect(arriving);
                become_those_of(fixture, "a backend's", leaving, (&answer, 7), decision, &out);
            }
        }
    });
}

#[test]
fn in_any_order_once_the_first_was_there() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                keep_time(fixture);
                let frame = long(family, Kind::Other, protocol, 40_000);
                let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
                let number = protocol.into();
                let (pieces, out) = (fragments(&frame, number), fragments(&out, number));
                fixture.row("the last, before the first", &pieces[2], UNKNOWN, None);
                for at in [0, 2, 1, 1, 0] {
                    fixture.row("in disorder", &pieces[at], decision, Some(&out[at]));
                }
                let other = fragments(&frame, 100 + number);
                fixture.row("of another datagram", &other[1], UNKNOWN, None);
                let mut elsewhere = frame.clone();
                elsewhere.source.0 = ip(family.far_client);
                fixture.row(
                    "of another client",
                    &fragments(&elsewhere, number)[1],
                    UNKNOWN,
                    None,
                );
            }
        }
    });
}

/// An identification that is used anew is the new datagram's.
#[test]
fn an_identification_used_anew() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for (port, kind) in [(40_000, Kind::Other), (40_001, Kind::Same)] {
                let frame = long(family, kind, UDP, port);
                let arriving = fixture.bench.topology.arriving;
                let (decision, out) = fixture.to_backend(family, kind, &frame);
                become_those_of(fixture, "anew", arriving, (&frame, 1), decision, &out);
            }
        }
    });
}

#[test]
fn are_followed_for_thirty_seconds() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let frame = long(family, Kind::Other, UDP, 40_000);
            let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
            let (pieces, out) = (fragments(&frame, 1), fragments(&out, 1));
            keep_time(fixture);
            fixture.row("the first", &pieces[0], decision, Some(&out[0]));
            for (seconds, decision) in [(25, decision), (10, UNKNOWN)] {
                let clock_offset_ns = fixture.model.settings.clock_offset_ns + seconds * 1_000_000_000;
                let settings = Settings {
                    clock_offset_ns,
                    ..fixture.model.settings
                };
                fixture.bench.maps().set_settings(settings).unwrap();
                fixture.model.settings = settings;
                keep_time(fixture);
                fixture.row("a later one", &pieces[1], decision, Some(&out[1]));
            }
        }
    });
}

#[test]
fn none_is_followed_where_none_is_to_be() {
    let mut none = plan();
    none.max_fragments = 0;
    with(none, |fixture| {
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let frame = long(family, Kind::Other, protocol, 40_000);
                for piece in fragments(&frame, 1) {
                    fixture.row("any", &piece, UNKNOWN, None);
                }
            }
        }
        assert!(fixture.bench.maps().fragments().unwrap().is_empty());
    });
}

/// RFC 1858, RFC 3128, RFC 7112: the whole of the transport header is in the first fragment.
#[test]
fn of_which_the_first_is_too_small() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let frame = long(family, Kind::Other, TCP, 40_000).bytes();
            for step in [8, 16] {
                let pieces = split(&frame, 1, step);
                let cut = Decision::Drop(DropReason::Truncated);
                fixture.row("half a header", &pieces[0], cut, None);
                fixture.row("the other half", &pieces[1], UNKNOWN, None);
            }
            assert!(fixture.bench.maps().fragments().unwrap().is_empty());
        }
    });
}

#[test]
fn that_are_not_a_services() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let mut frame = long(family, Kind::Other, UDP, 40_000);
            frame.destination.1 = 7;
            for piece in fragments(&frame, 1) {
                fixture.row("to a VIP, no such service", &piece, Decision::Pass, None);
            }
            frame.destination.0 = ip(family.not_vip);
            let pieces = fragments(&frame, 2);
            for piece in pieces.iter().rev() {
                fixture.row("to no VIP", piece, Decision::Pass, None);
            }
            let (vip, client) = (ip(family.vip), ip(family.client));
            let request = if client.is_ipv4() { 8 } else { 128 };
            let echo = Frame::icmp(client, vip, (request, 0), vec![1; 200]);
            for piece in fragments(&echo, 3) {
                fixture.row("an echo request", &piece, UNKNOWN, None);
            }
            let stranger = Frame::plain((client, 0), (vip, 0), 47);
            for piece in split(&stranger.bytes(), 4, 8) {
                fixture.row("another protocol", &piece, Decision::Pass, None);
            }
            let known = fixture.bench.maps().fragments().unwrap();
            let not_vip = ip(family.not_vip).into();
            assert!(known.keys().all(|key| key.destination != not_vip), "{known:?}");
        }
    });
}

/// RFC 6946: a packet that says of itself that it is its only fragment is none.
#[test]
fn that_are_whole() {
    with(plan(), |fixture| {
        let family = FAMILIES[1];
        for protocol in PROTOCOLS {
            let mut frame = long(family, Kind::Other, protocol, 40_000);
            let (decision, mut out) = fixture.to_backend(family, Kind::Other, &frame);
            frame.extensions = vec![(44, 0)];
            out.extensions = vec![(44, 0)];
            // The builder's filling of an extension header, in place of the offset and the flag.
            let plain = |frame: &Frame| {
                let mut bytes = frame.bytes();
                bytes[56..58].fill(0);
                bytes
            };
            fixture.row("atomic", &plain(&frame), decision, Some(&plain(&out)));
        }
        assert!(fixture.bench.maps().fragments().unwrap().is_empty());
    });
}

/// The sender hears of the first fragment that doesn't fit, and of no other (RFC 1122 section 3.2.2).
#[test]
fn that_do_not_fit() {
    with(plan(), |fixture| {
        keep_time(fixture);
        let frame = {
            let mut frame = IPV4.frame(Kind::Small, UDP, 40_000);
            frame.payload = vec![3; 2000];
            frame
        };
        let pieces = split(&frame.bytes(), 1, 1000);
        let mut message = 600_u32.to_be_bytes().to_vec();
        message.extend(&pieces[0][14..42]);
        let mut error = Frame::icmp(frame.destination.0, frame.source.0, (3, 4), message);
        error.identification = (0, false);
        error.macs.rotate_left(6);
        let told = Decision::Transmit;
        fixture.row("the first", &pieces[0], told, Some(&error.bytes()));
        let too_large = Decision::Drop(DropReason::MtuExceeded);
        fixture.row("the second", &pieces[1], too_large, None);
        let (decision, out) = fixture.to_backend(&IPV4, Kind::Small, &frame);
        let out = split(&out.bytes(), 1, 1000);
        fixture.row("the last, which fits", &pieces[2], decision, Some(&out[2]));
    });
}

/// Replies of a backend on this host, and what its own clients send.
#[test]
fn that_this_host_sends() {
    with(plan(), |fixture| {
        let egress = fixture.bench.egress("tc_egress").unwrap();
        let ifindex = fixture.bench.topology.arriving;
        let row = |what: &str, frame: &[u8], action: u32, out: &[u8]| {
            let (theirs, bytes) = egress.run(ifindex, 0, frame).unwrap();
            assert_eq!(theirs, action, "{what}: the action");
            if action != SHOT {
                assert_eq!(bytes, out, "{what}: the frame");
            }
        };
        for family in FAMILIES {
            for protocol in PROTOCOLS {
                let frame = fixture.open(family, Kind::Local, protocol, 40_000);
                let mut answer = fixture.answer(family, Kind::Local, &frame);
                answer.payload = (0..110).collect();
                let mut out = answer.clone();
                (out.source, out.destination) = (frame.destination, frame.source);
                let number = protocol.into();
                let (pieces, out) = (fragments(&answer, number), fragments(&out, number));
                row("an answer's last before its first", &pieces[2], PASS, &pieces[2]);
                for (piece, out) in pieces.iter().zip(&out) {
                    row("an answer", piece, PASS, out);
                }
                let mut frame = long(family, Kind::Other, protocol, 40_001);
                frame.source.0 = ip(family.translator);
                let (_, mut out) = fixture.to_backend(family, Kind::Other, &frame);
                (out.ttl, out.macs) = (frame.ttl, frame.macs);
                let (pieces, out) = (fragments(&frame, number), fragments(&out, number));
                row("a client's last before its first", &pieces[2], SHOT, &[]);
                for (piece, out) in pieces.iter().zip(&out) {
                    row("a client's", piece, REDIRECT, out);
                }
            }
        }
    });
}
