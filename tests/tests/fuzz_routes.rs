//! A short run of what `cargo xtask fuzz routes` does for longer.

use std::time::SystemTime;
use weir_tests::routes::{Run, Tally, run};

fn agree(pairs: u64, seed: u64) -> Tally {
    println!("seed {seed}");
    let tally = run(Run { pairs, seed }).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{tally}");
    assert_eq!(tally.pairs, pairs);
    tally
}

#[test]
fn compiled_and_linear_agree() {
    let tally = agree(200_000, 1);
    for kind in Tally::KINDS {
        assert!(tally.winners.contains_key(kind), "never reached: {kind}");
    }
}

#[test]
fn they_agree_on_pairs_of_another_seed_each_time() {
    let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    agree(50_000, clock.as_nanos() as u64);
}
