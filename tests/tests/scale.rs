//! The sizes that are promised: 10,000 services, 100,000 backends, 4,096 of them of one service.

use anyhow::{Result, ensure};
use proxy_common::net::Protocol;
use std::net::{Ipv4Addr, SocketAddr};
use weir::model::ForwardMode;
use weir_tests::{
    model::{build::Frame, parse::UDP},
    testrun::{
        Bench, isolated,
        program::{REDIRECT, TX},
        snapshot::{Plan, PlannedService},
    },
};

const SERVICES: u32 = 10_000;
const BACKENDS: u32 = 100_000;
/// Of the largest service; the others share what is left.
const LARGEST: u32 = 4_096;

/// Address number `n` behind a base of the documentation or benchmarking ranges.
fn address(base: [u8; 4], n: u32, port: u16) -> SocketAddr {
    SocketAddr::new(
        Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits() + n).into(),
        port,
    )
}

fn service(n: u32, backends: impl Iterator<Item = SocketAddr>) -> Result<PlannedService> {
    let backends: Vec<String> = backends.map(|backend| backend.to_string()).collect();
    let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
    // 10,000 services on 625 VIPs.
    let vip = address([198, 18, 0, 0], n / 16, 8_000 + (n % 16) as u16);
    let mut service = PlannedService::new(&vip.to_string(), Protocol::Udp, &backends)?;
    service.mode = ForwardMode::Ipip;
    // About 100 slots an endpoint for the small ones, 16 for the large one.
    service.table_size = if n == 0 { 65_537 } else { 1_009 };
    Ok(service)
}

/// Backends are neighbours of the arriving interface's network or the leaving one's; most repeat, one a service.
fn plan() -> Result<Plan> {
    let each = (BACKENDS - LARGEST) / (SERVICES - 1);
    let mut services = vec![service(0, (0..LARGEST).map(|n| address([198, 19, 0, 0], n, 80)))?];
    for n in 1..SERVICES {
        let first = LARGEST + (n - 1) * each % 50_000;
        services.push(service(
            n,
            (0..each).map(|at| address([198, 19, 0, 0], first + at, 80)),
        )?);
    }
    Ok(Plan {
        services,
        ports: (1024, 1055),
        max_flows: 16,
        max_tracked_flows: 1024,
        decap: Vec::new(),
        max_services_backends: (SERVICES, BACKENDS),
    })
}

#[test]
fn ten_thousand_services_load_and_one_change_is_a_few_writes() -> Result<()> {
    isolated(|| {
        let mut plan = plan()?;
        let mut bench = Bench::open(&plan)?;
        let counters = bench.plane()?.counters()?;
        ensure!(
            counters.services.len() == SERVICES as usize,
            "{} services",
            counters.services.len()
        );
        let largest = counters
            .services
            .iter()
            .map(|service| service.backends.len())
            .max();
        ensure!(
            largest == Some(LARGEST as usize),
            "{largest:?} backends of the largest service"
        );
        // The last of them forwards.
        let last = plan.services.last().map(|service| service.address);
        let vip = last.map(|vip| (vip.ip(), vip.port()));
        let Some(vip) = vip else { return Ok(()) };
        let frame = Frame::plain(("192.0.2.10".parse()?, 40_000), vip, UDP).bytes();
        let input = weir_tests::model::generate::Input {
            ifindex: bench.topology.arriving,
            linear: frame.len(),
            frame,
            room: true,
        };
        let action = bench.run(&input)?.action;
        ensure!(matches!(action, TX | REDIRECT), "action {action}");
        // One endpoint of one service: its backend, the table that is swapped.
        for service in [0, 5_000] {
            plan.services[service].backends[3].drain = true;
            let writes = bench.apply(&plan)?;
            ensure!(writes == 2, "{writes} map writes for a drain");
            plan.services[service].backends[3].drain = false;
            plan.services[service].backends[3].weight = 7;
            let writes = bench.apply(&plan)?;
            ensure!(writes == 2, "{writes} map writes for a weight");
            let gone = plan.services[service].backends.remove(2);
            let writes = bench.apply(&plan)?;
            ensure!(writes == 2, "{writes} map writes for a removal");
            plan.services[service].backends.push(gone);
            let writes = bench.apply(&plan)?;
            ensure!(
                writes == 3,
                "{writes} map writes for a new endpoint: its counters too"
            );
        }
        Ok(())
    })
}
