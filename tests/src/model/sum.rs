//! One's complement arithmetic (RFC 1071, RFC 1624), as sums modulo 65,535.
//!
//! In that group a checksum is minus the sum of what it covers, and how wrong it is is one number.
//! A translator keeps that number: right stays right, wrong stays wrong by as much (RFC 1624).

/// Zero in the group: 0x0000 and 0xffff are the same number.
const MODULUS: u64 = 0xffff;

/// The sum of big-endian words modulo 65,535; an odd last byte is the high half of a word.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let total: u64 = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)))
        .sum();
    let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    (total + last) % MODULUS
}

/// How wrong a checksum is over words that sum to `covered` (without itself); zero is right.
pub fn error(field: u16, covered: u64) -> u64 {
    (u64::from(field) + covered) % MODULUS
}

/// The checksum over `covered` that is wrong by `error`. With an error of zero this is the
/// complete checksum; never 0xffff, for that and zero are one number and RFC 1624 prefers zero.
pub fn field(error: u64, covered: u64) -> u16 {
    ((error + MODULUS - covered % MODULUS) % MODULUS) as u16
}

/// The same for UDP, where a computed zero is sent as all ones (RFC 768).
pub fn udp_field(error: u64, covered: u64) -> u16 {
    match field(error, covered) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::checksum::Sum16BitWords;

    #[test]
    fn a_right_checksum_is_etherparses() {
        let mut state = 7u64;
        for length in 0..600 {
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            let theirs = Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be();
            assert_eq!(field(0, sum(&bytes)), theirs, "{bytes:02x?}");
            assert_eq!(error(theirs, sum(&bytes)), 0);
        }
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: HC 0xDD2F, m 0x5555, m' 0x3285; the rest of the header sums to 0xCD7A.
        let before = sum(&[0x55, 0x55, 0xcd, 0x7a]);
        let after = sum(&[0x32, 0x85, 0xcd, 0x7a]);
        assert_eq!(error(0xdd2f, before), 0);
        assert_eq!(field(error(0xdd2f, before), after), 0);
        assert_eq!(udp_field(0, after), 0xffff);
    }

    #[test]
    fn a_wrong_checksum_stays_as_wrong() {
        let (before, after) = (sum(b"before, wrong"), sum(b"after, as wrong"));
        for wrong in [0u16, 1, 0x1234, 0xfffe] {
            let new = field(error(wrong, before), after);
            assert_eq!(error(new, after), error(wrong, before));
        }
    }
}
