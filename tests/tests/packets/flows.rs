//! Rules 1 and 2 of docs/dataplane.md, "Client to backend", and the bookkeeping.

use crate::fixture::{
    ACK, BACKEND_PORT, FAMILIES, FIN_ACK, Family, Fixture, IPV4, Kind, PORTS, RST, SYN, key, plan, with,
};
use proxy_common::{
    limits::LAST_SEEN_GRAIN_NS,
    values::{FlowValue, flow_flags, seen},
    verdict::DropReason,
};
use std::{thread, time::Duration};
use weir_tests::{
    model::{
        Decision,
        build::Frame,
        flows::peer,
        parse::{TCP, UDP},
    },
    testrun::{coarse_now, snapshot::PlannedBackend},
};

/// The entry of a client's packet, and its peer, as the program has them.
fn entries(fixture: &mut Fixture, frame: &Frame) -> (FlowValue, FlowValue) {
    let maps = fixture.bench.maps();
    let forward = maps.flow(&key(frame)).unwrap().unwrap();
    (forward, maps.flow(&peer(&forward)).unwrap().unwrap())
}

/// Sends a client's segment with other flags on its flow.
fn again(fixture: &mut Fixture, family: &Family, frame: &Frame, flags: u8) {
    let mut frame = frame.clone();
    frame.flags = flags;
    let (decision, out) = fixture.to_backend(family, Kind::Other, &frame);
    fixture.row("again", &frame.bytes(), decision, Some(&out.bytes()));
}

#[test]
fn entries_say_what_packets_become() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            let frame = fixture.open(family, Kind::Other, TCP, 40_000);
            let (forward, backward) = entries(fixture, &frame);
            assert_eq!(forward.flags, 0);
            assert_eq!((forward.seen, forward.peer_seen), (seen::PACKET, 0));
            assert_eq!(forward.destination_port, BACKEND_PORT);
            assert_eq!(backward.flags, flow_flags::REPLY);
            assert_eq!((backward.seen, backward.peer_seen), (0, seen::PACKET));
            assert_eq!(peer(&backward), key(&frame));
            fixture.answered(family, Kind::Other, &frame);
            again(fixture, family, &frame, FIN_ACK);
            again(fixture, family, &frame, RST);
            again(fixture, family, &frame, ACK);
            let (forward, backward) = entries(fixture, &frame);
            assert_eq!(forward.seen, seen::PACKET | seen::FIN | seen::RST);
            assert_eq!((forward.peer_seen, backward.seen), (seen::PACKET, seen::PACKET));
            assert_eq!(backward.peer_seen, forward.seen);
            let local = fixture.open(family, Kind::Local, UDP, 40_000);
            let (forward, backward) = entries(fixture, &local);
            assert_eq!(forward.flags, flow_flags::TO_HOST);
            assert_eq!(backward.flags, flow_flags::REPLY | flow_flags::FROM_HOST);
        }
    });
}

#[test]
fn last_seen_is_stamped() {
    with(plan(), |fixture| {
        let before = coarse_now();
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        let (forward, backward) = entries(fixture, &frame);
        let opened = before..=coarse_now();
        assert!(opened.contains(&forward.last_seen) && opened.contains(&backward.last_seen));
        fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        assert_eq!(
            entries(fixture, &frame).0.last_seen,
            forward.last_seen,
            "no finer"
        );
        thread::sleep(Duration::from_nanos(LAST_SEEN_GRAIN_NS + 50_000_000));
        fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        let (later, idle) = entries(fixture, &frame);
        assert!(later.last_seen > forward.last_seen + LAST_SEEN_GRAIN_NS);
        assert_eq!(idle.last_seen, backward.last_seen, "the other direction's own");
        // Injected time.
        let mut settings = fixture.bench.maps().settings().unwrap();
        settings.clock_offset_ns = 3_600_000_000_000;
        fixture.bench.maps().set_settings(settings).unwrap();
        fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        let (later, _) = entries(fixture, &frame);
        assert!(later.last_seen >= before + settings.clock_offset_ns);
    });
}

#[test]
fn a_syn_reopens_a_closing_flow() {
    with(plan(), |fixture| {
        for family in FAMILIES {
            for (port, last) in [(40_000, FIN_ACK), (40_001, RST)] {
                let frame = fixture.open(family, Kind::Other, TCP, port);
                fixture.answered(family, Kind::Other, &frame);
                again(fixture, family, &frame, SYN);
                let (forward, _) = entries(fixture, &frame);
                assert_eq!(forward.peer_seen, seen::PACKET, "a SYN alone reopens nothing");
                again(fixture, family, &frame, last);
                for not_opening in [ACK, SYN | ACK, SYN | RST, SYN | 0x01] {
                    again(fixture, family, &frame, not_opening);
                    let (forward, _) = entries(fixture, &frame);
                    assert_eq!(forward.peer_seen, seen::PACKET, "flags {not_opening:#x}");
                }
                again(fixture, family, &frame, SYN | 0xc0);
                let (forward, backward) = entries(fixture, &frame);
                assert_eq!((forward.seen, forward.peer_seen), (seen::PACKET, 0));
                assert_eq!((backward.seen, backward.peer_seen), (0, seen::PACKET));
            }
        }
    });
}

/// A FIN from the backend closes as well.
#[test]
fn a_backends_fin_closes() {
    with(plan(), |fixture| {
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        let mut fin = fixture.answer(&IPV4, Kind::Other, &frame);
        fin.flags = FIN_ACK;
        let out = fixture.to_client(&frame, &fin).bytes();
        let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
        let redirect = Decision::Redirect(arriving);
        fixture.row_at("FIN", leaving, &fin.bytes(), redirect, Some(&out));
        let (forward, _) = entries(fixture, &frame);
        assert_eq!(forward.peer_seen, seen::PACKET | seen::FIN);
        again(fixture, &IPV4, &frame, SYN);
        assert_eq!(entries(fixture, &frame).0.peer_seen, 0);
    });
}

/// Adds a second backend to the service and takes the first one's weight, so that new flows go to it.
pub fn second_backend(fixture: &mut Fixture, protocol: u8) {
    let service = fixture.planned(&IPV4, Kind::Other, protocol);
    let mut second = PlannedBackend::new("198.51.100.22:8080").unwrap();
    second.weight = 100;
    service.backends[0].weight = 0;
    service.backends.push(second);
    fixture.apply();
}

/// A packet of an old flow as the second backend gets it.
pub fn to_second(fixture: &Fixture, frame: &Frame) -> (Decision, Vec<u8>) {
    let (decision, mut out) = fixture.to_backend(&IPV4, Kind::Other, frame);
    out.destination.0 = "198.51.100.22".parse().unwrap();
    out.macs = fixture.macs(fixture.bench.topology.leaving, out.destination.0);
    (decision, out.bytes())
}

#[test]
fn a_flow_stays_when_weights_change() {
    with(plan(), |fixture| {
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        second_backend(fixture, TCP);
        again(fixture, &IPV4, &frame, ACK);
        let mut new = frame.clone();
        new.source.1 = 40_001;
        let (decision, out) = to_second(fixture, &new);
        fixture.row("a new one goes to the second", &new.bytes(), decision, Some(&out));
    });
}

#[test]
fn a_draining_backend_keeps_its_flows() {
    with(plan(), |fixture| {
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        let opening = fixture.open(&IPV4, Kind::Other, TCP, 40_001);
        let datagram = fixture.open(&IPV4, Kind::Other, UDP, 40_000);
        fixture.answered(&IPV4, Kind::Other, &frame);
        fixture.answered(&IPV4, Kind::Other, &datagram);
        for protocol in [TCP, UDP] {
            second_backend(fixture, protocol);
            fixture.planned(&IPV4, Kind::Other, protocol).backends[0].drain = true;
        }
        fixture.apply();
        again(fixture, &IPV4, &frame, ACK);
        again(fixture, &IPV4, &datagram, 0);
        again(fixture, &IPV4, &opening, SYN);
        let (decision, out) = to_second(fixture, &frame);
        fixture.row("a SYN starts over", &frame.bytes(), decision, Some(&out));
        let service = fixture.planned(&IPV4, Kind::Other, TCP);
        service.backends[1].weight = 0;
        fixture.apply();
        let mut new = frame.clone();
        new.source.1 = 40_002;
        let nobody = Decision::Drop(DropReason::NoBackend);
        fixture.row("nobody takes new ones", &new.bytes(), nobody, None);
    });
}

#[test]
fn a_dead_backend_loses_its_flows() {
    with(plan(), |fixture| {
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        fixture.answered(&IPV4, Kind::Other, &frame);
        second_backend(fixture, TCP);
        let answer = fixture.answer(&IPV4, Kind::Other, &frame);
        // As the program sees it before the daemon has ended the flows.
        let (forward, _) = entries(fixture, &frame);
        let mut backend = fixture.model.backends[&forward.backend];
        backend.flags |= proxy_common::values::backend_flags::DEAD;
        fixture
            .bench
            .maps()
            .set_backend(forward.backend, backend)
            .unwrap();
        fixture.model.backends.insert(forward.backend, backend);
        let out = fixture.to_client(&frame, &answer).bytes();
        let (arriving, leaving) = (fixture.bench.topology.arriving, fixture.bench.topology.leaving);
        let redirect = Decision::Redirect(arriving);
        fixture.row_at("its last words", leaving, &answer.bytes(), redirect, Some(&out));
        let mut next = frame.clone();
        next.flags = ACK;
        let (decision, out) = to_second(fixture, &next);
        fixture.row("moves at once", &next.bytes(), decision, Some(&out));
        assert!(fixture.bench.maps().flow(&peer(&forward)).unwrap().is_none());
        fixture.row_at("too late", leaving, &answer.bytes(), Decision::Pass, None);
    });
}

#[test]
fn the_daemon_ends_flows_of_the_dead() {
    with(plan(), |fixture| {
        for kind in [Kind::Other, Kind::Same] {
            for port in 0..50 {
                fixture.open(&IPV4, kind, UDP, 40_000 + port);
            }
        }
        fixture.planned(&IPV4, Kind::Other, UDP).backends[0].dead = true;
        fixture.apply();
        fixture.bench.plane().unwrap().expire_flows().unwrap();
        let left = fixture.bench.maps().flows().unwrap();
        assert_eq!(left.len(), 100, "both entries of the living one's flows");
        assert!(left.values().all(|value| fixture.model.has_live_backend(value)));
    });
}

/// A backend that left and came back is another one, even at the same index and address.
#[test]
fn another_incarnation_is_another_backend() {
    with(plan(), |fixture| {
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        let (forward, _) = entries(fixture, &frame);
        let mut backend = fixture.model.backends[&forward.backend];
        backend.incarnation += 1;
        fixture
            .bench
            .maps()
            .set_backend(forward.backend, backend)
            .unwrap();
        fixture.model.backends.insert(forward.backend, backend);
        again(fixture, &IPV4, &frame, ACK);
        let (renewed, _) = entries(fixture, &frame);
        assert_eq!(renewed.incarnation, forward.incarnation + 1);
        backend.incarnation = 0;
        fixture
            .bench
            .maps()
            .set_backend(forward.backend, backend)
            .unwrap();
        fixture.model.backends.insert(forward.backend, backend);
        let free = Decision::Drop(DropReason::NoBackend);
        fixture.row("a freed backend", &frame.bytes(), free, None);
        assert!(fixture.bench.maps().flows().unwrap().is_empty());
    });
}

#[test]
fn idle_flows_end() {
    with(plan(), |fixture| {
        let settings = fixture.bench.maps().settings().unwrap();
        let ago = |seconds: u64| proxy_common::values::Settings {
            clock_offset_ns: (seconds * 1_000_000_000).wrapping_neg(),
            ..settings
        };
        // The machine may have started less than an idle timeout ago.
        let uptime = coarse_now() / 1_000_000_000;
        let idle = (130).min(uptime - 1);
        fixture.bench.maps().set_settings(ago(idle)).unwrap();
        fixture.open(&IPV4, Kind::Other, UDP, 40_000);
        let established = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        fixture.answered(&IPV4, Kind::Other, &established);
        fixture.bench.maps().set_settings(settings).unwrap();
        fixture.open(&IPV4, Kind::Other, UDP, 40_001);
        let (ended, left) = fixture.bench.plane().unwrap().expire_flows().unwrap();
        assert!(idle == 130, "up for {uptime} s only");
        assert_eq!((ended, left), (1, 2));
        assert_eq!(fixture.bench.maps().flows().unwrap().len(), 4);
    });
}

#[test]
fn ports_run_out() {
    let mut plan = plan();
    plan.ports = (PORTS.0, PORTS.0 + 1);
    with(plan, |fixture| {
        let first = fixture.open(&IPV4, Kind::Other, UDP, 40_000);
        let tried = crate::fixture::nat_port(&first, fixture.plan.ports);
        let next = |fixture: &mut Fixture, port: u16| {
            let frame = IPV4.frame(Kind::Other, UDP, port);
            let (decision, mut out) = fixture.to_backend(&IPV4, Kind::Other, &frame);
            out.source.1 = if tried == PORTS.0 { PORTS.0 + 1 } else { PORTS.0 };
            fixture.row("the other port", &frame.bytes(), decision, Some(&out.bytes()));
        };
        next(fixture, 40_001);
        let exhausted = Decision::Drop(DropReason::PortExhausted);
        for port in 40_002..40_020 {
            let frame = IPV4.frame(Kind::Other, UDP, port).bytes();
            fixture.row("no port is left", &frame, exhausted, None);
        }
        fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        fixture.open(&IPV4, Kind::Same, UDP, 40_000);
    });
}

#[test]
fn sixteen_ports_are_probed() {
    let mut plan = plan();
    plan.ports = (PORTS.0, PORTS.0 + 63);
    with(plan, |fixture| {
        let mut full = 0;
        for port in 1000..3000 {
            let frame = IPV4.frame(Kind::Other, UDP, port).bytes();
            let arriving = fixture.bench.topology.arriving;
            let outcome = fixture.model.clone().packet(arriving, &frame, true);
            full += u32::from(outcome.decision == Decision::Drop(DropReason::PortExhausted));
            fixture.row("probes", &frame, outcome.decision, Some(&outcome.frame));
        }
        assert!(full > 1000);
        assert_eq!(
            fixture.bench.maps().flows().unwrap().len(),
            128,
            "all ports were found"
        );
    });
}

#[test]
fn the_flow_table_fills() {
    let mut plan = plan();
    plan.max_flows = 2;
    with(plan, |fixture| {
        fixture.open(&IPV4, Kind::Other, UDP, 40_000);
        let frame = fixture.open(&IPV4, Kind::Other, TCP, 40_001);
        let full = Decision::Drop(DropReason::FlowTableFull);
        let new = IPV4.frame(Kind::Other, UDP, 40_002);
        fixture.row("full", &new.bytes(), full, None);
        again(fixture, &IPV4, &frame, ACK);
        // Half a flow more: room for one entry, none for two.
        let lone = fixture.model.flows[&key(&frame)];
        fixture.bench.maps().remove_flow(&peer(&lone)).unwrap();
        fixture.model.flows.remove(&peer(&lone));
        fixture.row("room for one entry", &new.bytes(), full, None);
        assert_eq!(fixture.bench.maps().flows().unwrap().len(), 3);
        fixture.bench.maps().remove_flow(&key(&frame)).unwrap();
        fixture.model.flows.remove(&key(&frame));
        fixture.open(&IPV4, Kind::Other, UDP, 40_002);
    });
}
