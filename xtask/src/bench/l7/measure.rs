//! Cases that take turns: work per second of the proxy's CPU time.

use super::{
    Bench,
    job::{Job, Kind, Routes},
    load::Load,
    proxy::{Proxy, Subject},
};
use crate::bench::report::Series;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, TcpListener},
    time::Instant,
};
use weir_tests::lab::interrupted;

/// One proxy at one job.
pub struct Case {
    /// The proxy.
    pub proxy: Proxy,
    /// Work per second of the proxy's CPU time.
    pub per_cpu_second: Series,
    /// Work per second.
    pub per_second: Series,
    /// How much of its CPU the proxy used, 0 to 1.
    pub busy: Series,
    load: Load,
    /// Of the latest measurement.
    rate: Option<f64>,
}

impl Bench<'_> {
    /// Starts a proxy at a job, unless it can't do such a one. `number` tells the cases of a scenario apart.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(
        &self,
        subject: Subject,
        kind: Kind,
        routes: Routes,
        to: SocketAddr,
        number: usize,
    ) -> Result<Option<Proxy>> {
        let from = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let job = Job {
            kind,
            routes,
            from,
            to,
        };
        if !subject.can(&job) {
            return Ok(None);
        }
        self.site.start(subject, &job, number).map(Some)
    }

    /// Measures the cases in turn, as many rounds as asked for, after one that isn't counted.
    ///
    /// # Errors
    /// When a proxy fails.
    pub fn measure(&self, cases: &mut [Case]) -> Result<()> {
        for round in 0..=self.arguments.rounds {
            for index in 0..cases.len() {
                // Each goes first in its turn.
                let count = cases.len();
                self.once(&mut cases[(index + round) % count], round > 0)?;
            }
        }
        Ok(())
    }

    fn once(&self, case: &mut Case, counts: bool) -> Result<()> {
        if interrupted() {
            bail!("interrupted");
        }
        let name = case.proxy.subject.name();
        let (cpu, begin) = (case.proxy.cpu_seconds()?, Instant::now());
        let time = self.arguments.time();
        let work = self
            .generators
            .run(&case.load, case.proxy.address, time, case.rate)
            .with_context(|| name.to_owned())?;
        let (seconds, cpu) = (begin.elapsed().as_secs_f64(), case.proxy.cpu_seconds()? - cpu);
        case.rate = Some(work / seconds);
        if counts {
            case.per_cpu_second.push(work / cpu);
            case.per_second.push(work / seconds);
            case.busy.push(cpu / seconds);
        }
        Ok(())
    }
}

impl Case {
    /// Nothing measured yet.
    pub fn new(proxy: Proxy, load: Load) -> Self {
        Self {
            proxy,
            per_cpu_second: Series::default(),
            per_second: Series::default(),
            busy: Series::default(),
            load,
            rate: None,
        }
    }

    /// Everything measured.
    pub fn json(&self) -> Value {
        json!({
            "per_cpu_second": self.per_cpu_second.json(),
            "per_second": self.per_second.json(),
            "busy": self.busy.json(),
            "start_seconds": self.proxy.start.as_secs_f64(),
        })
    }
}
