//! TLS by openssl and curl: names, resumption, versions, client certificates, upstreams, and certificates that change.

use super::support::{Proxy, config};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};
use weir_tests::{
    l7::{Answer, Authority, Curl, Identity, Site, Weir},
    lab::Finished,
};

/// Long enough for every client to meet most of the certificates.
const REPLACEMENTS: u32 = 100;

fn pair(identity: &Identity) -> String {
    format!(
        "{{ cert: {}, key: {} }}",
        identity.cert.display(),
        identity.key.display()
    )
}

fn issue(file: &str, names: &[&str]) -> Result<Identity> {
    Site::shared()
        .authority()
        .issue(file, names[0].trim_start_matches("DNS:"), names)
}

fn s_client(address: SocketAddr, arguments: &str) -> Result<Finished> {
    let site = Site::shared();
    let mut command = site.host().command("openssl")?;
    command
        .args(["s_client", "-connect", &address.to_string(), "-CAfile"])
        .arg(&site.authority().cert)
        .args(arguments.split_whitespace())
        .current_dir(site.folder());
    Finished::run(&mut command, "GET /echo HTTP/1.0\r\nHost: a.test\r\n\r\n")
}

fn https(address: SocketAddr, host: &str, path: &str) -> Curl<'static> {
    let site = Site::shared();
    Curl::new(site, &format!("https://{host}:{}{path}", address.port()))
        .with("--resolve")
        .arg(&format!("{host}:{}:127.0.0.1", address.port()))
        .with("--cacert")
        .arg(&site.authority().cert.to_string_lossy())
}

#[test]
fn a_name_gets_its_certificate() -> Result<()> {
    let first = issue("names-first", &["DNS:first.test"])?;
    let exact = issue("names-exact", &["DNS:www.second.test"])?;
    let wild = issue("names-wild", &["DNS:*.second.test"])?;
    let proxy = Proxy::start(&format!(
        "tls: {{ certificates: [{}, {}, {}] }}",
        pair(&first),
        pair(&wild),
        pair(&exact)
    ))?;
    let subject = |arguments: &str| -> Result<String> {
        let output = s_client(proxy.address, arguments)?.stdout;
        let line = output.lines().find(|line| line.starts_with("subject="));
        Ok(line.with_context(|| output.clone())?.to_owned())
    };
    for (arguments, wanted) in [
        ("-servername first.test", "first.test"),
        ("-servername www.second.test", "www.second.test"),
        ("-servername other.second.test", "*.second.test"),
        ("-servername WWW.Second.Test", "www.second.test"),
        ("-servername unknown.test", "first.test"),
        ("-noservername", "first.test"),
    ] {
        for version in ["-tls1_3", "-tls1_2"] {
            let subject = subject(&format!("{arguments} {version}"))?;
            ensure!(
                subject.ends_with(&format!("CN = {wanted}")),
                "{arguments} {version}: {subject}"
            );
        }
    }
    // Verified by name, too.
    https(proxy.address, "a.second.test", "/echo")
        .answer()?
        .expect(200)?;
    Ok(())
}

#[test]
fn sessions_are_resumed() -> Result<()> {
    let site = Site::shared();
    let identity = issue("resumed", &["DNS:a.test"])?;
    let proxy = Proxy::start(&format!("tls: {{ certificates: [{}] }}", pair(&identity)))?;
    for version in ["-tls1_3", "-tls1_2"] {
        let file = site.folder().join(format!("session{version}"));
        let file = file.display();
        let first = s_client(
            proxy.address,
            &format!("{version} -servername a.test -ign_eof -sess_out {file}"),
        )?;
        ensure!(first.stdout.contains("New, TLSv1"), "{version}: {}", first.stdout);
        // On whichever worker it lands.
        for _ in 0..4 {
            let again = s_client(
                proxy.address,
                &format!("{version} -servername a.test -ign_eof -sess_in {file}"),
            )?;
            ensure!(
                again.stdout.contains("Reused, TLSv1"),
                "{version}: {}",
                again.stdout
            );
            ensure!(
                again.stdout.contains("HTTP/1.0 200") || again.stdout.contains("HTTP/1.1 200"),
                "{}",
                again.stdout
            );
        }
    }
    Ok(())
}

#[test]
fn versions_and_protocols_are_negotiated() -> Result<()> {
    let identity = issue("versions", &["DNS:a.test"])?;
    let certificates = format!("certificates: [{}]", pair(&identity));
    let proxy = Proxy::start(&format!("tls: {{ {certificates}, alpn: [h2, http/1.1] }}"))?;
    for (arguments, wanted) in [
        ("-tls1_3", "New, TLSv1.3"),
        ("-tls1_2", "New, TLSv1.2"),
        ("-alpn h2,http/1.1", "ALPN protocol: h2"),
        ("-alpn http/1.1", "ALPN protocol: http/1.1"),
        ("", "Verify return code: 0 (ok)"),
    ] {
        let output = s_client(proxy.address, &format!("-servername a.test {arguments}"))?.stdout;
        ensure!(output.contains(wanted), "{arguments}: {output}");
    }
    ensure!(
        !s_client(proxy.address, "-tls1_1 -cipher ALL:@SECLEVEL=0")?
            .status
            .success(),
        "TLS 1.1 is refused"
    );
    let strict = Proxy::start(&format!("tls: {{ {certificates}, min_version: \"1.3\" }}"))?;
    ensure!(
        !s_client(strict.address, "-tls1_2")?.status.success(),
        "TLS 1.2 is refused"
    );
    ensure!(
        s_client(strict.address, "-tls1_3")?.status.success(),
        "TLS 1.3 is not"
    );
    // Plain text where TLS is spoken.
    let answer = proxy.get("/")?.expect(400)?;
    ensure!(answer.text().contains("https"), "says what to do: {answer:?}");
    Ok(())
}

#[test]
fn clients_show_certificates() -> Result<()> {
    let site = Site::shared();
    let server = issue("mutual", &["DNS:a.test"])?;
    let alice = issue("alice", &["DNS:alice.test", "URI:spiffe://test/alice"])?;
    let strangers = Authority::new(&site.subfolder("strangers")?, "strangers")?;
    let mallory = strangers.issue("mallory", "mallory", &["DNS:alice.test"])?;
    let listener = |mode: &str| {
        format!(
            "forwarded: {{ client_certificate: true }}\ntls: {{ certificates: [{}], client_certificates: {{ ca: {}, mode: {mode} }} }}",
            pair(&server),
            site.authority().cert.display()
        )
    };
    let with = |address, identity: Option<&Identity>| {
        let curl = https(address, "a.test", "/echo").header("x-forwarded-client-cert: forged");
        match identity {
            Some(identity) => curl
                .arg("--cert")
                .arg(&identity.cert.to_string_lossy())
                .arg("--key")
                .arg(&identity.key.to_string_lossy()),
            None => curl,
        }
    };
    let required = Proxy::start(&listener("require"))?;
    let seen = with(required.address, Some(&alice)).answer()?.seen()?;
    let xfcc = seen.header("x-forwarded-client-cert").unwrap_or_default();
    for part in [
        "Subject=\"CN=alice.test\"",
        "URI=spiffe://test/alice",
        "DNS=alice.test",
    ] {
        ensure!(xfcc.contains(part), "{part} in {xfcc}");
    }
    ensure!(
        !with(required.address, None).run()?.status.success(),
        "none is refused"
    );
    ensure!(
        !with(required.address, Some(&mallory)).run()?.status.success(),
        "a stranger's is refused"
    );

    let requested = Proxy::start(&listener("request"))?;
    with(requested.address, Some(&alice)).answer()?.expect(200)?;
    let seen = with(requested.address, None).answer()?.seen()?;
    ensure!(
        seen.header("x-forwarded-client-cert").is_none(),
        "nothing forged: {seen:?}"
    );
    ensure!(
        !with(requested.address, Some(&mallory)).run()?.status.success(),
        "a stranger's is refused"
    );
    Ok(())
}

#[test]
fn upstreams_are_verified() -> Result<()> {
    let site = Site::shared();
    let backend = site.backend();
    let ours = issue("ours", &["DNS:proxy.test"])?;
    let strangers = Authority::new(&site.subfolder("other")?, "other")?;
    let ca = site.authority().cert.display().to_string();
    let cluster = |name: &str, tls: &str| {
        format!(
            "  - {{ name: {name}, tls: {{ {tls} }}, endpoints: [\"{}\"] }}\n",
            backend.tls
        )
    };
    let clusters = [
        cluster(
            "named",
            &format!("ca: {ca}, server_name: localhost, certificate: {}", pair(&ours)),
        ),
        cluster("stranger", &format!("ca: {}", strangers.cert.display())),
        cluster("wrong-name", &format!("ca: {ca}, server_name: other.test")),
        cluster("system", ""),
        cluster("off", "verify: off"),
    ]
    .concat();
    let names = ["tls", "named", "stranger", "wrong-name", "system", "off"];
    let routes: String = names
        .iter()
        .map(|name| format!("      - {{ match: {{ host: {name}.test }}, cluster: {name} }}\n"))
        .collect();
    let proxy = Proxy::with_clusters("", &routes, &clusters)?;
    let ask =
        |name: &str| -> Result<Answer> { proxy.curl("/echo").header(&format!("host: {name}.test")).answer() };
    ensure!(
        ask("tls")?.seen()?.0["certificate"].is_null(),
        "no certificate of our own"
    );
    let seen = ask("named")?.seen()?;
    ensure!(seen.text("certificate") == "proxy.test", "{seen:?}");
    ask("off")?.expect(200)?;
    for name in ["stranger", "wrong-name", "system"] {
        let answer = ask(name)?.expect(503)?;
        ensure!(answer.text().contains("TLS"), "{name}: {}", answer.text());
    }
    Ok(())
}

fn put(from: &Identity, to: &Identity) -> Result<()> {
    // Whole at once, each, as certbot's links change; between the two they don't fit each other.
    for (from, to) in [(&from.cert, &to.cert), (&from.key, &to.key)] {
        let new = to.with_extension("new");
        fs::copy(from, &new)?;
        fs::rename(&new, to)?;
    }
    Ok(())
}

fn shown(address: SocketAddr) -> Result<String> {
    let output = s_client(address, "-servername a.test")?.stdout;
    Ok(output
        .lines()
        .find(|line| line.starts_with("subject="))
        .unwrap_or_default()
        .to_owned())
}

#[test]
fn a_certificate_changes_a_hundred_times_under_load() -> Result<()> {
    let site = Site::shared();
    let folder = site.subfolder("rotated")?;
    let one = site
        .authority()
        .issue("rotated-one", "one.test", &["DNS:a.test", "IP:127.0.0.1"])?;
    let two = site
        .authority()
        .issue("rotated-two", "two.test", &["DNS:a.test", "IP:127.0.0.1"])?;
    let live = Identity {
        cert: folder.join("live.pem"),
        key: folder.join("live.key"),
    };
    put(&one, &live)?;
    let address = site.port();
    let text = config(
        site,
        address,
        &format!("tls: {{ certificates: [{}] }}", pair(&live)),
        "      - { respond: { status: 200, body: ok } }",
        "",
    );
    let weir = Weir::start(site, &text)?;
    let (over, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Result<()> {
        // New connections one after the other, and some that stay.
        let curl = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                https(address, "a.test", "/").answer()?.expect(200)?;
                requests.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let h2load = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                for line in [
                    format!("h2load -n 200 -c 20 -m 4 https://{address}/"),
                    format!("h2load -n 2000 -c 2 -m 4 https://{address}/"),
                ] {
                    let output = site.shell(&line)?.success()?;
                    ensure!(output.contains("0 failed, 0 errored, 0 timeout"), "{output}");
                    requests.fetch_add(1000, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        let replaced = replace(&weir, address, [&two, &one], &live);
        over.store(true, Ordering::Relaxed);
        let (curl, h2load) = (
            curl.join().ok().context("curl")?,
            h2load.join().ok().context("h2load")?,
        );
        replaced?;
        curl?;
        h2load
    })?;
    ensure!(requests.load(Ordering::Relaxed) > 1000, "there was load");
    Ok(())
}

fn replace(weir: &Weir, address: SocketAddr, identities: [&Identity; 2], live: &Identity) -> Result<()> {
    for number in 0..REPLACEMENTS {
        let identity = identities[number as usize % 2];
        put(identity, live)?;
        weir.admin().expect_success("POST", "/reload", None)?;
        let wanted = name(&identity.cert);
        weir_tests::lab::until("the new certificate", std::time::Duration::from_secs(90), || {
            shown(address)
                .is_ok_and(|subject| subject.ends_with(wanted))
                .then_some(())
        })
        .with_context(|| format!("replacement {number}; the daemon printed {}", weir.output()))?;
    }
    Ok(())
}

fn name(cert: &Path) -> &'static str {
    if cert.to_string_lossy().contains("one") {
        "one.test"
    } else {
        "two.test"
    }
}
