//! `sk_steer` by BPF_PROG_TEST_RUN: which connections are steered, to whom, and what the daemon leaves in the kernel.

mod choice;
mod lifecycle;
mod services;

use anyhow::{Context, Result};
use std::net::IpAddr;
use weir::model::l7::PortRange;

/// `ADDRESS:PORT` or `ADDRESS:FIRST-LAST`.
fn range(text: &str) -> Result<PortRange> {
    let (address, ports) = text.rsplit_once(':').context("no port")?;
    let address: IpAddr = address.trim_matches(['[', ']']).parse()?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    Ok(PortRange {
        address,
        first: first.parse()?,
        last: last.parse()?,
    })
}

fn ranges(texts: &[&str]) -> Result<Vec<PortRange>> {
    texts.iter().map(|text| range(text)).collect()
}
