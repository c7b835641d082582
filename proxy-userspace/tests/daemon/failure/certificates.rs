//! Files of TLS half-written, cut off, of another pair, empty or gone: the file is named, what was loaded serves, and the whole file is taken
//! by itself.

use super::{endpoint, last_error, until};
use crate::support::{Daemon, Home, free_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt};

const TOKEN: &str = "a-token-of-operators";

/// A CA, and two pairs of it: for clients of the listener, and for those of the API.
fn make(home: &Home) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "a CA");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(home.path().join("ca.pem"), ca.pem()).unwrap();
    for name in ["web", "admin"] {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        fs::write(home.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(home.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    // What clients trust is not among the files that fail.
    fs::copy(home.path().join("ca.pem"), home.path().join("trusted.pem")).unwrap();
}

fn config(home: &Home, listen: SocketAddr, api: SocketAddr, endpoint: SocketAddr) -> String {
    format!(
        "admin:
  socket: {}
  address: {api}
  tls: {{ cert: admin.pem, key: admin.key }}
  tokens: [{{ name: ops, file: ops.token }}]
listeners:
  - name: web
    address: {listen}
    tls:
      certificates: [{{ cert: web.pem, key: web.key }}]
      client_certificates: {{ ca: ca.pem, mode: request }}
    routes: [{{ match: {{ path: /up }}, cluster: up }}, {{ respond: {{ status: 200, body: here }} }}]
clusters:
  - {{ name: up, endpoints: [\"{endpoint}\"], tls: {{ ca: ca.pem }} }}
",
        home.socket().display()
    )
}

/// What a client gets that trusts the CA in this file, if it gets something.
fn get(home: &Home, trusted: &str, url: &str) -> Option<String> {
    let output = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
        .arg(home.path().join(trusted))
        .args(["--header", &format!("Authorization: Bearer {TOKEN}"), url])
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn files_of_tls_that_are_not_whole_change_nothing_and_whole_ones_are_taken() {
    let home = Home::new("");
    make(&home);
    let token = home.path().join("ops.token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (listen, api) = (address(), address());
    home.write(&config(&home, listen, api, endpoint()));
    let daemon = Daemon::start(&home);
    let (web, log) = (
        format!("https://localhost:{}/", listen.port()),
        format!("https://localhost:{}/log", api.port()),
    );
    let serve = |trusted: &str| {
        let answers = (get(&home, trusted, &web), get(&home, trusted, &log));
        answers.0.as_deref() == Some("here") && answers.1.is_some_and(|log| log.contains("filter"))
    };
    assert!(serve("trusted.pem"));

    let other = KeyPair::generate().unwrap().serialize_pem().into_bytes();
    for name in ["web.pem", "web.key", "admin.pem", "admin.key", "ca.pem"] {
        let path = home.path().join(name);
        let whole = fs::read(&path).unwrap();
        let half = whole[..whole.len() / 2].to_vec();
        let mut states = vec![Some(half), Some(Vec::new()), None];
        if name.ends_with(".key") {
            states.push(Some(other.clone()));
        }
        for state in states {
            let what = format!("{name}, {:?} bytes", state.as_ref().map(Vec::len));
            match &state {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            // A key of another certificate is found with either of the two.
            let stem = name.split('.').next().unwrap();
            daemon.status_when(&what, |status| last_error(status).contains(&format!("{stem}.")));
            let (code, answer) = daemon.curl("POST", "/reload", None);
            assert_eq!(code, 422, "{what}: {answer}");
            assert!(serve("trusted.pem"), "{what}");
            fs::write(&path, &whole).unwrap();
            daemon.status_when("whole again", |status| status["last_error"].is_null());
        }
    }

    // All of them anew, file by file, as a renewal does it.
    make(&home);
    until("the new ones serve", || serve("trusted.pem"));
    daemon.status_when("no error is left", |status| status["last_error"].is_null());
}
