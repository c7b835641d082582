//! What sweeps end while packets come.

use crate::fixture::{FIN_ACK, IPV4, Kind, SYN, key, plan, with};
use weir_tests::{
    model::{build::Frame, flows::peer, parse::TCP},
    testrun::program::{Program, REDIRECT},
};

/// A client's port is free again when TIME_WAIT is over, which is when its last flow has been idle for long enough.
#[test]
fn a_flow_opened_in_the_place_of_one_that_ends_stays() {
    const FLOWS: u16 = 9_000;
    let mut plan = plan();
    plan.ports = (1_024, 32_767);
    with(plan, |fixture| {
        let settings = fixture.bench.maps().settings().unwrap();
        let minute_ago = proxy_common::values::Settings {
            clock_offset_ns: 61_000_000_000u64.wrapping_neg(),
            ..settings
        };
        fixture.bench.maps().set_settings(minute_ago).unwrap();
        let frames: Vec<Frame> = (40_000..40_000 + FLOWS)
            .map(|port| IPV4.frame(Kind::Other, TCP, port))
            .collect();
        let input = |frame: &Frame, flags: u8| {
            let frame = Frame {
                flags,
                ..frame.clone()
            };
            frame.bytes()
        };
        let ifindex = fixture.bench.topology.arriving;
        let send = |program: &mut Program, frame: &[u8]| {
            let ran = program.run(ifindex, frame, 0, frame.len())?;
            anyhow::ensure!(ran.action == REDIRECT, "{}", ran.action);
            Ok(())
        };
        for frame in &frames {
            for flags in [SYN, FIN_ACK] {
                send(fixture.bench.program(), &input(frame, flags)).unwrap();
            }
        }
        fixture.bench.maps().set_settings(settings).unwrap();
        let mut opened = frames.iter().cycle();
        let mut count = 0;
        let open = |program: &mut Program| {
            count += 1;
            send(program, &input(opened.next().unwrap(), SYN))
        };
        fixture.bench.sweep_meanwhile(open).unwrap();
        let flows = fixture.bench.maps().flows().unwrap();
        for frame in frames.iter().take(count) {
            let flow = flows.get(&key(frame)).expect("a flow just opened");
            assert!(flows.contains_key(&peer(flow)), "its answers are dropped");
        }
        assert!(count > 100, "only {count} flows were opened meanwhile");
    });
}
