//! Primes for the sizes of Maglev tables.

/// By trial division: 400 of them for the greatest table.
pub(super) fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| *divisor <= number / *divisor)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// The prime nearest to a number, the smaller of two; at least 3 and at most `maximum`.
pub(super) fn nearest(number: u32, maximum: u32) -> u32 {
    let start = number.clamp(3, maximum);
    (0..maximum)
        .flat_map(|distance| [start.saturating_sub(distance), start.saturating_add(distance)])
        .find(|candidate| (3..=maximum).contains(candidate) && is_prime(*candidate))
        .unwrap_or(3)
}

/// The least prime that is not below a number; at most `maximum`.
pub(super) fn at_least(number: u32, maximum: u32) -> u32 {
    (number.max(3)..=maximum)
        .find(|candidate| is_prime(*candidate))
        .unwrap_or_else(|| nearest(maximum, maximum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        let primes: Vec<u32> = (0..30).filter(|n| is_prime(*n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(655_373));
    }

    #[test]
    fn nearest_is_within_bounds() {
        assert_eq!(nearest(65_536, 655_373), 65_537);
        assert_eq!(nearest(655_372, 655_373), 655_373);
        assert_eq!(nearest(1, 655_373), 3);
        assert_eq!(nearest(4, 655_373), 3);
        assert_eq!(at_least(200, 655_373), 211);
        assert_eq!(at_least(655_374, 655_373), 655_373);
        assert_eq!(nearest(u32::MAX, 655_373), 655_373);
    }
}
