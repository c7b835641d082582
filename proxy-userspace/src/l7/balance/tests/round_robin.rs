//! Turns are exact, smooth, and even across workers however requests fall on them.

use super::*;

const SALTS: std::ops::Range<u64> = 0..20;

fn workers(cluster: &Cluster, count: usize, salt: u64) -> Vec<Balancer<usize>> {
    let seats = (0..count).map(|index| Seat { index, count });
    seats.map(|seat| balancer(cluster, seat, salt)).collect()
}

fn count(counts: &mut [usize], balancer: &Balancer<usize>, picks: usize) {
    for _ in 0..picks {
        counts[balancer.pick(None, &[]).unwrap().pool] += 1;
    }
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// The promise of the issue: 3 requests over 3 endpoints on 2 workers reach all three, and any number reaches each
/// endpoint equally, up to one.
#[test]
fn two_workers_are_as_even_as_one() {
    for salt in SALTS {
        for endpoints in 1..=7 {
            let cluster = cluster(Policy::RoundRobin, &vec![1; endpoints]);
            for requests in 0..=3 * endpoints {
                for first in 0..=requests {
                    let workers = workers(&cluster, 2, salt);
                    let mut counts = vec![0; endpoints];
                    count(&mut counts, &workers[0], first);
                    count(&mut counts, &workers[1], requests - first);
                    assert!(
                        spread(&counts) <= 1,
                        "{requests} requests, {first} of them on worker 0, salt {salt}: {counts:?}"
                    );
                }
            }
        }
    }
}

/// The bound for more: an endpoint differs from another by at most the number of pairs.
#[test]
fn more_workers_are_even_up_to_their_pairs() {
    fn splits(requests: usize, workers: usize) -> Vec<Vec<usize>> {
        if workers == 1 {
            return vec![vec![requests]];
        }
        let firsts = 0..=requests;
        let with = |first: usize| {
            let rest = splits(requests - first, workers - 1);
            rest.into_iter().map(move |rest| [vec![first], rest].concat())
        };
        firsts.flat_map(with).collect()
    }
    for count_workers in 1..=6 {
        for endpoints in 1..=4 {
            let cluster = cluster(Policy::RoundRobin, &vec![1; endpoints]);
            for split in splits(2 * endpoints + 1, count_workers) {
                let workers = workers(&cluster, count_workers, 5);
                let mut counts = vec![0; endpoints];
                for (worker, picks) in workers.iter().zip(&split) {
                    count(&mut counts, worker, *picks);
                }
                let bound = count_workers.div_ceil(2);
                assert!(
                    spread(&counts) <= bound,
                    "{split:?}: {counts:?}, more than {bound}"
                );
            }
        }
    }
}

/// With weights: each endpoint's share of what two workers did together, rounded up or down.
#[test]
fn weighted_shares_hold_for_every_split() {
    let weights = [5, 1, 2];
    let cluster = cluster(Policy::RoundRobin, &weights);
    for salt in SALTS {
        for first in 0..=24 {
            let workers = workers(&cluster, 2, salt);
            let mut counts = vec![0; 3];
            count(&mut counts, &workers[0], first);
            count(&mut counts, &workers[1], 24 - first);
            assert_eq!(counts, [15, 3, 6], "{first} of 24 on worker 0, salt {salt}");
        }
    }
}

#[test]
fn turns_of_an_endpoint_are_spread() {
    for salt in SALTS {
        let weights = [8, 4, 2, 1, 1];
        let balancer = balancer(&cluster(Policy::RoundRobin, &weights), ALONE, salt);
        let picks: Vec<usize> = (0..160).map(|_| balancer.pick(None, &[]).unwrap().pool).collect();
        for (index, weight) in weights.iter().enumerate() {
            // In time, turns are 1/w apart; in between, every other endpoint has its share rounded up at most.
            let others = weights.iter().enumerate().filter(|(other, _)| *other != index);
            let bound: u32 = others.map(|(_, other)| other.div_ceil(*weight)).sum();
            let at: Vec<usize> = (0..160).filter(|at| picks[*at] == index).collect();
            let widest = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(
                widest <= bound as usize + 1,
                "salt {salt}: endpoint {index} waits {widest} picks"
            );
        }
    }
}

/// Endpoints come and go while two workers are at different places: those that stay remain even.
#[test]
fn changes_do_not_favour_anybody() {
    for salt in SALTS {
        let mut it = cluster(Policy::RoundRobin, &[1; 5]);
        let mut workers = workers(&it, 2, salt);
        let mut counts = vec![0; 60];
        for round in 0..50 {
            count(&mut counts, &workers[0], round % 3);
            count(&mut counts, &workers[1], (round + salt as usize) % 2);
            // The first three stay.
            it.endpoints.truncate(3 + round % 2);
            // Also one of another weight at times, which makes another kind of schedule.
            it.endpoints
                .push(endpoint(3 + round, 1 + (round / 3 % 2) as u32 * 2));
            for worker in &mut workers {
                worker.update(&it, index_of);
            }
        }
        assert!(spread(&counts[..3]) <= 1, "salt {salt}: {counts:?}");
    }
}

#[test]
fn processes_begin_at_different_endpoints() {
    let cluster = cluster(Policy::RoundRobin, &[1; 4]);
    let mut first = [0; 4];
    for salt in 0..400 {
        first[balancer(&cluster, ALONE, salt).pick(None, &[]).unwrap().pool] += 1;
    }
    assert!(first.iter().all(|count| (50..150).contains(count)), "{first:?}");
}
