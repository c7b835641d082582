//! What a route makes of a request: its path, where a redirect leads, which of its clusters it goes to.

use crate::{
    l7::path::{PathMistake, canonical, has_dot_segments},
    model::{
        ClusterName,
        l7::{EncodedSlashes, PathMatch, PathOptions, PathRewrite, Redirect, WeightedCluster},
    },
};
use std::{borrow::Cow, fmt::Write};

/// The path after a rewrite, with a `/` at its begin.
///
/// What a prefix or an expression leaves is joined from two texts, and is made canonical again; `/a../x` with the
/// prefix `/a` replaced by `/` must not become `/../x`.
///
/// `matched` is the route's path condition. Where it has no prefix to replace, an exact path is replaced as a whole,
/// no condition counts as the prefix `/`, and an expression changes nothing.
///
/// # Errors
/// The result holds what a path may not hold.
pub fn rewrite_path<'a>(
    rewrite: &'a PathRewrite,
    matched: Option<&PathMatch>,
    path: &'a str,
    options: &PathOptions,
) -> Result<Cow<'a, str>, PathMistake> {
    let joined = match rewrite {
        PathRewrite::Full(path) => return Ok(Cow::Borrowed(path)),
        PathRewrite::Prefix(prefix) => match replace_prefix(prefix, matched, path) {
            Some(joined) => joined,
            None => return Ok(Cow::Borrowed(path)),
        },
        PathRewrite::Regex(regex, _) if !regex.is_match(path) => return Ok(Cow::Borrowed(path)),
        PathRewrite::Regex(regex, substitution) => regex.replace(path, substitution),
    };
    let joined = if joined.starts_with('/') {
        joined
    } else {
        format!("/{joined}")
    };
    // What the client sent has passed the listener's rule for encoded slashes; the rest is the config's own.
    let kept = PathOptions {
        resolve_dot_segments: false,
        encoded_slashes: EncodedSlashes::Keep,
        ..*options
    };
    let path = canonical(&joined, &kept)?;
    if options.resolve_dot_segments && has_dot_segments(&path) {
        return Err(PathMistake::RewrittenDots);
    }
    Ok(Cow::Owned(match path {
        Cow::Borrowed(_) => joined,
        Cow::Owned(path) => path,
    }))
}

/// None where there is no prefix.
fn replace_prefix(with: &str, matched: Option<&PathMatch>, path: &str) -> Option<String> {
    let prefix = match matched {
        Some(PathMatch::Exact(_)) => return Some(with.to_owned()),
        Some(PathMatch::Regex(_)) => return None,
        Some(PathMatch::Prefix(prefix)) => {
            let rest = path.strip_prefix(&**prefix)?;
            return Some(format!("{with}{rest}"));
        }
        Some(PathMatch::SegmentPrefix(prefix)) => prefix,
        None => "",
    };
    let rest = path.strip_prefix(prefix)?;
    // The rest begins with the slash between, if there is a rest.
    let with = if rest.is_empty() {
        with
    } else {
        with.trim_end_matches('/')
    };
    Some(format!("{with}{rest}"))
}

/// The request that is redirected.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// As [`canonical_host`](super::canonical_host) gives it; empty where the request names none.
    pub host: &'a str,
    /// As [`port_of`](super::port_of) gives it: none for the scheme's default.
    pub port: Option<u16>,
    /// Canonical.
    pub path: &'a str,
    /// Behind the first `?`, as it came.
    pub query: Option<&'a str>,
}

/// A redirect's `Location`. Absolute, unless neither the redirect nor the request names a host. `matched` is the
/// route's path condition.
///
/// # Errors
/// As [`rewrite_path`].
pub fn location(
    redirect: &Redirect,
    matched: Option<&PathMatch>,
    target: &Target<'_>,
    options: &PathOptions,
) -> Result<String, PathMistake> {
    let path = match &redirect.path {
        Some(rewrite) => rewrite_path(rewrite, matched, target.path, options)?,
        None => Cow::Borrowed(target.path),
    };
    let scheme = redirect.scheme.as_deref().unwrap_or(target.scheme);
    let host = redirect.host.as_deref().unwrap_or(target.host);
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => Some(port),
        (None, Some(_)) => None,
        (None, None) => target.port,
    };
    let default = if scheme == "https" { 443 } else { 80 };
    let mut location = String::with_capacity(scheme.len() + host.len() + path.len() + 16);
    if host.is_empty() {
        // Two slashes at the begin would make the first segment a host.
        location.push('/');
        location.push_str(path.trim_start_matches('/'));
    } else {
        location.extend([scheme, "://", host]);
        if let Some(port) = port.filter(|port| *port != default) {
            // Writing to a String can't fail.
            let _ok = write!(location, ":{port}");
        }
        location.push_str(&path);
    }
    if let Some(query) = target.query.filter(|_| !redirect.strip_query) {
        location.extend(["?", query]);
    }
    Ok(location)
}

/// The cluster for a random number, by weight. There is at least one, and a total weight above 0
/// ([`Action::Forward`](crate::model::l7::Action::Forward)).
pub fn pick_cluster(clusters: &[WeightedCluster], random: u32) -> &ClusterName {
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    // A 32-bit fraction of the total; a u64 may be too small for the product.
    let mut point = (u128::from(random) * u128::from(total)) >> 32;
    for cluster in clusters {
        match point.checked_sub(u128::from(cluster.weight)) {
            Some(rest) => point = rest,
            None => return &cluster.cluster,
        }
    }
    &clusters[clusters.len() - 1].cluster
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::l7::Regex;
    use http::StatusCode;

    fn prefix(text: &str) -> PathRewrite {
        PathRewrite::Prefix(text.into())
    }

    fn regex(pattern: &str, substitution: &str) -> PathRewrite {
        PathRewrite::Regex(Regex::new(pattern).unwrap(), substitution.into())
    }

    #[test]
    fn paths() {
        let plain = |text: &str| Some(PathMatch::Prefix(text.into()));
        let segment = |text: &str| Some(PathMatch::SegmentPrefix(text.into()));
        let exact = |text: &str| Some(PathMatch::Exact(text.into()));
        let expression = || Some(PathMatch::Regex(Regex::new("/.*").unwrap()));
        for (rewrite, matched, path, expected) in [
            (PathRewrite::Full("/x".into()), None, "/a/b", "/x"),
            (prefix("/y/"), plain("/api/"), "/api/x", "/y/x"),
            (prefix("/y"), plain("/api/"), "/api/x", "/yx"),
            (prefix("/"), plain("/api/"), "/api/x", "/x"),
            (prefix(""), plain("/api"), "/api", "/"),
            (prefix(""), plain("/api/"), "/api/x", "/x"),
            (prefix("/y"), segment("/api"), "/api", "/y"),
            (prefix("/y"), segment("/api"), "/api/", "/y/"),
            (prefix("/y"), segment("/api"), "/api/x", "/y/x"),
            (prefix("/y/"), segment("/api"), "/api/x", "/y/x"),
            (prefix("/"), segment("/api"), "/api", "/"),
            (prefix("/"), segment("/api"), "/api/x/", "/x/"),
            (prefix("/y"), segment(""), "/x", "/y/x"),
            (prefix("/y"), None, "/x", "/y/x"),
            (prefix("/y"), exact("/x"), "/x", "/y"),
            (prefix("/y"), expression(), "/x", "/x"),
            (regex("/a/(.*)", "/b/$1"), None, "/a/c/d", "/b/c/d"),
            (regex("/a/(?<id>[0-9]+)", "/${id}/a"), None, "/a/7", "/7/a"),
            (regex("/a/(.*)", "$1"), None, "/a/c", "/c"),
            (regex("/a", "/b"), None, "/a/c", "/a/c"),
            (regex("/(.)(.*)", "/%6$1$2"), None, "/1b", "/ab"),
        ] {
            let rewritten = rewrite_path(&rewrite, matched.as_ref(), path, &PathOptions::default());
            assert_eq!(
                rewritten.as_deref(),
                Ok(expected),
                "{rewrite:?} {matched:?} {path}"
            );
        }
    }

    #[test]
    fn a_rewrite_makes_no_dot_segments() {
        let options = PathOptions::default();
        let matched = PathMatch::Prefix("/a".into());
        let to_root = prefix("/");
        let climbing = rewrite_path(&to_root, Some(&matched), "/a../secret", &options);
        assert_eq!(climbing, Err(PathMistake::RewrittenDots));
        let below = prefix("/files/");
        let climbing = rewrite_path(&below, Some(&matched), "/a../secret", &options);
        assert_eq!(climbing, Err(PathMistake::RewrittenDots));
        let cut = regex("/a(.*)", "/%$1");
        assert_eq!(
            rewrite_path(&cut, None, "/a", &options),
            Err(PathMistake::Encoding)
        );
    }

    #[test]
    fn locations() {
        let target = Target {
            scheme: "http",
            host: "a.example",
            port: Some(8080),
            path: "/api/x",
            query: Some("q=1"),
        };
        let same = Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            strip_query: false,
            status: StatusCode::FOUND,
        };
        let https = Redirect {
            scheme: Some("https".into()),
            ..same.clone()
        };
        let port = |port, redirect: &Redirect| Redirect {
            port: Some(port),
            ..redirect.clone()
        };
        let other = Redirect {
            host: Some("b.example".into()),
            path: Some(prefix("/y")),
            strip_query: true,
            ..same.clone()
        };
        let nameless = Target {
            host: "",
            port: None,
            path: "//evil.example/x",
            ..target
        };
        let matched = PathMatch::SegmentPrefix("/api".into());
        for (redirect, target, expected) in [
            (&same, target, "http://a.example:8080/api/x?q=1"),
            (&https, target, "https://a.example/api/x?q=1"),
            (&port(8443, &https), target, "https://a.example:8443/api/x?q=1"),
            (&port(443, &https), target, "https://a.example/api/x?q=1"),
            (&port(443, &same), target, "http://a.example:443/api/x?q=1"),
            (&other, target, "http://b.example:8080/y/x"),
            (&same, nameless, "/evil.example/x?q=1"),
        ] {
            let location = location(redirect, Some(&matched), &target, &PathOptions::default());
            assert_eq!(location.as_deref(), Ok(expected), "{redirect:?}");
        }
    }

    #[test]
    fn clusters_by_weight() {
        let cluster = |name: &str, weight| WeightedCluster {
            cluster: ClusterName(name.into()),
            weight,
        };
        let clusters = [cluster("a", 90), cluster("none", 0), cluster("b", 10)];
        let mut counts = [0; 3];
        for step in 0..1_000_u32 {
            let picked = pick_cluster(&clusters, step * (u32::MAX / 999));
            let at = clusters.iter().position(|cluster| cluster.cluster == *picked);
            counts[at.unwrap()] += 1;
        }
        assert_eq!(counts, [900, 0, 100]);
        assert_eq!(pick_cluster(&clusters, u32::MAX).0.as_ref(), "b");
        let heavy = [cluster("a", u32::MAX), cluster("b", u32::MAX)];
        assert_eq!(pick_cluster(&heavy, u32::MAX / 2).0.as_ref(), "a");
        assert_eq!(pick_cluster(&heavy, u32::MAX / 2 + 1).0.as_ref(), "b");
        assert_eq!(pick_cluster(&heavy[..1], u32::MAX).0.as_ref(), "a");
    }
}
