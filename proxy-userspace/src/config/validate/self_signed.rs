//! Certificates that are made rather than read: one for each set of names, for the life of the process.

use crate::{
    config::error::Mistake,
    model::l7::{Certificate, PemBytes, Secret},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, OnceLock, PoisonError},
};

/// A reload must not change the certificate that clients were told to trust.
static MADE: OnceLock<Mutex<HashMap<BTreeSet<String>, Certificate>>> = OnceLock::new();

/// Years that it is good for.
const YEARS: i32 = 10;

/// The certificate for these names and IP addresses.
pub(super) fn certificate(names: BTreeSet<String>) -> Result<Certificate, Mistake> {
    let made = MADE.get_or_init(Mutex::default);
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = made.get(&names) {
        return Ok(known.clone());
    }
    let certificate = generate(names.iter().cloned().collect()).map_err(|error| {
        let problem = format!("no certificate can be made: {error}");
        Mistake::new(problem, "write `certificates` with files of your own")
    })?;
    made.insert(names, certificate.clone());
    Ok(certificate)
}

fn generate(names: Vec<String>) -> Result<Certificate, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "weir, self-signed");
    params.distinguished_name = subject;
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    let certificate = params.self_signed(&key)?;
    let pem = |text: String| PemBytes {
        path: None,
        bytes: text.into_bytes().into(),
    };
    Ok(Certificate {
        chain: pem(certificate.pem()),
        key: Secret(pem(key.serialize_pem())),
    })
}
