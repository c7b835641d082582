//! Which worker is chosen.

use super::ranges;
use anyhow::{Context, Result, ensure};
use proxy_common::steer::SteerOutcome;
use std::net::SocketAddr;
use weir::kernel::steer::LoadWriter;
use weir_tests::testrun::{
    isolated,
    steering::{SteerBench, TCP},
};

const VIP: &str = "198.18.0.1:443";

fn vip() -> SocketAddr {
    VIP.parse().expect("an address")
}

/// A bench with this many workers and a listener on [`VIP`].
fn with_workers(
    count: usize,
    test: impl FnOnce(&mut SteerBench, Vec<weir::kernel::steer::LoadWriter>) -> Result<()> + Send,
) -> Result<()> {
    isolated(|| {
        let mut bench = SteerBench::open()?;
        bench.listen(&ranges(&[VIP])?)?;
        let writers = bench.workers(count)?;
        test(&mut bench, writers)
    })
}

/// As its worker's thread does.
fn beat(writer: &LoadWriter, busy_permille: u32) {
    writer.beat(busy_permille, writer.connections().into());
}

fn count(bench: &mut SteerBench, outcome: SteerOutcome) -> Result<u64> {
    let outcomes = bench.outcomes()?;
    let found = outcomes.iter().find(|(one, _)| *one == outcome);
    Ok(found.context("no such outcome")?.1)
}

#[test]
fn a_burst_that_no_worker_has_seen_yet_is_spread_evenly() -> Result<()> {
    for workers in [1, 2, 4, 7, 64] {
        with_workers(workers, |bench, _| {
            let shares = bench.shares(vip(), 10 * workers)?;
            ensure!(shares.iter().all(|share| *share == 10), "{shares:?}");
            ensure!(count(bench, SteerOutcome::LeastLoaded)? == 10 * workers as u64);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn the_least_loaded_worker_is_chosen_until_it_has_as_many_as_the_others() -> Result<()> {
    with_workers(4, |bench, writers| {
        for (worker, connections) in [50, 10, 30, 50].into_iter().enumerate() {
            (0..connections).for_each(|_| writers[worker].opened());
        }
        let shares = bench.shares(vip(), 60)?;
        ensure!(shares == [0, 40, 20, 0], "{shares:?}");
        // Half are accepted, then all of one worker's connections end.
        (0..20).for_each(|_| writers[1].opened());
        (0..50).for_each(|_| writers[0].closed());
        let shares = bench.shares(vip(), 50)?;
        ensure!(shares == [50, 0, 0, 0], "{shares:?}");
        Ok(())
    })
}

#[test]
fn connections_that_come_and_go_take_turns() -> Result<()> {
    with_workers(4, |bench, writers| {
        let mut shares = [0; 4];
        for _ in 0..4_000 {
            let worker = bench.lookup(TCP, vip())?.context("not steered")?;
            writers[worker].opened();
            writers[worker].closed();
            shares[worker] += 1;
        }
        // Six standard deviations of 4,000 fair draws of one of four are 165.
        ensure!(
            shares.iter().all(|share| (835..1_165).contains(share)),
            "{shares:?}"
        );
        Ok(())
    })
}

#[test]
fn a_busy_worker_is_passed_over_while_the_others_are_not() -> Result<()> {
    with_workers(4, |bench, writers| {
        for (worker, busy) in [1_000, 300, 300, 300].into_iter().enumerate() {
            (0..16).for_each(|_| beat(&writers[worker], busy));
        }
        let shares = bench.shares(vip(), 60)?;
        ensure!(shares == [0, 20, 20, 20], "{shares:?}");
        ensure!(count(bench, SteerOutcome::PassedOverBusy)? == 60);
        // When all are busy, it is the connections that count.
        writers
            .iter()
            .for_each(|writer| (0..16).for_each(|_| beat(writer, 1_000)));
        let shares = bench.shares(vip(), 20)?;
        ensure!(shares == [20, 0, 0, 0], "{shares:?}");
        ensure!(count(bench, SteerOutcome::LeastLoaded)? == 20);
        Ok(())
    })
}

#[test]
fn a_stalled_worker_gets_nothing_while_another_lives() -> Result<()> {
    with_workers(3, |bench, writers| {
        let silence = 2 * proxy_common::steer::STALL_NS;
        bench.silence(1, silence)?;
        let shares = bench.shares(vip(), 40)?;
        ensure!(shares == [20, 0, 20], "{shares:?}");
        ensure!(count(bench, SteerOutcome::PassedOverStalled)? == 40);
        // It is back with its next beat.
        beat(&writers[1], 0);
        let shares = bench.shares(vip(), 20)?;
        ensure!(shares == [0, 20, 0], "{shares:?}");
        // With all stalled it is better to wait than to be refused.
        for worker in 0..3 {
            bench.silence(worker, silence)?;
        }
        let shares = bench.shares(vip(), 30)?;
        ensure!(shares == [10, 10, 10], "{shares:?}");
        ensure!(count(bench, SteerOutcome::AllStalled)? == 30);
        Ok(())
    })
}

#[test]
fn a_worker_without_a_socket_gets_nothing() -> Result<()> {
    with_workers(3, |bench, _writers| {
        bench.plane()?.steering().unregister(0)?;
        let shares = bench.shares(vip(), 20)?;
        ensure!(shares == [0, 10, 10], "{shares:?}");
        // The thread died, and nobody said so.
        bench.close_socket(1);
        let shares = bench.shares(vip(), 20)?;
        ensure!(shares == [0, 0, 20], "{shares:?}");
        bench.close_socket(2);
        ensure!(bench.lookup(TCP, vip())?.is_none());
        ensure!(count(bench, SteerOutcome::NoWorker)? == 1);
        Ok(())
    })
}

#[test]
fn what_a_choice_costs() -> Result<()> {
    for workers in [4, 64] {
        with_workers(workers, |bench, _writers| {
            let mut measured = Vec::new();
            for (name, protocol, address) in [
                ("steered", TCP, VIP),
                ("TCP of no listener", TCP, "198.18.0.9:443"),
                ("UDP", 17, VIP),
            ] {
                let time = bench.time(protocol, address.parse()?, 20_000)?;
                measured.push(format!("{name} {time:?}"));
            }
            // Seen with `--nocapture`; how long it takes depends on the machine.
            println!("{workers} workers: {}", measured.join(", "));
            Ok(())
        })?;
    }
    Ok(())
}
