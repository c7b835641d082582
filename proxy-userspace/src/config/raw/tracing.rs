//! Tracing of requests.

use super::{Duration, FilePath, Name, Texts, UpstreamTls, UrlText};
use crate::config::limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Which requests are traced, and where their spans go.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// The collector.
    #[schemars(with = "Otlp", example = json!({"endpoint": "http://127.0.0.1:4318"}))]
    pub(in crate::config) otlp: Option<Otlp>,
    /// Part of the requests without a `traceparent` that are sampled. Those with one are sampled if its sender sampled them.
    #[schemars(range(min = 0, max = 1), example = 0.01, extend("default" = limits::SAMPLING))]
    pub(in crate::config) sampling: Option<f64>,
    /// Most requests that are sampled a second, over all workers.
    #[schemars(range(min = 1, max = limits::MAX_SAMPLED), example = 1_000, extend("default" = limits::SAMPLED))]
    pub(in crate::config) max_per_second: Option<u32>,
    /// The `service.name` of the spans.
    #[schemars(example = &"weir", extend("default" = "weir"))]
    pub(in crate::config) service_name: Option<Name>,
}

/// A collector, by the OpenTelemetry Protocol.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Its URL, `http` or `https`; the path is `/v1/traces` unless written.
    #[schemars(with = "UrlText", example = &"http://127.0.0.1:4318")]
    pub(in crate::config) endpoint: Option<UrlText>,
    /// How it is spoken to: `http`, protobuf over HTTP/1.1, or `grpc`.
    #[schemars(example = &"http", extend("default" = "http"))]
    pub(in crate::config) protocol: Option<OtlpProtocol>,
    /// Header fields of every request, by name.
    #[schemars(example = json!({"x-team": "edge"}))]
    pub(in crate::config) headers: Option<Texts>,
    /// The same, with the name of a file that holds the value: for secrets.
    #[schemars(with = "Option<Texts>", example = json!({"authorization": "otlp.token"}))]
    pub(in crate::config) header_files: Option<Texts>,
    /// TLS of an `https` endpoint.
    #[schemars(example = json!({"ca": "ca.pem"}))]
    pub(in crate::config) tls: Option<UpstreamTls>,
    /// For one try, connecting included.
    #[schemars(example = &"10s", extend("default" = "10s"))]
    pub(in crate::config) timeout: Option<Duration>,
}

/// How OTLP is carried.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

impl Otlp {
    /// A file named by one of `header_files`.
    pub(in crate::config) fn file(typed: &str) -> FilePath {
        FilePath(typed.to_owned())
    }
}
