//! How spans get to a collector, or don't.

use super::{Collector, LIMIT, PARENT, ROUTES, TRACE, metric, proxy, section};
use anyhow::{Result, ensure};
use rustix::process::Signal;
use std::{collections::HashMap, fs};
use weir_tests::{l7::Site, lab::until};
#[test]
fn a_collector_that_is_away_is_no_matter_and_noticed_when_it_is_back() -> Result<()> {
    let site = Site::shared();
    let http = site.port();
    let proxy = proxy(&section(&http), "", ROUTES, "")?;
    for _ in 0..50 {
        proxy.get("/echo")?.expect(200)?;
    }
    let failures = || (metric(&proxy, "weir_trace_export_failures_total").ok()? >= 2.0).then_some(());
    until("two tries", LIMIT, failures)?;
    ensure!(
        metric(&proxy, "weir_trace_spans_exported_total")? == 0.0,
        "nobody takes them"
    );
    let said = |what: &str| proxy.weir.output().matches(what).count();
    ensure!(said("takes no spans") == 1, "once: {}", proxy.weir.output());
    let collector = Collector::start_on(http, false)?;
    // The very first ones, which waited.
    let all = || {
        let exported = metric(&proxy, "weir_trace_spans_exported_total").ok()?;
        (exported >= 100.0).then_some(())
    };
    until("spans exported", LIMIT, all)?;
    until("the log says so", LIMIT, || {
        (said("exported again; 0 were lost") == 1).then_some(())
    })?;
    ensure!(collector.spans()?.len() == 100, "50 requests, two spans each");

    // It is asked again when it wants to be, and what it refuses is lost.
    collector.fail("status=503&count=2&retry_after=1")?;
    let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
    collector.trace(TRACE, 2)?;
    collector.fail("status=400&count=1")?;
    proxy.get("/echo")?.expect(200)?;
    let refused = "weir_trace_spans_dropped_total{reason=\"refused\"}";
    until("spans refused", LIMIT, || {
        (metric(&proxy, refused).ok()? == 2.0).then_some(())
    })?;
    ensure!(said("takes no spans") == 3, "{}", proxy.weir.output());
    Ok(())
}

#[test]
fn over_tls_and_grpc_with_headers_from_files() -> Result<()> {
    let site = Site::shared();
    let folder = site.subfolder("otlp")?;
    fs::write(folder.join("token"), "Bearer s3cret\n")?;
    let more = format!(
        "headers: {{ x-team: edge }}, header_files: {{ authorization: {} }}",
        folder.join("token").display()
    );
    let (secure, plain) = (Collector::start_on(site.port(), true)?, Collector::start()?);
    let ca = site.authority().cert.display();
    let over_https = format!(
        "endpoint: \"https://localhost:{}\", tls: {{ ca: {ca} }}",
        secure.http.port()
    );
    let over_grpc = format!("endpoint: \"http://{}\", protocol: grpc", plain.grpc);
    for (collector, endpoint) in [(&secure, over_https), (&plain, over_grpc)] {
        let section =
            format!("tracing: {{ sampling: 1, service_name: edge, otlp: {{ {endpoint}, {more} }} }}\n");
        let mut proxy = proxy(&section, "", ROUTES, "")?;
        let parent = format!("traceparent: 00-{TRACE}-{PARENT}-01");
        proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
        let spans = collector.trace(TRACE, 2)?;
        ensure!(spans[0]["resource"]["service.name"] == "edge", "{spans:#?}");
        let headers: HashMap<String, String> = serde_json::from_value(spans[0]["headers"].clone())?;
        let header = |name: &str| {
            let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        ensure!(header("authorization") == Some("Bearer s3cret"), "{headers:?}");
        ensure!(header("x-team") == Some("edge"), "{headers:?}");
        ensure!(
            !proxy.weir.output().contains("s3cret"),
            "a secret is shown nowhere"
        );
        proxy.weir.check()?;
    }
    Ok(())
}

#[test]
fn what_waits_is_sent_before_the_end() -> Result<()> {
    let collector = Collector::start()?;
    let mut proxy = proxy(&collector.section(), "", ROUTES, "")?;
    for number in 1..=40 {
        let parent = format!("traceparent: 00-{number:032x}-{PARENT}-01");
        proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
    }
    proxy.weir.signal(Signal::TERM)?;
    until("its end", LIMIT, || proxy.weir.check().is_err().then_some(()))?;
    for number in 1..=40 {
        collector.trace(&format!("{number:032x}"), 2)?;
    }
    Ok(())
}

/// Each of two processes sends what it has seen, the old one before it ends.
#[test]
fn an_upgrade_loses_no_span() -> Result<()> {
    let site = Site::shared();
    let collector = Collector::start()?;
    let mut proxy = proxy(&collector.section(), "", ROUTES, "")?;
    for number in 1..=40 {
        if number == 20 {
            proxy.weir.take_over(site)?;
        }
        let parent = format!("traceparent: 00-{number:032x}-{PARENT}-01");
        proxy.curl("/echo").header(&parent).answer()?.expect(200)?;
    }
    proxy.weir.expect_left()?;
    for number in 1..=40 {
        collector.trace(&format!("{number:032x}"), 2)?;
    }
    Ok(())
}
