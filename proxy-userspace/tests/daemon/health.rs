//! Verdicts on real sockets, as the status shows them.

use super::{
    endpoints,
    support::{Daemon, Home, backend},
};
use serde_json::{Value, json};

#[test]
fn a_dead_backend_leaves_and_comes_back() {
    let (first, alive) = backend();
    let (second, mortal) = backend();
    let check = "health_check: { tcp: {}, interval: 50ms, timeout: 40ms, rise: 1, fall: 2 }";
    let clusters = format!("  - {{ name: web, endpoints: [\"{alive}\", \"{mortal}\"], {check} }}\n");
    let home = Home::new(&clusters);
    let daemon = Daemon::start(&home);
    let states = |status: &Value| -> Vec<String> {
        endpoints(status)
            .iter()
            .map(|it| it["state"].as_str().unwrap().to_owned())
            .collect()
    };
    daemon.status_when("both healthy", |status| states(status) == ["healthy", "healthy"]);
    drop(second);
    let status = daemon.status_when("one dead", |status| states(status) == ["healthy", "unhealthy"]);
    let dead = endpoints(&status)[1];
    assert_eq!(
        (&dead["effective_weight"], &dead["share_percent"]),
        (&json!(0), &json!(0.0))
    );
    let error = dead["health"]["last_error"].as_str().unwrap();
    assert!(error.contains("connection refused"), "{error}");

    // A reload that does not touch them keeps the verdicts.
    let generation = status["generation"].clone();
    home.write(&home.config_with(
        &clusters,
        "  - { name: more, endpoints: [\"198.51.100.3:80\"] }\n",
    ));
    daemon.reload("cluster more: added (endpoints: 1)");
    assert_eq!(states(&daemon.status()), ["healthy", "unhealthy"]);
    assert_ne!(daemon.status()["generation"], generation);

    let _second = std::net::TcpListener::bind(mortal).unwrap();
    daemon.status_when("back", |status| states(status) == ["healthy", "healthy"]);
    drop(first);
}
