//! Sticky sessions: a signed cookie names the endpoint a client stays at.

use super::{Endpoint, identity, key::cookies};
use crate::model::{
    BackendAddr,
    l7::{Secret, Sticky},
};
use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use std::{fmt, sync::OnceLock};
use tracing::error;

/// Names an endpoint in a cookie. Keyed, so that it can't be turned back into an address by trying all of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointHash([u8; HASH]);

/// Bytes of the name, and of the truncated HMAC-SHA256 behind it (RFC 2104, section 5: at least half would be 16).
const HASH: usize = 8;
const TAG: usize = 16;
/// 24 bytes are 32 characters of base64url, without padding.
const TEXT: usize = (HASH + TAG) / 3 * 4;

/// Writes and reads a cluster's cookies.
pub struct Signer {
    settings: Sticky,
    key: hmac::Key,
}

impl Signer {
    /// With the configured secret, or one that all clusters of this process share; none when the system has no random
    /// numbers for it, which is logged.
    pub fn new(settings: &Sticky) -> Option<Self> {
        let key = match &settings.secret {
            Some(Secret(file)) => hmac::Key::new(hmac::HMAC_SHA256, &file.bytes),
            None => hmac::Key::new(hmac::HMAC_SHA256, process_secret()?),
        };
        Some(Self {
            settings: settings.clone(),
            key,
        })
    }

    /// What it was made from.
    pub fn settings(&self) -> &Sticky {
        &self.settings
    }

    /// The name of an endpoint, the same on every node with this secret.
    pub fn hash(&self, address: BackendAddr) -> EndpointHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"weir endpoint");
        for lane in identity(address) {
            context.update(&lane.to_be_bytes());
        }
        let tag = context.sign();
        let mut hash = [0; HASH];
        hash.copy_from_slice(&tag.as_ref()[..HASH]);
        EndpointHash(hash)
    }

    /// The endpoint named by the first cookie of ours with a true signature. Anything else is as if it weren't there.
    pub fn read(&self, headers: &HeaderMap) -> Option<EndpointHash> {
        cookies(headers, &self.settings.cookie).find_map(|value| self.verify(value))
    }

    fn verify(&self, text: &[u8]) -> Option<EndpointHash> {
        if text.len() != TEXT {
            return None;
        }
        let mut bytes = [0; HASH + TAG];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (hash, tag) = bytes.get(..length)?.split_first_chunk::<HASH>()?;
        verify_slices_are_equal(&self.tag(*hash), tag).ok()?;
        Some(EndpointHash(*hash))
    }

    /// The Set-Cookie for an endpoint, made once; none when the configured name or path can't stand in a header.
    pub fn set_cookie<P>(&self, endpoint: &Endpoint<P>) -> Option<HeaderValue> {
        let mut cached = endpoint.cookie.borrow_mut();
        if cached.is_none() {
            *cached = HeaderValue::from_str(&self.cookie(endpoint.address)).ok();
        }
        cached.clone()
    }

    fn cookie(&self, address: BackendAddr) -> String {
        let EndpointHash(hash) = self.hash(address);
        let mut bytes = [0; HASH + TAG];
        bytes[..HASH].copy_from_slice(&hash);
        bytes[HASH..].copy_from_slice(&self.tag(hash));
        let Sticky {
            cookie,
            max_age,
            path,
            ..
        } = &self.settings;
        let value = URL_SAFE_NO_PAD.encode(bytes);
        let max_age = max_age.map_or_else(String::new, |age| format!("; Max-Age={}", age.as_secs()));
        format!("{cookie}={value}; Path={path}{max_age}; HttpOnly")
    }

    fn tag(&self, hash: [u8; HASH]) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"weir cookie");
        context.update(&hash);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
        tag
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?})", self.settings)
    }
}

fn process_secret() -> Option<&'static [u8; 32]> {
    static SECRET: OnceLock<Option<[u8; 32]>> = OnceLock::new();
    let secret = SECRET.get_or_init(|| {
        let mut secret = [0; 32];
        match rand::fill(&mut secret) {
            Ok(()) => Some(secret),
            Err(_) => {
                error!(
                    "the system has no random numbers: sticky cookies without a configured secret are off"
                );
                None
            }
        }
    });
    secret.as_ref()
}
