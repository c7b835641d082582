//! Every protocol of a client with every protocol of an upstream.

use super::support::config;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{fs, net::SocketAddr};
use weir_tests::l7::{Answer, Curl, Raw, Site, Weir, h2_request};

/// How a client speaks: curl's arguments, and whether it is TLS.
const CLIENTS: [(&str, &str, bool); 4] = [
    ("HTTP/1.1", "--http1.1", false),
    ("h2c", "--http2-prior-knowledge", false),
    ("HTTP/1.1 over TLS", "--http1.1", true),
    ("HTTP/2 over TLS", "--http2", true),
];

/// Clusters, and the version that the backend sees.
const UPSTREAMS: [(&str, &str); 4] = [
    ("backend", "1.1"),
    ("h2c", "2.0"),
    ("tls", "2.0"),
    ("tls1", "1.1"),
];

/// A daemon with a plain listener and one of TLS; the host names the cluster.
struct Both {
    _weir: Weir,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Both {
    fn start() -> Result<Self> {
        let site = Site::shared();
        let (plain, tls) = (site.port(), site.port());
        let identity =
            site.authority()
                .issue("combinations", "localhost", &["DNS:*.to.test", "IP:127.0.0.1"])?;
        let routes: String = UPSTREAMS
            .iter()
            .map(|(cluster, _)| {
                format!("      - {{ match: {{ host: {cluster}.to.test }}, cluster: {cluster} }}\n")
            })
            .collect();
        let listener = format!(
            "  - name: tls
    address: {tls}
    tls: {{ certificates: [{{ cert: {}, key: {} }}], alpn: [h2, http/1.1] }}
    routes:
{routes}",
            identity.cert.display(),
            identity.key.display()
        );
        let text = config(site, plain, "", &routes, "").replacen(
            "listeners:\n",
            &format!("listeners:\n{listener}"),
            1,
        );
        Ok(Self {
            _weir: Weir::start(site, &text)?,
            plain,
            tls,
        })
    }

    fn curl(&self, client: (&str, &str, bool), cluster: &str, path: &str) -> Curl<'static> {
        let site = Site::shared();
        let (scheme, address) = if client.2 {
            ("https", self.tls)
        } else {
            ("http", self.plain)
        };
        let host = format!("{cluster}.to.test");
        Curl::new(site, &format!("{scheme}://{host}:{}{path}", address.port()))
            .with(client.1)
            .with("--resolve")
            .arg(&format!("{host}:{}:127.0.0.1", address.port()))
            .with("--cacert")
            .arg(&site.authority().cert.to_string_lossy())
    }
}

#[test]
fn every_client_reaches_every_upstream() -> Result<()> {
    let both = Both::start()?;
    let body = Site::shared().folder().join("hundred-kilobytes");
    fs::write(&body, "0123456789".repeat(10_000))?;
    for client in CLIENTS {
        for (cluster, version) in UPSTREAMS {
            let request = |path: &str| both.curl(client, cluster, path);
            exchange(&request, client.0, version, &body.to_string_lossy())
                .with_context(|| format!("{} to cluster {cluster}", client.0))?;
        }
    }
    Ok(())
}

fn exchange(request: &dyn Fn(&str) -> Curl<'static>, client: &str, version: &str, body: &str) -> Result<()> {
    let answer = request("/echo?q=1").answer()?;
    let wanted = if client.contains("HTTP/1.1") {
        "HTTP/1.1"
    } else {
        "HTTP/2"
    };
    ensure!(answer.version == wanted, "the client got {}", answer.version);
    let seen = answer.seen()?;
    ensure!(
        seen.text("version") == version,
        "the upstream saw {}",
        seen.text("version")
    );
    ensure!(
        seen.text("method") == "GET" && seen.text("target") == "/echo?q=1",
        "{seen:?}"
    );

    let seen = request("/echo")
        .with("--data-binary")
        .arg(&format!("@{body}"))
        .answer()?
        .seen()?;
    ensure!(
        seen.text("method") == "POST" && seen.text("body").len() == 100_000,
        "a body of 100 kB"
    );
    let chunked = request("/sink")
        .with("--header Transfer-Encoding:chunked --data-binary")
        .arg(&format!("@{body}"))
        .answer()?;
    ensure!(
        chunked.text() == "100000\n",
        "an upload of no said length: {}",
        chunked.text()
    );

    let answer = request("/bytes/1000").with("--head").answer()?.expect(200)?;
    ensure!(
        answer.header("content-length") == Some("1000") && answer.body.is_empty(),
        "HEAD: {answer:?}"
    );
    let answer = request("/status/204").answer()?.expect(204)?;
    ensure!(
        answer.body.is_empty() && answer.header("content-length").is_none(),
        "204: {answer:?}"
    );
    let answer = request("/status/304").answer()?.expect(304)?;
    ensure!(answer.header("etag") == Some("\"one\""), "304: {answer:?}");
    ensure!(
        request("/chunked/100000").answer()?.body.len() == 100_000,
        "a download of no said length"
    );
    let answer = request("/hints").answer()?;
    let hints: Vec<u16> = answer.informational.iter().map(|(status, _)| *status).collect();
    ensure!(hints == [103] && answer.text() == "after\n", "103: {answer:?}");
    ensure!(
        request("/status/500").answer()?.status == 500,
        "a status of 500 passes"
    );
    Ok(())
}

#[test]
fn trailers_pass_both_ways() -> Result<()> {
    let both = Both::start()?;
    let site = Site::shared();
    for (cluster, _) in UPSTREAMS {
        let what = || format!("to cluster {cluster}");
        let mut raw = Raw::connect(site, both.plain)?;
        raw.send(format!(
            "POST /echo HTTP/1.1\r\nHost: {cluster}.to.test\r\nTE: trailers\r\nConnection: TE\r\n\
             Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n"
        ));
        let seen = raw.answer()?.seen()?;
        ensure!(seen.trailer("x-sum") == Some("3"), "{}: {seen:?}", what());
        raw.send(format!(
            "GET /trailers HTTP/1.1\r\nHost: {cluster}.to.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
        ));
        let answer = raw.answer()?;
        let trailers = (answer.trailer("x-sum"), answer.trailer("x-end"));
        ensure!(trailers == (Some("6"), Some("yes")), "{}: {answer:?}", what());
        ensure!(answer.text() == "one two three", "{}: {answer:?}", what());

        let url = format!("http://{}", both.plain);
        let request = json!({"url": format!("{url}/trailers"), "headers": {":authority": format!("{cluster}.to.test")}});
        let answer = h2_request(site, &request)?;
        ensure!(
            answer["trailers"]["x-sum"] == "6" && answer["body"] == "one two three",
            "{}: {answer}",
            what()
        );
        let request = json!({"url": format!("{url}/echo"), "body": "abc", "trailers": {"x-sum": "3"},
            "headers": {":method": "POST", ":authority": format!("{cluster}.to.test"), "te": "trailers", "trailer": "x-sum"}});
        let answer = h2_request(site, &request)?;
        let seen = Answer {
            status: 200,
            body: answer["body"].as_str().unwrap_or_default().into(),
            ..Answer::default()
        }
        .seen()?;
        ensure!(seen.trailer("x-sum") == Some("3"), "{}: {answer}", what());
    }
    Ok(())
}

/// Both directions of a stream flow at the same time: what is sent is back before the end of the request.
#[test]
fn bodies_flow_both_ways_at_once() -> Result<()> {
    let both = Both::start()?;
    for (cluster, _) in UPSTREAMS {
        let mut raw = Raw::connect(Site::shared(), both.plain)?;
        raw.send(format!(
            "POST /mirror HTTP/1.1\r\nHost: {cluster}.to.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        raw.send("5\r\nfirst\r\n");
        let until_first = raw
            .until("first")
            .with_context(|| format!("to cluster {cluster}"))?;
        ensure!(until_first.contains(" 200 "), "{until_first}");
        raw.send("6\r\nsecond\r\n0\r\n\r\n");
        raw.until("second")?;
    }
    Ok(())
}
