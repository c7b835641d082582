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

/// Up to 40 bytes of options, a multiple of 4: nothing, a segment's size among others, or noise.
pub fn tcp_options(random: &mut Random) -> Vec<u8> {
    let mut options = vec![1; 4 * random.below(11)];
    match random.below(4) {
        0 => options.fill_with(|| random.bits() as u8 & 7),
        1 | 2 if !options.is_empty() => {
            let at = random.below(options.len() - 3);
            let [high, low, ..] = (random.bits() as u16).to_ne_bytes();
            options[at..at + 4].copy_from_slice(&[2, 4, high & 7, low]);
            if at >= 3 {
                // A window's scale somewhere in front (RFC 7323).
                let place = random.below(at - 2);
                options[place..place + 3].copy_from_slice(&[3, 3, 7]);
            }
        }
        _ => {}
    }
    options
}
