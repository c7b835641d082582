//! PEM files become chains, keys and trusted roots, or a mistake that says what the file lacks.

use super::{TlsMistake, provider};
use crate::model::l7::{Certificate, PemBytes};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, ParsedExtension},
};

/// Loads a chain and its key, and checks that they belong together.
///
/// # Errors
/// A file that holds no certificate or no usable key, or a key that is not the leaf's.
pub(super) fn certified_key(certificate: &Certificate) -> Result<CertifiedKey, TlsMistake> {
    let chain = chain(&certificate.chain)?;
    parsed(&certificate.chain, &chain[0])?;
    let key_file = &certificate.key.0;
    let key = provider()
        .key_provider
        .load_private_key(private_key(key_file)?)
        .map_err(|error| {
            TlsMistake::of(
                key_file,
                format!("the private key can't be used: {error}"),
                "use an ECDSA (P-256, P-384, P-521), RSA (2,048 bits or more) or Ed25519 key",
            )
        })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Unknown: a kind of key that can't tell its public half; the handshake will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(TlsMistake::of(
            key_file,
            "the key is not that of the first certificate in the chain's file",
            "name the key that the certificate was issued for, and put the server's own certificate first in its file",
        )),
    }
}

/// The certificates of a file in its order; never empty.
///
/// # Errors
/// None in it, or a broken one.
pub(super) fn chain(pem: &PemBytes) -> Result<Vec<CertificateDer<'static>>, TlsMistake> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            TlsMistake::of(
                pem,
                format!("not PEM: {error:?}"),
                "write the file again, each certificate between its BEGIN CERTIFICATE and END CERTIFICATE lines",
            )
        })?;
    if chain.is_empty() {
        return Err(TlsMistake::of(
            pem,
            "no certificate in it",
            "name a PEM file with BEGIN CERTIFICATE in it, the server's own certificate first",
        ));
    }
    Ok(chain)
}

fn private_key(pem: &PemBytes) -> Result<PrivateKeyDer<'static>, TlsMistake> {
    PrivateKeyDer::from_pem_slice(&pem.bytes).map_err(|_| {
        if contains(&pem.bytes, b"ENCRYPTED") {
            TlsMistake::of(
                pem,
                "the private key is encrypted",
                "decrypt it with `openssl pkey -in FILE -out FILE` and protect the file by its permissions",
            )
        } else {
            TlsMistake::of(
                pem,
                "no private key in it",
                "name a PEM file with BEGIN PRIVATE KEY (PKCS#8), BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY in it",
            )
        }
    })
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// The trusted roots of a file.
///
/// # Errors
/// No certificate in it, or one that can't be a root.
pub(super) fn roots(pem: &PemBytes) -> Result<RootCertStore, TlsMistake> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem)? {
        roots.add(certificate).map_err(|error| {
            TlsMistake::of(
                pem,
                format!("a certificate in it can't be a root: {error}"),
                "name a PEM file that holds certificates of authorities (X.509 version 3) alone",
            )
        })?;
    }
    Ok(roots)
}

/// The leaf, taken apart.
pub(super) fn parsed<'a>(pem: &PemBytes, leaf: &'a [u8]) -> Result<X509Certificate<'a>, TlsMistake> {
    X509Certificate::from_der(leaf)
        .map(|(_, certificate)| certificate)
        .map_err(|error| {
            TlsMistake::of(
                pem,
                format!("its first certificate is not X.509: {error}"),
                "have it issued again, and write it to the file as PEM",
            )
        })
}

/// DNS names a certificate is for, lower case: its alternative names, without any its common name.
pub(super) fn dns_names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension.parsed_extension() {
            names.extend(alternatives.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into_boxed_str()),
                _ => None,
            }));
        }
    }
    if names.is_empty() {
        names.extend(
            certificate
                .subject()
                .iter_common_name()
                .filter_map(|name| name.as_str().ok())
                .map(|name| name.to_ascii_lowercase().into_boxed_str()),
        );
    }
    names
}
