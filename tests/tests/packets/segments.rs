//! The largest TCP segment, lowered in handshakes: by NAT for both ends, and at a backend's egress for what clients send to a VIP.

use crate::fixture::{ACK, FAMILIES, Family, Fixture, Kind, RST, SYN, plan, with};
use weir_tests::{
    model::{
        build::Frame,
        parse::{TCP, UDP},
    },
    testrun::{classifier::PASS, snapshot::DECAP_SEGMENT},
};

/// TCX_NEXT, -1: other programs have their turn.
const NEXT: u32 = u32::MAX;

/// What NAT allows.
const MOST: u16 = 1_200;

/// Options of a handshake with this size in them, and what they become when `most` is allowed.
fn options(most: u16) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let size = |size: u16| [&[2, 4][..], &size.to_be_bytes()].concat();
    let rows: [(&str, &[u8], u16, &[u8]); 8] = [
        ("first", &[], 1_460, &[1, 3, 3, 7]),
        ("alone", &[], 9_000, &[]),
        ("just as large", &[], most, &[]),
        ("by one too large", &[], most + 1, &[]),
        ("smaller", &[], 536, &[4, 2, 1, 1]),
        ("at an odd place", &[1], 1_460, &[1, 1, 1]),
        (
            "behind others",
            &[4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1],
            1_460,
            &[1, 1, 1],
        ),
        ("at the very end", &[1; 36], 1_460, &[]),
    ];
    let mut all: Vec<_> = rows
        .into_iter()
        .map(|(name, before, value, after)| {
            let of = |value| [before, &size(value), after].concat();
            (name, of(value), of(value.min(most)))
        })
        .collect();
    let untouched: [(&str, Vec<u8>); 6] = [
        ("none", vec![]),
        ("nothing", vec![1; 40]),
        ("behind the end", vec![0, 1, 1, 1, 2, 4, 35, 40]),
        ("behind one without a length", vec![8, 0, 1, 1, 2, 4, 35, 40]),
        ("inside another", vec![8, 8, 2, 4, 35, 40, 1, 1]),
        ("cut off", vec![1, 1, 2, 4]),
    ];
    all.extend(untouched.map(|(name, options)| (name, options.clone(), options)));
    all
}

fn with_limit(fixture: &mut Fixture, family: &Family) {
    fixture.planned(family, Kind::Other, TCP).max_segment_size = Some(MOST);
}

#[test]
fn nat_lowers_it_for_both_ends() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            with_limit(fixture, family);
        }
        fixture.apply();
        for family in FAMILIES {
            for (port, (name, before, after)) in (40_000..).zip(options(MOST)) {
                let mut frame = family.frame(Kind::Other, TCP, port);
                frame.tcp_options.clone_from(&before);
                let (decision, mut out) = fixture.to_backend(family, Kind::Other, &frame);
                out.tcp_options.clone_from(&after);
                fixture.row(name, &frame.bytes(), decision, Some(&out.bytes()));

                let mut answer = fixture.answer(family, Kind::Other, &frame);
                answer.tcp_options.clone_from(&before);
                let mut back = fixture.to_client(&frame, &answer);
                back.tcp_options.clone_from(&after);
                let leaving = fixture.bench.topology.leaving;
                let arriving = fixture.bench.topology.arriving;
                let decision = weir_tests::model::Decision::Redirect(arriving);
                fixture.row_at(name, leaving, &answer.bytes(), decision, Some(&back.bytes()));

                // Only a handshake says it.
                for flags in [ACK, RST] {
                    frame.flags = flags;
                    let (decision, mut out) = fixture.to_backend(family, Kind::Other, &frame);
                    out.tcp_options.clone_from(&before);
                    fixture.row(name, &frame.bytes(), decision, Some(&out.bytes()));
                }
            }
            // Another service's handshake, and UDP.
            let mut other = family.frame(Kind::Same, TCP, 41_001);
            other.tcp_options = vec![2, 4, 5, 180];
            let (decision, out) = fixture.to_backend(family, Kind::Same, &other);
            fixture.row("without a limit", &other.bytes(), decision, Some(&out.bytes()));
            fixture.open(family, Kind::Other, UDP, 41_002);
        }
    });
}

/// What a client on the balancer's host sends, and a backend there answers.
#[test]
fn nat_lowers_it_at_egress() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            fixture.planned(family, Kind::Local, TCP).max_segment_size = Some(MOST);
        }
        fixture.apply();
        for family in FAMILIES {
            let mut frame = family.frame(Kind::Local, TCP, 40_000);
            frame.tcp_options = vec![2, 4, 5, 180];
            let (decision, mut out) = fixture.to_backend(family, Kind::Local, &frame);
            let [high, low] = MOST.to_be_bytes();
            out.tcp_options = vec![2, 4, high, low];
            fixture.row("to a backend here", &frame.bytes(), decision, Some(&out.bytes()));
            let mut answer = Frame::plain(out.destination, out.source, TCP);
            answer.flags = SYN | ACK;
            answer.tcp_options = vec![1, 2, 4, 5, 180, 1, 1, 1];
            let mut expected = answer.clone();
            expected.source = frame.destination;
            expected.destination = frame.source;
            expected.tcp_options = vec![1, 2, 4, high, low, 1, 1, 1];
            let program = fixture.bench.egress("tc_egress").unwrap();
            let leaving = fixture.bench.topology.leaving;
            let (action, sent) = program.run(leaving, 0, &answer.bytes()).unwrap();
            assert_eq!(action, PASS);
            assert_eq!(sent, expected.bytes(), "its answer");
        }
    });
}

#[test]
fn a_backend_lowers_what_it_tells_clients_of_its_vips() {
    let mut plan = plan();
    // Not a VIP that is balanced here.
    plan.decap_vips = vec!["198.18.7.1".parse().unwrap(), "2001:db8:7::1".parse().unwrap()];
    let vips = plan.decap_vips.clone();
    with(plan, |fixture| {
        let program = fixture.bench.egress("tc_segments").unwrap();
        let leaving = fixture.bench.topology.leaving;
        let sent = |frame: &Frame| {
            let (action, sent) = program.run(leaving, 0, &frame.bytes()).unwrap();
            assert_eq!(action, NEXT);
            sent
        };
        for (family, vip) in FAMILIES.into_iter().zip(vips) {
            let client = (family.client.parse().unwrap(), 40_000);
            for (name, before, after) in options(DECAP_SEGMENT) {
                for flags in [SYN, SYN | ACK, ACK] {
                    let mut frame = Frame::tcp((vip, 80), client, flags);
                    frame.tcp_options.clone_from(&before);
                    let mut expected = frame.clone();
                    if flags & SYN != 0 {
                        expected.tcp_options.clone_from(&after);
                    }
                    assert_eq!(sent(&frame), expected.bytes(), "{name}, {flags:#x}");
                    frame.tags = vec![(0x8100, 7)];
                    expected.tags.clone_from(&frame.tags);
                    assert_eq!(sent(&frame), expected.bytes(), "{name}, {flags:#x}, tagged");
                }
            }
            // From another address of this host, of another protocol, and a fragment.
            let mut others = vec![Frame::tcp(
                (family.not_vip.parse().unwrap(), 80),
                client,
                SYN | ACK,
            )];
            others.push(Frame::udp((vip, 80), client));
            let mut fragment = Frame::tcp((vip, 80), client, SYN | ACK);
            fragment.fragment = (true, 0);
            if family.client.contains('.') {
                others.push(fragment);
            }
            for mut frame in others {
                frame.tcp_options = vec![2, 4, 35, 40];
                assert_eq!(sent(&frame), frame.bytes(), "{frame:?}");
            }
        }
    });
}
