//! Certificates made by openssl for one run of the tests.

use crate::lab::{Finished, tool};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// Serial numbers, which two certificates of an issuer must not share.
static SERIAL: AtomicU32 = AtomicU32::new(1);

/// Signs certificates.
pub struct Authority {
    folder: PathBuf,
    name: String,
    /// Its own certificate.
    pub cert: PathBuf,
    key: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, in this folder.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let (cert, key) = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem \
                 -days 30 -subj /CN=Test-{name} -addext basicConstraints=critical,CA:TRUE \
                 -addext keyUsage=critical,keyCertSign,cRLSign"
            ),
        )?;
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            cert,
            key,
        })
    }

    /// A certificate for these names and addresses (`DNS:a.test`, `IP:127.0.0.1`, `URI:…`), for servers and clients.
    ///
    /// # Errors
    /// openssl failed; the message says how.
    pub fn issue(&self, file: &str, common_name: &str, names: &[&str]) -> Result<Identity> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let extensions = self.folder.join(format!("{file}.ext"));
        fs::write(
            &extensions,
            format!(
                "subjectAltName={}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n",
                names.join(",")
            ),
        )?;
        openssl(
            &self.folder,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {file}.key -out {file}.csr \
                 -subj /CN={common_name}"
            ),
        )?;
        openssl(
            &self.folder,
            &format!(
                "x509 -req -in {file}.csr -CA {} -CAkey {} -set_serial {serial} -days 30 -extfile {file}.ext -out {file}.pem",
                self.cert.display(),
                self.key.display()
            ),
        )?;
        Ok(Identity {
            cert: self.folder.join(format!("{file}.pem")),
            key: self.folder.join(format!("{file}.key")),
        })
    }

    /// As given to [`Authority::new`].
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn openssl(folder: &Path, arguments: &str) -> Result<String> {
    let mut command = Command::new(tool("openssl")?);
    command.args(arguments.split_whitespace()).current_dir(folder);
    Finished::run(&mut command, "")?.success().context("openssl")
}
