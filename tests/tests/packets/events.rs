//! Events: nothing is told unasked; asked, what happened is told once, with the packet that it happened to.

use crate::{
    fixture::{ACK, Fixture, IPV4, Kind, key, plan, with},
    flows::{second_backend, to_second},
};
use proxy_common::{
    events::{Event, EventKind, NO_SERVICE, RING, SNAPSHOT},
    fragments::FOLLOWED,
    keys::FlowKey,
    net::Protocol,
    values::{NO_BACKEND, Settings, backend_flags},
    verdict::DropReason,
};
use std::num::NonZeroU32;
use weir::{
    kernel::EventReader,
    model::{ForwardMode, Tracking},
};
use weir_tests::{
    model::{
        Decision,
        build::Frame,
        generate::Input,
        parse::{TCP, UDP},
    },
    testrun::{classifier::SHOT, snapshot::PlannedService},
};

fn listen(fixture: &Fixture, sample: u32) -> EventReader {
    fixture.bench.events(NonZeroU32::new(sample).unwrap()).unwrap()
}

fn all(reader: &mut EventReader) -> Vec<Event> {
    std::iter::from_fn(|| reader.next_event()).collect()
}

/// The one event that was told, of this packet.
fn one(reader: &mut EventReader, kind: EventKind, frame: &[u8], key: &FlowKey) -> Event {
    let events = all(reader);
    assert_eq!(events.len(), 1, "{kind:?}");
    let event = events[0];
    assert_eq!(EventKind::from_code(event.kind), Some(kind));
    assert_eq!(event.length as usize, frame.len());
    let captured = frame.len().min(SNAPSHOT);
    assert_eq!(usize::from(event.captured), captured);
    assert!(
        event.frame[..captured] == frame[..captured],
        "{kind:?}: the frame"
    );
    assert_eq!(&event.key, key);
    event
}

fn drop_one(fixture: &mut Fixture, port: u16) -> Frame {
    let frame = IPV4.frame(Kind::Nobody, UDP, port);
    let decision = Decision::Drop(DropReason::NoBackend);
    fixture.row("dropped", &frame.bytes(), decision, None);
    frame
}

#[test]
fn nothing_is_told_unasked() {
    with(plan(), |fixture| {
        let mut reader = listen(fixture, 1);
        let settings = fixture.bench.maps().settings().unwrap();
        let silent = Settings {
            flags: settings.flags & FOLLOWED,
            ..settings
        };
        fixture.bench.maps().set_settings(silent).unwrap();
        let what_happens = |fixture: &mut Fixture, port| {
            fixture.open(&IPV4, Kind::Other, TCP, port);
            drop_one(fixture, port);
        };
        what_happens(fixture, 40_000);
        assert_eq!(all(&mut reader).len(), 0);
        // It is asked again, as after a daemon's start.
        reader.renew().unwrap();
        assert_eq!(fixture.bench.maps().settings().unwrap(), settings);
        what_happens(fixture, 40_001);
        assert_eq!(all(&mut reader).len(), 2);
        drop(reader);
        assert_eq!(fixture.bench.maps().settings().unwrap(), silent);
        // What nobody took is not for the next one.
        drop(listen(fixture, 1));
        what_happens(fixture, 40_002);
        let mut reader = listen(fixture, 1);
        assert_eq!((all(&mut reader).len(), reader.lost().unwrap()), (0, 0));
    });
}

#[test]
fn a_flow_is_opened_once_and_moves_with_its_backends_death() {
    with(plan(), |fixture| {
        let mut reader = listen(fixture, 1);
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        let opened = one(&mut reader, EventKind::Opened, &frame.bytes(), &key(&frame));
        assert_eq!(opened.ifindex, fixture.bench.topology.arriving);
        assert_eq!(opened.previous, NO_BACKEND);
        assert!(fixture.model.backends[&opened.backend].service == opened.service);
        fixture.answered(&IPV4, Kind::Other, &frame);
        let mut next = frame.clone();
        next.flags = ACK;
        let (decision, out) = fixture.to_backend(&IPV4, Kind::Other, &next);
        fixture.row("goes on", &next.bytes(), decision, Some(&out.bytes()));
        assert_eq!(all(&mut reader).len(), 0, "of a flow that is known");
        second_backend(fixture, TCP);
        let mut backend = fixture.model.backends[&opened.backend];
        backend.flags |= backend_flags::DEAD;
        fixture.bench.maps().set_backend(opened.backend, backend).unwrap();
        fixture.model.backends.insert(opened.backend, backend);
        let (decision, out) = to_second(fixture, &next);
        fixture.row("moves at once", &next.bytes(), decision, Some(&out));
        let moved = one(&mut reader, EventKind::Moved, &next.bytes(), &key(&next));
        assert_eq!((moved.previous, moved.service), (opened.backend, opened.service));
        assert!(moved.backend != opened.backend && moved.backend != NO_BACKEND);
    });
}

/// Without NAT: a flow that is stored is told of, one that follows its slot is not.
#[test]
fn a_stored_flow_is_told_of() {
    let mut plan = plan();
    for (port, tracking) in [(47, Tracking::Always), (48, Tracking::Auto)] {
        let (vip, backend) = (IPV4.service(Kind::Other).0, IPV4.backend(Kind::Other).0);
        let mut tunnel = PlannedService::new(
            &format!("{vip}:{port}"),
            Protocol::Tcp,
            &[&format!("{backend}:{port}")],
        )
        .unwrap();
        (tunnel.mode, tunnel.tracking) = (ForwardMode::Ipip, tracking);
        plan.services.push(tunnel);
    }
    with(plan, |fixture| {
        let mut reader = listen(fixture, 1);
        let mut frame = IPV4.frame(Kind::Other, TCP, 40_000);
        for (port, flags, expected) in [(47, frame.flags, 1), (47, ACK, 0), (48, frame.flags, 0)] {
            (frame.destination.1, frame.flags) = (port, flags);
            let bytes = frame.bytes();
            run(fixture, &bytes);
            if expected == 1 {
                let event = one(&mut reader, EventKind::Opened, &bytes, &key(&frame));
                assert_eq!(event.previous, NO_BACKEND);
            }
            assert_eq!(all(&mut reader).len(), 0, "port {port}");
        }
        frame.ttl = 1;
        let bytes = frame.bytes();
        run(fixture, &bytes);
        let [dropped, answered] = all(&mut reader).try_into().ok().unwrap();
        assert_eq!(dropped.kind, EventKind::Dropped as u8);
        assert_eq!(dropped.frame[..bytes.len()], bytes);
        assert_ne!(dropped.backend, NO_BACKEND);
        assert_eq!(answered.kind, EventKind::Answered as u8);
        // The ICMP error itself: time exceeded, from the VIP to the client.
        assert_eq!(answered.frame[14 + 20..][..2], [11, 0]);
        for event in [dropped, answered] {
            assert_eq!(event.reason, DropReason::TtlExpired as u8);
            assert_eq!(event.key, key(&frame));
        }
    });
}

fn run(fixture: &mut Fixture, frame: &[u8]) {
    let input = Input {
        ifindex: fixture.bench.topology.arriving,
        linear: frame.len(),
        frame: frame.to_vec(),
        room: true,
    };
    fixture.bench.run(&input).unwrap();
}

#[test]
fn a_drop_is_told_with_its_reason() {
    with(plan(), |fixture| {
        let mut reader = listen(fixture, 1);
        let frame = drop_one(fixture, 40_000);
        let event = one(&mut reader, EventKind::Dropped, &frame.bytes(), &key(&frame));
        assert_eq!(
            (event.reason, event.backend),
            (DropReason::NoBackend as u8, NO_BACKEND)
        );
        assert_ne!(event.service, NO_SERVICE);
        // Before its service is known.
        let mut fragment = frame.clone();
        fragment.fragment.1 = 1;
        fragment.payload = vec![7; 1000];
        let bytes = fragment.bytes();
        fixture.row("a fragment", &bytes, Decision::Drop(DropReason::Fragment), None);
        let event = one(&mut reader, EventKind::Dropped, &bytes, &FlowKey::default());
        assert_eq!(
            (event.reason, event.service),
            (DropReason::Fragment as u8, NO_SERVICE)
        );
        // A client on this host.
        let ifindex = fixture.bench.topology.arriving;
        let egress = fixture.bench.egress("tc_egress").unwrap();
        let frame = IPV4.frame(Kind::Nobody, UDP, 40_002);
        let (action, _) = egress.run(ifindex, 0, &frame.bytes()).unwrap();
        assert_eq!(action, SHOT);
        let event = one(&mut reader, EventKind::Dropped, &frame.bytes(), &key(&frame));
        assert_eq!(
            (event.reason, event.ifindex),
            (DropReason::NoBackend as u8, ifindex)
        );
    });
}

#[test]
fn a_sample_is_a_part_and_a_full_ring_is_counted() {
    with(plan(), |fixture| {
        let frame = IPV4.frame(Kind::Nobody, UDP, 40_000).bytes();
        let mut reader = listen(fixture, 4);
        (0..400).for_each(|_| run(fixture, &frame));
        let told = all(&mut reader).len();
        assert!((40..200).contains(&told), "{told} of 400");
        drop(reader);
        let mut reader = listen(fixture, 1);
        let fit = RING as usize / (size_of::<Event>() + 8);
        (0..fit + 100).for_each(|_| run(fixture, &frame));
        let lost = reader.lost().unwrap() as usize;
        let told = all(&mut reader).len();
        assert_eq!(told + lost, fit + 100);
        assert!((90..=110).contains(&lost), "{lost} lost");
    });
}
