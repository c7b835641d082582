//! Certificates that change under a running daemon.

use super::support::{Daemon, Home, SOON, free_port};
use rcgen::{CertificateParams, KeyPair};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// A daemon's directory with a certificate in it, and the config that names it.
struct Pair {
    home: Home,
    port: u16,
}

impl Pair {
    fn new() -> Self {
        let home = Home::new("");
        let port = free_port();
        let pair = Self { home, port };
        pair.renew();
        pair.home.write(&format!(
            "admin: {{ socket: {} }}\n\
             listeners:\n  - name: web\n    address: 127.0.0.1:{port}\n    \
             tls: {{ certificates: [{{ cert: web.pem, key: web.key }}] }}\n    \
             routes: [{{ respond: {{ status: 200, body: hello }} }}]\n",
            pair.home.socket().display()
        ));
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.config().with_file_name(name)
    }

    /// Writes another certificate of the same name, and its key: in two steps, as certbot does.
    fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["web.example.com".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(self.path("web.pem"), certificate.pem()).unwrap();
        fs::write(self.path("web.key"), key.serialize_pem()).unwrap();
    }

    /// What curl gets, which trusts the certificate in this file and no other.
    fn curl(&self, trusted: &str) -> Result<String, String> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
            .arg(self.path(trusted))
            .arg("--resolve")
            .arg(format!("web.example.com:{}:127.0.0.1", self.port))
            .arg(format!("https://web.example.com:{}/", self.port))
            .output()
            .expect("curl is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    fn curl_until_it_passes(&self, trusted: &str) {
        let begin = Instant::now();
        while let Err(error) = self.curl(trusted) {
            assert!(begin.elapsed() < SOON, "{error}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_new_certificate_is_taken_and_a_half_written_one_is_not() {
    let pair = Pair::new();
    let daemon = Daemon::start(&pair.home);
    assert_eq!(pair.curl("web.pem"), Ok("hello".to_owned()));

    fs::copy(pair.path("web.pem"), pair.path("old.pem")).unwrap();
    pair.renew();
    pair.curl_until_it_passes("web.pem");
    assert!(pair.curl("old.pem").is_err());

    fs::copy(pair.path("web.pem"), pair.path("old.pem")).unwrap();
    let whole = fs::read(pair.path("web.pem")).unwrap();
    fs::write(pair.path("web.pem"), &whole[..200]).unwrap();
    let status = daemon.status_when("refused", |status| !status["last_error"].is_null());
    let error = status["last_error"]["error"].as_str().unwrap();
    assert!(error.contains("\"web.pem\" is not whole PEM"), "{error}");
    assert_eq!(
        pair.curl("old.pem"),
        Ok("hello".to_owned()),
        "the old one goes on"
    );

    fs::write(pair.path("web.pem"), whole).unwrap();
    daemon.status_when("good again", |status| status["last_error"].is_null());
    pair.renew();
    pair.curl_until_it_passes("web.pem");
}
