//! Certificates, keys and authorities made for a test.

use crate::model::l7::{
    Certificate, ClientAuth, ClientAuthMode, PemBytes, Secret, ServerTls, TlsVersion, UpstreamTls, Verify,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SanType, SignatureAlgorithm,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// A certificate for these names with a key of this kind; its subject is the first name.
pub fn self_signed(names: &[&str], kind: &'static SignatureAlgorithm) -> Certificate {
    let key = KeyPair::generate_for(kind).unwrap();
    let certificate = params(names).self_signed(&key).unwrap();
    pair(&certificate.pem(), &key)
}

pub fn ecdsa(names: &[&str]) -> Certificate {
    self_signed(names, &PKCS_ECDSA_P256_SHA256)
}

pub fn rsa(names: &[&str]) -> Certificate {
    self_signed(names, &PKCS_RSA_SHA256)
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, &names[0]);
    params
}

fn pair(chain: &str, key: &KeyPair) -> Certificate {
    Certificate {
        chain: pem(chain),
        key: Secret(pem(&key.serialize_pem())),
    }
}

pub fn pem(text: &str) -> PemBytes {
    PemBytes {
        path: None,
        bytes: text.as_bytes().into(),
    }
}

/// As if it had been read from a file of this name.
pub fn named(path: &str, text: &str) -> PemBytes {
    PemBytes {
        path: Some(Path::new(path).into()),
        ..pem(text)
    }
}

/// Signs certificates.
pub struct Authority {
    pub pem: PemBytes,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: pem(&certificate.pem()),
            issuer: Issuer::new(params, key),
        }
    }

    /// A server's certificate.
    pub fn issue(&self, names: &[&str]) -> Certificate {
        self.sign(&params(names))
    }

    /// A client's: subject `O=Example, Inc.; CN=client`, a DNS name and a URI.
    pub fn client(&self) -> Certificate {
        let mut params = CertificateParams::new(vec!["client.example".into()]).unwrap();
        let uri = "spiffe://example/client".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "client");
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        pair(&params.signed_by(&key, &self.issuer).unwrap().pem(), &key)
    }

    /// Clients must, or may, show a certificate of this authority.
    pub fn client_auth(&self, mode: ClientAuthMode) -> ClientAuth {
        ClientAuth {
            ca: self.pem.clone(),
            mode,
        }
    }
}

/// A listener with these certificates and the defaults.
pub fn server_tls(certificates: Vec<Certificate>) -> ServerTls {
    ServerTls {
        certificates,
        alpn: Vec::new(),
        min_version: TlsVersion::V1_2,
        client_auth: None,
        handshake_timeout: Duration::from_secs(10),
    }
}

/// A cluster that is verified like this.
pub fn upstream_tls(verify: Verify) -> UpstreamTls {
    UpstreamTls {
        verify,
        server_name: None,
        certificate: None,
        min_version: TlsVersion::V1_2,
    }
}

/// Files for tools; removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "weir-tls-{}-{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir(&folder.0).unwrap();
        folder
    }

    /// A file's path, for a command line.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }

    /// Writes it, and yields its path.
    pub fn write(&self, name: &str, pem: &PemBytes) -> String {
        fs::write(self.path(name), &pem.bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
