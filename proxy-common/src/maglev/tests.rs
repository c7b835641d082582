//! The properties that make a Maglev table worth having, and vectors that fix it for good.

use super::*;
use crate::limits::MAGLEV_SIZE;
use std::{net::Ipv4Addr, string::ToString};

fn endpoints(count: u32, weight: impl Fn(u32) -> u32) -> Vec<MaglevEndpoint> {
    (0..count)
        .map(|i| MaglevEndpoint {
            address: Address::from_ipv4(Ipv4Addr::from_bits(0xc612_0001 + i).octets()),
            port: 8080,
            weight: weight(i),
        })
        .collect()
}

fn shares(table: &[u32], count: usize) -> Vec<usize> {
    let mut shares = vec![0; count];
    table.iter().for_each(|&index| shares[index as usize] += 1);
    shares
}

#[test]
fn equal_endpoints_get_equal_shares() {
    for count in [1, 2, 3, 10, 100, 1_000] {
        let table = build(&endpoints(count, |_| 1), MAGLEV_SIZE);
        let shares = shares(&table, count as usize);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 1, "{count} endpoints: {least} to {most} slots");
    }
}

#[test]
fn shares_follow_weights() {
    // Within 1 % of the wanted share, or a single slot where 1 % is less than a slot.
    let cases: [(u32, fn(u32) -> u32); 5] = [
        (3, |i| i + 1),
        (10, |i| 10 * (i + 1)),
        (100, |i| 1 + i % 7),
        (1_000, |i| 1 + i % 100),
        (1_000, |i| if i == 0 { 1_000 } else { 1 }),
    ];
    for (count, weight) in cases {
        let endpoints = endpoints(count, weight);
        let total: u32 = endpoints.iter().map(|endpoint| endpoint.weight).sum();
        let table = build(&endpoints, MAGLEV_SIZE);
        for (endpoint, share) in endpoints.iter().zip(shares(&table, count as usize)) {
            let wanted = f64::from(MAGLEV_SIZE) * f64::from(endpoint.weight) / f64::from(total);
            let off = (share as f64 - wanted).abs();
            assert!(
                off <= (wanted / 100.0).max(1.5),
                "weight {}: {share} slots, {wanted:.1} wanted",
                endpoint.weight
            );
        }
    }
}

#[test]
fn removing_one_moves_at_most_one_percent_of_the_others() {
    for count in [10, 100, 1_000] {
        let before_set = endpoints(count, |_| 1);
        let before = build(&before_set, MAGLEV_SIZE);
        for gone in [0, count / 3, count - 1] {
            let mut after_set = before_set.clone();
            after_set[gone as usize].weight = 0;
            let after = build(&after_set, MAGLEV_SIZE);
            let others = before.iter().filter(|&&index| index != gone).count();
            let moved = before
                .iter()
                .zip(&after)
                .filter(|(old, new)| **old != gone && old != new)
                .count();
            assert!(
                moved * 100 <= others,
                "{count} endpoints: {moved} of {others} slots moved"
            );
            assert!(!after.contains(&gone), "weight 0 takes no slot");
        }
    }
}

#[test]
fn order_does_not_matter() {
    let set = endpoints(257, |i| 1 + i % 5);
    let mut shuffled = set.clone();
    shuffled.reverse();
    shuffled.rotate_left(31);
    let (a, b) = (build(&set, 4_099), build(&shuffled, 4_099));
    for (x, y) in a.iter().zip(&b) {
        assert_eq!(set[*x as usize], shuffled[*y as usize]);
    }
}

#[test]
fn nothing_with_weight_gives_an_empty_table() {
    assert!(build(&[], 7).iter().all(|&slot| slot == NO_BACKEND));
    assert!(
        build(&endpoints(3, |_| 0), 7)
            .iter()
            .all(|&slot| slot == NO_BACKEND)
    );
}

#[test]
fn an_endpoint_named_twice_counts_once() {
    let mut twice = endpoints(2, |_| 1);
    twice.push(twice[0]);
    assert_eq!(build(&twice, 101), build(&twice[..2], 101));
}

/// The contract between versions and nodes: this table never changes.
#[test]
fn test_vector() {
    let table = build(&endpoints(3, |i| i + 1), 31);
    let text: Vec<_> = table.iter().map(ToString::to_string).collect();
    assert_eq!(text.concat(), include_str!("../../testdata/maglev_31.txt").trim());
}

#[test]
fn sizes() {
    assert!(is_valid_size(MAGLEV_SIZE) && is_valid_size(crate::limits::MAGLEV_SIZE_MAX) && is_valid_size(3));
    for size in [0, 1, 2, 4, 65_536, 65_535, 655_375] {
        assert!(!is_valid_size(size), "{size}");
    }
}

/// The crate maglev-hash, which has no weights and no fixed hash, is as even; ours moves as little.
#[test]
fn moves_no_more_than_maglev_hash() {
    let names: Vec<std::string::String> = (0..100).map(|i: u32| std::format!("endpoint-{i}")).collect();
    let theirs = |names: &[std::string::String]| {
        let table = maglev_hash::MaglevTable::with_capacity(names.to_vec(), MAGLEV_SIZE as usize);
        (0..200_000u32)
            .map(|key| table.get(&key).unwrap().clone())
            .collect::<Vec<_>>()
    };
    let (before, after) = (theirs(&names), theirs(&names[..99]));
    let their_moved = before
        .iter()
        .zip(&after)
        .filter(|(old, new)| **old != names[99] && old != new)
        .count();
    let set = endpoints(100, |_| 1);
    let (before, after) = (build(&set, MAGLEV_SIZE), build(&set[..99], MAGLEV_SIZE));
    let our_moved = before
        .iter()
        .zip(&after)
        .filter(|(old, new)| **old != 99 && old != new)
        .count();
    let (theirs, ours) = (
        their_moved as f64 / 200_000.0,
        our_moved as f64 / f64::from(MAGLEV_SIZE),
    );
    assert!(
        ours <= theirs * 1.25 + 0.001,
        "ours {ours:.4}, theirs {theirs:.4}"
    );
}
