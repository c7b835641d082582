//! What the daemon leaves in the kernel: entries, sockets, links and routes.

use super::ranges;
use anyhow::{Result, ensure};
use std::{net::SocketAddr, process::Command};
use weir::model::l7::PortRange;
use weir_tests::{
    lab::tool,
    testrun::{
        isolated,
        steering::{SteerBench, TCP},
    },
};

fn ip(line: &str) -> Result<String> {
    let output = Command::new(tool("ip")?).args(line.split(' ')).output()?;
    ensure!(
        output.status.success(),
        "ip {line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Weir's routes, sorted.
fn routes() -> Result<Vec<String>> {
    let mut routes = Vec::new();
    for family in ["-4", "-6"] {
        let shown = ip(&format!("{family} route show table local proto 87"))?;
        routes.extend(shown.lines().map(|line| {
            let mut words = line.split_whitespace();
            words
                .find(|word| word.contains(['.', ':']))
                .unwrap_or(line)
                .to_owned()
        }));
    }
    routes.sort();
    Ok(routes)
}

#[test]
fn vips_on_no_interface_are_routed_here_and_others_left_alone() -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        ip("address add 203.0.113.1/24 dev lo")?;
        // Somebody else's, which looks much alike.
        ip("route add local 198.18.0.77 dev lo proto 87")?;
        let all = [
            "198.18.0.1:443",
            "198.18.0.1:8000-8010",
            "198.18.0.2:443",
            "[2001:db8:18::1]:443",
            "127.0.0.1:81",
            "127.7.7.7:81",
            "[::1]:81",
            "203.0.113.1:443",
            "0.0.0.0:80",
            "[::]:80",
        ];
        bench.listen(&ranges(&all)?)?;
        ensure!(
            routes()? == ["198.18.0.1", "198.18.0.2", "198.18.0.77", "2001:db8:18::1"],
            "{:?}",
            routes()?
        );
        ensure!(bench.listen(&ranges(&all)?)? == 0);
        // One was removed by hand: the next change puts it back.
        ip("route del local 198.18.0.2 dev lo proto 87")?;
        ensure!(bench.listen(&ranges(&all)?)? == 1);
        bench.listen(&ranges(&["198.18.0.2:443"])?)?;
        ensure!(routes()? == ["198.18.0.2", "198.18.0.77"], "{:?}", routes()?);
        // After a restart they are still known.
        bench.restart()?;
        ensure!(
            bench.listen(&ranges(&["198.18.0.3:443"])?)? == 4,
            "an entry and a route in, and as much out"
        );
        ensure!(routes()? == ["198.18.0.3", "198.18.0.77"], "{:?}", routes()?);
        let removed = bench.unload()?;
        ensure!(
            removed.iter().any(|line| line == "local route 198.18.0.3"),
            "{removed:?}"
        );
        ensure!(routes()? == ["198.18.0.77"], "{:?}", routes()?);
        Ok(())
    })
}

#[test]
fn a_restart_keeps_entries_and_forgets_sockets() -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        let listening = ranges(&["198.18.0.1:443", "[2001:db8:18::1]:8000-8999"])?;
        let addresses: [SocketAddr; 2] = ["198.18.0.1:443".parse()?, "[2001:db8:18::1]:8500".parse()?];
        bench.listen(&listening)?;
        bench.workers(2)?;
        for address in addresses {
            ensure!(bench.lookup(TCP, address)?.is_some());
        }
        bench.restart()?;
        for address in addresses {
            ensure!(bench.lookup(TCP, address)?.is_none(), "a dead daemon's socket");
        }
        ensure!(bench.listen(&listening)? == 0, "what is right was written again");
        let _writers = bench.workers(2)?;
        for address in addresses {
            ensure!(bench.lookup(TCP, address)?.is_some());
        }
        Ok(())
    })
}

#[test]
fn pins_of_a_weir_that_did_not_steer_are_adopted() -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        for name in [
            "l7_services",
            "workers",
            "worker_loads",
            "steer_counters",
            "programs/sk_steer",
            "links/netns-sk_steer",
        ] {
            std::fs::remove_file(bench.pins().join(name))?;
        }
        bench.restart()?;
        bench.listen(&ranges(&["198.18.0.1:443"])?)?;
        bench.workers(1)?;
        ensure!(bench.lookup(TCP, "198.18.0.1:443".parse()?)?.is_some());
        Ok(())
    })
}

#[test]
fn too_many_ranges_are_refused_before_the_first_write() -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        bench.workers(1)?;
        bench.listen(&ranges(&["198.18.0.1:443"])?)?;
        // 30 entries each.
        let many: Vec<PortRange> = (0..2_500_u16)
            .map(|n| PortRange {
                address: [198, 19, (n >> 8) as u8, n as u8].into(),
                first: 1,
                last: 65_534,
            })
            .collect();
        let Err(error) = bench.listen(&many) else {
            anyhow::bail!("75,000 entries were taken");
        };
        ensure!(error.to_string().contains("75001 entries"), "{error}");
        ensure!(bench.lookup(TCP, "198.18.0.1:443".parse()?)?.is_some());
        ensure!(bench.lookup(TCP, "198.19.0.1:443".parse()?)?.is_none());
        ensure!(routes()? == ["198.18.0.1"], "{:?}", routes()?);
        Ok(())
    })
}

#[test]
fn a_worker_beyond_the_last_slot_is_refused() -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        let Err(error) = bench.workers(65) else {
            anyhow::bail!("65 workers were taken");
        };
        ensure!(error.to_string().contains("set workers to 64"), "{error}");
        Ok(())
    })
}

#[test]
fn the_link_of_another_namespace_is_replaced() -> Result<()> {
    let pins = isolated(|| {
        // Its pins outlive the namespace, as when a container is started anew.
        Ok(SteerBench::open()?.leave())
    })?;
    isolated(|| {
        let mut bench = SteerBench::open_at(&pins)?;
        bench.listen(&ranges(&["198.18.0.1:443"])?)?;
        bench.workers(1)?;
        // A real connection shows that the program runs in this namespace.
        let stream = std::net::TcpStream::connect("198.18.0.1:443")?;
        ensure!(stream.peer_addr()? == "198.18.0.1:443".parse()?);
        Ok(())
    })
}
