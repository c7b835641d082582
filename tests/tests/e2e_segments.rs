//! The largest TCP segment: what clients and servers take over from a handshake in which it was lowered.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::net::{SocketAddr, TcpStream};
use weir_tests::lab::{Daemon, DaemonConfig, DirectSite, Family, Host, Topology, distinct_bytes, exchange};

const ECHO: u16 = DirectSite::ECHO;

/// Bytes of a segment that timestamps take (RFC 7323).
const TIMESTAMPS: u32 = 12;

/// The segment size of a host's one connection to or from a port.
fn segment_size(host: &Host) -> Result<u32> {
    let line = format!("ss -Htin state established ( sport = {ECHO} or dport = {ECHO} )");
    let shown = host.execute(&line)?;
    let sizes: Vec<&str> = shown
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("mss:"))
        .collect();
    ensure!(sizes.len() == 1, "{} connections: {shown}", sizes.len());
    Ok(sizes[0].parse()?)
}

fn connect(host: &Host, vip: SocketAddr) -> Result<TcpStream> {
    host.run(|| TcpStream::connect(vip)).context(vip)
}

/// Starts the backends with this size, or none, and returns what a client takes over.
fn through_tunnels(site: &mut DirectSite, size: Option<serde_json::Value>, family: Family) -> Result<u32> {
    for backend in &mut site.backends {
        let mut config = DirectSite::backend_config();
        if let Some(size) = &size {
            config.value["decap"]["max_segment_size"] = size.clone();
        }
        backend.stop()?;
        backend.write(&config)?;
        backend.start_again()?;
    }
    let _open = connect(&site.topology.client, SocketAddr::new(family.vip(1), ECHO))?;
    segment_size(&site.topology.client)
}

#[test]
fn clients_send_what_fits_into_tunnels() -> Result<()> {
    let mut site = DirectSite::new()?;
    for (family, auto) in [(Family::V4, 1_412), (Family::V6, 1_392)] {
        let daemon = site.balancer("ipip", family, family)?;
        assert_eq!(
            through_tunnels(&mut site, Some(json!("auto")), family)?,
            auto - TIMESTAMPS,
            "{family}"
        );
        let vip = SocketAddr::new(family.vip(1), ECHO);
        exchange(&site.topology.client, vip, &distinct_bytes(1 << 20))?;
        assert_eq!(
            daemon.drops("mtu_exceeded")?,
            0,
            "{family}: nothing was too large"
        );
        assert_eq!(
            through_tunnels(&mut site, Some(json!(1_000)), family)?,
            1_000 - TIMESTAMPS,
            "{family}"
        );
        // Without it servers tell what their link takes.
        let plain = through_tunnels(&mut site, None, family)?;
        ensure!(plain > auto, "{family}: {plain}");
    }
    Ok(())
}

#[test]
fn both_ends_send_what_nat_allows() -> Result<()> {
    let topology = Topology::new()?;
    let _servers = topology.echo_servers(ECHO)?;
    for family in Family::BOTH {
        let vip = SocketAddr::new(family.vip(1), ECHO);
        let endpoint = (SocketAddr::new(family.backend(0), ECHO), 1);
        let mut config = DaemonConfig::standard().service("echo", "tcp", vip, &[endpoint]);
        let plain = {
            let _daemon = Daemon::start(&topology.balancer, &config)?;
            let _open = connect(&topology.client, vip)?;
            segment_size(&topology.client)?
        };
        config.value["listeners"][0]["forward"]["max_segment_size"] = json!(1_000);
        let _daemon = Daemon::start(&topology.balancer, &config)?;
        let open = connect(&topology.client, vip)?;
        for host in [&topology.client, &topology.backends[0]] {
            assert_eq!(
                segment_size(host)?,
                1_000 - TIMESTAMPS,
                "{family}, {}",
                host.name()
            );
        }
        ensure!(plain > 1_000, "{family}: without a limit {plain}");
        drop(open);
        exchange(&topology.client, vip, &distinct_bytes(1 << 20))?;
    }
    Ok(())
}
