//! Damages frames.

use super::random::Random;

/// Damages a frame in one way: a flipped bit, a telling byte, a cut, a length that lies, a tag, padding.
pub fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    if frame.len() < 15 {
        return;
    }
    match random.below(10) {
        0..4 => {
            // Headers are where it hurts.
            let reach = frame.len().min(120);
            frame[random.below(reach)] ^= 1 << random.below(8);
        }
        4 => {
            let reach = frame.len().min(120);
            frame[random.below(reach)] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
        }
        5..7 => {
            let length = 14 + random.below(frame.len() - 13);
            frame.truncate(length);
        }
        7 => {
            // A lying length: IPv4's total, IPv6's payload, or UDP's, where they usually are.
            let at = *random.pick(&[16, 18, 38, 58]);
            if at + 2 <= frame.len() {
                let length = random.below(frame.len() + 8) as u16;
                frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
            }
        }
        8 => {
            let tag: [u8; 2] = *random.pick(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]);
            let control = random.bits() as u16;
            frame.splice(12..12, [tag, control.to_be_bytes()].concat());
        }
        _ => frame.extend(std::iter::repeat_n(0xa5, 1 + random.below(40))),
    }
}
