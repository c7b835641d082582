//! One trouble at a time, each with what is said of it.

use super::*;
use crate::{
    admin::status::BackendState,
    cli::status::tests::{NOW, healthy, status},
};

/// What was done to a healthy daemon; the health that makes, and the first thing said.
type Case = (fn(&mut Status), Health, &'static str);

const CASES: [Case; 20] = [
    (
        |_| {},
        Health::Healthy,
        "healthy: 1 service, 2 of 2 backends, 1 listener",
    ),
    (
        |status| status.kernel.generation = Some(3),
        Health::Degraded,
        "degraded: the kernel plane is at generation 3, wanted is 4",
    ),
    (
        |status| status.kernel.generation = None,
        Health::Failing,
        "failing: the kernel plane holds no generation yet, wanted is 4",
    ),
    (
        |status| status.kernel.absent = Some("--no-kernel".into()),
        Health::Failing,
        "failing: no kernel plane (--no-kernel): 1 service not forwarded",
    ),
    (
        |status| {
            status.kernel.absent = Some("--no-kernel".into());
            status.services.clear();
        },
        Health::Healthy,
        "healthy: 1 listener",
    ),
    (
        |status| status.l7.generation = None,
        Health::Failing,
        "failing: no listener is served yet",
    ),
    (
        |status| {
            status.l7.generation = Some(3);
            status.l7.workers.clear();
        },
        Health::Degraded,
        "degraded: the listeners serve generation 3, wanted is 4",
    ),
    (
        |status| {
            let mut other = status.kernel.interfaces[0].clone();
            (other.name, other.xdp) = ("eth1".into(), "absent".into());
            status.kernel.interfaces.push(other);
        },
        Health::Degraded,
        "degraded: interface eth1 is absent",
    ),
    (
        |status| status.kernel.interfaces[0].xdp = "refused".into(),
        Health::Failing,
        "failing: interface eth0 is refused",
    ),
    (
        |status| status.kernel.interfaces[0].warning = Some("the driver has no XDP".into()),
        Health::Healthy,
        "healthy: 1 service, 2 of 2 backends, 1 listener",
    ),
    (
        |status| {
            status.last_error = Some(ErrorStatus {
                error: "weir.yaml:1: nonsense\nweir.yaml:2: more".into(),
                at_unix_seconds: NOW - 61,
            });
        },
        Health::Degraded,
        "degraded: the last change was refused 1m 1s ago: weir.yaml:1: nonsense",
    ),
    (
        |status| {
            let backend = &mut status.services[0].backends[1];
            (backend.state, backend.effective_weight) = (BackendState::Unhealthy, 0);
        },
        Health::Degraded,
        "degraded: service dns: 1 of 2 backends unhealthy: 198.51.100.2:53: connection refused",
    ),
    (
        |status| {
            for backend in &mut status.services[0].backends {
                (backend.state, backend.effective_weight) = (BackendState::Unhealthy, 0);
            }
        },
        Health::Failing,
        "failing: service dns: none of 2 backends takes flows: 198.51.100.1:53: its check fails",
    ),
    (
        |status| {
            for backend in &mut status.services[0].backends {
                (backend.state, backend.effective_weight) = (BackendState::Draining, 0);
            }
        },
        Health::Failing,
        "failing: service dns: none of 2 backends takes flows: all drain or have weight 0",
    ),
    (
        |status| status.services[0].backends.clear(),
        Health::Failing,
        "failing: service dns has no backend: cluster resolvers is empty",
    ),
    (
        |status| {
            let ends = &mut status.l7.listeners[0].certificates;
            ends.insert("api.example.com".into(), NOW as i64 + 13 * 86_400);
        },
        Health::Degraded,
        "degraded: listener web: the certificate of api.example.com ends in 13d 0h",
    ),
    (
        |status| {
            let ends = &mut status.l7.listeners[0].certificates;
            ends.insert("api.example.com".into(), NOW as i64 - 60);
        },
        Health::Degraded,
        "degraded: listener web: the certificate of api.example.com ended 1m 0s ago",
    ),
    (
        |status| {
            let ends = &mut status.l7.listeners[0].certificates;
            ends.values_mut().for_each(|end| *end = NOW as i64 - 60);
        },
        Health::Failing,
        "failing: listener web: the certificate of www.example.com ended 1m 0s ago",
    ),
    (
        |status| {
            (status.l7.workers[0].connections, status.l7.workers[1].accepted) = (64, 0);
        },
        Health::Degraded,
        "degraded: worker 1 has accepted nothing while others have many connections",
    ),
    (
        |status| status.l7.workers[1].generation = 2,
        Health::Degraded,
        "degraded: worker 1 still serves generation 2",
    ),
];

#[test]
fn one_trouble_at_a_time() {
    for (trouble, health, line) in CASES {
        let mut status = healthy();
        trouble(&mut status);
        let judgement = judge(&status, None, NOW);
        assert_eq!((judgement.health, judgement.line().as_str()), (health, line));
        let problems = judgement
            .findings
            .iter()
            .filter(|one| one.health > Health::Healthy);
        assert_eq!(problems.count(), usize::from(health > Health::Healthy), "{line}");
    }
}

/// What was done after the first answer; what is said of it then, and of the second answer alone.
type Change = (fn(&mut Status), &'static str, Option<&'static str>);

#[test]
fn what_counters_say_of_now_takes_an_earlier_answer() {
    let changes: [Change; 5] = [
        (
            |status| status.kernel.drops[1].packets = 12,
            "packets are dropped as no_backend",
            Some("12 packets were dropped as no_backend"),
        ),
        (
            |status| status.l7.workers[0].accept_errors = 1,
            "workers fail to accept connections",
            Some("workers failed to accept 1 time"),
        ),
        (
            |status| status.kernel.steering[1].connections = 5,
            "connections to L7 addresses find no worker",
            None,
        ),
        // Senders' own matter.
        (|status| status.kernel.drops[0].packets = 12, "", None),
        (|status| status.services[0].counters = None, "", None),
    ];
    for (change, since, alone) in changes {
        let before = healthy();
        let mut status = healthy();
        change(&mut status);
        let judgement = judge(&status, Some(&before), NOW);
        let found: Vec<&str> = judgement.findings.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(found.join(", "), since);
        let is_trouble = judgement.health == Health::Degraded;
        assert_eq!(is_trouble, !since.is_empty());
        let alone_judged = judge(&status, None, NOW);
        let found = alone_judged
            .findings
            .first()
            .map(|one| (one.word(), one.what.as_str()));
        assert_eq!(found, alone.map(|alone| ("note", alone)));
        assert_eq!(alone_judged.health, Health::Healthy);
        // Another daemon's counters are no earlier ones.
        let mut other = before;
        other.pid += 1;
        assert_eq!(judge(&status, Some(&other), NOW), alone_judged);
    }
}

#[test]
fn the_worst_comes_first_and_says_how_many_more() {
    let mut status = status();
    status.l7.generation = None;
    let judgement = judge(&status, None, NOW);
    assert!(
        judgement
            .findings
            .is_sorted_by(|left, right| left.health >= right.health)
    );
    assert_eq!(judgement.line(), "failing, 5 problems: no listener is served yet");
    assert_eq!(judgement.health.exit_code(), 2);
    assert!(
        judgement
            .findings
            .iter()
            .all(|one| one.health == Health::Healthy || !one.text().is_empty())
    );
}

#[test]
fn every_drop_reason_has_advice() {
    for reason in proxy_common::verdict::DropReason::ALL {
        let (_, remedy) = advice(reason.label());
        assert!(!remedy.contains("another version"), "{}", reason.label());
    }
    assert_eq!(advice("of_tomorrow").0, Concern::Operator);
}
