//! Which requests are traced, and where their spans go.

use super::l7::UpstreamTls;
use http::{HeaderName, HeaderValue};
use std::{sync::Arc, time::Duration};

/// How requests are traced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracing {
    /// Who takes the spans.
    pub collector: Collector,
    /// Requests without a parent that are sampled.
    pub sampling: Ratio,
    /// Most requests sampled a second over all workers, those of sampled parents too.
    pub max_per_second: u32,
    /// The resource's `service.name`.
    pub service_name: Box<str>,
}

/// A part of all requests, as a threshold among the 2^56 values of a trace id's random bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio(u64);

impl Ratio {
    /// Values that the random bits have (W3C Trace Context Level 2, "random-trace-id flag").
    const VALUES: u64 = 1 << 56;

    /// From 0 to 1; others count as the nearer of these.
    pub fn new(ratio: f64) -> Self {
        // Within 0 and 2^56, which a double holds exactly.
        Self((ratio.clamp(0.0, 1.0) * Self::VALUES as f64) as u64)
    }

    /// Whether a trace of this id is among them: all who sample by the same ratio agree.
    pub fn takes(self, trace_id: u128) -> bool {
        let random = trace_id as u64 & (Self::VALUES - 1);
        random >= Self::VALUES - self.0
    }
}

/// Where spans are exported to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Name or address, without brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// Host and port as in the URL.
    pub authority: Box<str>,
    /// Of the requests.
    pub path: Box<str>,
    /// None for plain text.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Sent with every request; shown by nothing.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// For one try, connecting included.
    pub timeout: Duration,
}

/// How OTLP is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtlpProtocol {
    /// Protobuf over HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_takes_its_part() {
        assert!(!Ratio::new(0.0).takes(u128::MAX));
        assert!(Ratio::new(1.0).takes(1 << 64));
        let half = Ratio::new(0.5);
        assert!(half.takes(1 << 55) && !half.takes((1 << 55) - 1));
        // The rest of the id is whatever its maker put there.
        assert!(!half.takes(u128::MAX << 55 << 1));
    }
}
