//! A short run of what `cargo xtask fuzz l4` does for longer.

use proxy_common::{decap::DecapOutcome, verdict::DropReason};
use weir_tests::testrun::fuzz;

#[test]
fn program_and_model_agree() {
    let run = fuzz::Run {
        packets: 200_000,
        seed: 1,
        threads: 2,
    };
    let tally = fuzz::run(run).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{tally}");
    assert_eq!(tally.packets, run.packets);
    assert!(tally.followed > 0, "no fragment followed another");
    assert!(tally.named > 0, "no connection ID named a backend");
    for outcome in DecapOutcome::ALL {
        assert!(tally.outcomes(*outcome) > 0, "never reached: {}", outcome.label());
    }
    for reason in DropReason::ALL {
        assert!(tally.drops(*reason) > 0, "never dropped: {}", reason.label());
    }
}
