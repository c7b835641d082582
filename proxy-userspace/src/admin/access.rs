//! Who may come in over TCP: client certificates and tokens, as the config says them now.

use super::{
    Caller,
    answer::{Answer, Rights, error},
};
use crate::{
    l7::tls::{self, TlsMistake},
    model::{AdminToken, RemoteAdmin},
};
use aws_lc_rs::{constant_time, digest};
use hyper::{
    StatusCode,
    header::{HeaderValue, WWW_AUTHENTICATE},
};
use rustls::ServerConfig;
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};
use tracing::warn;

/// Whose request it is isn't known.
#[derive(Debug)]
pub(super) struct Stranger {
    what: &'static str,
    remedy: &'static str,
}

/// Follows the config: certificates and tokens change while the daemon runs.
#[derive(Default)]
pub struct Access {
    current: RwLock<Arc<Policy>>,
    tickets: tls::Shared,
}

#[derive(Default)]
struct Policy {
    tls: Option<Arc<ServerConfig>>,
    settings: Option<RemoteAdmin>,
}

impl Access {
    /// As the config says it.
    ///
    /// # Errors
    /// A certificate that can't be used.
    pub fn new(settings: Option<&RemoteAdmin>) -> Result<Self, TlsMistake> {
        let access = Self::default();
        access.set(settings)?;
        Ok(access)
    }

    /// As the config says it now; what can't be used leaves all as it is.
    pub fn follow(&self, settings: Option<&RemoteAdmin>) {
        if self.policy().settings.as_ref() == settings {
            return;
        }
        if let Err(mistake) = self.set(settings) {
            warn!("admin API over TCP: {mistake}; it goes on as before");
        }
    }

    fn set(&self, settings: Option<&RemoteAdmin>) -> Result<(), TlsMistake> {
        let tls = settings.and_then(|settings| settings.tls.as_ref());
        let tls = tls.map(|tls| tls::server(tls, &self.tickets)).transpose()?;
        let policy = Policy {
            tls,
            settings: settings.cloned(),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        Ok(())
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// TLS as it is spoken now; none for plain text.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.policy().tls.clone()
    }

    /// Who a request is from, and what it may do. `subject` is that of the connection's verified certificate.
    pub(super) fn admit(
        &self,
        subject: Option<&str>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Caller, Rights), Stranger> {
        if let Some(subject) = subject {
            return Ok((Caller::Certificate(subject.into()), Rights::Change));
        }
        let policy = self.policy();
        let tokens = policy.settings.as_ref().map_or(&[][..], |it| &it.tokens);
        let shown = authorization.and_then(|value| bearer(value.as_bytes()));
        let Some(shown) = shown else {
            return Err(Stranger::new("nobody is known by this request", tokens));
        };
        match holder(tokens, shown) {
            Some(token) => {
                let rights = if token.read_only {
                    Rights::Read
                } else {
                    Rights::Change
                };
                Ok((Caller::Token(Arc::clone(&token.name)), rights))
            }
            None => Err(Stranger::new("no such token", tokens)),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// The token of `Bearer TOKEN` (RFC 6750); the scheme's case doesn't matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Whose token it is. Every token is compared, and each in constant time, so that how long it takes tells nothing.
fn holder<'a>(tokens: &'a [AdminToken], shown: &[u8]) -> Option<&'a AdminToken> {
    let shown = digest::digest(&digest::SHA256, shown);
    tokens
        .iter()
        .fold(
            None,
            |found, token| match constant_time::verify_slices_are_equal(&token.sha256, shown.as_ref()) {
                Ok(()) => Some(token),
                Err(_) => found,
            },
        )
}

impl Stranger {
    fn new(what: &'static str, tokens: &[AdminToken]) -> Self {
        let remedy = if tokens.is_empty() {
            "show a client certificate that `admin.tls.client_ca` vouches for"
        } else {
            "send `Authorization: Bearer TOKEN` with one of the config's `admin.tokens`"
        };
        Self { what, remedy }
    }

    /// The same for every path: who isn't known learns nothing.
    pub(super) fn answer(&self) -> Answer {
        let mut answer = error(StatusCode::UNAUTHORIZED, self.what, self.remedy);
        answer
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, text: &str, read_only: bool) -> AdminToken {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        AdminToken {
            name: name.into(),
            sha256: hash.as_ref().try_into().unwrap(),
            read_only,
        }
    }

    #[test]
    fn tokens_are_known_by_what_they_are_and_nothing_else() {
        let settings = RemoteAdmin {
            address: "127.0.0.1:9900".parse().unwrap(),
            tls: None,
            tokens: vec![
                token("ops", "of-operators", false),
                token("scrape", "of-prometheus", true),
            ],
        };
        let access = Access::new(Some(&settings)).unwrap();
        let admit = |typed: &str| {
            let header = HeaderValue::from_str(typed).unwrap();
            let admitted = access.admit(None, Some(&header));
            admitted.map(|(caller, rights)| (caller.to_string(), rights)).ok()
        };
        for (typed, expected) in [
            ("Bearer of-operators", Some(("token ops", Rights::Change))),
            ("bearer  of-prometheus ", Some(("token scrape", Rights::Read))),
            ("Bearer of-operator", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic of-operators", None),
            ("of-operators", None),
        ] {
            let expected = expected.map(|(who, rights)| (who.to_owned(), rights));
            assert_eq!(admit(typed), expected, "{typed:?}");
        }
        assert_eq!(
            access.admit(None, None).unwrap_err().answer().status(),
            StatusCode::UNAUTHORIZED
        );
        let (caller, rights) = access.admit(Some("CN=ops"), None).unwrap();
        assert_eq!(
            (caller.to_string(), rights),
            ("certificate CN=ops".into(), Rights::Change)
        );

        // Revoked by a reload: the next request knows it.
        access.follow(Some(&RemoteAdmin {
            tokens: vec![],
            ..settings
        }));
        assert_eq!(admit("Bearer of-operators"), None);
    }
}
