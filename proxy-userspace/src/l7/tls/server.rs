//! A listener's rustls config, and when its certificates expire.

use super::{Shared, TlsMistake, certificate, provider, resolver::Resolver, shared::Identity, versions};
use crate::model::l7::{Certificate, ClientAuth, ClientAuthMode, ServerTls};
use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::sync::Arc;

/// TLS 1.3 tickets after a handshake, as nginx and HAProxy send: a client opens its next two connections with them. Both
/// together cost less than a twentieth of the handshake.
const TICKETS: usize = 2;

/// Builds a listener's config. `shared` is the process's one: it makes sessions resumable across reloads.
///
/// # Errors
/// The first file that can't be used, and the remedy.
pub fn server(settings: &ServerTls, shared: &Shared) -> Result<Arc<ServerConfig>, TlsMistake> {
    let resolver = Resolver::new(&settings.certificates)?;
    let builder = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(versions(settings.min_version))
        .map_err(|error| TlsMistake::new(error.to_string(), "set `min_version` to \"1.2\" or \"1.3\""))?;
    let builder = match &settings.client_auth {
        Some(auth) => builder.with_client_cert_verifier(client_verifier(auth)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = settings
        .alpn
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let names = settings
        .certificates
        .iter()
        .map(names)
        .collect::<Result<Vec<_>, _>>()?;
    config.ticketer = shared.ticketer(Identity::new(names.concat(), settings))?;
    // Tickets alone: a store would be a lock that all workers take.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    // A request sent as early data could be replayed (RFC 8446, 8).
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client_verifier(auth: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, TlsMistake> {
    let roots = certificate::roots(&auth.ca)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider().clone());
    if auth.mode == ClientAuthMode::Request {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| {
        TlsMistake::of(
            &auth.ca,
            format!("can't verify clients with it: {error}"),
            "name a PEM file with the certificates of the clients' authorities",
        )
    })
}

fn names(certificate: &Certificate) -> Result<Vec<Box<str>>, TlsMistake> {
    let chain = certificate::chain(&certificate.chain)?;
    Ok(certificate::dns_names(&certificate::parsed(
        &certificate.chain,
        &chain[0],
    )?))
}

/// Each leaf's file (its first name where it was generated) and the second of UNIX time after which it is not valid.
/// What can't be read is left out.
pub fn expiries(settings: &ServerTls) -> Vec<(String, i64)> {
    settings.certificates.iter().filter_map(expiry).collect()
}

fn expiry(certificate: &Certificate) -> Option<(String, i64)> {
    let leaf = leaf(certificate)?;
    let name = match &certificate.chain.path {
        Some(path) => path.display().to_string(),
        None => leaf.names.first().map_or(leaf.subject, ToString::to_string),
    };
    Some((name, leaf.not_after))
}

/// What there is to tell of a server's own certificate.
pub struct Leaf {
    /// The subject.
    pub subject: String,
    /// DNS names it is for.
    pub names: Vec<Box<str>>,
    /// The second of UNIX time from which on it is valid.
    pub not_before: i64,
    /// The second of UNIX time after which it is not valid.
    pub not_after: i64,
}

/// The first certificate of a chain; none where it can't be read.
pub fn leaf(certificate: &Certificate) -> Option<Leaf> {
    let chain = certificate::chain(&certificate.chain).ok()?;
    let leaf = certificate::parsed(&certificate.chain, &chain[0]).ok()?;
    Some(Leaf {
        subject: leaf.subject().to_string(),
        names: certificate::dns_names(&leaf),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
    })
}
