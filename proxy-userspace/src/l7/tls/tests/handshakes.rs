//! Certificates by name and signature scheme, versions, key exchange, resumption, and what ends a handshake.

use super::{
    super::{AcceptError, Shared, expiries, server},
    material::{Authority, Folder, ecdsa, rsa, server_tls},
    site::Site,
};
use crate::model::l7::{ClientAuthMode, ServerTls, TlsVersion};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

fn site(settings: &ServerTls) -> Site {
    Site::new(server(settings, &Shared::default()).unwrap())
}

/// The common name of the certificate that s_client was shown, and its key's kind.
fn shown(site: &Site, arguments: &[&str]) -> (String, &'static str) {
    let text = site.s_client(arguments);
    let subject = text
        .lines()
        .find(|line| line.starts_with("subject="))
        .expect(&text);
    let name = subject.rsplit("CN = ").next().unwrap().to_owned();
    let rsa = text.contains("Peer signature type: RSA");
    (name, if rsa { "RSA" } else { "ECDSA" })
}

#[test]
fn certificate_by_name() {
    let certificates = [
        &["first.example", "also.example"][..],
        &["*.example.com"],
        &["www.example.com"],
        &["*.sub.example.com"],
    ];
    let site = site(&server_tls(certificates.map(ecdsa).to_vec()));
    for (asked, answered) in [
        ("also.example", "first.example"),
        ("www.example.com", "www.example.com"),
        ("WWW.Example.com", "www.example.com"),
        ("other.example.com", "*.example.com"),
        ("a.sub.example.com", "*.sub.example.com"),
        // A star is one label.
        ("a.b.example.com", "first.example"),
        ("example.com", "first.example"),
        ("unknown.example", "first.example"),
    ] {
        assert_eq!(shown(&site, &["-servername", asked]).0, answered, "{asked}");
    }
    assert_eq!(shown(&site, &["-noservername"]).0, "first.example");
}

#[test]
fn certificate_by_signature_scheme() {
    let names = ["both.example", "*.both.example"];
    let site = site(&server_tls(vec![rsa(&names), ecdsa(&names)]));
    for name in ["both.example", "a.both.example", "unknown.example"] {
        let kind = |more: &[&str]| shown(&site, &[&["-servername", name], more].concat()).1;
        assert_eq!(kind(&[]), "ECDSA");
        assert_eq!(kind(&["-sigalgs", "RSA-PSS+SHA256"]), "RSA");
        assert_eq!(
            kind(&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]),
            "RSA"
        );
        assert_eq!(
            kind(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]),
            "ECDSA"
        );
    }
}

#[test]
fn versions() {
    let mut settings = server_tls(vec![ecdsa(&["a.example"])]);
    let both = site(&settings);
    assert!(both.s_client(&["-tls1_2"]).contains("TLSv1_2 Full"));
    assert!(both.s_client(&["-tls1_3"]).contains("TLSv1_3 Full"));
    settings.min_version = TlsVersion::V1_3;
    let new = site(&settings);
    new.s_client(&["-tls1_2"]);
    assert_eq!(new.outcome(), Err(AcceptError::NothingShared));
    assert!(new.s_client(&["-tls1_3"]).contains("TLSv1_3 Full"));
}

#[test]
fn one_round_trip_for_a_client_that_shares_x25519_alone() {
    let site = site(&server_tls(vec![ecdsa(&["a.example"])]));
    let text = site.s_client(&["-groups", "X25519:P-256"]);
    // Not FullWithHelloRetryRequest.
    assert!(text.contains("TLSv1_3 Full Some(X25519)"), "{text}");
    let text = site.s_client(&["-groups", "P-256"]);
    assert!(text.contains("TLSv1_3 Full Some(secp256r1)"), "{text}");
    site.s_client(&["-groups", "X448"]);
    let outcomes: Vec<_> = (0..3).map(|_| site.outcome()).collect();
    assert_eq!(outcomes[2], Err(AcceptError::NothingShared));
}

#[test]
fn application_protocol() {
    let mut settings = server_tls(vec![ecdsa(&["a.example"])]);
    settings.alpn = vec!["h2".into(), "http/1.1".into()];
    let site = site(&settings);
    assert!(
        site.s_client(&["-alpn", "http/1.1,h2"])
            .contains("ALPN protocol: h2")
    );
    assert!(
        site.s_client(&["-alpn", "http/1.1"])
            .contains("ALPN protocol: http/1.1")
    );
    assert!(site.s_client(&[]).contains("No ALPN negotiated"));
    site.s_client(&["-alpn", "imap"]);
    let outcomes: Vec<_> = (0..4).map(|_| site.outcome()).collect();
    assert_eq!(outcomes[3], Err(AcceptError::NoProtocol));
}

#[test]
fn sessions_resume_across_a_reload_with_a_renewed_certificate() {
    let (folder, shared) = (Folder::new(), Shared::default());
    let session = folder.path("session");
    for version in ["-tls1_3", "-tls1_2"] {
        let before = server(&server_tls(vec![ecdsa(&["a.example"])]), &shared).unwrap();
        let first = Site::new(before.clone());
        let text = first.s_client(&[version, "-servername", "a.example", "-sess_out", &session]);
        assert!(text.contains(" Full "), "{text}");

        // The reload builds the new config while the old one serves.
        let after = server(&server_tls(vec![ecdsa(&["a.example"])]), &shared).unwrap();
        drop((first, before));
        let again = Site::new(after);
        let text = again.s_client(&[version, "-servername", "a.example", "-sess_in", &session]);
        assert!(
            text.contains("Reused, ") && text.contains(" Resumed "),
            "{version}: {text}"
        );
    }
}

#[test]
fn tickets_are_worth_nothing_at_a_listener_that_demands_more() {
    let (folder, shared, authority) = (Folder::new(), Shared::default(), Authority::new("ca"));
    let session = folder.path("session");
    let certificate = ecdsa(&["a.example"]);
    let open = server_tls(vec![certificate.clone()]);
    let mut closed = open.clone();
    closed.client_auth = Some(authority.client_auth(ClientAuthMode::Require));
    let open = Site::new(server(&open, &shared).unwrap());
    let closed = Site::new(server(&closed, &shared).unwrap());
    let elsewhere =
        Site::new(server(&server_tls(vec![certificate, ecdsa(&["b.example"])]), &shared).unwrap());
    for version in ["-tls1_3", "-tls1_2"] {
        let resume = [version, "-servername", "a.example", "-sess_in", &session];
        open.s_client(&[version, "-servername", "a.example", "-sess_out", &session]);
        assert!(open.s_client(&resume).contains("Reused, "));
        closed.s_client(&resume);
        assert_eq!(closed.outcome(), Err(AcceptError::NoCertificate));
        // A listener with other names is another server, though it has this one too.
        assert!(!elsewhere.s_client(&resume).contains("Reused, "));
    }
}

#[test]
fn another_name_is_another_session() {
    let folder = Folder::new();
    let session = folder.path("session");
    let site = site(&server_tls(vec![ecdsa(&["*.example.com"])]));
    site.s_client(&["-servername", "a.example.com", "-sess_out", &session]);
    let text = site.s_client(&["-servername", "b.example.com", "-sess_in", &session]);
    assert!(!text.contains("Reused, "), "{text}");
}

#[test]
fn curl_verifies_the_name() {
    let authority = Authority::new("ca");
    let folder = Folder::new();
    let ca = folder.write("ca.pem", &authority.pem);
    let site = site(&server_tls(vec![authority.issue(&["a.example"])]));
    let text = site.curl("https", "a.example", &["--cacert", &ca]);
    assert!(text.contains("TLSv1_3 Full"), "{text}");
    let text = site.curl("https", "b.example", &["--cacert", &ca]);
    assert!(text.contains("(60)"), "{text}");
}

#[test]
fn plain_http_is_told_so() {
    let site = site(&server_tls(vec![ecdsa(&["a.example"])]));
    let text = site.curl("http", "a.example", &["--include"]);
    assert!(
        text.starts_with("HTTP/1.1 400 ") && text.contains("use an https:// URL"),
        "{text}"
    );
    assert_eq!(site.outcome(), Err(AcceptError::PlainHttp));
}

#[test]
fn what_is_no_handshake() {
    let config = server(&server_tls(vec![ecdsa(&["a.example"])]), &Shared::default()).unwrap();
    let site = Site::new(Arc::clone(&config));
    let sent = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(site.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // An alert or a reset, as the server sees fit.
        let _ended = stream.read_to_end(&mut Vec::new());
        site.outcome()
    };
    assert_eq!(sent(b""), Err(AcceptError::Closed));
    assert_eq!(sent(b"\x16\x03\x01"), Err(AcceptError::Closed));
    assert_eq!(sent(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(AcceptError::NotTls));
    assert_eq!(
        sent(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"),
        Err(AcceptError::Misbehaved)
    );
    // An alert where a hello belongs: the client's last word.
    assert_eq!(sent(b"\x15\x03\x01\x00\x02\x02\x28"), Err(AcceptError::Alert));

    let hasty = Site::with_limit(config, Duration::from_millis(1));
    let _silent = TcpStream::connect(hasty.address).unwrap();
    assert_eq!(hasty.outcome(), Err(AcceptError::Timeout));
}

#[test]
fn a_client_that_rejects_the_certificate() {
    let site = site(&server_tls(vec![ecdsa(&["a.example"])]));
    site.curl("https", "a.example", &[]);
    assert_eq!(site.outcome(), Err(AcceptError::Rejected));
}

#[test]
fn expiry_is_the_leafs() {
    let mut settings = server_tls(vec![ecdsa(&["a.example", "b.example"]), ecdsa(&["c.example"])]);
    settings.certificates[1].chain.path = Some(std::path::Path::new("c.pem").into());
    // rcgen's default is 4096-01-01.
    let never = 67_090_118_400;
    assert_eq!(
        expiries(&settings),
        [("a.example".into(), never), ("c.pem".into(), never)]
    );
}
