//! The guard against floods of new flows: what is dropped, what goes on without being remembered, and what isn't asked at all.

use crate::fixture::{ACK, Fixture, IPV4, Kind, RST, SYN, key, plan, with};
use proxy_common::{net::Protocol, values::FlowBudget, verdict::DropReason};
use std::net::SocketAddr;
use weir::model::{Affinity, ForwardMode, Tracking};
use weir_tests::{
    model::{
        Decision,
        build::Frame,
        parse::{TCP, UDP},
    },
    testrun::snapshot::{Plan, PlannedService},
};

/// Services through tunnels: two that remember all flows, one of them for affinity, and one that remembers those of slots that move.
const ALWAYS: u16 = 60;
const AFFINE: u16 = 61;
const AUTO: u16 = 62;

fn plan_with_tunnels() -> Plan {
    let tunnel = |port: u16, protocol, tracking| {
        let vip = SocketAddr::new(IPV4.vip.parse().unwrap(), port).to_string();
        let backends = ["198.51.100.20:80", "192.0.2.20:80"];
        let mut service = PlannedService::new(&vip, protocol, &backends).unwrap();
        (service.mode, service.tracking) = (ForwardMode::Ipip, tracking);
        service
    };
    let mut affine = tunnel(AFFINE, Protocol::Udp, Tracking::Always);
    affine.affinity = Some(Affinity {
        timeout: std::time::Duration::from_secs(60),
        ipv4_prefix: 32,
        ipv6_prefix: 128,
    });
    let mut plan = plan();
    plan.services.extend([
        tunnel(ALWAYS, Protocol::Tcp, Tracking::Always),
        affine,
        tunnel(AUTO, Protocol::Tcp, Tracking::Auto),
    ]);
    plan
}

fn frame(port: u16, source: u16, flags: u8) -> Frame {
    let protocol = if port == AFFINE { UDP } else { TCP };
    let source = (IPV4.client.parse().unwrap(), source);
    let mut frame = Frame::plain(source, (IPV4.vip.parse().unwrap(), port), protocol);
    frame.flags = flags;
    frame
}

/// Sends it through the program and the model, which must agree; returns the decision.
fn send(fixture: &mut Fixture, frame: &Frame) -> Decision {
    fixture.agree(frame).decision
}

fn limit(fixture: &mut Fixture, is_limited: bool) {
    fixture.bench.limit_flows(&mut fixture.model, is_limited).unwrap();
}

fn is_stored(fixture: &mut Fixture, frame: &Frame) -> bool {
    let stored = fixture.bench.maps().tracked_flow(&key(frame)).unwrap();
    stored.is_some()
}

const LIMITED: Decision = Decision::Drop(DropReason::FlowLimit);

#[test]
fn with_nat_a_new_flow_is_dropped_and_a_known_one_goes_on() {
    with(plan(), |fixture| {
        let known = fixture.open(&IPV4, Kind::Other, TCP, 40_000);
        limit(fixture, true);
        let new = IPV4.frame(Kind::Other, TCP, 40_001);
        fixture.row("new", &new.bytes(), LIMITED, None);
        let mut goes_on = known.clone();
        goes_on.flags = ACK;
        let (decision, out) = fixture.to_backend(&IPV4, Kind::Other, &goes_on);
        fixture.row("known", &goes_on.bytes(), decision, Some(&out.bytes()));
        fixture.answered(&IPV4, Kind::Other, &known);
        // The same ports anew: an entry in another's place.
        goes_on.flags = RST;
        let (decision, out) = fixture.to_backend(&IPV4, Kind::Other, &goes_on);
        fixture.row("it ends", &goes_on.bytes(), decision, Some(&out.bytes()));
        let (decision, out) = fixture.to_backend(&IPV4, Kind::Other, &known);
        fixture.row("its ports anew", &known.bytes(), decision, Some(&out.bytes()));
        limit(fixture, false);
        fixture.open(&IPV4, Kind::Other, TCP, 40_001);
    });
}

#[test]
fn without_nat_a_new_flow_follows_its_slot_without_an_entry() {
    with(plan_with_tunnels(), |fixture| {
        limit(fixture, true);
        for source in 40_000..40_020 {
            assert!(!matches!(
                send(fixture, &frame(ALWAYS, source, SYN)),
                Decision::Drop(_)
            ));
            let goes_on = frame(ALWAYS, source, ACK);
            assert!(!matches!(send(fixture, &goes_on), Decision::Drop(_)));
            assert!(!is_stored(fixture, &goes_on));
            // Its next datagrams could not be told from a new flow's.
            assert_eq!(send(fixture, &frame(AFFINE, source, 0)), LIMITED);
        }
        limit(fixture, false);
        let untracked = |fixture: &mut Fixture, port| {
            let key = key(&frame(port, 1, SYN)).service();
            let index = fixture.model.services[&key].index;
            fixture.bench.maps().service_counters(index).unwrap().untracked
        };
        assert_eq!(untracked(fixture, ALWAYS), 40);
        assert_eq!(untracked(fixture, AFFINE), 20);
        let goes_on = frame(ALWAYS, 40_000, ACK);
        send(fixture, &goes_on);
        assert!(is_stored(fixture, &goes_on), "there is room again");
    });
}

/// A slot that moves away from a backend that drains: SYNs would make its next packets follow the backend before.
#[test]
fn a_syn_that_only_an_entry_keeps_from_a_draining_backend_is_dropped() {
    with(plan_with_tunnels(), |fixture| {
        let service = fixture.plan.services.last_mut().unwrap();
        service.backends[0].drain = true;
        fixture.apply();
        limit(fixture, true);
        let decisions: Vec<Decision> = (40_000..40_040)
            .map(|source| send(fixture, &frame(AUTO, source, SYN)))
            .collect();
        let limited = decisions.iter().filter(|decision| **decision == LIMITED).count();
        assert!((1..40).contains(&limited), "{decisions:?}");
        // Packets of flows from before go where they went.
        for source in 40_000..40_040 {
            assert_ne!(send(fixture, &frame(AUTO, source, ACK)), LIMITED);
        }
    });
}

#[test]
fn a_bucket_gives_what_it_holds() {
    with(plan(), |fixture| {
        // Nothing is added for a time that is still to come.
        let tokens = 5;
        let budget = FlowBudget {
            rate: 100,
            tokens,
            at: u64::MAX,
        };
        fixture.bench.maps().set_flow_budget(budget).unwrap();
        for port in 40_000..40_004 {
            fixture.open(&IPV4, Kind::Other, TCP, port);
        }
        let left = fixture.bench.maps().flow_budgets().unwrap();
        let taken: u32 = left.iter().map(|budget| tokens - budget.tokens).sum();
        assert_eq!(taken, 4, "{left:?}");
        // A second later each is full again.
        let at = fixture.now();
        fixture
            .bench
            .maps()
            .set_flow_budget(FlowBudget {
                tokens: 0,
                at,
                ..budget
            })
            .unwrap();
        fixture.model.settings.clock_offset_ns += 1_000_000_000;
        let settings = fixture.model.settings;
        fixture.bench.maps().set_settings(settings).unwrap();
        fixture.open(&IPV4, Kind::Other, TCP, 41_000);
        let left = fixture.bench.maps().flow_budgets().unwrap();
        assert!(left.iter().any(|budget| budget.tokens == 99), "{left:?}");
    });
}
