//! From ranges of ports to the prefixes that `l7_services` holds.

use crate::{
    kernel::ranges,
    model::l7::{Listener, PortRange},
};
use proxy_common::steer::{ADDRESS_BITS, L7Key, L7Service};
use std::collections::BTreeMap;

/// Keys of the trie with their values: (prefix length in bits, key).
pub(super) type Prefixes = BTreeMap<(u32, L7Key), L7Service>;

/// What the trie has to hold for these listeners.
pub(super) fn of_listeners(listeners: &[Listener]) -> Prefixes {
    let ranges = listeners.iter().flat_map(|listener| &listener.addresses);
    ranges.flat_map(of_range).collect()
}

/// The fewest prefixes that cover a range.
fn of_range(range: &PortRange) -> Vec<((u32, L7Key), L7Service)> {
    let value = L7Service {
        first_port: range.first,
        last_port: range.last,
    };
    let prefix = |(port, bits): (u16, u32)| {
        let key = L7Key {
            address: range.address.into(),
            port: port.to_be_bytes(),
            pad: [0; 2],
        };
        ((ADDRESS_BITS + 16 - bits, key), value)
    };
    ranges::blocks(range.first, range.last).map(prefix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange {
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            first,
            last,
        }
    }

    /// The ports that a prefix matches.
    fn ports(prefix: &(u32, L7Key)) -> std::ops::Range<u32> {
        let first = u32::from(u16::from_be_bytes(prefix.1.port));
        first..first + (1 << (ADDRESS_BITS + 16 - prefix.0))
    }

    #[test]
    fn prefixes_cover_a_range_and_nothing_else() {
        let cases = [
            (0, 65_535, 1),
            (443, 443, 1),
            (65_535, 65_535, 1),
            (8_000, 8_010, 3),
            (1, 65_534, 30),
            (1_024, 65_535, 6),
            (0, 0, 1),
        ];
        for (first, last, count) in cases {
            let prefixes = of_range(&range(first, last));
            assert_eq!(prefixes.len(), count, "{first}-{last}: {prefixes:?}");
            let mut next = u32::from(first);
            for (prefix, value) in &prefixes {
                let ports = ports(prefix);
                assert_eq!(ports.start, next, "{first}-{last}");
                assert_eq!((value.first_port, value.last_port), (first, last));
                next = ports.end;
            }
            assert_eq!(next, u32::from(last) + 1, "{first}-{last}");
        }
    }
}
