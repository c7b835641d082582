//! Who a client is by its certificate: for routing, and for x-forwarded-client-cert.

mod name;

use rustls::{ServerConnection, crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256};
use std::{fmt::Write, net::IpAddr};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, ParsedExtension},
};

/// A client's verified certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// The subject as RFC 2253 writes it, most specific part first: `CN=client,O=Example`; empty where it has none.
    pub subject: Box<str>,
    /// Alternative names that are DNS names, as they stand.
    pub dns: Vec<Box<str>>,
    /// Alternative names that are URIs, such as SPIFFE's.
    pub uris: Vec<Box<str>>,
    /// Alternative names that are mail addresses.
    pub emails: Vec<Box<str>>,
    /// Alternative names that are IP addresses.
    pub addresses: Vec<IpAddr>,
    /// SHA-256 of the certificate (DER), in lower-case hexadecimal.
    pub fingerprint: Box<str>,
}

/// The client's identity, also in a resumed session; none where it showed no certificate. It parses the certificate:
/// call it once a connection, when it is first asked for.
pub fn peer_identity(connection: &ServerConnection) -> Option<PeerIdentity> {
    PeerIdentity::of(connection.peer_certificates()?.first()?)
}

impl PeerIdentity {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut identity = Self {
            subject: name::rfc2253(certificate.subject()).into(),
            dns: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            addresses: Vec::new(),
            fingerprint: fingerprint(der)?,
        };
        for extension in certificate.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                names.general_names.iter().for_each(|name| identity.add(name));
            }
        }
        Some(identity)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).into()),
            GeneralName::URI(uri) => self.uris.push((*uri).into()),
            GeneralName::RFC822Name(email) => self.emails.push((*email).into()),
            GeneralName::IPAddress(bytes) => {
                let address = <[u8; 4]>::try_from(*bytes)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                self.addresses.extend(address);
            }
            _ => {}
        }
    }

    /// The element for x-forwarded-client-cert as Envoy writes it: `Hash=…;Subject="…";URI=…;DNS=…`. Printable ASCII.
    pub fn forwarded_client_cert(&self) -> String {
        let mut text = format!("Hash={};Subject=\"{}\"", self.fingerprint, Quoted(&self.subject));
        for (key, names) in [("URI", &self.uris), ("DNS", &self.dns)] {
            for name in names {
                let _infallible = if name.contains([',', ';', '=', '"', ' ']) {
                    write!(text, ";{key}=\"{}\"", Quoted(name))
                } else {
                    write!(text, ";{key}={}", Quoted(name))
                };
            }
        }
        text
    }
}

/// A text that can't leave its double quotes, nor its header: `"` and `\` are escaped unless they already are, anything
/// but printable ASCII becomes `?`.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut escaped = false;
        for letter in self.0.chars() {
            match letter {
                '"' if !escaped => f.write_str("\\\"")?,
                ' '..='~' => f.write_char(letter)?,
                _ => f.write_char('?')?,
            }
            escaped = letter == '\\' && !escaped;
        }
        // A backslash at the end would take the closing quote with it.
        if escaped { f.write_char('\\') } else { Ok(()) }
    }
}

fn fingerprint(der: &[u8]) -> Option<Box<str>> {
    // rustls's own SHA-256: no further dependency.
    let sha256 = TLS13_AES_128_GCM_SHA256.tls13()?.common.hash_provider;
    let mut text = String::with_capacity(64);
    for byte in sha256.hash(der).as_ref() {
        let _infallible = write!(text, "{byte:02x}");
    }
    Some(text.into())
}
