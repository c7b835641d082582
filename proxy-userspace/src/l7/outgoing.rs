//! A request as an endpoint is to see it, in either version of HTTP.

use super::{error::Fault, headers};
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderName, HeaderValue, Method, Uri, Version,
    header::{self, HeaderMap},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

const SEC_WEBSOCKET_KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
const SEC_WEBSOCKET_ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// What becomes of the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A request and its response.
    Exchange,
    /// A tunnel after 101 in HTTP/1.1, or 200 to an extended CONNECT (RFC 8441): the protocol's token.
    Upgrade(Box<str>),
    /// A tunnel after 200 to CONNECT.
    Connect,
}

/// Where a request goes.
pub struct Outgoing {
    /// Path and query, after rewrites.
    pub target: PathAndQuery,
    /// Host and port, after rewrites.
    pub authority: HeaderValue,
    /// What becomes of the connection.
    pub purpose: Purpose,
    /// The client's own key, where it upgrades to WebSocket in HTTP/1.1.
    websocket_key: Option<HeaderValue>,
}

impl Outgoing {
    /// Takes what an upgrade needs from the client's headers before they are stripped.
    pub fn new(target: PathAndQuery, authority: HeaderValue, purpose: Purpose, headers: &HeaderMap) -> Self {
        let websocket_key = match purpose {
            Purpose::Upgrade(_) => headers.get(SEC_WEBSOCKET_KEY).cloned(),
            _ => None,
        };
        Self {
            target,
            authority,
            purpose,
            websocket_key,
        }
    }

    /// Gives a request's head HTTP/1.1's form. `has_body`: whether a body may follow.
    ///
    /// # Errors
    /// The target can't be written so.
    pub fn to_h1(&self, head: &mut Parts, has_body: bool) -> Result<(), Fault> {
        let bad = |_| Fault::BadRequest("the target can't be sent on");
        head.version = Version::HTTP_11;
        if head.headers.get(header::HOST) != Some(&self.authority) {
            head.headers.insert(header::HOST, self.authority.clone());
        }
        headers::join_cookies(&mut head.headers);
        match &self.purpose {
            Purpose::Exchange => {
                head.uri = Uri::from(self.target.clone());
                if has_body
                    && matches!(head.method, Method::GET | Method::HEAD)
                    && !head.headers.contains_key(header::CONTENT_LENGTH)
                {
                    // The codec takes such a request for one without a body unless it is told.
                    let chunked = HeaderValue::from_static("chunked");
                    head.headers.insert(header::TRANSFER_ENCODING, chunked);
                }
                if head.headers.contains_key(header::TE) {
                    head.headers
                        .insert(header::CONNECTION, HeaderValue::from_static("te"));
                }
            }
            Purpose::Upgrade(protocol) => {
                head.method = Method::GET;
                head.uri = Uri::from(self.target.clone());
                let named = HeaderValue::try_from(&**protocol);
                head.headers.insert(
                    header::UPGRADE,
                    named.map_err(|_| Fault::BadRequest("no such protocol"))?,
                );
                head.headers
                    .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                if &**protocol == "websocket" && !head.headers.contains_key(SEC_WEBSOCKET_KEY) {
                    head.headers.insert(SEC_WEBSOCKET_KEY, random_key());
                }
            }
            Purpose::Connect => {
                head.method = Method::CONNECT;
                let authority = Authority::try_from(self.authority.as_bytes());
                head.uri = Uri::builder()
                    .authority(authority.map_err(|_| Fault::BadRequest("no such host"))?)
                    .build()
                    .map_err(bad)?;
            }
        }
        Ok(())
    }

    /// Gives a request's head HTTP/2's form.
    ///
    /// # Errors
    /// The target can't be written so.
    pub fn to_h2(&self, head: &mut Parts, scheme: &Scheme) -> Result<(), Fault> {
        head.version = Version::HTTP_2;
        let authority = Authority::try_from(self.authority.as_bytes())
            .map_err(|_| Fault::BadRequest("the host can't be sent on"))?;
        for name in [header::HOST, header::CONNECTION, header::UPGRADE] {
            head.headers.remove(name);
        }
        let mut uri = http::uri::Parts::default();
        uri.authority = Some(authority);
        match &self.purpose {
            Purpose::Exchange => {}
            Purpose::Upgrade(protocol) => {
                head.method = Method::CONNECT;
                head.headers.remove(SEC_WEBSOCKET_KEY);
                let protocol = h2::ext::Protocol::from(&**protocol);
                head.extensions.insert(protocol);
            }
            Purpose::Connect => head.method = Method::CONNECT,
        }
        if self.purpose != Purpose::Connect {
            uri.scheme = Some(scheme.clone());
            uri.path_and_query = Some(self.target.clone());
        }
        head.uri = Uri::from_parts(uri).map_err(|_| Fault::BadRequest("the target can't be sent on"))?;
        Ok(())
    }

    /// Gives the head that opens a tunnel the client's form.
    pub fn tunnel_head(&self, head: &mut http::response::Parts, to_h2: bool) {
        let headers = &mut head.headers;
        for name in [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.remove(header::CONTENT_LENGTH);
        let Purpose::Upgrade(protocol) = &self.purpose else {
            head.status = http::StatusCode::OK;
            return;
        };
        if to_h2 {
            head.status = http::StatusCode::OK;
            headers.remove(SEC_WEBSOCKET_ACCEPT);
            return;
        }
        head.status = http::StatusCode::SWITCHING_PROTOCOLS;
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Ok(protocol) = HeaderValue::try_from(&**protocol) {
            headers.insert(header::UPGRADE, protocol);
        }
        // An HTTP/2 endpoint has not seen the key.
        if let Some(key) = &self.websocket_key
            && !headers.contains_key(SEC_WEBSOCKET_ACCEPT)
        {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept_of(key));
        }
    }
}

/// RFC 6455, 4.1.
fn random_key() -> HeaderValue {
    let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
    HeaderValue::try_from(key).unwrap_or_else(|_| HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// RFC 6455, 4.2.2.
fn accept_of(key: &HeaderValue) -> HeaderValue {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let text = STANDARD.encode(hash.finish());
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_as_the_rfc_does() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_of(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
