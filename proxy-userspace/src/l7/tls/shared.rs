//! What outlives a reload: the keys of session tickets.

use super::TlsMistake;
use crate::model::l7::{ClientAuthMode, ServerTls};
use rustls::{crypto::aws_lc_rs::Ticketer, server::ProducesTickets};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Ticket keys of every listener, one a process. Keys are random, rotated every 6 hours, and never leave the process.
///
/// A ticket says whom the server was and that the client's certificate was good, and whoever holds its key believes it.
/// So listeners share keys only where they prove and demand the same: the same names, the same client authorities, the
/// same mode. A reload that renews a certificate keeps resumption going; one that changes a client CA ends it. A client's
/// certificate isn't verified again when its session resumes, which it can for 12 hours at most.
#[derive(Default, Debug)]
pub struct Shared {
    /// Locked when a config is built, never by a handshake. Entries whose configs are gone go with the next build.
    ticketers: Mutex<Vec<(Identity, Weak<dyn ProducesTickets>)>>,
}

/// What a listener proves and demands.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Identity {
    names: Vec<Box<str>>,
    client_auth: Option<(Arc<[u8]>, ClientAuthMode)>,
}

impl Identity {
    /// That of a listener whose certificates are for these names.
    pub(super) fn new(mut names: Vec<Box<str>>, settings: &ServerTls) -> Self {
        names.sort_unstable();
        names.dedup();
        let client_auth = settings
            .client_auth
            .as_ref()
            .map(|auth| (auth.ca.bytes.clone(), auth.mode));
        Self { names, client_auth }
    }
}

impl Shared {
    /// The ticket keys of this identity, made where there are none yet.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn ticketer(&self, identity: Identity) -> Result<Arc<dyn ProducesTickets>, TlsMistake> {
        let mut ticketers = self.ticketers.lock().unwrap_or_else(PoisonError::into_inner);
        ticketers.retain(|(_, ticketer)| ticketer.strong_count() > 0);
        let known = ticketers
            .iter()
            .find(|(other, _)| *other == identity)
            .and_then(|(_, ticketer)| ticketer.upgrade());
        if let Some(ticketer) = known {
            return Ok(ticketer);
        }
        let ticketer = Ticketer::new().map_err(|error| {
            TlsMistake::new(
                format!("no keys for session tickets: {error}"),
                "check that getrandom(2) is allowed",
            )
        })?;
        ticketers.push((identity, Arc::downgrade(&ticketer)));
        Ok(ticketer)
    }
}
