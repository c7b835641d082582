//! A short run of what `cargo xtask fuzz decap` does for longer.

use proxy_common::decap::DecapOutcome;
use weir_tests::testrun::{fuzz::Run, tunnels};

#[test]
fn program_and_model_agree() {
    let run = Run {
        packets: 100_000,
        seed: 1,
        threads: 2,
    };
    let tally = tunnels::run(run).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{tally}");
    assert_eq!(tally.packets, run.packets);
    for outcome in DecapOutcome::ALL {
        assert!(tally.outcomes(*outcome) > 0, "never reached: {}", outcome.label());
    }
}
