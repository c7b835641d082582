//! A packet of which program and model must say the same, whatever that is.

use crate::fixture::Fixture;
use weir_tests::{
    model::{Outcome, build::Frame, generate::Input},
    testrun::{
        compare::{compare, report},
        metadata,
    },
};

impl Fixture {
    /// Sends a packet from where clients are through the program and the model, which must agree; returns what they say.
    pub fn agree(&mut self, frame: &Frame) -> Outcome {
        self.agree_at(self.bench.topology.arriving, frame)
    }

    pub fn agree_at(&mut self, ifindex: u32, frame: &Frame) -> Outcome {
        let bytes = frame.bytes();
        let input = Input {
            ifindex,
            linear: bytes.len(),
            frame: bytes,
            room: true,
        };
        self.model.now = self.now();
        let expected = self.model.packet(input.ifindex, &input.frame, input.room);
        let ran = self.bench.run(&input).unwrap();
        if let Err(difference) = compare(&expected, &ran, metadata(&input)) {
            panic!("{}", report(&input, &expected, &ran, &difference.to_string()));
        }
        expected
    }
}
