//! The screen for a daemon with something of everything.

use super::*;
use crate::admin::drain::{DrainState, DrainStatus};
use crate::admin::status::{
    ConfiguredStatus, DropStatus, ErrorStatus, HealthStatus, InterfaceStatus, ListenerStatus, MemoryStatus,
    ServiceStatus, SteeringStatus, WorkerStatus,
};

pub(crate) const NOW: u64 = 1_700_000_000;

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

fn l7() -> L7Status {
    let worker = |connections| WorkerStatus {
        generation: 4,
        connections,
        accepted: 1_000,
        requests: 12_000,
        responses: [0, 11_988, 0, 11, 1],
        received_bytes: 1_536,
        sent_bytes: 3 << 20,
        handshakes_failed: [("no_certificate".to_owned(), 3)].into(),
        accept_errors: 0,
        refused: 0,
        panics: 0,
        replaced: 0,
        missing: false,
    };
    L7Status {
        generation: Some(4),
        steering: "sk_lookup".into(),
        memory: MemoryStatus::default(),
        workers: vec![worker(12), worker(0)],
        listeners: vec![ListenerStatus {
            name: "web".into(),
            addresses: vec!["192.0.2.10:443".into(), "[2001:db8::10]:443".into()],
            protocol: "https".into(),
            routes: 17,
            certificates: [
                ("www.example.com".to_owned(), NOW as i64 + 90 * 86_400),
                ("api.example.com".to_owned(), NOW as i64 + 7_200),
            ]
            .into(),
            log_error: None,
            log_lines_dropped: 0,
        }],
    }
}

pub fn serving() -> DrainStatus {
    DrainStatus {
        ready: true,
        state: DrainState::Serving,
        seconds_left: None,
        connections: 3,
        pid: 42,
        pid_namespace: None,
    }
}

/// Something of everything: a kernel plane behind, a dead backend, drops, a refused change.
pub(crate) fn status() -> Status {
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
        drain: serving(),
        l7: l7(),
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

/// Nothing to complain of, and little there.
pub(crate) fn healthy() -> Status {
    let mut status = status();
    status.kernel.generation = Some(4);
    status.kernel.interfaces[0].warning = None;
    status.kernel.drops[1].packets = 0;
    status.l7.listeners[0].certificates.remove("api.example.com");
    status.warnings.clear();
    status.last_error = None;
    status.services[0].backends[1].state = BackendState::Healthy;
    status.services[0].backends[1].effective_weight = 1;
    status
}

fn screen(status: &Status) -> String {
    render(status, &judge(status, None, NOW), NOW)
}

#[test]
fn one_screen() {
    let expected = "\
degraded: 1 service, 1 of 2 backends, 1 listener
  degraded: the kernel plane is at generation 3, wanted is 4; the last error says why; it is tried again by itself
  degraded: the last change was refused 1m 1s ago: one
      two
  degraded: service dns: 1 of 2 backends unhealthy: 198.51.100.2:53: connection refused; look at that endpoint, and at the cluster's health_check
  degraded: listener web: the certificate of api.example.com ends in 2h 0m; replace the file: it is read again by itself
  note: interface eth0: the driver has no XDP
  note: 12 packets were dropped as no_backend; a service has no backend that takes flows
  note: nat.ports: the change takes effect at the next start
weir 0.1.0, pid 42, up 1d 1h, generation 4, kernel plane at generation 3
interfaces: eth0 (generic); flows: 1,000

SERVICE  VIP                MODE  CLUSTER      PACKETS      BYTES    REPLIES  FLOWS OPENED  DROPS
dns      udp 192.0.2.53:53  nat   resolvers  1,234,576  117.7 MiB  1,234,576             7      0

SERVICE  BACKEND          STATE      WEIGHT          SHARE    PACKETS  FLOWS OPENED  HEALTH CHECK
dns      198.51.100.1:53  healthy    3 (config: 1)  50.0 %  1,234,567             7  passes for 1h 1m
dns      198.51.100.2:53  unhealthy  1               0.0 %          9             7  fails for 5s: 198.51.100.2:53: connection refused

LISTENER  PROTOCOL  ADDRESS              ROUTES  CERTIFICATE
web       https     192.0.2.10:443 (+1)      17  ends in 2h 0m

WORKER  CONNECTIONS  ACCEPTED  REQUESTS  4XX  5XX  RECEIVED     SENT  FAILED HANDSHAKES
0                12     1,000    12,000   11    1   1.5 KiB  3.0 MiB                  3
1                 0     1,000    12,000   11    1   1.5 KiB  3.0 MiB                  3

FLOWS NOT REMEMBERED OF  PACKETS
dns                        1,500

L7 CONNECTIONS STEERED  COUNT
least_loaded            1,000

DROP REASON  PACKETS
no_backend        12
";
    assert_eq!(screen(&status()), expected);
}

#[test]
fn without_a_kernel_plane() {
    let mut status = healthy();
    status.kernel.absent = Some("--no-kernel".into());
    status.services.clear();
    status.l7.listeners.clear();
    status.kernel.interfaces.clear();
    status.kernel.drops.clear();
    status.kernel.steering.clear();
    let expected = "\
healthy: 0 services, 0 of 0 backends
weir 0.1.0, pid 42, up 1d 1h, generation 4, no kernel plane (--no-kernel)
";
    assert_eq!(screen(&status), expected);
}
