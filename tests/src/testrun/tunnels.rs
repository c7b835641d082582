//! Random packets of tunnels through the real program of a backend's host and the model: they must agree on every byte and every
//! counter.

use super::{
    Bench,
    compare::{compare, compare_outcomes, report},
    fuzz::{Run, in_threads},
    metadata,
    scenario::{backend_plan, plan, pools},
    tally::{Tally, label},
};
use crate::model::{
    Decision, Model, Outcome,
    generate::{Generator, Pools},
};
use anyhow::{Context, Result, bail};

/// Of a hundred frames so many come by tunnels.
const TUNNELS: usize = 90;

/// Runs frames until all are done or one differs.
///
/// # Errors
/// The difference, with the seed and the step; or what kept the program from running.
pub fn run(run: Run) -> Result<Tally> {
    in_threads(run, one)
}

fn one(packets: u64, seed: u64) -> Result<Tally> {
    let mut bench = Bench::open(&backend_plan()?)?;
    let mut model = bench.model()?;
    let pools = Pools {
        tunnels: TUNNELS,
        ..pools(&plan()?, &bench)?
    };
    let mut generator = Generator::new(pools, seed);
    let mut tally = Tally::default();
    for number in 0..packets {
        step(&mut bench, &mut model, &mut generator)
            .with_context(|| format!("seed {seed}, step {number}"))?;
        tally.packets += 1;
    }
    *tally.verdicts.entry(label(Decision::Pass)).or_default() = packets;
    tally.count_outcomes(&model.tunnels.outcomes);
    Ok(tally)
}

fn step(bench: &mut Bench, model: &mut Model, generator: &mut Generator) -> Result<()> {
    let input = generator.next(model);
    let before = model.tunnels.outcomes.values().sum::<u64>();
    let delivered = model.deliver(&input.frame);
    let expected = Outcome {
        decision: Decision::Pass,
        frame: delivered.unwrap_or_else(|| input.frame.clone()),
        touched: Vec::new(),
        stamped: None,
        tracked: Vec::new(),
        answered: None,
    };
    let ran = bench.run(&input)?;
    if let Err(difference) = compare(&expected, &ran, metadata(&input)) {
        bail!("{}", report(&input, &expected, &ran, &difference.to_string()));
    }
    // What isn't counted shows when something is.
    if model.tunnels.outcomes.values().sum::<u64>() != before {
        compare_outcomes(&model.tunnels.outcomes, bench.maps())?;
    }
    Ok(())
}
