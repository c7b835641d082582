//! Consistent policies: a key stays where it is unless its endpoint goes, and the kernel plane would choose the same.

use super::*;
use proxy_common::{hash::slot, limits::MAGLEV_SIZE, maglev};

const KEYS: u64 = 20_000;

fn owners(balancer: &Balancer<usize>) -> Vec<usize> {
    let keys = (0..KEYS).map(|key| xxhash_rust::xxh64::xxh64(&key.to_le_bytes(), 0));
    keys.map(|key| balancer.pick(Some(key), &[]).unwrap().pool)
        .collect()
}

fn moved(before: &[usize], after: &[usize], but_from: usize) -> usize {
    let pairs = before.iter().zip(after);
    pairs.filter(|(old, new)| **old != but_from && old != new).count()
}

#[test]
fn keys_stay_when_an_endpoint_goes_or_comes() {
    for (policy, allowed) in [(Policy::RingHash, 0), (Policy::Maglev, KEYS as usize / 50)] {
        let all = cluster(policy, &[1, 2, 1, 3, 1, 1, 1]);
        let mut balancer = balancer(&all, ALONE, 1);
        let before = owners(&balancer);
        let mut without = all.clone();
        without.endpoints[3].health = Health::Unhealthy;
        balancer.update(&without, index_of);
        let after = owners(&balancer);
        assert!(!after.contains(&3), "{policy:?}");
        let others = moved(&before, &after, 3);
        assert!(others <= allowed, "{policy:?}: {others} keys of others moved");
        balancer.update(&all, index_of);
        assert_eq!(owners(&balancer), before, "{policy:?}: back as it was");
    }
}

#[test]
fn order_and_worker_make_no_difference() {
    for policy in [Policy::RingHash, Policy::Maglev] {
        let one = cluster(policy, &[1, 2, 3, 1]);
        let mut other = one.clone();
        other.endpoints.reverse();
        let far = Seat { index: 3, count: 4 };
        assert_eq!(
            owners(&balancer(&one, ALONE, 1)),
            owners(&balancer(&other, far, 99)),
            "{policy:?}"
        );
    }
}

#[test]
fn maglev_agrees_with_the_kernel_plane() {
    let cluster = cluster(Policy::Maglev, &[1, 2, 3]);
    let balancer = balancer(&cluster, ALONE, 1);
    let kernel: Vec<maglev::MaglevEndpoint> = (cluster.endpoints.iter())
        .map(|endpoint| maglev::MaglevEndpoint {
            address: endpoint.address.0.ip().into(),
            port: endpoint.address.0.port(),
            weight: endpoint.weight,
        })
        .collect();
    let table = maglev::build(&kernel, MAGLEV_SIZE);
    for key in (0..KEYS).map(|key| xxhash_rust::xxh64::xxh64(&key.to_le_bytes(), 9)) {
        let chosen = balancer.pick(Some(key), &[]).unwrap().pool;
        assert_eq!(chosen, table[slot(key, MAGLEV_SIZE) as usize] as usize);
    }
}

#[test]
fn a_second_try_goes_to_the_same_other_endpoint() {
    for policy in [Policy::RingHash, Policy::Maglev] {
        let cluster = cluster(policy, &[1; 5]);
        let [one, other] = [1, 2].map(|salt| balancer(&cluster, ALONE, salt));
        for key in (0..500u64).map(|key| xxhash_rust::xxh64::xxh64(&key.to_le_bytes(), 0)) {
            let first = one.pick(Some(key), &[]).unwrap().address;
            let second = one.pick(Some(key), &[first]).unwrap().address;
            assert_eq!(
                other.pick(Some(key), &[first]).unwrap().address,
                second,
                "{policy:?}"
            );
        }
    }
}

#[test]
fn a_plan_is_kept_while_nothing_changes() {
    for policy in ALL {
        let mut cluster = cluster(policy, &[1, 2]);
        let plan = Plan::new(&cluster, None);
        cluster.endpoints[0].health = Health::Healthy;
        let next = Plan::new(&cluster, Some(&plan));
        assert!(Arc::ptr_eq(&plan.weighted, &next.weighted), "{policy:?}");
        cluster.endpoints[0].drain = true;
        let next = Plan::new(&cluster, Some(&plan));
        assert!(!Arc::ptr_eq(&plan.weighted, &next.weighted), "{policy:?}");
    }
}
