//! The variations that real packets have.

use super::{Generator, quic};
use crate::model::mutate::tcp_options;
use crate::model::{
    build::{Checksum, Frame},
    parse::{TCP, UDP},
    translate::End,
};

impl Generator {
    /// A TCP or UDP packet with the variations that real ones have.
    pub(super) fn dressed(&mut self, source: End, destination: End, protocol: u8) -> Vec<u8> {
        self.dressed_frame(source, destination, protocol).bytes()
    }

    /// The same, to be changed further.
    pub(super) fn dressed_frame(&mut self, source: End, destination: End, protocol: u8) -> Frame {
        let mut frame = Frame::plain(source, destination, protocol);
        let random = &mut self.random;
        if protocol == TCP {
            frame.flags = match random.below(16) {
                0..4 => 0x02,
                4..10 => 0x10,
                10 => 0x11,
                11 => 0x04,
                12 => 0x12,
                _ => random.bits() as u8,
            };
            if random.once_in(4) {
                frame.tcp_options = tcp_options(random);
            }
        }
        frame.ttl = match random.below(64) {
            0 => 0,
            1 => 1,
            2 => 2,
            _ => 64,
        };
        let length = match random.below(64) {
            0 => 1400 + random.below(300),
            1 => 560 + random.below(60),
            2 => 1220 + random.below(60),
            _ => random.below(40),
        };
        frame.payload = if protocol == UDP && random.once_in(3) {
            quic::payload(random, destination.1)
        } else {
            vec![random.bits() as u8; length]
        };
        frame.checksum = match random.below(16) {
            0 => Checksum::Wrong(random.bits() as u16),
            1 => Checksum::Zero,
            _ => Checksum::Right,
        };
        // Half of the checksum's zeros come from here: a right one that is zero.
        if protocol == UDP && random.once_in(16) {
            make_checksum_zero(&mut frame);
        }
        self.dress_outside(&mut frame);
        frame
    }

    /// Variations of the headers around the transport header.
    pub(super) fn dress_outside(&mut self, frame: &mut Frame) {
        let random = &mut self.random;
        if random.once_in(4) {
            frame.class = random.bits() as u8;
        }
        if random.once_in(8) {
            frame.padding = random.below(24);
        }
        if random.once_in(6) {
            let tags = if random.once_in(10) {
                3
            } else {
                1 + random.below(2)
            };
            frame.tags = (0..tags)
                .map(|_| (*random.pick(&[0x8100, 0x88a8]), random.bits() as u16))
                .collect();
        }
        if random.once_in(16) {
            frame.options = vec![1; 4 * random.below(11)];
        }
        if random.once_in(64) {
            frame.fragment = (random.once_in(2), random.below(0x2000) as u16);
        }
        if random.once_in(10) {
            let count = random.below(8);
            frame.extensions = (0..count)
                .map(|_| (*random.pick(&[0, 43, 60]), random.below(3) as u8))
                .collect();
            if random.once_in(8) {
                frame.extensions.push((44, 0));
            }
        }
    }
}

/// Chooses the payload so that the right checksum is the number zero, which is sent as 0xffff.
fn make_checksum_zero(frame: &mut Frame) {
    frame.checksum = Checksum::Right;
    frame.payload = vec![0; 2];
    let transport = frame.packet();
    let end = transport.len();
    // With a zero word as payload the checksum is what that word must be for the sum to be all ones.
    let field = end - 2 - 2;
    let checksum = [transport[field], transport[field + 1]];
    frame.payload = checksum.to_vec();
}
