//! Browsers are let in by nobody's password: what a page of another site makes them ask is refused.
//!
//! Over the UNIX socket, forwarded by `ssh -L`, whoever connects may do everything, and with a client certificate the browser shows it to
//! whatever page asks. Browsers say on whose behalf they ask (Fetch Metadata, RFC 6454); programs such as curl don't and are no way around.

use hyper::{
    HeaderMap,
    header::{HOST, HeaderName, ORIGIN},
};
use std::net::IpAddr;

/// For whom a browser asks: `same-origin`, `same-site`, `cross-site`, or `none` for its user.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Every browser sends one of these with every request to `localhost` and over TLS, or [`ORIGIN`] with a change.
const OF_BROWSERS: [HeaderName; 3] = [
    SITE,
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
];

/// Names that stand for this host, whatever DNS says: a page of another site can't have them.
const LOCAL_NAMES: [&str; 2] = ["localhost", "weir"];

/// A request that a page of another site had a browser make.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub(super) enum Foreign {
    /// It says so.
    #[error("a page of another site asks ({0})")]
    Site(String),
    /// It may have pointed its name to this host (DNS rebinding).
    #[error("a browser asks for {0:?}, which anybody may point to this host")]
    Host(String),
}

impl Foreign {
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Site(_) => {
                "open this API's own page, at /; from programs leave Origin and Sec-Fetch-Site out"
            }
            Self::Host(_) => "open it as http://localhost:PORT/ or by its IP address",
        }
    }
}

/// Whether a request may be answered; `is_local`: it came over the UNIX socket or from this host, where no certificate says
/// which name is meant.
pub(super) fn admit(headers: &HeaderMap, is_local: bool) -> Result<(), Foreign> {
    let text = |name: &HeaderName| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
    };
    if let Some(site) = text(&SITE)
        && site != "same-origin"
        && site != "none"
    {
        return Err(Foreign::Site(format!("Sec-Fetch-Site: {site}")));
    }
    let host = text(&HOST).unwrap_or_default();
    let origin = text(&ORIGIN);
    if let Some(origin) = &origin {
        let named = origin.split_once("://").map(|(_, authority)| authority);
        if !named.is_some_and(|named| named.eq_ignore_ascii_case(&host)) {
            return Err(Foreign::Site(format!("Origin: {origin}, Host: {host}")));
        }
    }
    let is_browser = origin.is_some() || OF_BROWSERS.iter().any(|name| headers.contains_key(name));
    if is_local && is_browser && !is_certain(&host) {
        return Err(Foreign::Host(host.into_owned()));
    }
    Ok(())
}

/// Whether it is an address, or a name that always stands for this host; a port may follow.
fn is_certain(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok() || LOCAL_NAMES.iter().any(|local| name.eq_ignore_ascii_case(local))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn who_asks_on_whose_behalf() {
        let fetch = |site| ("sec-fetch-site", site);
        let origin = |origin| ("origin", origin);
        let cases: &[(&str, &[(&str, &str)], bool)] = &[
            // Programs.
            ("weir", &[], true),
            ("evil.example", &[], true),
            // The page itself.
            ("localhost:9900", &[fetch("same-origin")], true),
            (
                "localhost:9900",
                &[fetch("same-origin"), origin("http://localhost:9900")],
                true,
            ),
            ("[::1]:9900", &[origin("http://[::1]:9900")], true),
            ("192.0.2.1:9900", &[fetch("none")], true),
            // Others.
            ("localhost:9900", &[fetch("cross-site")], false),
            ("localhost:9900", &[fetch("same-site")], false),
            ("localhost:9900", &[origin("http://evil.example")], false),
            ("localhost:9900", &[origin("http://localhost:8080")], false),
            ("localhost:9900", &[origin("null")], false),
            // A name that was pointed here: for the browser it is one site.
            ("evil.example:9900", &[fetch("same-origin")], false),
            ("evil.example:9900", &[origin("http://evil.example:9900")], false),
            ("localhost.evil.example", &[("sec-fetch-mode", "cors")], false),
            ("", &[fetch("none")], false),
        ];
        for (host, more, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            for (name, value) in *more {
                headers.insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            assert_eq!(admit(&headers, true).is_ok(), *expected, "{host} {more:?}");
        }
        // Where TLS says who is meant, and everybody shows a token, names are free.
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("admin.example:9900"));
        headers.insert(SITE, HeaderValue::from_static("same-origin"));
        assert_eq!(admit(&headers, false), Ok(()));
    }
}
