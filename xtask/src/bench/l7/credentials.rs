//! The certificate that every proxy shows: ECDSA on P-256, made for one run.

use anyhow::{Context, Result};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{fs, path::Path, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// The name in the certificate.
pub const NAME: &str = "localhost";

/// Writes cert.pem, key.pem and both.pem (for HAProxy) into a folder.
///
/// # Errors
/// When the folder can't be written.
pub fn write(folder: &Path) -> Result<()> {
    let signed = rcgen::generate_simple_self_signed([NAME.to_owned(), "127.0.0.1".to_owned()])?;
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    for (name, text) in [
        ("both.pem", format!("{certificate}{key}")),
        ("cert.pem", certificate),
        ("key.pem", key),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// The bare proxy's side of TLS.
///
/// # Errors
/// When the files are not there or not PEM.
pub fn acceptor(folder: &Path) -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
