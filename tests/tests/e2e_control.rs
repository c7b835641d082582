//! What control and the kernel plane owe each other: all or nothing, also over a restart.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use weir_tests::lab::{Family, Running, failures, shares, until};

/// More than anything awaited here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Four services of three backends each.
const BACKENDS: u32 = 12;

/// `hash: source`: a client stays with one backend, clients spread; going back to 5-tuples moves no flow that runs.
#[test]
fn a_client_stays_with_its_backend_where_the_hash_is_of_its_address() -> Result<()> {
    let mut running = Running::start_with(|mut config| {
        config.value["listeners"][0]["forward"]["hash"] = json!("source");
        config
    })?;
    let attempts = running.ask(60);
    assert_eq!(failures(&attempts).len(), 0);
    assert_eq!(shares(&attempts).len(), 1, "{:?}", shares(&attempts));
    let long = running.long(Family::V4, 10)?;
    let socket = running.daemon.admin().socket().to_string_lossy().into_owned();
    let vip = Running::vip(Family::V4).to_string();
    let goes_to = |client: String| -> Result<String> {
        let arguments = ["flow", &client, &vip, "--json", "--socket", &socket];
        let answer: Value = serde_json::from_str(&running.daemon.weir(&arguments)?.success()?)?;
        Ok(answer["goes_to"].to_string())
    };
    let mut backends = std::collections::BTreeSet::new();
    for host in 1..60 {
        let one = goes_to(format!("203.0.113.{host}:1000"))?;
        assert_eq!(one, goes_to(format!("203.0.113.{host}:2000"))?);
        backends.insert(one);
    }
    assert_eq!(backends.len(), 3, "{backends:?}");
    let mut plain = running.config.clone();
    plain.value["listeners"][0]["forward"]["hash"] = json!("five_tuple");
    running.daemon.reload(&plain)?;
    running.config = plain;
    assert_eq!(shares(&running.ask(60)).len(), 3);
    long.wait_for_rounds(5, LIMIT)?;
    assert_eq!(long.lost().len(), 0);
    Ok(())
}

#[test]
fn what_does_not_fit_into_the_maps_changes_nothing() -> Result<()> {
    let mut running = Running::start_with(|mut config| {
        config.value["kernel"]["max_backends"] = json!(BACKENDS);
        config
    })?;
    let long = running.long(Family::V4, 5)?;
    let before = running.daemon.status()?;
    assert_eq!(before["kernel"]["generation"], before["generation"]);

    // The file's own size would do, but the maps keep theirs until `weir unload`.
    let mut larger = running.config.clone();
    larger.value["kernel"]["max_backends"] = json!(100);
    larger.cluster("tcp4")["endpoints"][0]["weight"] = json!(0);
    if let Some(endpoints) = larger.cluster("tcp4")["endpoints"].as_array_mut() {
        endpoints.push(json!("198.51.100.200:7"));
    }
    running.daemon.write(&larger)?;
    let answer = running.daemon.admin().request("POST", "/reload", None)?;
    assert_eq!(answer.code, 500, "{answer:?}");
    let error = answer.body["error"].to_string();
    ensure!(
        error.contains("kernel.max_backends") && error.contains("12"),
        "{error}"
    );
    let after = running.daemon.status()?;
    assert_eq!(after["generation"], before["generation"]);
    assert_eq!(after["kernel"]["generation"], before["generation"]);
    assert_eq!(after["services"][0]["backends"].as_array().map(Vec::len), Some(3));
    ensure!(
        after["last_error"].to_string().contains("kernel.max_backends"),
        "{after}"
    );
    ensure!(
        shares(&running.ask(100)).contains_key("backend-1"),
        "its weight of 0 was not refused too"
    );

    // Refused, not stuck: the next change goes through, and a good config clears the error.
    running
        .daemon
        .set_endpoint("tcp4", Running::backend(1), &json!({"weight": 0}))?;
    assert_eq!(shares(&running.ask(100)).get("backend-2"), None);
    running.daemon.reload(&running.config)?;
    let status = running.daemon.status()?;
    assert_eq!(status["last_error"], Value::Null);
    assert_eq!(status["kernel"]["generation"], status["generation"]);
    long.wait_for_rounds(5, LIMIT)?;
    assert_eq!(long.lost().len(), 0);
    running.daemon.check()
}

#[test]
fn a_dead_backend_stays_out_when_the_daemon_starts_again() -> Result<()> {
    // So slow that a new daemon's first verdict comes only after what is asserted here.
    let mut running = Running::start_with(|config| config.health_check("tcp4", "1s"))?;
    let state = |running: &Running| -> Result<Value> {
        Ok(running.daemon.backend_status("tcp4", Running::backend(2))?["state"].clone())
    };
    until("its first verdict", LIMIT, || {
        (state(&running).ok()? == "healthy").then_some(())
    })?;
    running.servers[2].stop();
    until("its death", LIMIT, || {
        (state(&running).ok()? == "unhealthy").then_some(())
    })?;
    running.daemon.kill();
    running.daemon.start_again()?;
    assert_eq!(state(&running)?, "unhealthy");
    let attempts = running.ask(200);
    assert_eq!(failures(&attempts).len(), 0, "{:?}", failures(&attempts));
    Ok(())
}
