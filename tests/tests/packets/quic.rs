//! docs/dataplane.md, "QUIC connection IDs", in a mode with NAT and one without.

use crate::fixture::{Fixture, IPV4, IPV6, plan, with};
use proxy_common::{net::Protocol, values::BackendValue};
use std::net::{IpAddr, SocketAddr};
use weir::model::{ForwardMode, Quic, ServerId};
use weir_tests::{
    model::{build::Frame, parse::UDP},
    testrun::snapshot::{Plan, PlannedService},
};

/// Port of the service under test.
const PORT: u16 = 443;
/// Its config ID.
const CONFIG_ID: u8 = 3;
/// The port that a client sends from where the table doesn't say otherwise.
const CLIENT_PORT: u16 = 40_000;

/// Backends, each named by its place and 0xee behind that.
fn with_service(mode: ForwardMode, is_ipv4: bool) -> Plan {
    let (vip, backends) = if is_ipv4 {
        (
            IPV4.vip,
            ["198.51.100.20:443", "198.51.100.21:443", "192.0.2.20:443"],
        )
    } else {
        (
            IPV6.vip,
            [
                "[2001:db8:2::20]:443",
                "[2001:db8:2::21]:443",
                "[2001:db8:1::20]:443",
            ],
        )
    };
    let address = SocketAddr::new(vip.parse().unwrap(), PORT).to_string();
    let mut service = PlannedService::new(&address, Protocol::Udp, &backends).unwrap();
    service.mode = mode;
    service.quic = Some(Quic {
        config_id: CONFIG_ID,
        server_id_length: 2,
    });
    for (backend, number) in service.backends.iter_mut().zip(0..) {
        backend.server_id = ServerId::new(&[number, 0xee]);
    }
    Plan {
        services: vec![service],
        ..plan()
    }
}

/// Backends that a packet reached, by their place: what program and model agree on.
fn reached(fixture: &mut Fixture, port: u16, payload: &[u8]) -> Vec<usize> {
    let service = &fixture.plan.services[0];
    let vip = service.address;
    let client: IpAddr = if vip.is_ipv4() { IPV4.client } else { IPV6.client }
        .parse()
        .unwrap();
    let mut frame = Frame::plain((client, port), (vip.ip(), vip.port()), UDP);
    frame.payload = payload.to_vec();
    let before = counted(fixture);
    fixture.agree(&frame);
    let after = counted(fixture);
    (0..after.len()).filter(|at| after[*at] != before[*at]).collect()
}

/// Packets of each backend, by its place.
fn counted(fixture: &mut Fixture) -> Vec<u64> {
    let backends = fixture.plan.services[0].backends.clone();
    let mut packets = Vec::new();
    for backend in backends {
        let mut indices = fixture.model.backends.iter();
        let is_meant = |value: &BackendValue| {
            value.incarnation != 0 && IpAddr::from(value.address) == backend.address.ip()
        };
        let (index, _) = indices.find(|(_, value)| is_meant(value)).unwrap();
        let counters = fixture.bench.maps().backend_counters(*index).unwrap();
        packets.push(counters.packets);
    }
    packets
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x40], id, &[0x77; 24]].concat()
}

fn long(kind: u8, version: u32, id: &[u8], length: u8) -> Vec<u8> {
    [
        &[0xc0 | kind << 4],
        version.to_be_bytes().as_slice(),
        &[length],
        id,
        &[0x77; 24],
    ]
    .concat()
}

/// The ID of a backend by its place.
fn id(place: u8) -> Vec<u8> {
    vec![CONFIG_ID << 5 | 0x1b, place, 0xee, 9, 9, 9, 9]
}

const V1: u32 = 1;

/// What names a backend and what doesn't, from one port: `hashed` is the place of the hash's backend.
fn by_table(fixture: &mut Fixture, mode: ForwardMode, hashed: usize, other: usize) {
    let named = id(other as u8);
    let wrong_config = [&[named[0] ^ 0x20], &named[1..]].concat();
    let table: &[(&str, Vec<u8>, usize)] = &[
        ("a short header", short(&named), other),
        (
            "a short header, the hash's backend",
            short(&id(hashed as u8)),
            hashed,
        ),
        ("of another config", short(&wrong_config), hashed),
        ("unroutable", short(&[0xff; 8]), hashed),
        ("a server ID that nobody has", short(&id(7)), hashed),
        ("the server ID in part", [&[0x40], &named[..2]].concat(), hashed),
        (
            "the server ID's end is the packet's",
            [&[0x40], &named[..3], &[9; 4]].concat(),
            other,
        ),
        (
            "less than 8 bytes",
            [&[0x40], &named[..3], &[9; 3]].concat(),
            hashed,
        ),
        ("nothing", Vec::new(), hashed),
        ("Initial, named", long(0, V1, &named, 7), other),
        ("Initial, the client's own ID", long(0, V1, &[0xe1; 8], 8), hashed),
        ("0-RTT", long(1, V1, &named, 7), other),
        ("Handshake", long(2, V1, &named, 7), other),
        ("of an unknown version", long(2, 0x1a2a_3a4a, &named, 7), other),
        ("an ID of three bytes", long(2, V1, &named, 3), other),
        ("an ID too short for a server ID", long(2, V1, &named, 2), hashed),
        ("without an ID", long(2, V1, &named, 0), hashed),
    ];
    for (what, payload, place) in table {
        let found = reached(fixture, CLIENT_PORT, payload);
        assert_eq!(found, [*place], "{mode}: {what}");
        if mode == ForwardMode::Nat {
            // The flow is whose it was at last; a packet that names nobody goes by it.
            let back = reached(fixture, CLIENT_PORT, &short(&id(hashed as u8)));
            assert_eq!(back, [hashed], "{mode}: back after {what}");
        }
    }
}

fn names_a_backend(mode: ForwardMode, is_ipv4: bool) {
    with(with_service(mode, is_ipv4), |fixture| {
        let by_hash = reached(fixture, CLIENT_PORT, &[0; 40]);
        let [hashed] = by_hash[..] else {
            panic!("{by_hash:?}");
        };
        let other = (hashed + 1) % 3;
        by_table(fixture, mode, hashed, other);
        let named = id(other as u8);
        for port in 1_000..1_020 {
            let found = reached(fixture, port, &short(&named));
            assert_eq!(found, [other], "{mode}: from port {port}");
        }

        fixture.plan.services[0].backends[other].drain = true;
        fixture.apply();
        assert_eq!(
            reached(fixture, 2_000, &short(&named)),
            [other],
            "{mode}: it drains"
        );
        fixture.plan.services[0].backends[other].dead = true;
        fixture.apply();
        let found = reached(fixture, CLIENT_PORT, &short(&named));
        assert_eq!(found, [hashed], "{mode}: it is dead");
        fixture.plan.services[0].backends[other].dead = false;
        fixture.apply();
        let plan = fixture.plan.clone();
        fixture.bench.restart(&plan).unwrap();
        fixture.bench.update(&mut fixture.model).unwrap();
        assert_eq!(
            reached(fixture, 2_001, &short(&named)),
            [other],
            "{mode}: after a restart"
        );

        // Another name, and another reading of IDs.
        fixture.plan.services[0].backends[other].server_id = ServerId::new(&[9, 0xee]);
        fixture.apply();
        let found = reached(fixture, CLIENT_PORT, &short(&named));
        assert_eq!(found, [hashed], "{mode}: its old name");
        assert_eq!(
            reached(fixture, 2_002, &short(&id(9))),
            [other],
            "{mode}: its new name"
        );
        fixture.plan.services[0].quic = None;
        fixture.apply();
        let by_flow = reached(fixture, CLIENT_PORT, &short(&id(9)));
        assert_eq!(by_flow, [hashed], "{mode}: no QUIC");
    });
}

#[test]
fn a_connection_id_names_a_backend_with_nat() {
    names_a_backend(ForwardMode::Nat, true);
    names_a_backend(ForwardMode::Nat, false);
}

#[test]
fn a_connection_id_names_a_backend_without_nat() {
    names_a_backend(ForwardMode::Ipip, false);
    names_a_backend(ForwardMode::Gue, true);
    names_a_backend(ForwardMode::DsrL2, true);
}

/// With NAT a client may send to a new connection from a port whose flow is that of one before.
#[test]
fn an_initial_packet_leaves_the_flow_to_a_backend_that_drains() {
    with(with_service(ForwardMode::Nat, true), |fixture| {
        let initial = long(0, V1, &[0xe1; 8], 8);
        let first = reached(fixture, CLIENT_PORT, &initial);
        fixture.plan.services[0].backends[first[0]].drain = true;
        fixture.apply();
        let again = reached(fixture, CLIENT_PORT, &initial);
        assert_eq!(again, first, "nobody has answered: it is the same once more");
        let vip = fixture.plan.services[0].address;
        let client: IpAddr = IPV4.client.parse().unwrap();
        let key = Frame::plain((client, CLIENT_PORT), (vip.ip(), vip.port()), UDP);
        let flow = fixture
            .bench
            .maps()
            .flow(&crate::fixture::key(&key))
            .unwrap()
            .unwrap();
        let from = (flow.destination.into(), flow.destination_port);
        let answer = Frame::plain(from, (flow.source.into(), flow.source_port), UDP);
        fixture.agree_at(fixture.bench.topology.leaving, &answer);
        let going = reached(fixture, CLIENT_PORT, &short(&[0xff; 8]));
        assert_eq!(going, first, "an established flow");
        let new = reached(fixture, CLIENT_PORT, &initial);
        assert_ne!(new, first, "a new connection");
        assert_eq!(
            reached(fixture, CLIENT_PORT, &short(&[0xff; 8])),
            new,
            "its next packet"
        );
    });
}

/// A moving slot gives an Initial packet to its own backend and what it doesn't know to the one before, as of TCP.
#[test]
fn an_initial_packet_opens_a_connection() {
    with(with_service(ForwardMode::Ipip, true), |fixture| {
        // Of ports whose slots are moved away from a backend that drains.
        let before: Vec<_> = (0..60)
            .map(|port| reached(fixture, 3_000 + port, &short(&[0xff; 8])))
            .collect();
        fixture.plan.services[0].backends[0].drain = true;
        fixture.apply();
        let mut moved = 0;
        for (port, before) in (0..60).zip(before) {
            if before != [0] {
                continue;
            }
            moved += 1;
            let unknown = reached(fixture, 3_000 + port, &short(&[0xff; 8]));
            assert_eq!(unknown, [0], "a flow that was there");
            let initial = reached(fixture, 3_000 + port, &long(0, V1, &[0xe1; 8], 8));
            assert_ne!(initial, [0], "a new connection");
            let version_2 = reached(fixture, 3_000 + port, &long(1, 0x6b33_43cf, &[0xe1; 8], 8));
            assert_eq!(version_2, initial, "one of version 2");
            // No Initial of that version.
            let going = reached(fixture, 3_000 + port, &long(0, 0x6b33_43cf, &[0xe1; 8], 8));
            assert_eq!(going, initial, "its next packet");
        }
        assert!(moved > 5, "{moved}");
    });
}
