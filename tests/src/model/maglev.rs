//! Weighted Maglev tables, written from docs/hashing.md.

use super::translate::{End, octets};
use xxhash_rust::xxh64::xxh64;

/// The endpoint of each slot as an index into `endpoints`; none anywhere when nobody has weight.
pub fn table(endpoints: &[(End, u32)], size: u32) -> Vec<Option<usize>> {
    let size = size as usize;
    let mut slots = vec![None; size];
    let greatest = endpoints.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
    if greatest == 0 {
        return slots;
    }
    let mut order: Vec<usize> = (0..endpoints.len()).filter(|at| endpoints[*at].1 > 0).collect();
    order.sort_by_key(|at| hash(endpoints[*at].0, 1));
    // Twice the credit, so that half of the greatest weight is a whole number.
    let mut credit = vec![u64::from(greatest); endpoints.len()];
    let mut walks: Vec<Box<dyn Iterator<Item = usize>>> =
        endpoints.iter().map(|(end, _)| walk(*end, size)).collect();
    let mut free = size;
    while free > 0 {
        for at in &order {
            credit[*at] += 2 * u64::from(endpoints[*at].1);
            if credit[*at] < 2 * u64::from(greatest) {
                continue;
            }
            credit[*at] -= 2 * u64::from(greatest);
            if let Some(slot) = walks[*at].find(|slot| slots[*slot].is_none()) {
                slots[slot] = Some(*at);
                free -= 1;
            }
        }
    }
    slots
}

/// Every slot once, in an endpoint's own order.
fn walk(end: End, size: usize) -> Box<dyn Iterator<Item = usize>> {
    let start = (hash(end, 1) % size as u64) as usize;
    let step = (hash(end, 2) % (size as u64 - 1)) as usize + 1;
    Box::new((0..size).map(move |turn| (start + turn * step) % size))
}

fn hash(end: End, seed: u64) -> u64 {
    let mut identity = match end.0 {
        std::net::IpAddr::V4(address) => octets(address.to_ipv6_mapped().into()),
        address => octets(address),
    };
    identity.extend(end.1.to_be_bytes());
    identity.extend([0; 6]);
    xxh64(&identity, seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_common::{
        maglev::{MaglevEndpoint, build},
        values::NO_BACKEND,
    };

    #[test]
    fn agrees_with_the_daemons_builder() {
        for (count, size) in [(1, 3), (3, 251), (10, 1021), (64, 4099)] {
            let endpoints: Vec<(End, u32)> = (0..count)
                .map(|at: u32| {
                    let address = if at.is_multiple_of(3) {
                        format!("2001:db8::{at:x}").parse().unwrap()
                    } else {
                        format!("198.51.100.{at}").parse().unwrap()
                    };
                    ((address, 1000 + at as u16), at * 7 % 5 + u32::from(count == 1))
                })
                .collect();
            let theirs: Vec<MaglevEndpoint> = endpoints
                .iter()
                .map(|((address, port), weight)| MaglevEndpoint {
                    address: (*address).into(),
                    port: *port,
                    weight: *weight,
                })
                .collect();
            let ours: Vec<u32> = table(&endpoints, size)
                .iter()
                .map(|slot| slot.map_or(NO_BACKEND, |at| at as u32))
                .collect();
            assert!(ours == build(&theirs, size), "{count} endpoints, {size} slots");
        }
    }

    #[test]
    fn nobody_with_weight_fills_nothing() {
        let endpoint = ("192.0.2.1".parse().unwrap(), 80);
        assert!(table(&[(endpoint, 0)], 7).iter().all(Option::is_none));
    }
}
