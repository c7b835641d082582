//! A sampled request while it runs, and all that its spans are made of when it is over.

use super::{
    context::{self, Context, TRACEPARENT, TraceId},
    tracer::Sampled,
};
use crate::{
    l7::{
        body::{Finished, RequestBody},
        connection::Connection,
        error::Fault,
        grpc::GRPC_STATUS,
        listener::Serving,
        meters::ListenerMeters,
    },
    model::ClusterName,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// All that is known of a request that is over: a server's span, and a client's for each try.
pub struct Trace {
    pub(super) trace_id: TraceId,
    pub(super) span_id: u64,
    pub(super) parent: Option<u64>,
    pub(super) flags: u8,
    pub(super) state: String,
    pub(super) start: SystemTime,
    pub(super) duration: Duration,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) host: Option<HeaderValue>,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) version: Version,
    pub(super) is_secure: bool,
    pub(super) is_grpc: bool,
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) listener: Arc<str>,
    pub(super) route: Option<Arc<str>>,
    /// 0 where there was none.
    pub(super) status: u16,
    pub(super) grpc_status: Option<u16>,
    pub(super) fault: Option<Fault>,
    /// Whether the client had its last byte.
    pub(super) is_complete: bool,
    pub(super) tries: Vec<Try>,
}

/// A request at one endpoint.
pub struct Try {
    pub(super) span_id: u64,
    /// From the request's begin.
    pub(super) begin: Duration,
    pub(super) end: Duration,
    pub(super) cluster: ClusterName,
    pub(super) endpoint: SocketAddr,
    /// 0 where there was none.
    pub(super) status: u16,
    pub(super) fault: Option<Fault>,
    pub(super) is_over: bool,
}

impl Trace {
    /// How many spans it becomes.
    pub(super) fn spans(&self) -> u64 {
        1 + self.tries.len() as u64
    }
}

/// A sampled request while it runs. Dropped before its response, it was given up.
pub struct Live {
    serving: Rc<Serving>,
    begin: Instant,
    /// Where its route is.
    place: Option<usize>,
    /// Until it is handed over.
    trace: Option<Box<Trace>>,
}

impl Live {
    /// A request's head is whole.
    pub fn begin(
        sampled: Sampled,
        begin: Instant,
        (connection, serving): (&Connection, &Rc<Serving>),
        request: &Request<RequestBody>,
        is_grpc: bool,
    ) -> Option<Box<Self>> {
        let tracer = serving.tracer.as_ref()?;
        let headers = request.headers();
        Some(Box::new(Self {
            serving: Rc::clone(serving),
            begin,
            place: None,
            trace: Some(Box::new(Trace {
                trace_id: sampled.trace_id,
                span_id: tracer.span_id(),
                parent: sampled.parent,
                flags: sampled.flags,
                state: context::state(headers),
                start: SystemTime::now(),
                duration: Duration::ZERO,
                method: request.method().clone(),
                uri: request.uri().clone(),
                host: headers.get(header::HOST).cloned(),
                user_agent: headers.get(header::USER_AGENT).cloned(),
                version: request.version(),
                is_secure: connection.tls.is_some(),
                is_grpc,
                client: connection.peer,
                local: connection.local,
                listener: Arc::clone(&serving.compiled.model.name),
                route: None,
                status: 0,
                grpc_status: None,
                fault: None,
                is_complete: false,
                tries: Vec::new(),
            })),
        }))
    }

    /// The trace's id, until it is handed over.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace.as_ref().map(|trace| trace.trace_id)
    }

    /// A route took it.
    pub fn route(&mut self, place: usize, name: Option<&Arc<str>>) {
        self.place = Some(place);
        if let Some(trace) = &mut self.trace {
            let named = name.cloned();
            trace.route = Some(named.unwrap_or_else(|| ListenerMeters::label_of(place)));
        }
    }

    /// Whom it is from, as far as is believed.
    pub fn client(&mut self, client: SocketAddr) {
        if let Some(trace) = &mut self.trace {
            trace.client = client;
        }
    }

    /// It goes to this endpoint: a span begins, which the request names to it, unless the route took that header away.
    pub fn attempt(&mut self, cluster: ClusterName, endpoint: SocketAddr, headers: &mut HeaderMap) {
        let (Some(trace), Some(tracer)) = (&mut self.trace, &self.serving.tracer) else {
            return;
        };
        let span_id = tracer.span_id();
        if let Some(value) = headers.get_mut(TRACEPARENT) {
            *value = Context {
                trace_id: trace.trace_id,
                span_id,
                flags: trace.flags,
                is_version_0: true,
            }
            .value();
        }
        let begin = self.begin.elapsed();
        trace.tries.push(Try {
            span_id,
            begin,
            end: begin,
            cluster,
            endpoint,
            status: 0,
            fault: None,
            is_over: false,
        });
    }

    /// Another endpoint has the present try, since it was quicker to connect to.
    pub fn rival(&mut self, endpoint: SocketAddr) {
        if let Some(last) = self.trace.as_mut().and_then(|trace| trace.tries.last_mut()) {
            last.endpoint = endpoint;
        }
    }

    /// The present try failed.
    pub fn attempt_failed(&mut self, fault: Fault) {
        let end = self.begin.elapsed();
        if let Some(last) = self.trace.as_mut().and_then(|trace| trace.tries.last_mut()) {
            last.fault = Some(fault);
            last.end = end;
            last.is_over = true;
        }
    }

    /// It is answered with this fault.
    pub fn fault(&mut self, fault: Fault) {
        if let Some(trace) = &mut self.trace {
            trace.fault = Some(fault);
        }
    }

    /// Its response is on its way.
    pub fn answered<B>(&mut self, response: &Response<B>) {
        let status = response.status().as_u16();
        let Some(trace) = &mut self.trace else { return };
        trace.status = status;
        if trace.is_grpc {
            trace.grpc_status = grpc_status(response.headers());
        }
        if let Some(last) = trace.tries.last_mut().filter(|last| !last.is_over) {
            last.status = status;
        }
    }
}

impl Finished for Live {
    fn finished(&mut self, _: u64, complete: bool, trailers: Option<&HeaderMap>) {
        let (Some(mut trace), Some(tracer)) = (self.trace.take(), &self.serving.tracer) else {
            return;
        };
        trace.duration = self.begin.elapsed();
        trace.is_complete = complete;
        if trace.is_grpc && trace.grpc_status.is_none() {
            trace.grpc_status = trailers.and_then(grpc_status);
        }
        if let Some(last) = trace.tries.last_mut().filter(|last| !last.is_over) {
            last.end = trace.duration;
        }
        // Those without a status are in no histogram.
        if trace.status != 0 {
            let traffic = self.serving.compiled.meters.route(self.place);
            traffic
                .of(self.serving.worker)
                .exemplify(trace.trace_id.0, trace.duration);
        }
        tracer.tracing.send(trace);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finished(0, false, None);
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}
