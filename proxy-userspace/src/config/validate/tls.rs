//! TLS towards clients and towards endpoints: files, names, versions.

use super::{Checks, Place, elements, pem, self_signed, text};
use crate::{
    config::{limits, raw, suggest::shown},
    model::l7::{
        Certificate, ClientAuth, ClientAuthMode, HostMatch, PemBytes, PortRange, Secret, ServerTls,
        TlsVersion, UpstreamTls, Verify,
    },
};
use std::{collections::BTreeSet, net::IpAddr, time::SystemTime};

/// What a certificate is made for, where none is given.
pub(super) struct Names<'a> {
    pub(super) addresses: &'a [PortRange],
    pub(super) hosts: Vec<HostMatch>,
}

/// How a listener terminates TLS. `http` is whether it speaks HTTP.
pub(super) fn server(
    typed: &raw::ServerTls,
    place: &Place<'_>,
    http: bool,
    names: &Names<'_>,
    checks: &mut Checks<'_>,
) -> Option<ServerTls> {
    let self_signed = typed.self_signed == Some(true);
    let certificates = match (&typed.certificates, self_signed) {
        (Some(_), true) => {
            let problem = "`self_signed` beside `certificates`";
            checks.error(&place.key("self_signed"), problem, "keep one of the two");
            Vec::new()
        }
        (Some(list), false) => elements(Some(list), place.key("certificates"))
            .filter_map(|(place, typed)| certificate(typed, &place, checks))
            .collect(),
        (None, true) => {
            let made = self_signed::certificate(san(names));
            let made = checks.parsed(&place.key("self_signed"), made);
            made.into_iter().collect()
        }
        (None, false) => {
            if !checks.blames_any(place, &["certificates", "self_signed"]) {
                let remedy = "add `certificates: [{ cert: web.pem, key: web.key }]`, or `self_signed: true` to try it out";
                checks.error(place, "no certificate", remedy);
            }
            Vec::new()
        }
    };
    let client_auth = typed.client_certificates.as_ref();
    let client_auth =
        client_auth.and_then(|typed| client_auth_of(typed, &place.key("client_certificates"), checks));
    Some(ServerTls {
        certificates,
        alpn: alpn(typed, &place.key("alpn"), http, checks),
        min_version: version(typed.min_version),
        client_auth,
        handshake_timeout: checks.duration(
            &place.key("handshake_timeout"),
            typed.handshake_timeout.as_ref(),
            &(limits::MIN_HANDSHAKE..=limits::MAX_HANDSHAKE),
            limits::HANDSHAKE,
        ),
    })
}

fn version(typed: Option<raw::TlsVersion>) -> TlsVersion {
    match typed {
        None | Some(raw::TlsVersion::V1_2) => TlsVersion::V1_2,
        Some(raw::TlsVersion::V1_3) => TlsVersion::V1_3,
    }
}

/// The subject's alternative names of a certificate that is made.
fn san(names: &Names<'_>) -> BTreeSet<String> {
    let mut san = BTreeSet::from(["localhost".to_owned()]);
    for range in names.addresses {
        if range.address.is_unspecified() {
            san.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        } else {
            san.insert(range.address.to_string());
        }
    }
    for host in &names.hosts {
        san.insert(match host {
            HostMatch::Exact(host) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            HostMatch::Suffix(suffix) => format!("*{suffix}"),
        });
    }
    san
}

fn alpn(typed: &raw::ServerTls, place: &Place<'_>, http: bool, checks: &mut Checks<'_>) -> Vec<Box<str>> {
    let Some(list) = &typed.alpn else {
        return if http {
            vec!["h2".into(), "http/1.1".into()]
        } else {
            Vec::new()
        };
    };
    let mut alpn: Vec<Box<str>> = Vec::new();
    for (place, typed) in elements(Some(list), place.clone()) {
        let name = typed.0.as_str();
        if http && !matches!(name, "h2" | "http/1.1") {
            let problem = format!("{} is not spoken here", shown(name));
            checks.error(&place, problem, "write h2 or http/1.1");
        } else if name.is_empty() || name.len() > 255 {
            let problem = format!("{} can't be a protocol's name", shown(name));
            checks.error(&place, problem, "write 1 to 255 characters (RFC 7301)");
        } else if alpn.iter().any(|known| **known == *name) {
            checks.error(&place, format!("{} stands here twice", shown(name)), "remove one");
        }
        alpn.push(name.into());
    }
    alpn
}

fn client_auth_of(
    typed: &raw::ClientCertificates,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Option<ClientAuth> {
    Some(ClientAuth {
        ca: authorities(typed.ca.as_ref()?, &place.key("ca"), checks)?,
        mode: match typed.mode {
            None | Some(raw::ClientMode::Require) => ClientAuthMode::Require,
            Some(raw::ClientMode::Request) => ClientAuthMode::Request,
        },
    })
}

/// A file of CAs.
pub(super) fn authorities(
    typed: &raw::FilePath,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Option<PemBytes> {
    let file = checks.file(place, typed)?;
    let certificates = checks.parsed(place, pem::certificates(&file.bytes, &typed.0))?;
    if let Some(warning) = pem::lifetime_warning(&certificates, &typed.0, SystemTime::now()) {
        checks.warning(place, warning.problem, warning.remedy);
    }
    checks.parsed(place, pem::check_roots(certificates, &typed.0))?;
    Some(file)
}

/// A certificate and its key.
pub(super) fn certificate(
    typed: &raw::Certificate,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Option<Certificate> {
    let (cert_place, key_place) = (place.key("cert"), place.key("key"));
    let chain = typed.cert.as_ref().and_then(|typed| {
        let file = checks.file(&cert_place, typed)?;
        let certificates = checks.parsed(&cert_place, pem::certificates(&file.bytes, &typed.0))?;
        Some((typed, file, certificates))
    });
    let key = typed.key.as_ref().and_then(|typed| {
        let file = checks.file(&key_place, typed)?;
        let key = checks.parsed(&key_place, pem::private_key(&file.bytes, &typed.0))?;
        Some((typed, file, key))
    });
    let ((cert_typed, chain, certificates), (key_typed, key_file, key)) = (chain?, key?);
    if let Some(warning) = pem::lifetime_warning(&certificates, &cert_typed.0, SystemTime::now()) {
        checks.warning(&cert_place, warning.problem, warning.remedy);
    }
    let pair = pem::check_pair(certificates, &key, &cert_typed.0, &key_typed.0);
    checks.parsed(&key_place, pair)?;
    Some(Certificate {
        chain,
        key: Secret(key_file),
    })
}

/// TLS towards a cluster's endpoints.
pub(super) fn upstream(
    typed: &raw::UpstreamTls,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> Option<UpstreamTls> {
    let ca_place = place.key("ca");
    let ca = typed
        .ca
        .as_ref()
        .map(|typed| authorities(typed, &ca_place, checks));
    let verify = match (ca, typed.verify) {
        (Some(_), Some(_)) => {
            let problem = "`verify` beside `ca`: with a CA of one's own that alone is trusted";
            checks.error(&place.key("verify"), problem, "keep one of the two");
            None
        }
        (Some(ca), None) => ca.map(Verify::Ca),
        (None, Some(raw::VerifyWord::Off)) => {
            let problem = "endpoints are not verified: anybody in between can read and change everything";
            let remedy = "write `ca: FILE` with the CA of their certificates";
            checks.warning(&place.key("verify"), problem, remedy);
            Some(Verify::Off)
        }
        (None, None | Some(raw::VerifyWord::System)) => Some(Verify::System),
    };
    let name_place = place.key("server_name");
    let server_name = typed.server_name.as_ref().and_then(|typed| {
        let name = checks.parsed(&name_place, text::host_name(&typed.0))?;
        // rustls sends no SNI for an address, and verifies it as one.
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        Some(Box::from(if bare.parse::<IpAddr>().is_ok() {
            bare
        } else {
            &name
        }))
    });
    let certificate = typed
        .certificate
        .as_ref()
        .and_then(|typed| certificate(typed, &place.key("certificate"), checks));
    Some(UpstreamTls {
        verify: verify?,
        server_name,
        certificate,
        min_version: version(typed.min_version),
    })
}
