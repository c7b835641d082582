//! A cluster's rustls config, and the name its endpoints must prove.

use super::{TlsMistake, certificate, provider, versions};
use crate::model::l7::{UpstreamTls, Verify};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Endpoints whose sessions are remembered for resumption.
const SESSIONS: usize = 1_024;

/// How long the system's roots serve before they are read again: a reload with a thousand clusters reads them once.
const ROOTS_AGE: Duration = Duration::from_secs(10);

/// Builds a cluster's config; `alpn` is what is offered, the preferred first.
///
/// # Errors
/// The first file that can't be used, and the remedy.
pub fn client(settings: &UpstreamTls, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsMistake> {
    if let Some(name) = &settings.server_name
        && ServerName::try_from(&**name).is_err()
    {
        return Err(TlsMistake::new(
            format!("`{name}` is not a server name"),
            "set `server_name` to a DNS name or an IP address, without port",
        ));
    }
    let builder = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(versions(settings.min_version))
        .map_err(|error| TlsMistake::new(error.to_string(), "set `min_version` to \"1.2\" or \"1.3\""))?
        .dangerous()
        .with_custom_certificate_verifier(verifier(&settings.verify)?);
    let mut config = match &settings.certificate {
        Some(own) => {
            let key = certificate::certified_key(own)?;
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

/// The name sent as SNI (addresses are not sent, RFC 6066) and verified: the configured one, else the endpoint's DNS
/// name, else its address.
pub fn server_name(
    settings: &UpstreamTls,
    endpoint_name: Option<&str>,
    address: IpAddr,
) -> ServerName<'static> {
    settings
        .server_name
        .as_deref()
        .or(endpoint_name)
        .and_then(|name| ServerName::try_from(name.trim_end_matches('.').to_owned()).ok())
        .unwrap_or_else(|| ServerName::IpAddress(address.into()))
}

fn verifier(verify: &Verify) -> Result<Arc<dyn ServerCertVerifier>, TlsMistake> {
    let roots = match verify {
        Verify::Off => return Ok(Arc::new(Unverified)),
        Verify::Ca(pem) => Arc::new(certificate::roots(pem)?),
        Verify::System => system_roots()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider().clone())
        .build()
        .map_err(|error| TlsMistake::new(error.to_string(), "name the endpoints' authorities under `ca`"))?;
    Ok(verifier)
}

fn system_roots() -> Result<Arc<RootCertStore>, TlsMistake> {
    static READ: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((when, roots)) = &*read
        && when.elapsed() < ROOTS_AGE
    {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}"));
        return Err(TlsMistake::new(
            format!("the system has no trusted roots{}", why.unwrap_or_default()),
            "install ca-certificates, name the endpoints' authorities under `ca`, or set SSL_CERT_FILE",
        ));
    }
    let roots = Arc::new(roots);
    *read = Some((Instant::now(), roots.clone()));
    Ok(roots)
}

/// Takes any certificate whose key the endpoint holds: encryption without identity.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
