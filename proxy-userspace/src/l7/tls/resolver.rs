//! Chooses a listener's certificate by the ClientHello's server name and signature schemes.

use super::{TlsMistake, certificate};
use crate::model::l7::Certificate;
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{collections::HashMap, sync::Arc};

/// Schemes that some key may sign with; rustls asks keys, it doesn't list them.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// A listener's certificates by name. A look-up is one hash for an exact name, two for a wildcard; nothing is allocated.
#[derive(Debug)]
pub(super) struct Resolver {
    exact: HashMap<Box<str>, Choices>,
    /// By what stands behind `*.`. A certificate's star is exactly one label (RFC 9525, 6.3).
    wildcard: HashMap<Box<str>, Choices>,
    /// For clients that name no server, or one that no certificate is for.
    default: Choices,
}

/// Certificates for one name, those that cost the server least to sign with first. Never empty.
#[derive(Clone, Default, Debug)]
struct Choices(Vec<Choice>);

#[derive(Clone, Debug)]
struct Choice {
    key: Arc<CertifiedKey>,
    schemes: Arc<[SignatureScheme]>,
}

impl Resolver {
    /// Loads the certificates; the first one's name says what clients get that name none.
    ///
    /// # Errors
    /// The first certificate that can't be used.
    pub(super) fn new(certificates: &[Certificate]) -> Result<Self, TlsMistake> {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        let mut default = Choices::default();
        let mut default_names = Vec::new();
        for (index, certificate) in certificates.iter().enumerate() {
            let choice = Choice::new(certificate)?;
            let leaf = certificate::parsed(&certificate.chain, &choice.key.cert[0])?;
            let names = certificate::dns_names(&leaf);
            for name in &names {
                match name.strip_prefix("*.") {
                    Some(parent) => enter(&mut wildcard, parent, &choice),
                    None => enter(&mut exact, name, &choice),
                }
            }
            if index == 0 || names == default_names {
                default.add(&choice);
                default_names = names;
            }
        }
        if default.0.is_empty() {
            return Err(TlsMistake::new(
                "no certificate",
                "name one under `certificates`, or write `self_signed: true`",
            ));
        }
        Ok(Self {
            exact,
            wildcard,
            default,
        })
    }

    fn choices(&self, name: Option<&str>) -> &Choices {
        // rustls has checked the name and made it lower case.
        name.and_then(|name| {
            self.exact.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.wildcard.get(parent)
            })
        })
        .unwrap_or(&self.default)
    }
}

fn enter(map: &mut HashMap<Box<str>, Choices>, name: &str, choice: &Choice) {
    map.entry(name.into()).or_default().add(choice);
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let choices = &self.choices(hello.server_name()).0;
        choices
            .iter()
            .find(|choice| choice.signs(hello.signature_schemes()))
            // rustls then finds no scheme and tells the client so.
            .or(choices.first())
            .map(|choice| choice.key.clone())
    }
}

impl Choices {
    /// Adds it behind those that are as cheap; of two of a kind the first in the config is taken.
    fn add(&mut self, choice: &Choice) {
        let cost = choice.cost();
        let place = self.0.partition_point(|other| other.cost() <= cost);
        self.0.insert(place, choice.clone());
    }
}

impl Choice {
    fn new(certificate: &Certificate) -> Result<Self, TlsMistake> {
        let key = certificate::certified_key(certificate)?;
        let schemes = SCHEMES
            .into_iter()
            .filter(|scheme| key.key.choose_scheme(&[*scheme]).is_some())
            .collect();
        Ok(Self {
            key: Arc::new(key),
            schemes,
        })
    }

    fn signs(&self, offered: &[SignatureScheme]) -> bool {
        self.schemes.iter().any(|scheme| offered.contains(scheme))
    }

    /// An RSA signature costs the server about ten times one with P-256.
    fn cost(&self) -> u8 {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            _ => 2,
        }
    }
}
