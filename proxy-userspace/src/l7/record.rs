//! What is known of a request when it is over: for the counters, and for the access log.

use super::{
    balance::Endpoint,
    body::{Finished, RequestBody, ResponseBody, Upload},
    connection::Connection,
    error::Fault,
    fields::Fields,
    listener::{Cluster, Serving},
    log::{Entry, Flags, Logger},
    meters::Measure,
    trace::{self, Live, TraceId},
    upstream::Pool,
};
use crate::model::{ClusterName, l7::Route};
use http::{HeaderMap, Method, Request, Response, Uri, Version, header};
use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// A request's record. What is for the log is kept where there is one, and what is for its trace where it is sampled.
pub struct Record {
    measure: Option<Measure>,
    facts: Option<Box<Facts>>,
    live: Option<Box<Live>>,
}

struct Facts {
    log: Rc<Logger>,
    connection: Rc<Connection>,
    start: SystemTime,
    begin: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    request_headers: HeaderMap,
    upload: Option<Rc<Upload>>,
    route: Option<Arc<str>>,
    cluster: Option<ClusterName>,
    endpoint: Option<SocketAddr>,
    client: SocketAddr,
    fault: Option<Fault>,
    is_direct: bool,
    status: u16,
    response_headers: HeaderMap,
    response_duration: Option<Duration>,
    /// Whether requests here are traced, sampled or not.
    is_traced: bool,
    /// From when its response is on its way.
    live: Option<Box<Live>>,
}

impl Record {
    /// A request was read. `fields`: what its headers have, which tracing may change.
    pub fn begin(
        connection: &Rc<Connection>,
        serving: &Rc<Serving>,
        request: &mut Request<RequestBody>,
        fields: Fields,
        is_grpc: bool,
    ) -> Self {
        let measure = Measure::begin(serving, request.body().upload());
        let tracer = serving.tracer.as_ref();
        let sampled = tracer.and_then(|tracer| tracer.enter(request.headers_mut(), fields));
        let live = sampled.and_then(|sampled| {
            Live::begin(sampled, measure.begun(), (connection, serving), request, is_grpc)
        });
        let upload = request.body().upload();
        let facts = serving.log.as_ref().map(|log| {
            Box::new(Facts {
                log: Rc::clone(log),
                connection: Rc::clone(connection),
                start: SystemTime::now(),
                begin: Instant::now(),
                method: request.method().clone(),
                uri: request.uri().clone(),
                version: request.version(),
                request_headers: request.headers().clone(),
                upload: upload.cloned(),
                route: None,
                cluster: None,
                endpoint: None,
                client: connection.peer,
                fault: None,
                is_direct: true,
                status: 0,
                response_headers: HeaderMap::new(),
                response_duration: None,
                is_traced: tracer.is_some(),
                live: None,
            })
        });
        Self {
            measure: Some(measure),
            facts,
            live,
        }
    }

    /// When it was read.
    pub fn begun(&self) -> tokio::time::Instant {
        (self.measure.as_ref()).map_or_else(tokio::time::Instant::now, Measure::begun)
    }

    /// A route took it.
    pub fn route(&mut self, place: usize, route: &Route) {
        if let Some(measure) = &mut self.measure {
            measure.route(place);
        }
        if let Some(facts) = &mut self.facts {
            facts.route.clone_from(&route.name);
        }
        if let Some(live) = &mut self.live {
            live.route(place, route.name.as_ref());
        }
    }

    /// It is forwarded with these headers, for this client.
    pub fn forwarded(&mut self, headers: &HeaderMap, client: SocketAddr) {
        if let Some(facts) = &mut self.facts {
            let host = facts.request_headers.get(header::HOST).cloned();
            facts.request_headers.clone_from(headers);
            if let Some(host) = host {
                facts.request_headers.insert(header::HOST, host);
            }
            facts.client = client;
        }
        if let Some(live) = &mut self.live {
            live.client(client);
        }
    }

    /// A try at this endpoint begins, on a connection that waits or a new one: its trace names it in the headers.
    pub fn attempt(&mut self, cluster: &Cluster, endpoint: &Endpoint<Rc<Pool>>, headers: &mut HeaderMap) {
        if let Some(live) = &mut self.live {
            live.attempt(cluster.name(), endpoint.address.0, headers);
        }
    }

    /// This endpoint has the try.
    pub fn attempt_moved(&mut self, endpoint: &Endpoint<Rc<Pool>>) {
        if let Some(live) = &mut self.live {
            live.rival(endpoint.address.0);
        }
    }

    /// The try failed.
    pub fn attempt_failed(&mut self, fault: Fault) {
        if let Some(live) = &mut self.live {
            live.attempt_failed(fault);
        }
    }

    /// It goes to this endpoint, after the one before, if any, failed.
    pub fn endpoint(&mut self, cluster: &Rc<Cluster>, endpoint: &Endpoint<Rc<Pool>>) {
        if let Some(measure) = &mut self.measure {
            measure.endpoint(&endpoint.pool);
        }
        if let Some(facts) = &mut self.facts {
            facts.cluster = Some(cluster.name());
            facts.endpoint = Some(endpoint.address.0);
            facts.is_direct = false;
        }
    }

    /// This one has it, since it was quicker to connect to.
    pub fn rival(&mut self, endpoint: &Endpoint<Rc<Pool>>) {
        if let Some(measure) = &mut self.measure {
            measure.goes_over(&endpoint.pool);
        }
        if let Some(facts) = &mut self.facts {
            facts.endpoint = Some(endpoint.address.0);
        }
    }

    /// It failed.
    pub fn fault(&mut self, fault: Fault) {
        if let Some(measure) = &mut self.measure {
            measure.failed();
        }
        if let Some(facts) = &mut self.facts {
            facts.fault = Some(fault);
        }
        if let Some(live) = &mut self.live {
            live.fault(fault);
        }
    }

    /// Its response is on its way, and tells of its end.
    pub fn answered(&mut self, response: &mut Response<ResponseBody>) {
        let status = response.status().as_u16();
        if let Some(mut measure) = self.measure.take() {
            measure.answered(status);
            response.body_mut().measure(measure);
        }
        let mut live = self.live.take();
        if let Some(live) = &mut live {
            live.answered(response);
        }
        if let Some(mut facts) = self.facts.take() {
            facts.live = live;
            facts.status = status;
            facts.response_headers.clone_from(response.headers());
            facts.response_duration = Some(facts.begin.elapsed());
            response.body_mut().tell(facts);
        } else if let Some(live) = live {
            response.body_mut().tell(live);
        }
    }
}

impl Facts {
    fn flags(&self, complete: bool) -> Flags {
        let mut flags = self.fault.map_or_else(Flags::default, Fault::flag);
        if !complete && self.fault.is_none() {
            flags |= Flags::DOWNSTREAM_DISCONNECT;
        }
        flags
    }

    fn trace_id(&self) -> Option<TraceId> {
        if let Some(live) = &self.live {
            return live.trace_id();
        }
        let context = trace::context_of(&self.request_headers);
        Some(context.filter(|_| self.is_traced)?.trace_id)
    }

    fn details(&self) -> String {
        match self.fault {
            Some(fault) => fault.to_string(),
            None if self.is_direct => "direct_response".into(),
            None => "via_upstream".into(),
        }
    }
}

impl Finished for Facts {
    fn finished(&mut self, bytes: u64, complete: bool, trailers: Option<&HeaderMap>) {
        let details = self.details();
        let tls = self.connection.tls.as_ref();
        let authority = (self.uri.authority().map(|authority| authority.as_str()))
            .or_else(|| self.request_headers.get(header::HOST)?.to_str().ok());
        let entry = Entry {
            duration: self.begin.elapsed(),
            request_duration: (self.upload.as_ref())
                .filter(|upload| upload.is_finished())
                .map(|upload| upload.latest().into_std().saturating_duration_since(self.begin)),
            response_duration: self.response_duration,
            method: Some(self.method.as_str()),
            path: self.uri.path_and_query().map(|path| path.as_str()),
            authority,
            scheme: Some(if tls.is_some() { "https" } else { "http" }),
            protocol: Some(self.version),
            request_headers: Some(&self.request_headers),
            response_headers: Some(&self.response_headers),
            response_trailers: trailers,
            response_code: Some(self.status),
            response_flags: self.flags(complete),
            response_code_details: Some(&details),
            bytes_received: self.upload.as_ref().map_or(0, |upload| upload.received()),
            bytes_sent: bytes,
            upstream_host: self.endpoint,
            upstream_cluster: self.cluster.as_ref().map(|cluster| &*cluster.0),
            route_name: self.route.as_deref(),
            downstream_remote_address: Some(self.client),
            downstream_local_address: Some(self.connection.local),
            requested_server_name: tls.and_then(|tls| tls.server_name.as_deref()),
            downstream_tls_version: tls.map(|tls| tls.version),
            downstream_tls_cipher: tls.map(|tls| tls.cipher),
            downstream_peer_subject: tls
                .and_then(|tls| tls.identity.as_ref())
                .map(|identity| &*identity.subject),
            connection_id: self.connection.id,
            trace_id: self.trace_id(),
            ..Entry::new(self.start)
        };
        self.log.log(&entry);
        if let Some(live) = &mut self.live {
            live.finished(bytes, complete, trailers);
        }
    }
}
