//! docs/dataplane.md, "Affinity", in a mode with NAT and one without.

use crate::fixture::{ACK, Fixture, IPV4, IPV6, Kind, SYN, key, plan, with};
use proxy_common::{net::Protocol, values::NO_BACKEND, verdict::DropReason};
use std::{collections::HashSet, net::IpAddr, time::Duration};
use weir::model::{Affinity, ForwardMode, Tracking};
use weir_tests::{
    model::{
        build::Frame,
        parse::{TCP, UDP},
    },
    testrun::snapshot::{Plan, PlannedBackend, PlannedService},
};

/// Port of the service under test.
const PORT: u16 = 60;
/// How long affinity lasts.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// A plan with one more service.
fn with_service(mode: ForwardMode, protocol: Protocol, is_ipv4: bool) -> Plan {
    let (vip, backends) = if is_ipv4 {
        (
            IPV4.vip,
            ["198.51.100.20:80", "198.51.100.21:80", "192.0.2.20:80"],
        )
    } else {
        (
            IPV6.vip,
            [
                "[2001:db8:2::20]:80",
                "[2001:db8:2::21]:80",
                "[2001:db8:1::20]:80",
            ],
        )
    };
    let address = std::net::SocketAddr::new(vip.parse().unwrap(), PORT).to_string();
    let mut service = PlannedService::new(&address, protocol, &backends).unwrap();
    service.mode = mode;
    if mode != ForwardMode::Nat {
        service.tracking = Tracking::Always;
    }
    service.affinity = Some(Affinity {
        timeout: TIMEOUT,
        ipv4_prefix: 25,
        ipv6_prefix: 72,
    });
    Plan {
        services: vec![service],
        ..plan()
    }
}

fn service(fixture: &mut Fixture) -> &mut PlannedService {
    fixture.plan.services.last_mut().unwrap()
}

/// A client's packet to the service.
fn frame(fixture: &mut Fixture, client: &str, port: u16, flags: u8) -> Frame {
    let service = service(fixture);
    let destination = (service.address.ip(), service.address.port());
    let source: IpAddr = client.parse().unwrap();
    let mut frame = Frame::plain((source, port), destination, service.protocol as u8);
    frame.flags = flags;
    frame
}

/// Sends it through the program and the model, which must agree; returns the index of the backend that its flow is stored for.
fn send(fixture: &mut Fixture, frame: &Frame) -> Option<u32> {
    fixture.agree(frame);
    let (key, maps) = (key(frame), fixture.bench.maps());
    let nat = maps.flow(&key).unwrap().map(|flow| flow.backend);
    nat.or(maps.tracked_flow(&key).unwrap().map(|flow| flow.backend))
}

/// Whom this many new flows of a client go to.
fn open(fixture: &mut Fixture, client: &str, ports: std::ops::Range<u16>) -> HashSet<u32> {
    let opened = ports.map(|port| {
        let frame = frame(fixture, client, port, SYN);
        send(fixture, &frame).unwrap_or(NO_BACKEND)
    });
    opened.collect()
}

/// The planned backend that has this index.
fn planned(fixture: &mut Fixture, index: u32) -> &mut PlannedBackend {
    let address = IpAddr::from(fixture.model.backends[&index].address);
    let backends = &mut service(fixture).backends;
    backends
        .iter_mut()
        .find(|backend| backend.address.ip() == address)
        .unwrap()
}

fn pass(fixture: &mut Fixture, time: Duration) {
    fixture.model.settings.clock_offset_ns += time.as_nanos() as u64;
    let settings = fixture.model.settings;
    fixture.bench.maps().set_settings(settings).unwrap();
}

/// Clients: two that count as one, and another.
const CLIENTS: [[&str; 3]; 2] = [
    ["198.19.3.4", "198.19.3.104", "198.19.3.204"],
    ["2001:db8:f::3:4", "2001:db8:f::4:4", "2001:db8:f:0:100::4"],
];

fn follows(mode: ForwardMode, protocol: Protocol, is_ipv4: bool) {
    let [client, same, other] = CLIENTS[usize::from(!is_ipv4)];
    with(with_service(mode, protocol, is_ipv4), |fixture| {
        let first = open(fixture, client, 1_000..1_020);
        assert_eq!(first.len(), 1, "one client's flows");
        let [index] = first.iter().copied().collect::<Vec<_>>()[..] else {
            panic!("one backend");
        };
        assert_eq!(open(fixture, same, 1_000..1_020), first, "the same prefix");
        let others: HashSet<u32> = (0..20).flat_map(|_| open(fixture, other, 1_000..1_001)).collect();
        assert_eq!(others.len(), 1, "another client's flows");

        // Shares change, and a backend comes: the client stays.
        for backend in &mut service(fixture).backends {
            backend.weight = 100;
        }
        planned(fixture, index).weight = 1;
        let new = if is_ipv4 {
            "192.0.2.21:80"
        } else {
            "[2001:db8:1::21]:80"
        };
        let new = PlannedBackend::new(new).unwrap();
        service(fixture).backends.push(new);
        fixture.apply();
        assert_eq!(open(fixture, client, 1_020..1_060), first, "after a change");
        let plan = fixture.plan.clone();
        fixture.bench.restart(&plan).unwrap();
        fixture.bench.update(&mut fixture.model).unwrap();
        assert_eq!(open(fixture, client, 1_060..1_080), first, "after a restart");

        // It drains: its flows stay, and new ones go to one other.
        planned(fixture, index).drain = true;
        fixture.apply();
        let goes_on = frame(fixture, client, 1_070, ACK);
        assert_eq!(send(fixture, &goes_on), Some(index), "an established flow");
        let second = open(fixture, client, 2_000..2_040);
        assert!(second.len() == 1 && second != first, "drained: {second:?}");
        // Nor do they come back afterwards.
        planned(fixture, index).drain = false;
        fixture.apply();
        assert_eq!(open(fixture, client, 2_040..2_060), second, "no longer drained");

        // Each flow prolongs it; after a silence the hash decides anew.
        pass(fixture, TIMEOUT / 2);
        assert_eq!(open(fixture, client, 2_060..2_061), second, "half of the time");
        pass(fixture, TIMEOUT / 2 + Duration::from_secs(5));
        assert_eq!(open(fixture, client, 2_061..2_062), second, "since the last flow");
        let mut after = HashSet::new();
        for port in 2_100..2_140 {
            pass(fixture, TIMEOUT + Duration::from_secs(1));
            after.extend(open(fixture, client, port..port + 1));
        }
        assert!(after.len() > 1, "after its time: {after:?}");
    });
}

#[test]
fn a_clients_flows_follow_one_another() {
    follows(ForwardMode::Nat, Protocol::Tcp, true);
    follows(ForwardMode::Nat, Protocol::Udp, false);
    follows(ForwardMode::Ipip, Protocol::Tcp, false);
    follows(ForwardMode::DsrL2, Protocol::Udp, true);
}

/// What can't be stored doesn't follow affinity: its next packets could not either.
#[test]
fn a_flow_that_finds_no_room_follows_its_slot() {
    for (protocol, number) in [(Protocol::Tcp, TCP), (Protocol::Udp, UDP)] {
        let mut plan = with_service(ForwardMode::Ipip, protocol, true);
        plan.max_tracked_flows = 8;
        with(plan, |fixture| {
            let [client, ..] = CLIENTS[0];
            let stored = open(fixture, client, 1_000..1_008);
            assert_eq!(stored.len(), 1);
            let before = fixture.bench.maps().drops(DropReason::FlowTableFull).unwrap();
            // The model says where they go: it is what `send` compares with.
            assert_eq!(open(fixture, client, 2_000..2_020), HashSet::from([NO_BACKEND]));
            let dropped = fixture.bench.maps().drops(DropReason::FlowTableFull).unwrap() - before;
            assert_eq!(dropped, if number == UDP { 20 } else { 0 }, "{protocol:?}");
            let key = service_key(fixture);
            let index = fixture.model.services[&key].index;
            let counters = fixture.bench.maps().service_counters(index).unwrap();
            assert_eq!(counters.untracked, 20, "{protocol:?}");
        });
    }
}

fn service_key(fixture: &mut Fixture) -> proxy_common::keys::ServiceKey {
    key(&frame(fixture, CLIENTS[0][0], 1, SYN)).service()
}

/// A service without affinity remembers nobody.
#[test]
fn other_services_remember_nobody() {
    with(plan(), |fixture| {
        fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        assert!(fixture.bench.maps().affinities().unwrap().is_empty());
    });
}
