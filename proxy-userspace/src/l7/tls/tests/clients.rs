//! Certificates that clients show.

use super::{
    super::{AcceptError, Shared, server},
    material::{Authority, Folder, ecdsa, server_tls},
    site::Site,
};
use crate::model::l7::{Certificate, ClientAuthMode};

/// s_client's options to show a certificate.
fn show(folder: &Folder, certificate: &Certificate) -> [String; 4] {
    [
        "-cert".into(),
        folder.write("client.pem", &certificate.chain),
        "-key".into(),
        folder.write("client.key", &certificate.key.0),
    ]
}

fn site(authority: &Authority, mode: ClientAuthMode) -> Site {
    let mut settings = server_tls(vec![ecdsa(&["a.example"])]);
    settings.client_auth = Some(authority.client_auth(mode));
    Site::new(server(&settings, &Shared::default()).unwrap())
}

#[test]
fn required() {
    let (folder, good, bad) = (Folder::new(), Authority::new("good"), Authority::new("bad"));
    let site = site(&good, ClientAuthMode::Require);
    for version in ["-tls1_3", "-tls1_2"] {
        site.s_client(&[version]);
        assert_eq!(site.outcome(), Err(AcceptError::NoCertificate));
        site.s_client(&with(version, &show(&folder, &bad.client())));
        assert_eq!(site.outcome(), Err(AcceptError::BadCertificate));
        site.s_client(&with(version, &show(&folder, &good.client())));
        let text = site.outcome().unwrap();
        assert!(
            text.contains(
                r#"Subject=\"CN=client,O=Example\\, Inc.\";URI=spiffe://example/client;DNS=client.example"#
            ),
            "{text}"
        );
    }
}

#[test]
fn requested() {
    let (folder, good, bad) = (Folder::new(), Authority::new("good"), Authority::new("bad"));
    let site = site(&good, ClientAuthMode::Request);
    site.s_client(&[]);
    assert!(site.outcome().unwrap().ends_with("client=None"));
    site.s_client(&with("-tls1_3", &show(&folder, &bad.client())));
    assert_eq!(site.outcome(), Err(AcceptError::BadCertificate));
    site.s_client(&with("-tls1_3", &show(&folder, &good.client())));
    assert!(site.outcome().unwrap().contains("Hash="));
}

#[test]
fn a_resumed_session_knows_the_client() {
    let (folder, authority) = (Folder::new(), Authority::new("ca"));
    let site = site(&authority, ClientAuthMode::Require);
    let session = folder.path("session");
    for version in ["-tls1_3", "-tls1_2"] {
        let shown = show(&folder, &authority.client());
        site.s_client(&[&with(version, &shown)[..], &["-sess_out", &session]].concat());
        let full = site.outcome().unwrap();
        site.s_client(&[version, "-sess_in", &session]);
        let resumed = site.outcome().unwrap();
        assert!(resumed.contains(" Resumed "), "{resumed}");
        assert_eq!(full.split("client=").nth(1), resumed.split("client=").nth(1));
    }
}

fn with<'a>(first: &'a str, more: &'a [String]) -> Vec<&'a str> {
    [first]
        .into_iter()
        .chain(more.iter().map(String::as_str))
        .collect()
}
