//! Which of the fields that matter on the way a message has: one look at all names costs less than a lookup of each.

use http::HeaderMap;

/// A set of header fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields(u16);

impl Fields {
    /// Connection.
    pub const CONNECTION: Self = Self(1 << 0);
    /// Keep-Alive.
    pub const KEEP_ALIVE: Self = Self(1 << 1);
    /// Proxy-Connection.
    pub const PROXY_CONNECTION: Self = Self(1 << 2);
    /// TE.
    pub const TE: Self = Self(1 << 3);
    /// Transfer-Encoding.
    pub const TRANSFER_ENCODING: Self = Self(1 << 4);
    /// Upgrade.
    pub const UPGRADE: Self = Self(1 << 5);
    /// Content-Type.
    pub const CONTENT_TYPE: Self = Self(1 << 6);
    /// Forwarded.
    pub const FORWARDED: Self = Self(1 << 7);
    /// X-Forwarded-Client-Cert.
    pub const CLIENT_CERTIFICATE: Self = Self(1 << 8);
    /// Grpc-Timeout.
    pub const GRPC_TIMEOUT: Self = Self(1 << 9);

    /// Traceparent.
    pub const TRACEPARENT: Self = Self(1 << 10);
    /// Tracestate.
    pub const TRACESTATE: Self = Self(1 << 11);

    /// Those of one connection (RFC 9110, 7.6.1).
    pub const HOP_BY_HOP: Self = Self(
        Self::CONNECTION.0
            | Self::KEEP_ALIVE.0
            | Self::PROXY_CONNECTION.0
            | Self::TE.0
            | Self::TRANSFER_ENCODING.0
            | Self::UPGRADE.0,
    );

    /// Those of these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        Self(
            headers
                .keys()
                .fold(0, |found, name| found | Self::named(name.as_str()).0),
        )
    }

    fn named(name: &str) -> Self {
        match name {
            "connection" => Self::CONNECTION,
            "keep-alive" => Self::KEEP_ALIVE,
            "proxy-connection" => Self::PROXY_CONNECTION,
            "te" => Self::TE,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "upgrade" => Self::UPGRADE,
            "content-type" => Self::CONTENT_TYPE,
            "forwarded" => Self::FORWARDED,
            "x-forwarded-client-cert" => Self::CLIENT_CERTIFICATE,
            "grpc-timeout" => Self::GRPC_TIMEOUT,
            "traceparent" => Self::TRACEPARENT,
            "tracestate" => Self::TRACESTATE,
            _ => Self(0),
        }
    }

    /// Whether one of those is among them.
    pub fn has(self, those: Self) -> bool {
        self.0 & those.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for name in ["host", "te", "x-forwarded-for", "grpc-timeout", "connections"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let fields = Fields::of(&headers);
        assert!(fields.has(Fields::TE) && fields.has(Fields::GRPC_TIMEOUT) && fields.has(Fields::HOP_BY_HOP));
        assert!(!fields.has(Fields::CONNECTION) && !fields.has(Fields::FORWARDED));
    }
}
