//! The screen for a daemon with something of everything, and the small formats it is made of.

use super::*;
use crate::admin::status::{
    ConfiguredStatus, DropStatus, ErrorStatus, HealthStatus, InterfaceStatus, L7Status, ServiceStatus,
    SteeringStatus,
};

const NOW: u64 = 1_700_000_000;

fn counters(packets: u64) -> Option<CounterStatus> {
    Some(CounterStatus {
        packets,
        bytes: packets * 100,
        reply_packets: packets,
        flows: 7,
        ..Default::default()
    })
}

fn backend(address: &str, state: BackendState, packets: u64) -> BackendStatus {
    let effective_weight = u32::from(state != BackendState::Unhealthy);
    BackendStatus {
        address: address.into(),
        weight: 1,
        effective_weight,
        share_percent: f64::from(effective_weight) * 50.0,
        state,
        drain: false,
        overridden: None,
        health: None,
        counters: counters(packets),
    }
}

fn kernel() -> KernelStatus {
    KernelStatus {
        generation: Some(3),
        absent: None,
        pin_path: "/sys/fs/bpf/weir".into(),
        interfaces: vec![InterfaceStatus {
            name: "eth0".into(),
            xdp: "generic".into(),
            warning: Some("the driver has no XDP".into()),
        }],
        flows: 1_000,
        tracked_flows: 0,
        drops: vec![
            DropStatus {
                reason: "fragment".into(),
                packets: 0,
            },
            DropStatus {
                reason: "no_backend".into(),
                packets: 12,
            },
        ],
        decap: Vec::new(),
        steering: vec![
            SteeringStatus {
                outcome: "least_loaded".into(),
                connections: 1_000,
            },
            SteeringStatus {
                outcome: "no_worker".into(),
                connections: 0,
            },
        ],
    }
}

fn status() -> Status {
    let mut heavy = backend("198.51.100.1:53", BackendState::Healthy, 1_234_567);
    heavy.weight = 3;
    heavy.overridden = Some(ConfiguredStatus {
        weight: 1,
        drain: false,
    });
    heavy.health = Some(HealthStatus {
        last_error: None,
        changed_unix_seconds: Some(NOW - 3_700),
    });
    let mut dead = backend("198.51.100.2:53", BackendState::Unhealthy, 9);
    let last_error = Some("198.51.100.2:53: connection refused".into());
    dead.health = Some(HealthStatus {
        last_error,
        changed_unix_seconds: Some(NOW - 5),
    });
    Status {
        version: "0.1.0".into(),
        pid: 42,
        started_unix_seconds: NOW - 90_061,
        generation: 4,
        l7: L7Status {
            generation: Some(4),
            steering: "reuseport".into(),
            workers: Vec::new(),
            listeners: Vec::new(),
        },
        kernel: kernel(),
        last_error: Some(ErrorStatus {
            error: "one\ntwo".into(),
            at_unix_seconds: NOW - 61,
        }),
        warnings: vec!["nat.ports: the change takes effect at the next start".into()],
        services: vec![ServiceStatus {
            name: "dns".into(),
            address: "192.0.2.53:53".into(),
            protocol: "udp".into(),
            mode: "nat".into(),
            cluster: "resolvers".into(),
            counters: counters(1_234_576).map(|counters| CounterStatus {
                untracked: 1_500,
                ..counters
            }),
            backends: vec![heavy, dead],
        }],
    }
}

#[test]
fn one_screen() {
    let expected = "\
weir 0.1.0, pid 42, up 1d 1h, generation 4, kernel plane at generation 3
interfaces: eth0 (generic); flows: 1,000
warning: eth0: the driver has no XDP
warning: nat.ports: the change takes effect at the next start
last error, 1m 1s ago: one
  two

SERVICE  VIP                MODE  CLUSTER      PACKETS      BYTES    REPLIES  FLOWS OPENED  DROPS
dns      udp 192.0.2.53:53  nat   resolvers  1,234,576  117.7 MiB  1,234,576             7      0

SERVICE  BACKEND          STATE      WEIGHT          SHARE    PACKETS  FLOWS OPENED  HEALTH CHECK
dns      198.51.100.1:53  healthy    3 (config: 1)  50.0 %  1,234,567             7  passes for 1h 1m
dns      198.51.100.2:53  unhealthy  1               0.0 %          9             7  fails for 5s: 198.51.100.2:53: connection refused

FLOWS NOT REMEMBERED OF  PACKETS
dns                        1,500

L7 CONNECTIONS STEERED  COUNT
least_loaded            1,000

DROP REASON  PACKETS
no_backend        12
";
    assert_eq!(render(&status(), NOW), expected);
}

#[test]
fn without_a_kernel_plane() {
    let mut status = status();
    status.kernel.absent = Some("--no-kernel".into());
    status.services.clear();
    status.kernel.interfaces.clear();
    status.kernel.drops.clear();
    status.kernel.steering.clear();
    status.warnings.clear();
    status.last_error = None;
    let expected = "weir 0.1.0, pid 42, up 1d 1h, generation 4, no kernel plane (--no-kernel)\n";
    assert_eq!(render(&status, NOW), expected);
}

#[test]
fn numbers() {
    for (number, text) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (12_345_678, "12,345,678"),
    ] {
        assert_eq!(grouped(number), text);
    }
    for (bytes, text) in [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_536, "1.5 KiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(scaled(bytes), text);
    }
    for (seconds, text) in [
        (0, "0s"),
        (59, "59s"),
        (60, "1m 0s"),
        (3_661, "1h 1m"),
        (90_061, "1d 1h"),
    ] {
        assert_eq!(age(seconds), text);
    }
}
