//! Routes: what a request must be like, and what is done with it then.

use super::{Duration, HeaderNameText, HostPattern, List, Name, PathText, RegexText, Text, Texts};
use crate::config::limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// A route. It has exactly one of `cluster`, `clusters`, `redirect` and `respond`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// For logs and `weir explain`; unique in a listener.
    #[schemars(example = &"api")]
    pub(in crate::config) name: Option<Name>,
    /// What a request must be like; without it every request matches.
    #[schemars(example = json!({"path_prefix": "/api/"}))]
    pub(in crate::config) r#match: Option<RouteMatch>,
    /// Forwards to the cluster of this name.
    #[schemars(example = &"web")]
    pub(in crate::config) cluster: Option<Name>,
    /// Forwards to one of these clusters, by weight.
    #[schemars(with = "Option<Vec<WeightedCluster>>", length(min = 1), example = json!([{"cluster": "web", "weight": 90}, {"cluster": "canary", "weight": 10}]))]
    pub(in crate::config) clusters: Option<List<WeightedCluster>>,
    /// Answers with a redirect.
    #[schemars(example = json!({"scheme": "https"}))]
    pub(in crate::config) redirect: Option<Redirect>,
    /// Answers without asking an endpoint.
    #[schemars(example = json!({"status": 200, "body": "ok\n"}))]
    pub(in crate::config) respond: Option<Respond>,
    /// Changes host and path of forwarded requests.
    #[schemars(example = json!({"prefix": "/"}))]
    pub(in crate::config) rewrite: Option<Rewrite>,
    /// Changes headers of forwarded requests, after all else.
    #[schemars(example = json!({"set": {"x-team": "blue"}}))]
    pub(in crate::config) request_headers: Option<HeaderOps>,
    /// Changes headers of responses.
    #[schemars(example = json!({"remove": ["x-powered-by"]}))]
    pub(in crate::config) response_headers: Option<HeaderOps>,
    /// In place of the listener's timeouts.
    #[schemars(example = json!({"request": "60s"}))]
    pub(in crate::config) timeouts: Option<RouteTimeouts>,
}

/// What a request must be like: all that is given must hold.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct RouteMatch {
    /// Its host, without port: `www.example.com`, or `"*.example.com"` for all below.
    #[schemars(example = &"www.example.com")]
    pub(in crate::config) host: Option<HostPattern>,
    /// One of these hosts.
    #[schemars(with = "Option<Vec<HostPattern>>", length(min = 1), example = json!(["example.com", "*.example.com"]))]
    pub(in crate::config) hosts: Option<List<HostPattern>>,
    /// The whole path.
    #[schemars(example = &"/login")]
    pub(in crate::config) path: Option<PathText>,
    /// Begin of the path.
    #[schemars(example = &"/api/")]
    pub(in crate::config) path_prefix: Option<PathText>,
    /// Begin of the path up to a `/` or its end: `/api` takes `/api` and `/api/x`, not `/apix`.
    #[schemars(example = &"/api")]
    pub(in crate::config) path_segment_prefix: Option<PathText>,
    /// Expression that the whole path matches.
    #[schemars(example = &"/v[0-9]+/.*")]
    pub(in crate::config) path_regex: Option<RegexText>,
    /// The method.
    #[schemars(example = &"GET")]
    pub(in crate::config) method: Option<Text>,
    /// One of these methods.
    #[schemars(with = "Option<Vec<Text>>", length(min = 1), example = json!(["GET", "POST"]))]
    pub(in crate::config) methods: Option<List<Text>>,
    /// Headers that must be so.
    #[schemars(with = "Option<Vec<TextMatch>>", length(min = 1), example = json!([{"name": "x-team", "exact": "blue"}]))]
    pub(in crate::config) headers: Option<List<TextMatch>>,
    /// Query parameters that must be so.
    #[schemars(with = "Option<Vec<TextMatch>>", length(min = 1), example = json!([{"name": "page", "present": true}]))]
    pub(in crate::config) query: Option<List<TextMatch>>,
    /// A gRPC request.
    #[schemars(example = json!({"service": "helloworld.Greeter"}))]
    pub(in crate::config) grpc: Option<GrpcMatch>,
}

/// A header or query parameter by name, and exactly one of `exact`, `prefix`, `suffix`, `contains`,
/// `regex` and `present`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextMatch {
    /// Its name.
    #[schemars(with = "Text", example = &"x-team")]
    pub(in crate::config) name: Option<Text>,
    /// The whole value.
    #[schemars(example = &"blue")]
    pub(in crate::config) exact: Option<Text>,
    /// Begin of the value.
    #[schemars(example = &"bl")]
    pub(in crate::config) prefix: Option<Text>,
    /// End of the value.
    #[schemars(example = &"ue")]
    pub(in crate::config) suffix: Option<Text>,
    /// Part of the value.
    #[schemars(example = &"lu")]
    pub(in crate::config) contains: Option<Text>,
    /// Expression that the whole value matches.
    #[schemars(example = &"blue|green")]
    pub(in crate::config) regex: Option<RegexText>,
    /// It is there, with any value.
    #[schemars(example = true)]
    pub(in crate::config) present: Option<bool>,
    /// Holds where the comparison does not, and where it is absent.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) invert: Option<bool>,
}

/// A gRPC request of this service and method.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcMatch {
    /// The service's full name.
    #[schemars(example = &"helloworld.Greeter")]
    pub(in crate::config) service: Option<Text>,
    /// The method's name.
    #[schemars(example = &"SayHello")]
    pub(in crate::config) method: Option<Text>,
}

/// A cluster and its share.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedCluster {
    /// Name of the cluster.
    #[schemars(with = "Name", example = &"web")]
    pub(in crate::config) cluster: Option<Name>,
    /// Relative share of requests; 0 for none.
    #[schemars(range(min = 0, max = limits::MAX_WEIGHT), example = 90, extend("default" = 1))]
    pub(in crate::config) weight: Option<u32>,
}

/// A redirect; what is not given stays as in the request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Another scheme.
    #[schemars(example = &"https")]
    pub(in crate::config) scheme: Option<Scheme>,
    /// Another host.
    #[schemars(example = &"www.example.com")]
    pub(in crate::config) host: Option<HostPattern>,
    /// Another port; the scheme's own where `scheme` is given.
    #[schemars(range(min = 1, max = 65535), example = 8443)]
    pub(in crate::config) port: Option<u16>,
    /// Another path.
    #[schemars(example = &"/new")]
    pub(in crate::config) path: Option<PathText>,
    /// In place of the prefix that the route matches.
    #[schemars(example = &"/new/")]
    pub(in crate::config) prefix: Option<PathText>,
    /// Whether the query is left out.
    #[schemars(example = true, extend("default" = false))]
    pub(in crate::config) strip_query: Option<bool>,
    /// 301, 302, 303, 307 or 308.
    #[schemars(range(min = 301, max = 308), example = 308, extend("default" = 301))]
    pub(in crate::config) status: Option<u16>,
}

/// The scheme of a URL.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// A response that Weir makes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// The status code.
    #[schemars(with = "u16", range(min = 200, max = 599), example = 200)]
    pub(in crate::config) status: Option<u16>,
    /// The body; by default it is empty.
    #[schemars(example = &"ok\n")]
    pub(in crate::config) body: Option<Text>,
}

/// Changes to host and path of forwarded requests: at most one of `path`, `prefix` and `regex`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Another host.
    #[schemars(example = &"app.internal")]
    pub(in crate::config) host: Option<Text>,
    /// Another path; the query stays.
    #[schemars(example = &"/index.html")]
    pub(in crate::config) path: Option<PathText>,
    /// In place of the prefix that the route matches.
    #[schemars(example = &"/")]
    pub(in crate::config) prefix: Option<PathText>,
    /// By an expression.
    #[schemars(example = json!({"pattern": "/a/(.*)", "substitution": "/b/$1"}))]
    pub(in crate::config) regex: Option<RegexRewrite>,
}

/// A path that matches is replaced.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexRewrite {
    /// Expression that the whole path matches; other paths stay.
    #[schemars(with = "RegexText", example = &"/a/(.*)")]
    pub(in crate::config) pattern: Option<RegexText>,
    /// The new path; `$1` or `${name}` stands for a group.
    #[schemars(with = "Text", example = &"/b/$1")]
    pub(in crate::config) substitution: Option<Text>,
}

/// Changes to headers, in this order: remove, set, add.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct HeaderOps {
    /// The only value afterwards.
    #[schemars(example = json!({"x-team": "blue"}))]
    pub(in crate::config) set: Option<Texts>,
    /// One more value.
    #[schemars(example = json!({"x-team": "blue"}))]
    pub(in crate::config) add: Option<Texts>,
    /// All values of these go.
    #[schemars(with = "Option<Vec<HeaderNameText>>", example = json!(["x-powered-by"]))]
    pub(in crate::config) remove: Option<List<HeaderNameText>>,
}

/// In place of the listener's timeouts; `0s` for none.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeouts {
    /// From the request's last byte until the response's last; by default the listener's.
    #[schemars(example = &"60s")]
    pub(in crate::config) request: Option<Duration>,
    /// Without a byte in either direction; by default the listener's `idle_stream`.
    #[schemars(example = &"10m")]
    pub(in crate::config) idle: Option<Duration>,
    /// One try at one endpoint, until the response's head; by default the listener's.
    #[schemars(example = &"2s")]
    pub(in crate::config) per_try: Option<Duration>,
}
