//! Hosts, paths, headers and methods as they are typed, with a remedy for each way to get them wrong.

use crate::{
    config::{error::Mistake, name, path::clipped, suggest::shown},
    model::l7::{EncodedSlashes, HostMatch, PathOptions, Regex},
};
use http::{HeaderName, HeaderValue, Method};
use std::net::Ipv6Addr;

fn mistake<T>(typed: &str, problem: &str, remedy: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake::new(format!("{} {problem}", shown(typed)), remedy))
}

/// A host, or `*.` and what it ends with.
pub(super) fn host_pattern(typed: &str) -> Result<HostMatch, Mistake> {
    let lower = typed.to_ascii_lowercase();
    if lower == "*" {
        return mistake(
            typed,
            "is every host",
            "leave it out: without a host every one matches",
        );
    }
    if let Some(suffix) = lower.strip_prefix("*.") {
        let name =
            host_name(suffix).map_err(|wrong| Mistake::new(wrong.problem, "write `\"*.example.com\"`"))?;
        return Ok(HostMatch::Suffix(format!(".{name}").into()));
    }
    if lower.contains('*') {
        let remedy = "write `\"*.example.com\"` for every name below, or a `path_regex` beside no host";
        let remedy = if lower.starts_with('*') {
            "write `\"*.example.com\"`, with a dot behind the star"
        } else {
            remedy
        };
        return mistake(typed, "has a star that is not its first label", remedy);
    }
    host_name(&lower).map(|name| HostMatch::Exact(name.into()))
}

/// A host name, IPv4 address or IPv6 address in brackets; lower case, without port.
pub(super) fn host_name(typed: &str) -> Result<String, Mistake> {
    let lower = typed.to_ascii_lowercase();
    if lower.is_empty() {
        return Err(Mistake::new(
            "the host is empty",
            "write one, or leave the key out",
        ));
    }
    if let Some((_, rest)) = lower.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or(rest);
        return mistake(
            typed,
            "is a URL",
            format!("write the host alone: {}", clipped(host)),
        );
    }
    if let Some((host, _)) = lower.split_once('/') {
        return mistake(
            typed,
            "has a path behind the host",
            format!("write {} and a `path_prefix`", clipped(host)),
        );
    }
    if let Some(inner) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) => mistake(
                typed,
                "has no IPv6 address in its brackets",
                "write \"[2001:db8::1]\"",
            ),
        };
    }
    if lower.parse::<Ipv6Addr>().is_ok() {
        return mistake(
            typed,
            "is an IPv6 address without brackets",
            format!("write \"[{lower}]\", with the quotes"),
        );
    }
    if let Some((host, port)) = lower.rsplit_once(':') {
        let quoted = if host.starts_with('[') {
            format!("\"{host}\"")
        } else {
            clipped(host)
        };
        let remedy = format!("write {quoted}");
        return if port.parse::<u16>().is_ok() {
            mistake(typed, "has a port, and hosts are compared without one", remedy)
        } else {
            mistake(typed, "has a colon in it", remedy)
        };
    }
    if let Some(name) = lower.strip_suffix('.') {
        return mistake(typed, "ends with a dot", format!("write {}", clipped(name)));
    }
    name::dns(&lower)?;
    Ok(lower)
}

/// `host` or `host:port`, for a Host header.
pub(super) fn authority(typed: &str) -> Result<Box<str>, Mistake> {
    let (host, port) = match typed.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => (host, Some(port)),
        _ => (typed, None),
    };
    let host = host_name(host)?;
    Ok(port
        .map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
        .into())
}

/// The path of a URL, as it is sent.
pub(super) fn url_path(typed: &str) -> Result<&str, Mistake> {
    if !typed.starts_with('/') {
        let rest = typed.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        return mistake(
            typed,
            "does not start with /",
            format!("write /{}", clipped(rest)),
        );
    }
    if let Some((path, _)) = typed.split_once('?') {
        let remedy = format!("write {}, and match parameters by `query`", clipped(path));
        return mistake(typed, "has a query behind the path", remedy);
    }
    if let Some((path, _)) = typed.split_once('#') {
        let remedy = format!("write {}", clipped(path));
        return mistake(typed, "has a fragment, which browsers don't send", remedy);
    }
    let sent = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
    };
    if !typed.bytes().all(sent) {
        let encoded: String = typed
            .bytes()
            .map(|byte| {
                if sent(byte) {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        return mistake(
            typed,
            "has characters that stand percent-encoded in a URL",
            format!("write {}", clipped(&encoded)),
        );
    }
    let mut escapes = typed.split('%').skip(1);
    if let Some(bad) = escapes.find(|rest| {
        !rest
            .as_bytes()
            .get(..2)
            .is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    }) {
        let shown_escape: String = format!("%{bad}").chars().take(3).collect();
        return mistake(
            typed,
            &format!("has {} without two hexadecimal digits", shown(&shown_escape)),
            "write %25 for a percent sign",
        );
    }
    Ok(typed)
}

/// A path that requests are compared with: one that canonical paths can be like.
pub(super) fn matched_path<'a>(typed: &'a str, options: &PathOptions) -> Result<&'a str, Mistake> {
    let path = url_path(typed)?;
    let never = |what: &str, remedy: &str| {
        let problem = format!("can never match: {what} before routes are looked at");
        mistake(typed, &problem, remedy)
    };
    // The last segment of a prefix may go on.
    let mut segments = path.split('/');
    if options.resolve_dot_segments && segments.any(|segment| matches!(segment, "." | "..")) {
        return never("dot segments are resolved", "write the path without them");
    }
    if options.merge_slashes && path.contains("//") {
        return never("slashes are merged", "write one / only");
    }
    let folded = path.to_ascii_lowercase();
    if folded.contains("%2f") || folded.contains("%5c") {
        match options.encoded_slashes {
            EncodedSlashes::Keep => {}
            EncodedSlashes::Reject => {
                return never(
                    "encoded slashes are refused",
                    "write `path: { encoded_slashes: keep }` at the listener",
                );
            }
            EncodedSlashes::Decode => return never("encoded slashes are decoded", "write them as / or \\"),
        }
    }
    Ok(path)
}

/// The name of a header field.
pub(super) fn header_name(typed: &str) -> Result<HeaderName, Mistake> {
    match typed.to_ascii_lowercase().as_str() {
        ":authority" | "host" => return mistake(typed, "is the host", "use `host` or `hosts`"),
        ":path" => return mistake(typed, "is the path", "use `path`, `path_prefix` or `path_regex`"),
        ":method" => return mistake(typed, "is the method", "use `method`"),
        _ => {}
    }
    field_name(typed)
}

fn field_name(typed: &str) -> Result<HeaderName, Mistake> {
    HeaderName::from_bytes(typed.as_bytes()).or_else(|_| {
        if let Some((name, _)) = typed.split_once(':')
            && !name.is_empty()
        {
            return mistake(
                typed,
                "has a colon in it",
                format!("write the name alone: {}", clipped(name)),
            );
        }
        mistake(
            typed,
            "can't be a header's name",
            "use letters, digits and -, such as x-team",
        )
    })
}

/// The name of a header field that a user may change.
pub(super) fn changed_header(typed: &str, of_request: bool) -> Result<HeaderName, Mistake> {
    let lower = typed.to_ascii_lowercase();
    if of_request && matches!(lower.as_str(), "host" | ":authority") {
        return mistake(typed, "is the host", "write `rewrite: { host: HOST }`");
    }
    if of_request && lower == ":path" {
        return mistake(typed, "is the path", "write `rewrite: { path: /PATH }`");
    }
    let ours = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if ours.contains(&lower.as_str()) {
        let problem = "is about one connection, and Weir writes it by itself";
        return mistake(typed, problem, "remove it");
    }
    field_name(typed)
}

/// The value of a header field: visible ASCII, spaces and tabs.
pub(super) fn header_value(typed: &str) -> Result<HeaderValue, Mistake> {
    if typed.trim() != typed {
        let remedy = format!("write {}", shown(typed.trim()));
        return mistake(typed, "has spaces around it, which HTTP does not keep", remedy);
    }
    let value = HeaderValue::from_str(typed).ok();
    match value.filter(|_| typed.is_ascii()) {
        Some(value) => Ok(value),
        None => mistake(
            typed,
            "has characters that a header can't hold",
            "use visible ASCII and spaces",
        ),
    }
}

/// A token of RFC 9110, 5.6.2.
pub(super) fn token(typed: &str) -> Result<&str, Mistake> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !typed.is_empty() && typed.bytes().all(fits) {
        return Ok(typed);
    }
    mistake(typed, "is not a token of HTTP", "use letters, digits, - and .")
}

/// A request method. They are told apart by case.
pub(super) fn method(typed: &str) -> Result<Method, Mistake> {
    let upper = typed.to_ascii_uppercase();
    let known = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    if upper != typed && known.contains(&upper.as_str()) {
        return mistake(
            typed,
            "is not a method: methods are told apart by case",
            format!("write {upper}"),
        );
    }
    Method::from_bytes(typed.as_bytes()).or_else(|_| {
        mistake(
            typed,
            "can't be a method",
            "write one such as GET, or `methods: [GET, POST]`",
        )
    })
}

/// A regular expression for the whole of a text.
pub(super) fn regex(typed: &str) -> Result<Regex, Mistake> {
    let wrong = |error: regex::Error| {
        let problem = match &error {
            regex::Error::CompiledTooBig(_) => {
                format!("{} takes more than 1 MiB when compiled", shown(typed))
            }
            _ => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ");
                format!("{} is not a regular expression: {reason}", shown(typed))
            }
        };
        let remedy = if typed.contains("(?=") || typed.contains("(?!") || typed.contains("(?<") {
            "write it without look-around, which takes more than linear time"
        } else {
            "correct it; the syntax is that of Rust's crate regex"
        };
        Mistake::new(problem, remedy)
    };
    let compiled = Regex::new(typed).map_err(wrong)?;
    // `a)|(b` is none, though it is one between the parentheses of the anchors.
    if typed.contains(')') {
        regex::Regex::new(typed).map_err(wrong)?;
    }
    Ok(compiled)
}

/// What a match of an expression becomes: every group it names must be there.
pub(super) fn substitution(typed: &str, pattern: &str) -> Result<(), Mistake> {
    let Ok(compiled) = regex::Regex::new(pattern) else {
        return Ok(());
    };
    if let Some(at) = typed.find('\\')
        && let Some(digit) = typed[at + 1..].chars().next().filter(char::is_ascii_digit)
    {
        let problem = format!("has \\{digit}, which stands for itself");
        return mistake(typed, &problem, format!("write ${{{digit}}}"));
    }
    let mut rest = typed;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, braced) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, true),
            None => (&rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())], false),
        };
        let there = match name.parse::<usize>() {
            Ok(number) => number < compiled.captures_len(),
            Err(_) => compiled.capture_names().flatten().any(|known| known == name),
        };
        if there {
            continue;
        }
        if name.is_empty() && !braced {
            return mistake(typed, "has a $ that names no group", "write $$ for a dollar sign");
        }
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        let remedy = if !braced && !digits.is_empty() && digits.len() < name.len() {
            format!(
                "write ${{{digits}}}{}, since $ takes all letters behind it",
                &name[digits.len()..]
            )
        } else {
            format!(
                "name one of the {} groups of the pattern",
                compiled.captures_len() - 1
            )
        };
        return mistake(
            typed,
            &format!("names a group {} that the pattern has not", shown(name)),
            remedy,
        );
    }
    Ok(())
}
