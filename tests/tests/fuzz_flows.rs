//! A short run of what `cargo xtask fuzz flows` does for longer.

use weir_tests::testrun::schedules::{Run, SERVICES, run};

/// Each has one round. The seed is one whose four rounds reach everything, a restart each among it.
const THREADS: u64 = 4;

#[test]
fn no_established_flow_moves_while_its_backend_lives() {
    let run_of = Run {
        schedules: THREADS * SERVICES,
        seed: 2,
        threads: THREADS,
    };
    let tally = run(run_of).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{tally}");
    assert_eq!(tally.schedules, run_of.schedules);
    let missing: Vec<_> = tally.missing().collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}
