//! Texts with a form of their own.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $pattern:expr) => {
        $(#[$meta])*
        #[derive(Deserialize, JsonSchema, Clone)]
        #[serde(transparent)]
        pub struct $name(#[schemars(regex(pattern = $pattern))] pub(in crate::config) String);
    };
}

text!(
    /// A name: letters, digits, `-`, `_` and `.`, up to 64, a letter or digit first.
    Name,
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
);
text!(
    /// The name of a network interface, up to 15 bytes.
    InterfaceName,
    "^[^/:\\s]{1,15}$"
);
text!(
    /// An IP address and a port or a range of ports: `192.0.2.10:443`, `192.0.2.10:8000-8010`, or
    /// `"[2001:db8::10]:443"` with brackets and quotes. `0.0.0.0` stands for every IPv4 address,
    /// `[::]` for every IPv6 address.
    ListenAddress,
    "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}(-[0-9]{1,5})?$"
);
text!(
    /// An IP address or a name, and a port: `192.0.2.11:53`, `api.internal:8080`, or
    /// `"[2001:db8::11]:53"` with brackets and quotes.
    EndpointAddress,
    "^([A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$"
);
text!(
    /// An IP address, with or without a port: `192.0.2.53`, `127.0.0.1:5353`, `"2001:db8::53"`,
    /// `"[2001:db8::53]:53"`.
    ServerAddress,
    "^([0-9]{1,3}(\\.[0-9]{1,3}){3}(:[0-9]{1,5})?|[0-9A-Fa-f:.]+|\\[[0-9A-Fa-f:.]+\\]:[0-9]{1,5})$"
);
text!(
    /// SHA-256 in hexadecimal: 64 digits.
    Sha256Text,
    "^[0-9A-Fa-f]{64}$"
);
text!(
    /// An IPv4 address: `192.0.2.1`.
    Ipv4Text,
    "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$"
);
text!(
    /// An IPv6 address: `2001:db8::1`.
    Ipv6Text,
    "^[0-9A-Fa-f:.]+$"
);
text!(
    /// An IP address without port, or a prefix: `192.0.2.53`, `192.0.2.0/28`.
    VipText,
    "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"
);
text!(
    /// A prefix of either family: `192.0.2.0/24`, `"2001:db8::/32"`; a host is `/32` or `/128`.
    PrefixText,
    "^[0-9A-Fa-f:.]+/[0-9]{1,3}$"
);
text!(
    /// An IPv4 prefix: `172.16.0.0/16`.
    Ipv4PrefixText,
    "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$"
);
text!(
    /// An IPv6 prefix: `2001:db8:1::/64`.
    Ipv6PrefixText,
    "^[0-9A-Fa-f:.]+/[0-9]{1,3}$"
);
text!(
    /// Whole numbers with units `h`, `m`, `s` and `ms`, the greater unit first: `2s`, `500ms`, `2h30m`.
    Duration,
    "^([0-9]+(h|m|s|ms))+$"
);
text!(
    /// 1 to 15 bytes in hexadecimal, in quotes: `"0a01"`.
    ServerIdText,
    "^([0-9A-Fa-f]{2}){1,15}$"
);
text!(
    /// First and last port: `1024-32767`.
    PortRange,
    "^[0-9]{1,5} *- *[0-9]{1,5}$"
);
text!(
    /// A path that starts with `/`.
    AbsolutePath,
    "^/"
);
text!(
    /// A file, relative to the directory of the config file.
    FilePath,
    "^."
);
text!(
    /// A host without port: `www.example.com`, or `"*.example.com"` for every name below, in quotes.
    HostPattern,
    "^(\\*\\.)?[A-Za-z0-9._-]+$|^\\[[0-9A-Fa-f:.]+\\]$"
);
text!(
    /// A URL: `http://127.0.0.1:4318`.
    UrlText,
    "^"
);
text!(
    /// The path of a URL, which starts with `/`.
    PathText,
    "^/"
);
text!(
    /// The name of an HTTP header field.
    HeaderNameText,
    "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
);
text!(
    /// A regular expression that has to match the whole text (syntax of Rust's crate regex).
    RegexText,
    "^"
);
text!(
    /// Any text.
    Text,
    "^"
);

/// Texts by name, in the order they were typed.
#[derive(Deserialize, Default)]
#[serde(transparent)]
pub struct Texts(Map<String, Value>);

impl Texts {
    /// Names and texts.
    pub(in crate::config) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (self.0.iter()).filter_map(|(name, text)| Some((name.as_str(), text.as_str()?)))
    }
}

impl JsonSchema for Texts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BTreeMap::<String, Text>::json_schema(generator)
    }
}
