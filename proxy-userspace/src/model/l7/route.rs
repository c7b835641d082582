//! Routes: what a request must be like, and what is done with it then.

use crate::model::ClusterName;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use std::{fmt, hash, path::Path, sync::Arc, time::Duration};

/// Where something stands in the config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file, as it was named on the command line.
    pub file: Arc<Path>,
    /// Counted from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One route of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// For logs, metrics and `weir explain`; unique in a listener where given.
    pub name: Option<Arc<str>>,
    /// Where it stands in the config.
    pub place: Place,
    /// What a request must be like.
    pub matches: RouteMatch,
    /// What is done with it.
    pub action: Action,
    /// Changes to the request's host and path; for actions that forward.
    pub rewrite: Rewrite,
    /// Changes to the request's headers, after all others.
    pub request_headers: HeaderOps,
    /// Changes to the response's headers, also of responses that Weir makes.
    pub response_headers: HeaderOps,
    /// What this route sets in place of the listener's timeouts.
    pub timeouts: RouteTimeouts,
}

/// All that is given must hold; nothing given matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouteMatch {
    /// One of these; empty for any. Compared without port and case.
    pub hosts: Vec<HostMatch>,
    /// The canonical path, without query.
    pub path: Option<PathMatch>,
    /// One of these; empty for any.
    pub methods: Vec<Method>,
    /// Each must hold. Several values of a header are compared one by one: one that matches is enough.
    pub headers: Vec<(HeaderName, NamedMatch)>,
    /// Each must hold. Parameters are compared after percent-decoding; of several with a name the first counts.
    pub query: Vec<(String, NamedMatch)>,
    /// A gRPC request of this service and method.
    pub grpc: Option<GrpcMatch>,
}

/// A host, lower case, without port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostMatch {
    /// `www.example.com`.
    Exact(Box<str>),
    /// `*.example.com`: the part behind the star, `.example.com`; at least one label stands before it, at any depth.
    Suffix(Box<str>),
}

/// How a path is compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(Box<str>),
    /// It starts with this text.
    Prefix(Box<str>),
    /// It is this path, or goes on with a `/` behind it: `/api` takes `/api` and `/api/x`, not `/apix`. Without a `/`
    /// at its end (`/` itself is kept as the empty text).
    SegmentPrefix(Box<str>),
    /// The whole path matches.
    Regex(Regex),
}

/// How a text is compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TextMatch {
    /// Equal.
    Exact(Box<str>),
    /// Starts with it.
    Prefix(Box<str>),
    /// Ends with it.
    Suffix(Box<str>),
    /// Contains it.
    Contains(Box<str>),
    /// All of it matches.
    Regex(Regex),
    /// It is there, with any value.
    Present,
}

/// A comparison with a named thing that may be absent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedMatch {
    /// What its value is compared with.
    pub text: TextMatch,
    /// Turned around: holds where the comparison does not, also for what is absent.
    pub invert: bool,
}

/// A request with content-type `application/grpc…` and the path `/service/method`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcMatch {
    /// Full name, `package.Service`; none for any.
    pub service: Option<Box<str>>,
    /// Method; none for any.
    pub method: Option<Box<str>>,
}

/// A compiled regular expression, anchored at both ends. Equal when the text is.
#[derive(Clone)]
pub struct Regex {
    text: Arc<str>,
    compiled: regex::Regex,
}

impl Regex {
    /// Compiles it, anchored at both ends, in linear time (crate regex: no backtracking), within 1 MiB.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let compiled = regex::RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(1 << 20)
            .build()?;
        Ok(Self {
            text: text.into(),
            compiled,
        })
    }

    /// Whether all of the text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The text with its match replaced; `$1` and `${name}` stand for groups.
    pub fn replace(&self, text: &str, substitution: &str) -> String {
        self.compiled.replace(text, substitution).into_owned()
    }

    /// As it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Regex {}

impl hash::Hash for Regex {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// What is done with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Forwarded to one of these by weight; never empty, total weight above 0.
    Forward(Vec<WeightedCluster>),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered by Weir.
    Respond(Respond),
}

/// A cluster and its share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightedCluster {
    /// Where to.
    pub cluster: ClusterName,
    /// Relative share; 0 for none.
    pub weight: u32,
}

/// A redirect; what is none is kept from the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Box<str>>,
    /// Host without port.
    pub host: Option<Box<str>>,
    /// Port; without one the scheme's default, which is left out, where `scheme` is given.
    pub port: Option<u16>,
    /// Another path.
    pub path: Option<PathRewrite>,
    /// Whether the query is left out.
    pub strip_query: bool,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// A response that Weir makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Respond {
    /// 200 to 599.
    pub status: StatusCode,
    /// Sent as it is; its content-type is `text/plain; charset=utf-8` unless `response_headers` sets one.
    pub body: Arc<str>,
}

/// Changes to host and path of a forwarded request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewrite {
    /// The Host header or `:authority`; none keeps the client's.
    pub host: Option<Box<str>>,
    /// Another path; the query stays.
    pub path: Option<PathRewrite>,
}

/// How a path is changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathRewrite {
    /// This one.
    Full(Box<str>),
    /// The matched prefix is replaced with this; a segment prefix leaves one `/` between.
    Prefix(Box<str>),
    /// What the expression matches, which is the whole path or nothing, is replaced.
    Regex(Regex, Box<str>),
}

/// Changes to headers, in this order: remove, set, add.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderOps {
    /// All values of these go.
    pub remove: Vec<HeaderName>,
    /// The only value afterwards.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// One more value.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderOps {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Timeouts of a route; none means the listener's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteTimeouts {
    /// From the request's last byte to the response's last; zero for none.
    pub request: Option<Duration>,
    /// Without a byte in either direction; zero for none.
    pub idle: Option<Duration>,
    /// From the request's last byte until the response's head, of one try at one endpoint.
    pub per_try: Option<Duration>,
}
