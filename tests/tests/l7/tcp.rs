//! What TCP itself decides: passthrough by server name, the PROXY protocol in and out, and names with two families.

use super::support::Proxy;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
};
use weir_tests::{
    l7::{Curl, Raw, Site, Weir},
    lab::Process,
};

/// TLS is not touched: each client sees the certificate of the server that its name leads to.
#[test]
fn tls_passes_through_by_server_name() -> Result<()> {
    let site = Site::shared();
    let folder = site.subfolder("other-tls")?;
    let other = site.authority().issue("other", "other", &["DNS:b.sni.test"])?;
    let direct = site.port();
    let _other = Weir::start_in(
        site,
        folder,
        &format!(
            "listeners:
  - name: other
    address: {direct}
    tls: {{ certificates: [{{ cert: {}, key: {} }}] }}
    routes: [{{ respond: {{ status: 200, body: other }} }}]
",
            other.cert.display(),
            other.key.display()
        ),
    )?;
    let address = site.port();
    let weir = Weir::start(
        site,
        &format!(
            "listeners:
  - name: through
    address: {address}
    tcp:
      sni:
        - {{ hosts: [localhost], cluster: backend }}
        - {{ hosts: [\"*.sni.test\"], cluster: other }}
clusters:
  - {{ name: backend, endpoints: [\"{}\"] }}
  - {{ name: other, endpoints: [\"{direct}\"] }}
",
            site.backend().tls
        ),
    )?;
    let ca = site.authority().cert.display().to_string();
    let curl = |name: &str, path: &str| {
        Curl::new(site, &format!("https://{name}:{}{path}", address.port())).with(&format!(
            "--resolve {name}:{}:127.0.0.1 --cacert {ca}",
            address.port()
        ))
    };
    for version in ["--http1.1", "--http2"] {
        curl("localhost", "/echo")
            .with(version)
            .answer()?
            .expect(200)?
            .seen()?;
        let answer = curl("b.sni.test", "/").with(version).answer()?.expect(200)?;
        ensure!(answer.text() == "other", "{answer:?}");
    }
    // No name leads there, and no name at all: closed before a word.
    ensure!(
        !curl("c.test", "/").run()?.status.success(),
        "c.test got an answer"
    );
    let mut raw = Raw::connect(site, address)?;
    raw.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ensure!(raw.answer().is_err(), "what is no TLS got an answer");
    drop(weir);
    Ok(())
}

/// nginx that says what the PROXY header told it.
fn nginx_behind_proxy_protocol(site: &Site) -> Result<(SocketAddr, Process)> {
    let folder = site.subfolder("nginx-pp")?;
    let listen = site.port();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path tmp; "))
        .concat();
    let config = format!(
        "daemon off; master_process off; user root; pid nginx.pid; error_log /dev/null;
events {{ }}
http {{ {temporary} access_log off;
  server {{ listen {listen} proxy_protocol;
    return 200 \"$proxy_protocol_addr:$proxy_protocol_port to $proxy_protocol_server_addr\"; }} }}
"
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let mut command = site.host().command("nginx")?;
    command
        .args(["-e", "/dev/null", "-c", "nginx.conf", "-p"])
        .arg(&folder);
    let mut process = site.host().spawn(&mut command)?;
    site.wait_for(listen, &mut process)?;
    Ok((listen, process))
}

/// What a PROXY header says of the client goes on: in the endpoint's PROXY header, and in X-Forwarded-For.
#[test]
fn the_proxy_protocol_names_the_client_on_both_sides() -> Result<()> {
    let site = Site::shared();
    let (nginx, _nginx) = nginx_behind_proxy_protocol(site)?;
    for version in ["v1", "v2"] {
        let told = format!("  - {{ name: told, proxy_protocol: {version}, endpoints: [\"{nginx}\"] }}");
        let routes = "      - { match: { host: told.test }, cluster: told }\n      - { cluster: backend }";
        let proxy = Proxy::with_clusters("proxy_protocol: true", routes, &told)?;
        let ask = |header: &str, host: &str| {
            proxy.ask(&format!("{header}GET /echo HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        };
        let header = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n";
        let answer = ask(header, "told.test")?.expect(200)?;
        ensure!(
            answer.text() == "192.0.2.7:4711 to 192.0.2.1",
            "{version}: {answer:?}"
        );
        let header6 = "PROXY TCP6 2001:db8::7 2001:db8::1 4712 80\r\n";
        let answer = ask(header6, "told.test")?.expect(200)?;
        ensure!(
            answer.text() == "2001:db8::7:4712 to 2001:db8::1",
            "{version}: {answer:?}"
        );
        let seen = ask(header, "a.test")?.seen()?;
        ensure!(
            seen.header("x-forwarded-for") == Some("192.0.2.7"),
            "{version}: {seen:?}"
        );
        // Without the header nobody is served.
        ensure!(ask("", "a.test").is_err(), "no header, and an answer");
    }
    Ok(())
}

/// A real sender: HAProxy with `send-proxy` and `send-proxy-v2`.
#[test]
fn haproxys_header_is_understood() -> Result<()> {
    let site = Site::shared();
    let proxy = Proxy::start("proxy_protocol: true")?;
    let folder = site.subfolder("haproxy-pp")?;
    let mut config =
        "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  \
                      timeout server 60s\n"
            .to_owned();
    let ports = [("send-proxy", site.port()), ("send-proxy-v2", site.port())];
    for (word, listen) in ports {
        config += &format!(
            "listen {word}\n  bind {listen}\n  server one {} {word}\n",
            proxy.address
        );
    }
    let path = folder.join("haproxy.cfg");
    fs::write(&path, config)?;
    let mut command = site.host().command("haproxy")?;
    let mut process = site.host().spawn(command.args(["-db", "-q", "-f"]).arg(&path))?;
    for (word, listen) in ports {
        site.wait_for(listen, &mut process)?;
        let curl = Curl::new(site, &format!("http://{listen}/echo")).with("--interface 127.0.0.9");
        let seen = curl.answer()?.seen()?;
        ensure!(
            seen.header("x-forwarded-for") == Some("127.0.0.9"),
            "{word}: {seen:?}"
        );
    }
    Ok(())
}

/// A name with two addresses, of which the IPv6 one swallows what is sent to it (RFC 8305): requests don't wait for it
/// to fail.
#[test]
fn an_address_that_is_silent_is_overtaken_by_the_other_family() -> Result<()> {
    let site = Site::shared();
    let port = site.backend().h1.port();
    // A queue that is full: further connections to it get no answer.
    let silent = site.host().run(|| TcpListener::bind(("::1", port)))?;
    rustix::net::listen(&silent, 0)?;
    let to = silent.local_addr()?;
    let queued = site.host().run(|| TcpStream::connect(to))?;
    let folder = site.subfolder("eyeballs")?;
    fs::write(folder.join("hosts"), "127.0.0.1 both.test\n::1 both.test\n")?;
    let (web, tcp) = (site.port(), site.port());
    let _weir = Weir::start_in(
        site,
        folder,
        &format!(
            "listeners:
  - {{ name: web, address: \"{web}\", routes: [{{ cluster: both }}] }}
  - {{ name: tcp, address: \"{tcp}\", tcp: {{ cluster: both }} }}
clusters:
  - {{ name: both, endpoints: [\"both.test:{port}\"], timeouts: {{ connect: 100s }} }}
"
        ),
    )?;
    // A daemon that listens has asked for its names.
    let before = overflows(site)?;
    for address in [web, tcp] {
        for _ in 0..6 {
            let url = format!("http://{address}/echo");
            // Less than the connect timeout: who waits for that fails.
            let answer = Curl::new(site, &url).with("--max-time 30").answer()?;
            answer.expect(200)?;
        }
    }
    drop(queued);
    ensure!(overflows(site)? > before, "the silent address was never tried");
    Ok(())
}

/// Connections that a full queue has turned away in the site's namespace.
fn overflows(site: &Site) -> Result<u64> {
    let text = site
        .host()
        .run(|| fs::read_to_string("/proc/thread-self/net/netstat"))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs
        .find(|(name, _)| *name == "ListenOverflows")
        .context("no ListenOverflows")?;
    Ok(value.parse()?)
}
