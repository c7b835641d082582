//! What endpoints are told, and which requests are sampled.

use super::{
    super::support::{Proxy, config},
    CLIENT, Collector, LIMIT, PARENT, ROUTES, SERVER, TRACE, of_kind, one, proxy, seen_parent,
};
use anyhow::{Context, Result, ensure};
use std::time::Instant;
use weir_tests::{l7::Site, lab::until};
#[test]
fn what_a_client_says_is_followed_or_begun_anew() -> Result<()> {
    let collector = Collector::start()?;
    let proxy = proxy(&collector.section(), "", ROUTES, "")?;
    let state = "tracestate: rojo=00f067aa0ba902b7,congo=t61";
    // Sampled: another span's id, the same trace.
    for (version, flags) in [("00", "01"), ("00", "03"), ("cc", "01")] {
        let header = format!("traceparent: {version}-{TRACE}-{PARENT}-{flags}");
        let (parent, kept) = seen_parent(&proxy, &[&header, state])?;
        let parent = parent.context("a traceparent")?;
        ensure!(
            parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with(&format!("-{flags}")),
            "{parent}"
        );
        ensure!(
            !parent.contains(PARENT),
            "the parent is a span of the daemon: {parent}"
        );
        ensure!(
            kept.as_deref() == Some("rojo=00f067aa0ba902b7,congo=t61"),
            "{kept:?}"
        );
    }
    // Not sampled: as it came, as there is no span in between.
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    let (parent, kept) = seen_parent(&proxy, &[&format!("traceparent: {unsampled}"), state])?;
    ensure!(
        parent.as_deref() == Some(unsampled.as_str()) && kept.is_some(),
        "{parent:?} {kept:?}"
    );
    // A later version is written as the one that is known.
    let later = format!("traceparent: cc-{TRACE}-{PARENT}-00-what-the-future-will-be-like");
    let (parent, _) = seen_parent(&proxy, &[&later])?;
    ensure!(parent.as_deref() == Some(unsampled.as_str()), "{parent:?}");
    // None, or none that is valid: a new trace, without the state of the old one.
    let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let invalid: [&[&str]; 9] = [
        &[],
        &["traceparent: 00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
        &["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"],
        &["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"],
        &["traceparent: ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
        &["traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01"],
        &["traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
        &["traceparent: "],
        &[&valid, &valid],
    ];
    for headers in invalid {
        let headers = [headers, &[state]].concat();
        let (parent, kept) = seen_parent(&proxy, &headers)?;
        let parent = parent.context("a traceparent")?;
        ensure!(
            parent.len() == 55 && !parent.contains(TRACE),
            "{headers:?}: {parent}"
        );
        ensure!(parent.ends_with("-03"), "sampled, with a random id: {parent}");
        ensure!(kept.is_none(), "{headers:?}: {kept:?}");
        let spans = collector.trace(&parent[3..35], 2)?;
        ensure!(one(&spans, SERVER)?["parent"] == "", "{spans:#?}");
        ensure!(one(&spans, CLIENT)?["span"] == parent[36..52], "{spans:#?}");
    }
    // An invalid state goes, the trace stays.
    let (parent, kept) = seen_parent(&proxy, &[&valid, "tracestate: rojo=1,rojo=2"])?;
    ensure!(
        parent.context("a traceparent")?.contains(TRACE) && kept.is_none(),
        "{kept:?}"
    );
    Ok(())
}

#[test]
fn without_tracing_nothing_is_touched_and_a_reload_turns_it_on_and_elsewhere() -> Result<()> {
    let site = Site::shared();
    let (first, second) = (Collector::start()?, Collector::start()?);
    let proxy = Proxy::with_routes("", ROUTES)?;
    let odd = ["traceparent: 00-none", "tracestate: rojo=1,rojo=2"];
    let seen = seen_parent(&proxy, &odd)?;
    ensure!(
        seen == (Some("00-none".into()), Some("rojo=1,rojo=2".into())),
        "{seen:?}"
    );
    ensure!(seen_parent(&proxy, &[])? == (None, None), "no header is made");
    let connection = &mut proxy.raw()?;
    for collector in [&first, &second] {
        let answer = proxy
            .weir
            .reload(&config(site, proxy.address, "", ROUTES, &collector.section()))?;
        ensure!(
            answer["changes"] == serde_json::json!(["tracing: changed"]),
            "{answer}"
        );
        let serves_it = || {
            // The connection was there before: workers go over between two requests.
            connection.send("GET /echo HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let seen = connection.answer().ok()?.seen().ok()?;
            let id = seen.header("traceparent")?.get(3..35)?.to_owned();
            let spans = collector.spans().ok()?;
            spans.iter().any(|span| span["trace"] == id).then_some(())
        };
        let mut traced = serves_it;
        until("spans where they go now", LIMIT, &mut traced)?;
    }
    // Nothing is sampled: those without a parent get one that says so.
    let none = second.section().replace("sampling: 1", "sampling: 0");
    proxy
        .weir
        .reload(&config(site, proxy.address, "", ROUTES, &none))?;
    let unsampled = || {
        let (parent, _) = seen_parent(&proxy, &[]).ok()?;
        parent?.ends_with("-02").then_some(())
    };
    until("requests that are not sampled", LIMIT, unsampled)
}

#[test]
fn sampling_is_bounded() -> Result<()> {
    let site = Site::shared();
    let collector = Collector::start()?;
    let bounded = collector
        .section()
        .replace("sampling: 1", "sampling: 1, max_per_second: 5");
    let proxy = proxy(
        &bounded,
        "access_log: { path: /dev/stdout, text: \"id=%TRACE_ID%\" }",
        ROUTES,
        "",
    )?;
    let begin = Instant::now();
    let output = site.shell(&format!(
        "h2load --h1 -n 2000 -c 4 -t 1 http://{}/echo 2>&1",
        proxy.address
    ))?;
    let output = output.success()?;
    ensure!(output.contains("2000 succeeded"), "{output}");
    let most = 5 * (begin.elapsed().as_secs() + 2);
    // What was sampled before this one has been exported with it, or before.
    let last = || {
        let (parent, _) = seen_parent(&proxy, &[]).ok()?;
        let parent = parent?;
        parent.ends_with("-03").then(|| parent[3..35].to_owned())
    };
    collector.trace(&until("a request that is sampled", LIMIT, last)?, 2)?;
    let spans = collector.spans()?;
    let servers = of_kind(&spans, SERVER).len() as u64;
    let since = 5 * (begin.elapsed().as_secs() + 2);
    ensure!(
        servers >= 5 && servers <= since,
        "{servers} were sampled, at most {most} to {since} were expected"
    );
    // The log names those too that were not.
    let lines = || {
        let log = proxy.weir.output();
        let ids: Vec<&str> = log
            .lines()
            .filter_map(|line| line.split_once("id="))
            .map(|(_, id)| id)
            .collect();
        (ids.len() >= 2_001).then(|| ids.iter().all(|id| id.len() == 32))
    };
    ensure!(
        until("lines of the access log", LIMIT, lines)?,
        "{}",
        proxy.weir.output()
    );
    Ok(())
}
