//! Rolling updates under the traffic of both planes, and pods that go without one that follows.

use super::{
    LIMIT, Site,
    clients::{Calls, Servers, WebSocket, under_h2load},
    web,
};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};
use weir_tests::{
    l7::Authority,
    lab::{Image, Traffic, Web, tool, until},
};

/// Rollouts in a row; `WEIR_LONG` asks for more.
fn rollouts() -> usize {
    if std::env::var_os("WEIR_LONG").is_some() {
        20
    } else {
        3
    }
}

/// Nothing is lost: no request, no connection, no datagram, no packet.
#[test]
fn rolling_updates_go_unnoticed_by_both_planes() -> Result<()> {
    let site = Site::new("3s")?;
    let mut servers = Servers::start(&site)?;
    let mut pod = site.kubelet.start(&site.image)?;
    let traffic = Traffic::start(&site.running)?;
    let web = Web::start(&site.running, web())?;
    let calls = Calls::start(&site)?;
    under_h2load(&site, || {
        for number in 0..rollouts() {
            let mut held = WebSocket::open(&site)?;
            let next = site.kubelet.start(&site.image)?;
            let old = std::mem::replace(&mut pod, next);
            // It isn't ready any more, and alive as long as it has connections.
            let ready = site.kubelet.probe(&old, "readinessProbe")?;
            ensure!(
                !ready.status.success() && ready.stderr.contains("another container"),
                "{ready:?}"
            );
            let alive = site.kubelet.probe(&old, "livenessProbe")?;
            ensure!(alive.status.success(), "{alive:?}");
            let log = site.kubelet.delete_while(old, |_, hook| {
                // The pod, and with it the hook, ends when this connection does.
                until("the hook's word", LIMIT, || {
                    let said = hook.output();
                    said.contains("another container's process is the daemon")
                        .then_some(())
                })?;
                traffic.wait().with_context(|| format!("in rollout {number}"))?;
                held.echo("through the old pod's drain")?;
                drop(held);
                Ok(())
            })?;
            ensure!(log.contains("the last connections have ended"), "{log}");
        }
        Ok(())
    })?;
    servers.check()?;
    ensure!(
        site.dropped()? == 0,
        "{:#}",
        site.admin().status()?["kernel"]["drops"]
    );
    calls.expect_unnoticed()?;
    web.expect_unnoticed()?;
    traffic.expect_unnoticed()?;
    site.kubelet.delete(pod)?;
    Ok(())
}

/// The rollout stops at its first node, where the old pod serves on; then an image that works follows.
#[test]
fn a_new_image_that_fails_leaves_the_old_pod_in_service() -> Result<()> {
    let site = Site::new("0s")?;
    let _servers = Servers::start(&site)?;
    let old = site.kubelet.start(&site.image)?;
    let traffic = Traffic::start(&site.running)?;
    let web = Web::start(&site.running, web())?;
    let broken = Image::stage(&site.folder("broken"), &tool("false")?)?;
    // Kubelet starts it again and again.
    for _ in 0..3 {
        let refused = site.kubelet.start(&broken).map(drop);
        let refused = refused.err().context("an image that ends got ready")?;
        ensure!(
            format!("{refused:#}").contains("ended with exit status: 1"),
            "{refused:#}"
        );
        let ready = site.kubelet.probe(&old, "readinessProbe")?;
        ensure!(ready.status.success(), "{ready:?}");
        traffic.wait()?;
    }
    let new = site.kubelet.start(&site.image)?;
    site.kubelet.delete(old)?;
    traffic.wait()?;
    web.expect_unnoticed()?;
    traffic.expect_unnoticed()?;
    site.kubelet.delete(new)?;
    Ok(())
}

/// `kubectl rollout undo` while both pods are there: the old one, which has been taken over from, ends, is started again, and takes over.
#[test]
fn an_old_pod_that_nobody_deletes_comes_back() -> Result<()> {
    let site = Site::new("1s")?;
    let _servers = Servers::start(&site)?;
    let mut old = site.kubelet.start(&site.image)?;
    let traffic = Traffic::start(&site.running)?;
    let web = Web::start(&site.running, web())?;
    let new = site.kubelet.start(&site.image)?;
    let ended = until("the end of the old pod's process", LIMIT, || old.ended())?;
    ensure!(ended.success(), "{ended}: {}", old.output());
    let old = site.kubelet.start(&site.image)?;
    ensure!(!site.kubelet.probe(&new, "readinessProbe")?.status.success());
    site.kubelet.delete(new)?;
    traffic.wait()?;
    web.expect_unnoticed()?;
    traffic.expect_unnoticed()?;
    site.kubelet.delete(old)?;
    Ok(())
}

/// Kubelet starts again what ends: so a pod that was taken over from, and has no connections any more, waits to be told to end.
#[test]
fn an_old_pod_lingers_until_it_is_told_to_end() -> Result<()> {
    let site = Site::new("1h")?;
    let _servers = Servers::start(&site)?;
    let mut old = site.kubelet.start(&site.image)?;
    let new = site.kubelet.start(&site.image)?;
    // Time enough to end in.
    for _ in 0..5 {
        let ready = site.kubelet.probe(&new, "readinessProbe")?;
        ensure!(ready.status.success(), "{ready:?}");
    }
    old.check()?;
    let alive = site.kubelet.probe(&old, "livenessProbe")?;
    ensure!(alive.status.success(), "{alive:?}");
    old.signal(Signal::TERM)?;
    let ended = until("the end of the old pod's process", LIMIT, || old.ended())?;
    ensure!(ended.success(), "{ended}: {}", old.output());
    site.kubelet.delete(new)?;
    Ok(())
}

/// As with `kubectl delete pod`, or at a node's shutdown: what runs finishes, what is new is refused, L4 goes on without a pod.
#[test]
fn a_pod_that_goes_alone_drains_first() -> Result<()> {
    let site = Site::new("0s")?;
    let _servers = Servers::start(&site)?;
    let pod = site.kubelet.start(&site.image)?;
    let traffic = Traffic::start(&site.running)?;
    let client = &site.running.topology.client;
    let mut held = WebSocket::open(&site)?;
    let mut kept = client.run(|| TcpStream::connect(web()))?;
    kept.set_read_timeout(Some(LIMIT))?;
    let log = site.kubelet.delete_while(pod, |pod, _| {
        until("a probe that fails", LIMIT, || {
            let probed = site.kubelet.probe(pod, "readinessProbe").ok()?;
            (probed.stderr.contains("it drains")).then_some(())
        })?;
        let alive = site.kubelet.probe(pod, "livenessProbe")?;
        ensure!(alive.status.success(), "{alive:?}");
        until("closed listeners", LIMIT, || {
            client.run(|| TcpStream::connect(web())).err()
        })?;
        held.echo("after the listeners closed")?;
        // The last request of a connection that stayed open is told so.
        kept.write_all(b"GET / HTTP/1.1\r\nHost: weir.example\r\n\r\n")?;
        let mut answer = String::new();
        kept.read_to_string(&mut answer)?;
        ensure!(
            answer.starts_with("HTTP/1.1 200 ") && answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
        drop(held);
        Ok(())
    })?;
    ensure!(log.contains("drained"), "{log}");
    traffic.wait().context("without a pod")?;
    let pod = site.kubelet.start(&site.image)?;
    client.run(|| TcpStream::connect(web()))?;
    traffic.wait()?;
    traffic.expect_unnoticed()?;
    site.kubelet.delete(pod)?;
    Ok(())
}

/// A change of the ConfigMap takes no rollout: kubelet swaps the link that the config is read through.
#[test]
fn a_changed_config_map_is_in_force_without_a_new_pod() -> Result<()> {
    let site = Site::new("0s")?;
    let respond = |body: &str| json!([{"respond": {"status": 200, "body": body}}]);
    site.configure(&respond("first"), &[])?;
    let pod = site.kubelet.start(&site.image)?;
    let url = format!("http://{}/", web());
    let body = || {
        site.running
            .topology
            .client
            .execute(&format!("curl --silent {url}"))
    };
    ensure!(body()? == "first");
    let config = site.configure(&respond("second"), &[])?;
    until("the second config", LIMIT, || {
        (body().ok()? == "second").then_some(())
    })?;
    // One with a mistake changes nothing and is said.
    site.kubelet.node.bring(&[("weir.yaml", "listeners: 7\n")])?;
    until("the mistake to be found", LIMIT, || {
        let status = site.admin().status().ok()?;
        (!status["last_error"].is_null()).then_some(())
    })?;
    ensure!(body()? == "second");
    site.bring(&config)?;
    until("the config to be right again", LIMIT, || {
        site.admin().status().ok()?["last_error"].is_null().then_some(())
    })?;
    site.kubelet.delete(pod)?;
    Ok(())
}

/// A Secret's files are links through one that is swapped, too.
#[test]
fn a_replaced_secret_is_shown_to_clients() -> Result<()> {
    let site = Site::new("0s")?;
    let folder = site.folder("authority");
    fs::create_dir(&folder)?;
    let authority = Authority::new(&folder, "authority")?;
    let mut config = site.running.config.clone();
    let listener = json!({
        "name": "tls",
        "address": web(),
        "tls": {"certificates": [{"cert": "tls.crt", "key": "tls.key"}]},
        "routes": [{"respond": {"status": 200, "body": "ok"}}],
    });
    let listeners = config.value["listeners"].as_array_mut().context("listeners")?;
    listeners.push(listener);
    let text = site.text(&config);
    let bring = |name: &str| -> Result<()> {
        let identity = authority.issue(name, name, &[&format!("IP:{}", web().ip())])?;
        let (cert, key) = (
            fs::read_to_string(identity.cert)?,
            fs::read_to_string(identity.key)?,
        );
        let files = [("weir.yaml", &*text), ("tls.crt", &cert), ("tls.key", &key)];
        site.kubelet.node.bring(&files)
    };
    let subject = || -> Option<String> {
        let shown = site.running.topology.client.execute(&format!(
            "curl --silent --verbose --cacert {} --write-out %{{certs}} https://{}/",
            authority.cert.display(),
            web()
        ));
        shown.ok()
    };
    bring("first")?;
    let pod = site.kubelet.start(&site.image)?;
    let shown = subject().context("no answer")?;
    ensure!(shown.contains("CN = first") && shown.starts_with("ok"), "{shown}");
    bring("second")?;
    until("the second certificate", LIMIT, || {
        subject()?.contains("CN = second").then_some(())
    })?;
    site.kubelet.delete(pod)?;
    Ok(())
}
