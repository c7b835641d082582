//! Shares, evenness across workers, consistency, and what updates keep.

mod consistent;
mod round_robin;
mod sticky;

use super::*;
use crate::model::{
    ClusterName, Endpoint as Configured, Health,
    l7::{Hashing, L7Settings},
};
use std::time::Duration;

const ALL: [Policy; 6] = [
    Policy::RoundRobin,
    Policy::LeastRequest,
    Policy::Random,
    Policy::RingHash,
    Policy::Maglev,
    Policy::PeakEwma,
];

const ALONE: Seat = Seat { index: 0, count: 1 };

fn address(index: usize) -> BackendAddr {
    BackendAddr(
        format!("10.0.{}.{}:8080", index / 250, index % 250 + 1)
            .parse()
            .unwrap(),
    )
}

fn endpoint(index: usize, weight: u32) -> Configured {
    Configured {
        address: address(index),
        name: None,
        weight,
        drain: false,
        server_id: None,
        health: Health::Unknown,
    }
}

fn cluster(policy: Policy, weights: &[u32]) -> Cluster {
    Cluster {
        name: ClusterName("api".into()),
        endpoints: (weights.iter().enumerate())
            .map(|(index, weight)| endpoint(index, *weight))
            .collect(),
        dns: Vec::new(),
        health_check: None,
        l7: L7Settings {
            policy,
            ..L7Settings::default()
        },
    }
}

/// The state of an endpoint is its index, so that tests can count by it.
fn index_of(endpoint: &Configured) -> usize {
    let std::net::IpAddr::V4(v4) = endpoint.address.0.ip() else {
        panic!("tests use IPv4");
    };
    usize::from(v4.octets()[2]) * 250 + usize::from(v4.octets()[3]) - 1
}

fn balancer(cluster: &Cluster, seat: Seat, salt: u64) -> Balancer<usize> {
    let plan = Plan::new(cluster, None);
    Balancer::salted(cluster, plan, seat, index_of, salt, Rng::with_seed(salt))
}

/// Picks of each endpoint, each request over before the next.
fn shares(balancer: &Balancer<usize>, picks: usize) -> Vec<usize> {
    let mut counts = vec![0; balancer.endpoints().len()];
    for number in 0..picks {
        let key = (number % 2 == 0).then(|| xxhash_rust::xxh64::xxh64(&number.to_le_bytes(), 0));
        let chosen = balancer.pick(key, &[]).unwrap();
        let request = chosen.begin();
        request.answered(Duration::from_millis(10));
        counts[chosen.pool] += 1;
    }
    counts
}

/// Every count within this part of its fair share.
fn assert_fair(what: &str, counts: &[usize], weights: &[u32], tolerance: f64) {
    let picks: usize = counts.iter().sum();
    let total: u32 = weights.iter().sum();
    for (index, (count, weight)) in counts.iter().zip(weights).enumerate() {
        let fair = picks as f64 * f64::from(*weight) / f64::from(total);
        assert!(
            (*count as f64 - fair).abs() <= fair * tolerance,
            "{what}: endpoint {index} of weights {weights:?}: {count} picks, fair were {fair:.0}"
        );
    }
}

#[test]
fn shares_follow_weights() {
    for weights in [
        vec![1],
        vec![1, 1],
        vec![3, 1],
        vec![1, 1, 1, 1, 1],
        vec![100, 50, 25, 25],
        vec![0, 2, 1],
    ] {
        for policy in ALL {
            let balancer = balancer(&cluster(policy, &weights), ALONE, 7);
            let counts = shares(&balancer, 40_000);
            // Half of the picks have a key. A ring of 1,024 nodes an endpoint is uneven by some 3 % by its nature.
            let tolerance = match policy {
                Policy::RoundRobin => 0.000_1,
                Policy::RingHash => 0.09,
                _ => 0.05,
            };
            assert_fair(&format!("{policy:?}"), &counts, &weights, tolerance);
        }
    }
}

#[test]
fn least_request_keeps_requests_in_flight_by_weight() {
    for weights in [vec![1, 1, 1], vec![2, 1], vec![4, 2, 1, 1], vec![1; 40]] {
        let balancer = balancer(&cluster(Policy::LeastRequest, &weights), ALONE, 3);
        let total: u32 = weights.iter().sum();
        let running: Vec<_> = (0..total * 50)
            .map(|_| balancer.pick(None, &[]).unwrap().begin())
            .collect();
        for (endpoint, weight) in balancer.endpoints().iter().zip(&weights) {
            let fair = weight * 50;
            assert!(
                endpoint.active.get().abs_diff(fair) <= fair / 10 + 1,
                "{weights:?}: {} in flight, fair were {fair}",
                endpoint.active.get()
            );
        }
        drop(running);
        assert!(balancer.endpoints().iter().all(|it| it.active.get() == 0));
    }
}

#[test]
fn least_request_avoids_the_busy_one() {
    let balancer = balancer(&cluster(Policy::LeastRequest, &[1, 1]), ALONE, 3);
    let _stuck: Vec<_> = (0..5).map(|_| balancer.endpoints()[0].begin()).collect();
    assert_eq!(shares(&balancer, 100), [0, 100]);
}

#[test]
fn peak_ewma_avoids_the_slow_and_the_failing_one() {
    let balancer = balancer(&cluster(Policy::PeakEwma, &[1, 1, 1]), ALONE, 3);
    for (index, milliseconds) in [(0, 100), (1, 10), (2, 10)] {
        let request = balancer.endpoints()[index].begin();
        request.answered(Duration::from_millis(milliseconds));
    }
    assert_eq!(shares(&balancer, 300)[0], 0);
    balancer.endpoints()[1].begin().failed();
    assert_eq!(
        shares(&balancer, 300)[1],
        0,
        "it failed at once, which is not fast"
    );
}

#[test]
fn averages_jump_to_peaks_and_forget_slowly() {
    let average = endpoint::Average::default();
    let begin = Instant::now();
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let close = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < 1e-6;
    assert_eq!(average.value(begin), None);
    average.observe(Duration::from_secs(1), begin);
    assert!(close(average.value(begin), 1.0));
    average.observe(Duration::from_secs(3), at(1));
    assert!(close(average.value(at(1)), 3.0), "a peak counts at once");
    let kept = (-1f64).exp();
    assert!(close(average.value(at(11)), 3.0 * kept), "1/e after 10 s");
    average.observe(Duration::from_secs(1), at(11));
    assert!(close(average.value(at(11)), 3.0 * kept + (1.0 - kept)));
    average.observe(Duration::from_secs(9), begin);
    assert!(
        close(average.value(begin), 9.0),
        "a clock that seems to go back is harmless"
    );
}

#[test]
fn no_weight_no_requests() {
    for policy in ALL {
        let mut it = cluster(policy, &[1, 1, 0, 1, 1]);
        it.endpoints[1].drain = true;
        it.endpoints[3].health = Health::Unhealthy;
        let mut balancer = balancer(&it, ALONE, 1);
        let counts = shares(&balancer, 1_000);
        assert_eq!([counts[1], counts[2], counts[3]], [0, 0, 0], "{policy:?}");
        assert!(counts[0] > 300 && counts[4] > 300, "{policy:?}: {counts:?}");
        let tried = [address(0), address(4)];
        let again = balancer.pick(None, &tried).unwrap().address;
        assert!(
            tried.contains(&again),
            "{policy:?}: rather again than to one without weight"
        );
        for endpoint in &mut it.endpoints {
            endpoint.drain = true;
        }
        balancer.update(&it, index_of);
        assert!(balancer.pick(None, &[]).is_none(), "{policy:?}");
        assert!(balancer.pick(Some(1), &[address(0)]).is_none(), "{policy:?}");
        it.endpoints.clear();
        balancer.update(&it, index_of);
        assert!(balancer.pick(Some(1), &[address(0)]).is_none(), "{policy:?}");
    }
}

#[test]
fn tried_endpoints_are_avoided() {
    for policy in ALL {
        // The heavy one would be chosen again and again.
        let balancer = balancer(&cluster(policy, &[65_535, 1, 1]), ALONE, 1);
        for key in [None, Some(17), Some(u64::MAX)] {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let chosen = balancer.pick(key, &tried).unwrap().address;
                assert!(!tried.contains(&chosen), "{policy:?}: {chosen} after {tried:?}");
                tried.push(chosen);
            }
            assert!(balancer.pick(key, &tried).is_some(), "{policy:?}: all tried");
        }
    }
}

#[test]
fn an_update_keeps_the_state_of_those_that_stay() {
    for policy in ALL {
        let before = cluster(policy, &[1, 1, 1]);
        let mut balancer = balancer(&before, ALONE, 1);
        let [gone, stays] = [&balancer.endpoints()[0], &balancer.endpoints()[1]].map(Rc::clone);
        let running = [gone.begin(), stays.begin()];
        let mut after = before.clone();
        after.endpoints.remove(0);
        after.endpoints[0].weight = 5;
        // The same address by a name is another endpoint: its TLS name may differ.
        after.endpoints[1].name = Some("api.internal".into());
        after.endpoints.push(endpoint(9, 1));
        let mut made = Vec::new();
        balancer.update(&after, |endpoint| {
            made.push(endpoint.address);
            index_of(endpoint)
        });
        assert_eq!(made, [address(2), address(9)], "{policy:?}");
        assert!(Rc::ptr_eq(&stays, &balancer.endpoints()[0]));
        assert_eq!(
            (stays.active.get(), stays.weight.get(), stays.left.get()),
            (1, 5, false)
        );
        assert_eq!((gone.active.get(), gone.left.get()), (1, true));
        drop(running);
        assert_eq!((stays.active.get(), gone.active.get()), (0, 0));
        assert_eq!(Rc::strong_count(&gone), 1, "nothing else holds it");
    }
}

#[test]
fn another_policy_takes_over_at_once() {
    let mut balancer = balancer(&cluster(Policy::RoundRobin, &[1, 1, 1]), ALONE, 1);
    for policy in ALL {
        balancer.update(&cluster(policy, &[2, 1]), index_of);
        assert!(balancer.pick(Some(5), &[]).is_some(), "{policy:?}");
        // A plan that doesn't fit is not used.
        let stale = Plan::new(&cluster(policy, &[1; 9]), None);
        balancer.update_with_plan(&cluster(policy, &[1, 1]), stale, index_of);
        assert!(
            (0..100).all(|key| balancer.pick(Some(key << 57), &[]).is_some()),
            "{policy:?}"
        );
    }
}

/// 200,000 picks of each policy among 10,000 endpoints: were a pick linear in them, this would take minutes.
#[test]
fn ten_thousand_endpoints() {
    let weights: Vec<u32> = (0..10_000).map(|index| 1 + index % 3).collect();
    for policy in ALL {
        let balancer = balancer(&cluster(policy, &weights), ALONE, 1);
        let counts = shares(&balancer, 200_000);
        let by_weight: [usize; 3] = std::array::from_fn(|rest| counts[rest..].iter().step_by(3).sum());
        assert_fair(&format!("{policy:?}"), &by_weight, &[1, 2, 3], 0.05);
    }
}

#[test]
fn keys() {
    let mut headers = HeaderMap::new();
    headers.append("x-user", "ann".parse().unwrap());
    headers.append("cookie", "a=1; session=s1".parse().unwrap());
    headers.append("cookie", "b=2;session=s2; sessions=s3".parse().unwrap());
    let facts = Facts {
        headers: &headers,
        source: "192.0.2.7".parse().unwrap(),
        query: Some("q=1&user=ann&flag&user=bob"),
    };
    let header = |name: &'static str| Hashing::Header(http::HeaderName::from_static(name));
    let text = |text: &str| Some(xxhash_rust::xxh64::xxh64(text.as_bytes(), 4));
    let table = [
        (vec![], None),
        (vec![header("x-user")], text("ann")),
        (vec![header("x-none")], None),
        (vec![Hashing::Cookie("session".into())], text("s1")),
        (vec![Hashing::Cookie("sess".into())], None),
        (vec![Hashing::Query("user".into())], text("ann")),
        (vec![Hashing::Query("flag".into())], text("")),
        (vec![Hashing::Query("us".into())], None),
        (
            vec![header("x-none"), Hashing::Cookie("b".into()), Hashing::Source],
            text("2"),
        ),
    ];
    for (hashing, expected) in table {
        assert_eq!(key(&hashing, &facts), expected, "{hashing:?}");
    }
    let source = key(&[Hashing::Source], &facts).unwrap();
    let mapped = Facts {
        source: "::ffff:192.0.2.7".parse().unwrap(),
        ..facts
    };
    assert_eq!(key(&[Hashing::Source], &mapped), Some(source));
    let bytes = [&[0; 10][..], &[0xff; 2], &[192, 0, 2, 7]].concat();
    let lanes: Vec<u8> = [&bytes[..8], &bytes[8..]]
        .iter()
        .flat_map(|half| half.iter().rev().copied())
        .collect();
    assert_eq!(source, xxhash_rust::xxh64::xxh64(&lanes, 4));
}
