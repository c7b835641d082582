//! Traces of requests: what a client's `traceparent` says, what endpoints are told, and spans on their way to a collector.
//!
//! A worker writes down what it knows of a sampled request ([`Live`]) and hands it over when it is over; the one thread of
//! [`Exporter`] makes spans of it and sends them. Whatever happens there, a worker never waits: it drops traces and counts them.

mod context;
mod export;
mod live;
mod otlp;
mod send;
mod tracer;

pub use context::{TraceId, of as context_of};
pub use export::{Exporter, TraceCounters};
pub use live::Live;
pub use tracer::{Tracer, Tracing};
