//! Which connections are steered: addresses, ports, families and protocols.

use super::ranges;
use anyhow::{Result, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use weir::model::l7::PortRange;
use weir_tests::{
    model::random::Random,
    testrun::{
        isolated,
        steering::{SteerBench, TCP},
    },
};

/// UDP's IANA protocol number.
const UDP: u32 = 17;

#[test]
fn listeners_get_their_addresses_and_ports_and_nothing_else() -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        bench.workers(1)?;
        bench.listen(&ranges(&[
            "198.18.0.1:443",
            "198.18.0.2:8000-8010",
            "198.18.0.3:0-65535",
            "[2001:db8:18::1]:443",
            "[2001:db8:18::2]:1-65534",
            "0.0.0.0:81",
            "[::]:82",
        ])?)?;
        let cases = [
            ("198.18.0.1:443", TCP, true),
            ("198.18.0.1:443", UDP, false),
            ("198.18.0.1:442", TCP, false),
            ("198.18.0.1:444", TCP, false),
            ("198.18.0.4:443", TCP, false),
            ("198.18.0.2:7999", TCP, false),
            ("198.18.0.2:8000", TCP, true),
            ("198.18.0.2:8007", TCP, true),
            ("198.18.0.2:8008", TCP, true),
            ("198.18.0.2:8010", TCP, true),
            ("198.18.0.2:8011", TCP, false),
            ("198.18.0.3:1", TCP, true),
            ("198.18.0.3:65535", TCP, true),
            ("[2001:db8:18::1]:443", TCP, true),
            ("[2001:db8:18::1]:80", TCP, false),
            ("[2001:db8:18::2]:1", TCP, true),
            ("[2001:db8:18::2]:65534", TCP, true),
            ("[2001:db8:18::2]:65535", TCP, false),
            // Every IPv4 address; every address.
            ("203.0.113.9:81", TCP, true),
            ("[2001:db8::9]:81", TCP, false),
            ("203.0.113.9:82", TCP, true),
            ("[2001:db8::9]:82", TCP, true),
            ("203.0.113.9:82", UDP, false),
            ("203.0.113.9:83", TCP, false),
        ];
        for (address, protocol, expected) in cases {
            let steered = bench.lookup(protocol, address.parse()?)?;
            ensure!(
                steered.is_some() == expected,
                "{address}, protocol {protocol}: {steered:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn random_listeners_and_changes_agree_with_the_model() -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        bench.workers(1)?;
        let mut random = Random::new(7);
        let mut before: Vec<PortRange> = Vec::new();
        for round in 0..40 {
            let now = some_ranges(&mut random);
            let mut writes = bench.listen(&now)?;
            ensure!(
                bench.listen(&now)? == 0,
                "round {round}: what is right was written again"
            );
            if now == before {
                writes = 0;
            }
            ensure!(writes <= 4_000, "{writes} writes");
            for range in now.iter().chain(&before) {
                for port in near(range, &mut random) {
                    let addresses = [range.address, Ipv4Addr::new(198, 18, 0, 200).into()];
                    for address in addresses.into_iter().filter(|address| !address.is_unspecified()) {
                        let steered = bench.lookup(TCP, SocketAddr::new(address, port))?.is_some();
                        let expected = now.iter().any(|range| is_of(range, address, port));
                        ensure!(
                            steered == expected,
                            "round {round}, {address}:{port}: {steered} with {now:?}, before {before:?}"
                        );
                    }
                }
            }
            before = now;
        }
        Ok(())
    })
}

/// A wildcard of IPv4 has no IPv6 addresses; that of IPv6 has all.
fn is_of(range: &PortRange, address: IpAddr, port: u16) -> bool {
    let is_its = match range.address {
        IpAddr::V4(wildcard) if wildcard.is_unspecified() => address.is_ipv4(),
        IpAddr::V6(wildcard) if wildcard.is_unspecified() => true,
        own => own == address,
    };
    is_its && (range.first..=range.last).contains(&port)
}

/// Ranges that don't overlap on one address.
fn some_ranges(random: &mut Random) -> Vec<PortRange> {
    let addresses = [
        "198.18.0.1",
        "198.18.0.2",
        "198.18.3.1",
        "0.0.0.0",
        "::",
        "2001:db8:18::1",
        "2001:db8:18::2",
    ];
    let mut ranges = Vec::new();
    for address in addresses {
        let mut next = random.below(3_000) as u32;
        while next < 65_536 && random.below(4) > 0 {
            let longest = *random.pick(&[1, 3, 300, 30_000]);
            let length = 1 + random.below(longest) as u32;
            let last = (next + length - 1).min(65_535);
            ranges.push(PortRange {
                address: address.parse().expect("an address"),
                first: next as u16,
                last: last as u16,
            });
            next = last + 1 + random.below(5_000) as u32;
        }
    }
    ranges
}

fn near(range: &PortRange, random: &mut Random) -> Vec<u16> {
    vec![
        range.first,
        range.last,
        range.first.saturating_sub(1),
        range.last.saturating_add(1),
        random.below(65_536) as u16,
    ]
}
