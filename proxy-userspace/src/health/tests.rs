//! Checks against real TCP sockets on the loopback interface.

mod http_checks;

use super::*;
use crate::model::{BackendAddr, ClusterName, Endpoint, Probe, TcpCheck};
use std::net::TcpListener;
use tokio::runtime;

const INTERVAL: Duration = Duration::from_millis(20);

fn cluster(addresses: &[SocketAddr], check: Option<HealthCheck>) -> Clusters {
    let name = ClusterName("web".into());
    let endpoints = addresses.iter().map(|address| Endpoint {
        address: BackendAddr(*address),
        name: None,
        weight: 1,
        drain: false,
        server_id: None,
        health: Health::Unknown,
    });
    let cluster = Cluster {
        name: name.clone(),
        endpoints: endpoints.collect(),
        health_check: check,
        dns: Vec::new(),
        l7: crate::model::l7::L7Settings::default(),
    };
    Clusters::from([(name, cluster.into())])
}

fn check(rise: u32, fall: u32) -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp(TcpCheck { port: None }),
        interval: INTERVAL,
        timeout: Duration::from_millis(500),
        rise,
        fall,
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { time::timeout(Duration::from_secs(20), test).await.unwrap() });
}

async fn next_verdict(reports: &mut mpsc::Receiver<Report>, not: Health) -> Report {
    loop {
        let report = reports.recv().await.unwrap();
        if report.health != not {
            return report;
        }
    }
}

#[test]
fn a_server_that_stops_and_comes_back() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mut reports) = mpsc::channel(16);
        let mut checks = Checks::new(sender);
        checks.follow(&cluster(&[address], Some(check(2, 3))), &Ways::new());

        let up = next_verdict(&mut reports, Health::Unknown).await;
        assert_eq!((up.health, &up.last_error), (Health::Healthy, &None));
        drop(listener);
        let down = next_verdict(&mut reports, Health::Healthy).await;
        assert_eq!(down.health, Health::Unhealthy);
        assert_eq!(down.last_error.unwrap(), format!("{address}: connection refused"));
        let _listener = TcpListener::bind(address).unwrap();
        assert_eq!(
            next_verdict(&mut reports, Health::Unhealthy).await.health,
            Health::Healthy
        );
    });
}

#[test]
fn a_silent_host_times_out() {
    run(async {
        // A listener whose accept queue is full drops SYNs, as a dead host does.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let _fills_the_queue = std::net::TcpStream::connect(address).unwrap();
        let outcome = probe::tcp_connect(address, None, Duration::from_millis(200)).await;
        assert_eq!(
            outcome,
            Outcome::Failed(format!("{address}: no answer within 200ms"))
        );
    });
}

#[test]
fn a_server_never_sees_a_probe() {
    run(async {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..20 {
                let outcome = probe::tcp_connect(address, None, Duration::from_secs(1)).await;
                assert_eq!(outcome, Outcome::Passed);
            }
            let error = listener.accept().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn checks_follow_the_clusters() {
    run(async {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners
            .each_ref()
            .map(|listener| listener.local_addr().unwrap());
        let (sender, mut reports) = mpsc::channel(16);
        let mut checks = Checks::new(sender);
        checks.follow(&cluster(&addresses[..1], Some(check(1, 1))), &Ways::new());
        let first = next_verdict(&mut reports, Health::Unknown).await;
        assert!(checks.is_current(&first));

        checks.follow(&cluster(&addresses, Some(check(1, 1))), &Ways::new());
        assert!(
            checks.is_current(&first),
            "an endpoint that stays keeps its check"
        );
        let second = next_verdict(&mut reports, Health::Unknown).await;
        assert_eq!(
            second.endpoint.address.0, addresses[1],
            "the first one has nothing new to say"
        );

        checks.follow(&cluster(&addresses, Some(check(2, 1))), &Ways::new());
        assert!(!checks.is_current(&first), "probed otherwise: a new task");
        checks.follow(&cluster(&addresses[1..], None), &Ways::new());
        assert!(checks.running.is_empty());
        time::sleep(INTERVAL * 3).await;
        while let Ok(report) = reports.try_recv() {
            assert!(!checks.is_current(&report), "{report:?}");
        }
    });
}
