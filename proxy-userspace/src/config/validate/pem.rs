//! Whether certificates, keys and CAs are what they should be.

use crate::config::{error::Mistake, limits, suggest::shown};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error, PemObject},
    },
    sign::CertifiedKey,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

const ANEW: &str = "write it anew; a file that is cut short looks like this";

/// The certificates of a file; `typed` is what to call it.
pub(super) fn certificates(bytes: &[u8], typed: &str) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let found: Result<Vec<_>, Error> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = found.map_err(|error| broken_pem(&error, typed))?;
    if certificates.is_empty() {
        return Err(no_certificate(bytes, typed));
    }
    for (index, certificate) in certificates.iter().enumerate() {
        let which = format!("certificate {} in {}", index + 1, shown(typed));
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return Err(Mistake::new(format!("{which} can't be parsed"), ANEW));
        };
        if parsed.version() != X509Version::V3 {
            let problem = format!("{which} is of version {}", parsed.version().0 + 1);
            let remedy = "use one of version 3: openssl makes it when it is given an extension, such as subjectAltName";
            return Err(Mistake::new(problem, remedy));
        }
    }
    Ok(certificates)
}

fn broken_pem(error: &Error, typed: &str) -> Mistake {
    let reason = match error {
        Error::MissingSectionEnd { .. } => "a section has no end line".to_owned(),
        Error::IllegalSectionStart { .. } => "a section's first line is not right".to_owned(),
        Error::Base64Decode(_) => "it has characters that are not base64".to_owned(),
        other => other.to_string(),
    };
    Mistake::new(format!("{} is not whole PEM: {reason}", shown(typed)), ANEW)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// DER starts with a SEQUENCE of more than 127 bytes, which no text does.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81 | 0x82, ..])
}

fn no_certificate(bytes: &[u8], typed: &str) -> Mistake {
    let mistake = |problem: &str, remedy: &str| Mistake::new(format!("{} {problem}", shown(typed)), remedy);
    if is_der(bytes) {
        let remedy = "convert it: openssl x509 -inform DER -in FILE -out FILE.pem";
        return mistake("is DER, not PEM", remedy);
    }
    if holds(bytes, "PRIVATE KEY-----") {
        return mistake(
            "holds a key and no certificate",
            "name the certificate's file here",
        );
    }
    if holds(bytes, "CERTIFICATE REQUEST-----") {
        let remedy = "name the certificate that the CA has made of it";
        return mistake("holds a request for a certificate", remedy);
    }
    mistake(
        "holds no certificate",
        "name a PEM file: it has a line -----BEGIN CERTIFICATE-----",
    )
}

/// The private key of a file.
pub(super) fn private_key(bytes: &[u8], typed: &str) -> Result<PrivateKeyDer<'static>, Mistake> {
    let mistake = |problem: &str, remedy: &str| Mistake::new(format!("{} {problem}", shown(typed)), remedy);
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(key),
        Err(Error::NoItemsFound) if is_der(bytes) => {
            let remedy = "convert it: openssl pkey -inform DER -in FILE -out FILE.pem";
            Err(mistake("is DER, not PEM", remedy))
        }
        Err(Error::NoItemsFound) if holds(bytes, "ENCRYPTED PRIVATE KEY-----") => {
            let remedy = "decrypt it: openssl pkey -in FILE -out FILE.plain";
            Err(mistake("holds an encrypted key", remedy))
        }
        Err(Error::NoItemsFound) if holds(bytes, "CERTIFICATE-----") => Err(mistake(
            "holds a certificate and no key",
            "name the key's file here",
        )),
        Err(Error::NoItemsFound) => Err(mistake(
            "holds no private key",
            "name a PEM file: it has a line -----BEGIN PRIVATE KEY-----",
        )),
        Err(error) => Err(broken_pem(&error, typed)),
    }
}

/// Whether a key can be used, and is the one of the chain's first certificate.
pub(super) fn check_pair(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
    cert_typed: &str,
    key_typed: &str,
) -> Result<(), Mistake> {
    let signing = any_supported_type(key).map_err(|_| {
        Mistake::new(
            format!(
                "{} is of a kind or length that TLS does not use",
                shown(key_typed)
            ),
            "use an EC key (P-256, P-384, P-521), Ed25519, or RSA of 2048 to 8192 bits",
        )
    })?;
    match CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Mistake::new(
            format!(
                "{} is not the key of the certificate in {}",
                shown(key_typed),
                shown(cert_typed)
            ),
            "name the key it was made with; in the certificate's file the server's own comes first",
        )),
        Err(error) => Err(Mistake::new(
            format!("{} can't be used: {error}", shown(cert_typed)),
            "use another certificate",
        )),
    }
}

/// Whether every certificate of a file can be a root of trust.
pub(super) fn check_roots(certificates: Vec<CertificateDer<'static>>, typed: &str) -> Result<(), Mistake> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates.into_iter().enumerate() {
        store.add(certificate).map_err(|error| {
            let problem = format!(
                "certificate {} in {} can't be a CA: {error}",
                index + 1,
                shown(typed)
            );
            Mistake::new(problem, "name a file of CA certificates")
        })?;
    }
    Ok(())
}

/// What there is to say of the time that certificates are good for: of the first that has ended, begins later, or
/// ends soon.
pub(super) fn lifetime_warning(
    certificates: &[CertificateDer<'static>],
    typed: &str,
    now: SystemTime,
) -> Option<Mistake> {
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let soon = now.saturating_add(limits::EXPIRES_SOON.as_secs());
    certificates.iter().enumerate().find_map(|(index, certificate)| {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let (begin, end) = (seconds(validity.not_before), seconds(validity.not_after));
        let which = match (index, certificates.len()) {
            (_, 1) => format!("the certificate in {}", shown(typed)),
            _ => format!("certificate {} in {}", index + 1, shown(typed)),
        };
        if end < now {
            let problem = format!("{which} has expired on {}", day(end));
            return Some(Mistake::new(problem, "replace it: clients refuse it"));
        }
        if begin > now {
            let problem = format!("{which} is good from {} on only", day(begin));
            return Some(Mistake::new(problem, "check this host's clock, or replace it"));
        }
        (end < soon).then(|| {
            let left = (end - now) / 86_400;
            let problem = format!("{which} expires on {}, in {left} days", day(end));
            Mistake::new(problem, "renew it; Weir reads it again when the file changes")
        })
    })
}

/// A day in UTC: 2026-11-26.
fn day(unix_seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds);
    jiff::Timestamp::try_from(time).map_or_else(
        |_| "a day beyond reckoning".to_owned(),
        |time| time.strftime("%F").to_string(),
    )
}
