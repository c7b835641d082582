//! The admin API over TCP: who comes in, and who does not.

use super::support::{Daemon, Home, free_port, text, weir};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

const TOKEN: &str = "a-token-of-operators";
const READER: &str = "a-token-of-prometheus";

/// A daemon's directory with tokens and certificates in it.
struct Site {
    home: Home,
    port: u16,
}

impl Site {
    /// With these settings under `admin`, beside the socket and the address.
    fn new(settings: &str) -> Self {
        let site = Self {
            home: Home::new(""),
            port: free_port(),
        };
        for (name, token) in [("ops.token", TOKEN), ("reader.token", READER)] {
            fs::write(site.path(name), format!("{token}\n")).unwrap();
            fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        site.write(settings);
        site
    }

    fn write(&self, settings: &str) {
        self.home.write(&format!(
            "admin:\n  socket: {}\n  address: 127.0.0.1:{}\n  audit_log: {}\n{settings}listeners: []\n",
            self.home.socket().display(),
            self.port,
            self.path("audit.log").display(),
        ));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.config().with_file_name(name)
    }

    /// A CA, a certificate of the API for `localhost`, and one of a client.
    fn make_certificates(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "operators");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(self.path("ca.pem"), ca.pem()).unwrap();
        for name in ["localhost", "alice"] {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
    }

    /// What curl gets with these arguments: the status code and the JSON, or why there is none.
    fn curl(&self, scheme: &str, path: &str, arguments: &[&str]) -> Result<(u16, Value), String> {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "10",
            "--write-out",
            "\n%{http_code}",
        ]);
        command
            .arg("--resolve")
            .arg(format!("localhost:{}:127.0.0.1", self.port));
        command
            .args(arguments)
            .arg(format!("{scheme}://localhost:{}{path}", self.port));
        let output = command
            .current_dir(self.path(""))
            .output()
            .expect("curl is installed");
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        let text = text(&output.stdout);
        let (body, code) = text.rsplit_once('\n').unwrap();
        Ok((code.parse().unwrap(), serde_json::from_str(body).unwrap()))
    }
}

const TOKENS: &str =
    "  tokens: [{ name: ops, file: ops.token }, { name: prometheus, file: reader.token, read_only: true }]\n";

#[test]
fn tokens_let_in_and_say_what_one_may_do() {
    let site = Site::new(TOKENS);
    let daemon = Daemon::start(&site.home);
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let (ops, reader) = (bearer(TOKEN), bearer(READER));
    let ask = |path: &str, arguments: &[&str]| site.curl("http", path, arguments).unwrap();
    for wrong in [
        &[][..],
        &["-H", "Authorization: Bearer guessed"],
        &["-H", "Authorization: Basic b3BzOm9wcw=="],
    ] {
        let (code, answer) = ask("/status", wrong);
        assert_eq!(code, 401, "{wrong:?}: {answer}");
        assert!(
            answer["remedy"]
                .as_str()
                .unwrap()
                .contains("Authorization: Bearer")
        );
        assert_eq!(ask("/nothing", wrong).0, 401, "who isn't known learns nothing");
    }
    assert_eq!(ask("/status", &["-H", &ops]).1["pid"], daemon.pid());
    assert_eq!(ask("/status", &["-H", &reader]).1["pid"], daemon.pid());
    let (code, answer) = ask("/reload", &["-X", "POST", "-H", &reader]);
    assert_eq!(code, 403, "{answer}");
    assert!(
        answer["remedy"].as_str().unwrap().contains("read_only"),
        "{answer}"
    );
    assert_eq!(ask("/reload", &["-X", "POST", "-H", &ops]).0, 200);
    let audit = fs::read_to_string(site.path("audit.log")).unwrap();
    let lines = audit.lines().map(|line| serde_json::from_str(line).unwrap());
    // The watch may have read the files once more.
    let lines: Vec<Value> = lines.filter(|line: &Value| line["who"] != "files").collect();
    assert_eq!(
        (&lines[0]["who"], &lines[0]["outcome"]),
        (&"token prometheus".into(), &"refused".into())
    );
    assert_eq!(
        (&lines[1]["who"], &lines[1]["outcome"]),
        (&"token ops".into(), &"granted".into())
    );
    assert!(lines[1]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(!audit.contains(TOKEN) && !audit.contains(READER));

    // Taken out of the config, it is refused from then on.
    site.write("  tokens: [{ name: prometheus, file: reader.token, read_only: true }]\n");
    assert_eq!(daemon.curl("POST", "/reload", None).0, 200);
    assert_eq!(ask("/status", &["-H", &ops]).0, 401);
    assert_eq!(ask("/status", &["-H", &reader]).0, 200);
}

#[test]
fn the_page_is_for_anybody_and_what_it_shows_is_not() {
    let site = Site::new(TOKENS);
    let _daemon = Daemon::start(&site.home);
    let head = |path: &str, arguments: &[&str]| {
        let url = format!("http://127.0.0.1:{}{path}", site.port);
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "10", "-D", "-", "-o", "/dev/null"])
            .args(arguments)
            .arg(url)
            .output()
            .expect("curl is installed");
        text(&output.stdout)
    };
    for (path, media) in [
        ("/", "text/html"),
        ("/page/page.css", "text/css"),
        ("/page/main.js", "text/javascript"),
    ] {
        let head = head(path, &[]);
        for expected in [
            "HTTP/1.1 200",
            media,
            "content-security-policy: default-src 'none'; script-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-cache",
        ] {
            assert!(head.contains(expected), "{path} lacks {expected}: {head}");
        }
    }
    assert!(head("/", &["-X", "POST"]).starts_with("HTTP/1.1 405"));
    assert!(head("/page/nothing.js", &[]).starts_with("HTTP/1.1 401"));
    assert!(head("/topology", &[]).starts_with("HTTP/1.1 401"));
    let ask = |token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        let (code, answer) = site.curl("http", "/caller", &["-H", &bearer]).unwrap();
        assert_eq!(code, 200);
        answer
    };
    assert_eq!(
        ask(TOKEN),
        serde_json::json!({"caller": "token ops", "may_change": true})
    );
    assert_eq!(
        ask(READER),
        serde_json::json!({"caller": "token prometheus", "may_change": false})
    );
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let foreign = ["-X", "POST", "-H", &bearer, "-H", "Sec-Fetch-Site: cross-site"];
    assert_eq!(site.curl("http", "/reload", &foreign).unwrap().0, 403);
    let audit = fs::read_to_string(site.path("audit.log")).unwrap();
    assert!(audit.contains("a page of another site asks"), "{audit}");
}

#[test]
fn client_certificates_let_in() {
    let site = Site::new(TOKENS);
    site.make_certificates();
    site.write("  tls: { cert: localhost.pem, key: localhost.key, client_ca: ca.pem }\n");
    let daemon = Daemon::start(&site.home);
    let trusting = ["--cacert", "ca.pem"];
    let alice = [&trusting[..], &["--cert", "alice.pem", "--key", "alice.key"]].concat();
    site.curl("https", "/status", &trusting).unwrap_err();
    assert_eq!(
        site.curl("https", "/status", &alice).unwrap().1["pid"],
        daemon.pid()
    );
    let reload = [&alice[..], &["-X", "POST"]].concat();
    assert_eq!(site.curl("https", "/reload", &reload).unwrap().0, 200);
    let audit = fs::read_to_string(site.path("audit.log")).unwrap();
    assert!(audit.contains("\"who\":\"certificate CN=alice"), "{audit}");
    let (_, certificates) = daemon.curl("GET", "/certificates", None);
    assert_eq!(
        certificates["certificates"][0]["names"],
        serde_json::json!(["localhost"])
    );

    // Beside tokens either is enough, and one of them there must be.
    site.write(&format!(
        "  tls: {{ cert: localhost.pem, key: localhost.key, client_ca: ca.pem }}\n{TOKENS}"
    ));
    assert_eq!(daemon.curl("POST", "/reload", None).0, 200);
    assert_eq!(site.curl("https", "/status", &trusting).unwrap().0, 401);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let token = [&trusting[..], &["-H", &bearer]].concat();
    assert_eq!(site.curl("https", "/status", &token).unwrap().0, 200);
    assert_eq!(site.curl("https", "/status", &alice).unwrap().0, 200);
}

#[test]
fn what_would_let_anybody_in_is_refused() {
    let site = Site::new("");
    let check = |admin: &str, expected: &str| {
        site.home
            .write(&format!("listeners: []\ninterfaces: [lo]\nadmin: {admin}\n"));
        let output = weir(&["check"]).arg(site.home.config()).output().unwrap();
        assert!(!output.status.success(), "{admin}");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains(expected), "{admin}: {said}");
    };
    site.make_certificates();
    let tls = "tls: { cert: localhost.pem, key: localhost.key }";
    let token = "tokens: [{ name: ops, file: ops.token }]";
    check("{ address: 127.0.0.1:9900 }", "anybody who reaches this address");
    check(
        &format!("{{ address: 127.0.0.1:9900, {tls} }}"),
        "anybody who reaches this address",
    );
    check(
        &format!("{{ address: 192.0.2.1:9900, {token} }}"),
        "tokens would go over the network",
    );
    check(&format!("{{ {token} }}"), "there is no `address`");
    check(
        "{ address: 127.0.0.1, tokens: [{ name: ops, file: ops.token }] }",
        "is no address and port",
    );
    check(
        "{ address: 127.0.0.1:9900, tokens: [{ name: ops }] }",
        "one of file and sha256 is missing",
    );
    check(
        "{ address: 127.0.0.1:9900, tokens: [{ name: ops, file: ops.token }, { name: ops, file: reader.token }] }",
        "stands on line 3 already",
    );
    fs::write(site.path("ops.token"), "short\n").unwrap();
    check(
        &format!("{{ address: 127.0.0.1:9900, {token} }}"),
        "holds no token",
    );
    fs::write(site.path("ops.token"), TOKEN).unwrap();
    fs::set_permissions(site.path("ops.token"), fs::Permissions::from_mode(0o640)).unwrap();
    check(
        &format!("{{ address: 127.0.0.1:9900, {token} }}"),
        "chmod 600 ops.token",
    );
}
