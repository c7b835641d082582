//! What the packet tables run on: one service of each kind in both families, and one check that holds
//! the program, the model and the table against each other.

use proxy_common::{keys::FlowKey, net::Protocol};
use std::net::IpAddr;
use weir::model::Role;
use weir_tests::{
    model::{
        Decision, Model, Outcome,
        build::Frame,
        flows::flow_hash,
        generate::Input,
        network::Mac,
        parse::{TCP, UDP},
        translate::End,
    },
    testrun::{
        Bench, coarse_now,
        compare::{compare, compare_entry, report},
        isolated, metadata,
        snapshot::{Plan, PlannedService},
    },
};

/// What a service's one backend is like; the number is the service's port, for TCP and UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// On another interface than the clients.
    Other = 80,
    /// On the clients' interface.
    Same,
    /// Behind a router.
    Routed,
    /// Behind a route with a small MTU.
    Small,
    /// Its neighbour entry is missing.
    Unresolved,
    /// On this host.
    Local,
    /// Behind a blackhole route.
    Blackhole,
    /// Behind a prohibit route.
    Prohibit,
    /// Behind an unreachable route.
    Unreachable,
    /// No route at all.
    NoRoute,
    /// It takes no flows.
    Nobody,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Other,
        Self::Same,
        Self::Routed,
        Self::Small,
        Self::Unresolved,
        Self::Local,
        Self::Blackhole,
        Self::Prohibit,
        Self::Unreachable,
        Self::NoRoute,
        Self::Nobody,
    ];
}

/// Port of every backend.
pub const BACKEND_PORT: u16 = 8080;
/// First and last NAT port.
pub const PORTS: (u16, u16) = (2000, 2999);
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const FIN_ACK: u8 = 0x11;
pub const RST: u8 = 0x04;

/// The addresses of one family.
pub struct Family {
    pub vip: &'static str,
    /// A VIP without a neighbour's or anybody's service.
    pub not_vip: &'static str,
    /// A neighbour on the arriving interface.
    pub client: &'static str,
    /// Behind a router on the arriving interface.
    pub far_client: &'static str,
    pub arriving_router: &'static str,
    pub leaving_router: &'static str,
    pub translator: &'static str,
    /// In the order of [`Kind::ALL`].
    pub backends: [&'static str; 11],
}

pub const IPV4: Family = Family {
    vip: "198.18.0.1",
    not_vip: "198.18.0.99",
    client: "192.0.2.10",
    far_client: "198.19.3.4",
    arriving_router: "192.0.2.254",
    leaving_router: "198.51.100.254",
    translator: "192.0.2.1",
    backends: [
        "198.51.100.20",
        "192.0.2.20",
        "203.0.113.5",
        "203.0.113.70",
        "198.51.100.66",
        "198.51.100.1",
        "203.0.113.130",
        "203.0.113.195",
        "203.0.113.230",
        "198.18.200.9",
        "198.51.100.21",
    ],
};

pub const IPV6: Family = Family {
    vip: "2001:db8:a::1",
    not_vip: "2001:db8:a::99",
    client: "2001:db8:1::10",
    far_client: "2001:db8:f::3:4",
    arriving_router: "2001:db8:1::fe",
    leaving_router: "2001:db8:2::fe",
    translator: "2001:db8:1::1",
    backends: [
        "2001:db8:2::20",
        "2001:db8:1::20",
        "2001:db8:3::5",
        "2001:db8:4::70",
        "2001:db8:2::66",
        "2001:db8:2::1",
        "2001:db8:5::1",
        "2001:db8:6::1",
        "2001:db8:7::1",
        "2001:db8:99::9",
        "2001:db8:2::21",
    ],
};

pub const FAMILIES: [&Family; 2] = [&IPV4, &IPV6];
pub const PROTOCOLS: [u8; 2] = [TCP, UDP];

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Family {
    pub fn backend(&self, kind: Kind) -> End {
        (ip(self.backends[kind as usize - 80]), BACKEND_PORT)
    }

    pub fn service(&self, kind: Kind) -> End {
        (ip(self.vip), kind as u16)
    }

    /// A packet of the near client to a service.
    pub fn frame(&self, kind: Kind, protocol: u8, port: u16) -> Frame {
        let mut frame = Frame::plain((ip(self.client), port), self.service(kind), protocol);
        frame.flags = SYN;
        frame
    }
}

/// The source port NAT tries first for a client's packet.
pub fn nat_port(frame: &Frame, ports: (u16, u16)) -> u16 {
    let hash = flow_hash(frame.source, frame.destination, frame.protocol);
    let count = u64::from(ports.1 - ports.0) + 1;
    ports.0 + (((hash & 0xffff_ffff) * count) >> 32) as u16
}

/// The plan with a service of each kind.
pub fn plan() -> Plan {
    let mut services = Vec::new();
    for family in FAMILIES {
        for kind in Kind::ALL {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let show = |(address, port)| std::net::SocketAddr::new(address, port).to_string();
                let backend = show(family.backend(kind));
                let mut service =
                    PlannedService::new(&show(family.service(kind)), protocol, &[&backend]).unwrap();
                service.backends[0].weight = u32::from(kind != Kind::Nobody);
                services.push(service);
            }
        }
    }
    Plan {
        services,
        ports: PORTS,
        max_flows: 10_000,
        max_tracked_flows: 10_000,
        max_fragments: 10_000,
        role: Role::Balancer,
        decap_vips: Vec::new(),
        max_services_backends: (64, 1024),
    }
}

/// The program, the model, and where they are.
pub struct Fixture {
    pub bench: Bench,
    pub model: Model,
    pub plan: Plan,
}

/// Runs a test on its own program, in its own namespace.
pub fn with(plan: Plan, test: impl FnOnce(&mut Fixture) + Send) {
    isolated(move || {
        let bench = Bench::open(&plan)?;
        let model = bench.model()?;
        test(&mut Fixture { bench, model, plan });
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

impl Fixture {
    /// The time on the programs' clock.
    pub fn now(&self) -> u64 {
        coarse_now().wrapping_add(self.model.settings.clock_offset_ns)
    }

    /// One row of a table: what it is, frame in, verdict, frame out (none: the frame that came in).
    pub fn row(&mut self, what: &str, frame: &[u8], decision: Decision, out: Option<&[u8]>) {
        self.row_at(what, self.bench.topology.arriving, frame, decision, out);
    }

    pub fn row_at(&mut self, what: &str, ifindex: u32, frame: &[u8], decision: Decision, out: Option<&[u8]>) {
        let input = Input {
            ifindex,
            frame: frame.to_vec(),
            room: true,
            linear: frame.len(),
        };
        self.check(what, &input, decision, out);
    }

    pub fn check(&mut self, what: &str, input: &Input, decision: Decision, out: Option<&[u8]>) {
        self.model.now = self.now();
        let model = self.model.packet(input.ifindex, &input.frame, input.room);
        let expected = Outcome {
            decision,
            frame: out.unwrap_or(&input.frame).to_vec(),
            touched: Vec::new(),
            stamped: None,
            tracked: Vec::new(),
            answered: None,
        };
        let ran = self.bench.run(input).unwrap();
        if let Err(difference) = compare(&expected, &ran, metadata(input)) {
            panic!(
                "{what}: {}",
                report(input, &expected, &ran, &difference.to_string())
            );
        }
        assert_eq!(model.decision, decision, "{what}: the model's verdict");
        if !matches!(decision, Decision::Drop(_)) {
            assert!(model.frame == expected.frame, "{what}: the model's frame");
        }
        for key in &model.touched {
            let theirs = self.bench.maps().flow(key).unwrap();
            compare_entry(key, self.model.flows.get(key), theirs.as_ref())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }

    /// One row of a table: a packet that is dropped, and whose sender is told so by an ICMP error of this type and code.
    pub fn told(&mut self, what: &str, ifindex: u32, frame: &Frame, kind: (u8, u8), rest: u32) {
        let quoted = match (frame.source.0.is_ipv4(), kind) {
            (true, _) => 28,
            (false, (2, _)) => 56,
            (false, _) => 48,
        };
        let mut message = rest.to_be_bytes().to_vec();
        message.extend(&frame.packet()[..quoted]);
        let mut error = Frame::icmp(frame.destination.0, frame.source.0, kind, message);
        error.identification = (0, false);
        error.macs.rotate_left(6);
        error.tags.clone_from(&frame.tags);
        self.row_at(
            what,
            ifindex,
            &frame.bytes(),
            Decision::Transmit,
            Some(&error.bytes()),
        );
    }

    /// Applies the changed plan to the program and the model; both forget the flows that the daemon ended.
    pub fn apply(&mut self) {
        self.bench.apply(&self.plan).unwrap();
        self.bench.update(&mut self.model).unwrap();
        let theirs = self.bench.maps().flows().unwrap();
        self.model.flows.retain(|key, _| theirs.contains_key(key));
    }

    /// The plan's entry for a service.
    pub fn planned(&mut self, family: &Family, kind: Kind, protocol: u8) -> &mut PlannedService {
        let address = family.service(kind);
        self.plan
            .services
            .iter_mut()
            .find(|service| {
                (service.address.ip(), service.address.port()) == address
                    && service.protocol as u8 == protocol
            })
            .unwrap()
    }

    /// Destination and source MAC of a frame that leaves an interface for a neighbour.
    pub fn macs(&self, ifindex: u32, neighbour: IpAddr) -> [u8; 12] {
        let network = &self.bench.topology.network;
        let destination: Mac = network.neighbours[&(ifindex, neighbour)];
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&destination);
        macs[6..].copy_from_slice(&network.interfaces[&ifindex].mac);
        macs
    }

    /// Where a packet to a backend of this kind goes when all is well, and its MAC addresses.
    pub fn hop(&self, family: &Family, kind: Kind) -> (Decision, [u8; 12]) {
        let (arriving, leaving) = (self.bench.topology.arriving, self.bench.topology.leaving);
        let (ifindex, neighbour) = match kind {
            Kind::Same => (arriving, family.backend(kind).0),
            Kind::Routed | Kind::Small => (leaving, ip(family.leaving_router)),
            _ => (leaving, family.backend(kind).0),
        };
        let decision = if ifindex == arriving {
            Decision::Transmit
        } else {
            Decision::Redirect(ifindex)
        };
        (decision, self.macs(ifindex, neighbour))
    }

    /// The client's packet as the backend gets it. Tags go with a redirect.
    pub fn to_backend(&self, family: &Family, kind: Kind, frame: &Frame) -> (Decision, Frame) {
        let mut out = frame.clone();
        out.source = (ip(family.translator), nat_port(frame, self.plan.ports));
        out.destination = family.backend(kind);
        if kind == Kind::Local {
            out.source.0 = frame.source.0;
            return (Decision::Pass, out);
        }
        out.ttl -= 1;
        if kind == Kind::Unresolved {
            out.tags.clear();
            return (Decision::HandOver(self.bench.topology.leaving, None), out);
        }
        let (decision, macs) = self.hop(family, kind);
        out.macs = macs;
        if decision != Decision::Transmit {
            out.tags.clear();
        }
        (decision, out)
    }

    /// The backend's answer to a client's packet, as it comes in on the leaving interface.
    pub fn answer(&self, family: &Family, kind: Kind, frame: &Frame) -> Frame {
        let (_, out) = self.to_backend(family, kind, frame);
        let mut answer = Frame::plain(out.destination, out.source, frame.protocol);
        answer.flags = SYN | ACK;
        answer
    }

    /// That answer as the near client gets it.
    pub fn to_client(&self, frame: &Frame, answer: &Frame) -> Frame {
        let mut out = answer.clone();
        (out.source, out.destination) = (frame.destination, frame.source);
        out.ttl -= 1;
        out.tags.clear();
        out.macs = self.macs(self.bench.topology.arriving, frame.source.0);
        out
    }

    /// Sends a client's packet, checks it, and returns it.
    pub fn open(&mut self, family: &Family, kind: Kind, protocol: u8, port: u16) -> Frame {
        let frame = family.frame(kind, protocol, port);
        let (decision, out) = self.to_backend(family, kind, &frame);
        self.row("opens a flow", &frame.bytes(), decision, Some(&out.bytes()));
        frame
    }

    /// Sends the backend's answer to an opened flow and checks it.
    pub fn answered(&mut self, family: &Family, kind: Kind, frame: &Frame) {
        let answer = self.answer(family, kind, frame);
        let out = self.to_client(frame, &answer);
        let (arriving, leaving) = (self.bench.topology.arriving, self.bench.topology.leaving);
        self.row_at(
            "answers a flow",
            leaving,
            &answer.bytes(),
            Decision::Redirect(arriving),
            Some(&out.bytes()),
        );
    }
}

/// The key of a client's packet in `flows`.
pub fn key(frame: &Frame) -> FlowKey {
    weir_tests::model::flow_key(frame.source, frame.destination, frame.protocol)
}
