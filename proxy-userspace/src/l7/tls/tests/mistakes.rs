//! What is said of material that can't be used.

use super::{
    super::{Shared, TlsMistake, client, server},
    material::{Authority, ecdsa, named, server_tls, upstream_tls},
};
use crate::model::l7::{Certificate, ClientAuth, ClientAuthMode, Secret, Verify};

fn of(certificate: Certificate) -> String {
    let mistake: TlsMistake = server(&server_tls(vec![certificate]), &Shared::default()).unwrap_err();
    mistake.to_string()
}

fn text(pem: &crate::model::l7::PemBytes) -> &str {
    str::from_utf8(&pem.bytes).unwrap()
}

#[test]
fn certificates_and_keys() {
    let good = ecdsa(&["a.example"]);
    let chain = named("web.pem", text(&good.chain));
    let key = |text: &str| Secret(named("web.key", text));
    let with_key = |text: &str| Certificate {
        chain: chain.clone(),
        key: key(text),
    };
    let with_chain = |text: &str| Certificate {
        chain: named("web.pem", text),
        key: good.key.clone(),
    };
    for (certificate, said) in [
        (
            with_chain(""),
            "web.pem: no certificate in it; name a PEM file with BEGIN CERTIFICATE",
        ),
        (
            with_chain("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "web.pem: its first certificate is not X.509",
        ),
        (
            with_chain("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n"),
            "web.pem: not PEM",
        ),
        (
            with_key(""),
            "web.key: no private key in it; name a PEM file with BEGIN PRIVATE KEY",
        ),
        (
            with_key("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
            "web.key: the private key is encrypted; decrypt it with `openssl pkey",
        ),
        (
            with_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "web.key: the private key can't be used",
        ),
        (
            with_key(text(&ecdsa(&["a.example"]).key.0)),
            "web.key: the key is not that of the first certificate",
        ),
    ] {
        let text = of(certificate);
        assert!(text.starts_with(said), "{text}");
        assert!(text.contains("; "), "{text}");
    }
}

#[test]
fn authorities_and_names() {
    let mut settings = server_tls(vec![ecdsa(&["a.example"])]);
    settings.client_auth = Some(ClientAuth {
        ca: named("ca.pem", "nothing"),
        mode: ClientAuthMode::Require,
    });
    let mistake = server(&settings, &Shared::default()).unwrap_err().to_string();
    assert!(mistake.starts_with("ca.pem: no certificate in it"), "{mistake}");
    let mut settings = upstream_tls(Verify::Ca(Authority::new("ca").pem));
    settings.server_name = Some("not a name".into());
    let mistake = client(&settings, &[]).unwrap_err().to_string();
    assert!(
        mistake.starts_with("`not a name` is not a server name; set `server_name`"),
        "{mistake}"
    );
}
