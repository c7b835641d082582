//! The daemon's own log under a flood.

use super::support::config;
use anyhow::{Result, ensure};
use rustix::process::Signal;
use std::time::Duration;
use weir_tests::{
    l7::{Raw, Site, Weir},
    lab::until,
};

/// More than stopping takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Clients whose handshakes fail, by the hundred: some lines, then how many more there were.
#[test]
fn a_flood_of_one_line_is_counted() -> Result<()> {
    const CLIENTS: u32 = 300;
    let site = Site::shared();
    let address = site.port();
    let listener = "tls: { self_signed: true }\n";
    let mut weir = Weir::start(
        site,
        &config(site, address, listener, "      - { cluster: backend }", ""),
    )?;
    for _ in 0..CLIENTS {
        let mut raw = Raw::connect(site, address)?;
        // HTTP without TLS.
        raw.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        raw.answer()?.expect(400)?;
    }
    weir.signal(Signal::TERM)?;
    until("its end", LIMIT, || weir.check().is_err().then_some(()))?;
    let log = weir.output();
    let lines = log
        .lines()
        .filter(|line| line.contains("listener web: 127.0.0.1"));
    let (summaries, single): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("more like this"));
    let counted = summaries
        .iter()
        .filter_map(|line| line.split_once("… ")?.1.split(' ').next()?.parse::<u32>().ok());
    // A busy machine takes longer than the window, and has more than one.
    ensure!(
        single.len() + (counted.clone().sum::<u32>() as usize) == CLIENTS as usize,
        "{log}"
    );
    ensure!(
        counted.sum::<u32>() >= CLIENTS / 2,
        "most of them are counted: {log}"
    );
    Ok(())
}
