//! Every drop reason is reached, and counted once.

use crate::fixture::{IPV4, IPV6, Kind, plan, with};
use proxy_common::{net::Protocol, verdict::DropReason};
use std::net::{IpAddr, SocketAddr};
use weir::model::{ForwardMode, Rate};
use weir_tests::{
    model::{
        Decision,
        build::Frame,
        generate::Input,
        parse::{TCP, UDP},
    },
    testrun::snapshot::{Plan, PlannedService},
};

/// Where the service is that has a tunnel.
const TUNNEL_PORT: u16 = 47;
/// Where sources are denied, and limited.
const DENYING_PORT: u16 = 48;
const LIMITING_PORT: u16 = 49;

/// A frame that is dropped for this reason, and whether there is room in front of it. The flow table
/// holds one flow, and NAT has one port.
fn frame(reason: DropReason) -> (Frame, bool) {
    let mut frame = IPV4.frame(Kind::Other, UDP, 40_000);
    let mut room = true;
    match reason {
        DropReason::Truncated => frame.payload = vec![0; 100],
        DropReason::BadHeader => frame = IPV4.frame(Kind::Other, TCP, 40_000),
        DropReason::Fragment => frame.fragment.1 = 1,
        DropReason::ExtensionHeaders => {
            frame = IPV6.frame(Kind::Other, UDP, 40_000);
            frame.extensions = vec![(60, 0); 7];
        }
        // Without room nobody is told.
        DropReason::TtlExpired => {
            frame.ttl = 1;
            room = false;
        }
        DropReason::NoBackend => frame = IPV4.frame(Kind::Nobody, UDP, 40_000),
        DropReason::PortExhausted => frame.source.1 = 40_001,
        DropReason::FlowTableFull => frame = IPV4.frame(Kind::Same, UDP, 40_000),
        DropReason::NoRoute => frame = IPV4.frame(Kind::NoRoute, UDP, 40_000),
        DropReason::ForwardingDisabled => {}
        DropReason::MtuExceeded => {
            frame.payload = vec![0; 1600];
            room = false;
        }
        DropReason::NeighbourUnresolved => {
            frame = IPV4.frame(Kind::Unresolved, UDP, 40_000);
            room = false;
        }
        DropReason::Denied => frame.destination.1 = DENYING_PORT,
        DropReason::PacketLimit => frame.destination.1 = LIMITING_PORT,
        DropReason::ConnectionLimit => {
            frame = IPV4.frame(Kind::Other, TCP, 40_000);
            frame.destination.1 = LIMITING_PORT;
            frame.flags = 0x02;
        }
        DropReason::FlowLimit => frame.source.1 = 40_002,
        DropReason::NoHeadroom => {
            frame.destination.1 = TUNNEL_PORT;
            room = false;
        }
    }
    (frame, room)
}

/// The plan of all packet tests, with one NAT port, room for one flow, and services for what else can happen.
fn plan_for_all() -> Plan {
    let mut plan = plan();
    plan.ports = (2000, 2000);
    let (vip, backend) = (IPV4.service(Kind::Other).0, IPV4.backend(Kind::Other));
    let show = |end: (IpAddr, u16)| SocketAddr::from(end).to_string();
    let mut tunnel =
        PlannedService::new(&show((vip, TUNNEL_PORT)), Protocol::Udp, &[&show(backend)]).unwrap();
    tunnel.mode = ForwardMode::Ipip;
    plan.services.push(tunnel.clone());
    let mut denying = tunnel.clone();
    denying.move_to(DENYING_PORT);
    denying.guard.deny = vec!["192.0.2.0/24".parse().unwrap()].into();
    plan.services.push(denying);
    // One packet or connection a source, and no more ever.
    let rate = Some(Rate {
        per_second: 0,
        burst: 1,
    });
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut limiting = tunnel.clone();
        limiting.move_to(LIMITING_PORT);
        limiting.protocol = protocol;
        match protocol {
            Protocol::Tcp => limiting.guard.connections = rate,
            Protocol::Udp => limiting.guard.packets = rate,
        }
        plan.services.push(limiting);
    }
    plan.max_flows = 3;
    plan
}

#[test]
fn every_drop_reason_is_reached_and_counted() {
    with(plan_for_all(), |fixture| {
        fixture.open(&IPV4, Kind::Other, UDP, 40_000);
        // The table must have room for those that need a flow of their own, and none for the last.
        let (last, rest): (Vec<_>, Vec<_>) = DropReason::ALL
            .iter()
            .partition(|reason| **reason == DropReason::FlowTableFull);
        for reason in rest.into_iter().chain(last).copied() {
            let (frame, room) = frame(reason);
            let mut bytes = frame.bytes();
            match reason {
                DropReason::Truncated => bytes.truncate(80),
                DropReason::BadHeader => bytes[14 + 20 + 12] = 0,
                _ => {}
            }
            let topology = &fixture.bench.topology;
            let ifindex = if reason == DropReason::ForwardingDisabled {
                topology.closed
            } else {
                topology.arriving
            };
            let input = Input {
                ifindex,
                linear: bytes.len(),
                frame: bytes,
                room,
            };
            if matches!(reason, DropReason::PacketLimit | DropReason::ConnectionLimit) {
                // The one that it may send.
                fixture.model.packet(input.ifindex, &input.frame, input.room);
                fixture.bench.run(&input).unwrap();
            }
            fixture
                .bench
                .limit_flows(&mut fixture.model, reason == DropReason::FlowLimit)
                .unwrap();
            fixture.check(reason.label(), &input, Decision::Drop(reason), None);
            assert_eq!(
                fixture.bench.maps().drops(reason).unwrap(),
                1,
                "{}",
                reason.label()
            );
        }
        for reason in DropReason::ALL {
            assert_eq!(
                fixture.bench.maps().drops(*reason).unwrap(),
                1,
                "{}",
                reason.label()
            );
        }
        let read = fixture.bench.plane().unwrap().counters().unwrap().drops;
        let expected: Vec<_> = DropReason::ALL.iter().map(|reason| (*reason, 1)).collect();
        assert_eq!(read, expected);
    });
}
