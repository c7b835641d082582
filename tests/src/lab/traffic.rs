//! Traffic of all kinds that must not notice what is done to the balancer meanwhile.

use super::{
    DatagramOutcome, Family, LongConnections, NewConnections, NumberedDatagrams, Process, Running, failures,
    until,
};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::{net::SocketAddr, time::Duration};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Between bursts of datagrams.
const PACE: Duration = Duration::from_millis(10);

/// L4 in both families: long connections, new ones, and datagrams.
pub struct Traffic {
    long: Vec<LongConnections>,
    new: Vec<NewConnections>,
    datagrams: Vec<NumberedDatagrams>,
}

impl Traffic {
    /// Starts all, and waits until some has gone through.
    pub fn start(running: &Running) -> Result<Self> {
        let mut traffic = Self {
            long: Vec::new(),
            new: Vec::new(),
            datagrams: Vec::new(),
        };
        for family in Family::BOTH {
            let (client, vip) = (&running.topology.client, Running::vip(family));
            traffic.long.push(running.long(family, 5)?);
            traffic.new.push(running.new_connections(family));
            traffic
                .datagrams
                .push(NumberedDatagrams::start(client, vip, 3, PACE)?);
        }
        traffic.wait()?;
        Ok(traffic)
    }

    /// Until more of everything has gone through.
    pub fn wait(&self) -> Result<()> {
        for one in &self.long {
            one.wait_for_rounds(20, LIMIT)?;
        }
        for one in &self.new {
            one.wait_for(30, LIMIT)?;
        }
        self.datagrams.iter().try_for_each(|one| one.wait_for(80))
    }

    /// Ends all. Nothing was lost, and nothing moved.
    pub fn expect_unnoticed(self) -> Result<()> {
        let long = self.long.into_iter().flat_map(LongConnections::finish);
        let lost: Vec<_> = long.filter(|outcome| outcome.lost.is_some()).collect();
        ensure!(lost.is_empty(), "broken connections: {lost:?}");
        let new: Vec<_> = self.new.into_iter().flat_map(NewConnections::finish).collect();
        ensure!(
            failures(&new).is_empty(),
            "of {}: {:?}",
            new.len(),
            failures(&new)
        );
        let datagrams = self.datagrams.into_iter().flat_map(NumberedDatagrams::finish);
        let is_hurt = |one: &DatagramOutcome| one.trouble.is_some() || one.sent != one.answered;
        let hurt: Vec<_> = datagrams.filter(is_hurt).collect();
        ensure!(hurt.is_empty(), "lost or moved datagrams: {hurt:?}");
        Ok(())
    }
}

/// HTTP/1.1 by wrk: requests on connections that stay open, and requests with one each, both without end.
pub struct Web([Process; 2]);

impl Web {
    /// From the client.
    pub fn start(running: &Running, address: SocketAddr) -> Result<Self> {
        let client = &running.topology.client;
        let wrk = |name: &str, more: &[&str]| -> Result<Process> {
            let mut command = client.command("wrk")?;
            command.args(["-c", "4", "-t", "1", "-d", "3600s", "--timeout", "60s"]);
            command.args(more).arg(format!("http://{address}/"));
            Process::start(&mut command, &client.directory().join(format!("{name}.log")))
        };
        Ok(Self([
            wrk("kept", &[])?,
            wrk("closed", &["-H", "Connection: close"])?,
        ]))
    }

    /// Ends both. Nothing failed.
    pub fn expect_unnoticed(self) -> Result<()> {
        for mut wrk in self.0 {
            wrk.signal(Signal::INT)?;
            until("wrk's end", LIMIT, || wrk.ended())?;
            let output = wrk.output();
            let is_hurt = output.contains("Socket errors") || output.contains("Non-2xx");
            ensure!(output.contains("Requests/sec") && !is_hurt, "{output}");
        }
        Ok(())
    }
}

/// How many requests succeeded by what h2load printed, where all that were answered did. After a GOAWAY it makes requests that never leave
/// it, up to one a stream, and counts them as started and failed: `unsent` of them are no fault.
///
/// # Errors
/// More failed, or it printed something else.
pub fn h2load_succeeded(output: &str, unsent: u64) -> Result<u64> {
    let number = |line: &str, word: &str| -> Result<u64> {
        let line = output.lines().find(|one| one.starts_with(line));
        let mut fields = line.into_iter().flat_map(|line| line.split(&[',', ':']));
        let field = fields.find_map(|part| part.trim().strip_suffix(word));
        let field = field.with_context(|| format!("no {word} in:\n{output}"))?;
        Ok(field.trim().parse()?)
    };
    let (started, succeeded) = (number("requests", "started")?, number("requests", "succeeded")?);
    ensure!(started - succeeded <= unsent, "{output}");
    ensure!(number("status codes", "2xx")? == succeeded, "{output}");
    Ok(succeeded)
}
