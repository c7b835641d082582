//! Forwards one request: an endpoint, a connection, the response; another one where that is safe.

use super::{
    balance::{self, Endpoint, InFlight},
    body::{RequestBody, ResponseBody},
    clock::Clock,
    compile::Target,
    connection::Connection,
    error::Fault,
    fields::Fields,
    headers,
    interim::InterimSink,
    listener::Cluster,
    outgoing::{Outgoing, Purpose},
    record::Record,
    serve::Answer,
    tunnel::{Tunnel, Upstream},
    upstream::{self, Answer as H1Answer, Failed, H1Lease, H2Answer, H2Lease, Lease, Pool},
};
use crate::model::BackendAddr;
use h2::RecvStream;
use http::{Method, Request, Response, uri::Scheme};
use hyper::body::Body as _;
use std::{net::SocketAddr, pin::pin, rc::Rc};

/// Endpoints tried for one request, as long as none has seen it.
const MOST_TRIES: usize = 3;

/// One of the targets by weight.
pub fn pick_target(targets: &[Target], random: u32) -> Option<&Target> {
    if let [only] = targets {
        return (only.weight > 0).then_some(only);
    }
    let total: u64 = targets.iter().map(|each| u64::from(each.weight)).sum();
    let mut left = (u64::from(random) * total) >> 32;
    targets.iter().find(|each| {
        let weight = u64::from(each.weight);
        let here = left < weight;
        left = left.saturating_sub(weight);
        here
    })
}

/// A request on its way.
pub struct Forwarding {
    /// The client's.
    pub connection: Rc<Connection>,
    /// Where to.
    pub cluster: Rc<Cluster>,
    /// How it is to look.
    pub outgoing: Outgoing,
    /// How long it may take.
    pub clock: Clock,
    /// Whom it is from, as far as is believed.
    pub client: SocketAddr,
    /// Whether the policy looks at latencies.
    pub measures: bool,
}

type Chosen = Rc<Endpoint<Rc<Pool>>>;

/// A request as an endpoint is to see it, and where the bytes of a client's tunnel over HTTP/2 come in.
type Parted = (Request<RequestBody>, Option<RecvStream>);

impl Forwarding {
    /// Tries endpoints until one answers.
    ///
    /// # Errors
    /// The last one's fault.
    pub async fn run(
        &self,
        mut request: Box<Request<RequestBody>>,
        sink: &InterimSink,
        record: &mut Record,
    ) -> Result<Answer, Fault> {
        let (key, sticky) = self.choice(&request);
        let mut tried: Vec<BackendAddr> = Vec::new();
        let mut last = Fault::NoEndpoint;
        while tried.len() < MOST_TRIES {
            let kept = sticky.clone().filter(|_| tried.is_empty());
            let pick = || self.cluster.balancer.borrow().pick(key, &tried);
            let Some(mut endpoint) = kept.or_else(pick) else {
                if tried.is_empty() {
                    self.cluster.no_endpoint();
                }
                return Err(last);
            };
            if tried.contains(&endpoint.address) {
                return Err(last);
            }
            record.endpoint(&self.cluster, &endpoint);
            let in_flight = endpoint.begin();
            let address = endpoint.address;
            match self
                .try_endpoint(request, &mut endpoint, in_flight, (sink, record))
                .await
            {
                Ok(mut answer) => {
                    if endpoint.address != address {
                        record.rival(&endpoint);
                    }
                    self.set_cookie(&mut answer, &endpoint, sticky.as_ref());
                    return Ok(answer);
                }
                Err(failed) => {
                    last = failed.fault;
                    request = failed.unsent.ok_or(last)?;
                    tried.push(address);
                }
            }
        }
        Err(last)
    }

    /// The hash of what the request has, and the endpoint its cookie names.
    fn choice(&self, request: &Request<RequestBody>) -> (Option<u64>, Option<Chosen>) {
        let compiled = self.cluster.compiled.borrow();
        let settings = &compiled.model.l7;
        let sticky =
            (settings.sticky.as_ref()).and_then(|_| self.cluster.balancer.borrow().sticky(request.headers()));
        if settings.hash.is_empty() {
            return (None, sticky);
        }
        let facts = balance::Facts {
            headers: request.headers(),
            source: self.client.ip(),
            query: self.outgoing.target.query(),
        };
        (balance::key(&settings.hash, &facts), sticky)
    }

    fn set_cookie(&self, answer: &mut Answer, endpoint: &Chosen, named: Option<&Chosen>) {
        if named.is_some_and(|named| Rc::ptr_eq(named, endpoint)) {
            return;
        }
        if let Some(cookie) = self.cluster.balancer.borrow().set_cookie(endpoint) {
            let headers = answer.response.headers_mut();
            headers.append(http::header::SET_COOKIE, cookie);
        }
    }

    /// `endpoint`: afterwards, who took the request.
    async fn try_endpoint(
        &self,
        request: Box<Request<RequestBody>>,
        endpoint: &mut Chosen,
        in_flight: InFlight<Rc<Pool>>,
        (sink, record): (&InterimSink, &mut Record),
    ) -> Result<Answer, Failed> {
        let (mut request, mut in_flight) = (request, in_flight);
        let mut fresh = false;
        loop {
            record.attempt(&self.cluster, endpoint, request.headers_mut());
            let lease = match self.lease(endpoint, fresh).await {
                Ok((lease, None)) => lease,
                Ok((lease, Some(rival))) => {
                    in_flight = rival.begin();
                    *endpoint = rival;
                    record.attempt_moved(endpoint);
                    lease
                }
                Err(fault) => {
                    in_flight.failed();
                    record.attempt_failed(fault);
                    let unsent = fault.is_untouched().then_some(request);
                    return Err(Failed { fault, unsent });
                }
            };
            let (reused, spare) = match &lease {
                Lease::H1(lease) => (lease.is_reused(), self.spare(&request, lease)),
                Lease::H2(_) => (true, None),
            };
            let outcome = match lease {
                Lease::H1(lease) => self.over_h1(request, lease, sink).await,
                Lease::H2(lease) => self.over_h2(request, lease, sink).await,
            };
            match outcome {
                Ok(answer) => {
                    if self.measures {
                        in_flight.answered(self.clock.started.elapsed());
                    }
                    return Ok(self.hold(answer, in_flight));
                }
                Err(failed) => {
                    record.attempt_failed(failed.fault);
                    let spare = spare.filter(|_| failed.fault == Fault::Reset);
                    match failed.unsent.or(spare) {
                        // The endpoint had closed a waiting connection: a fresh one tells whether it is there.
                        Some(unsent) if reused && !fresh => {
                            request = unsent;
                            fresh = true;
                            endpoint.pool.sent_again();
                        }
                        Some(unsent) => {
                            let unsent = Some(unsent);
                            return Err(Failed {
                                fault: failed.fault,
                                unsent,
                            });
                        }
                        None => {
                            in_flight.failed();
                            return Err(failed.fault.into());
                        }
                    }
                }
            }
        }
    }

    /// The request once more, where its connection may turn out closed after it was written, and a second time does no
    /// harm (RFC 9110, 9.2.2; RFC 9112, 9.3.1).
    fn spare(&self, request: &Request<RequestBody>, lease: &H1Lease) -> Option<Box<Request<RequestBody>>> {
        let harmless = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        if !lease.may_be_stale() || !harmless || !request.body().is_end_stream() {
            return None;
        }
        if self.outgoing.purpose != Purpose::Exchange {
            return None;
        }
        let mut again = Request::new(RequestBody::empty());
        *again.method_mut() = request.method().clone();
        *again.headers_mut() = request.headers().clone();
        Some(Box::new(again))
    }

    fn hold(&self, mut answer: Answer, in_flight: InFlight<Rc<Pool>>) -> Answer {
        if let Some(tunnel) = &mut answer.tunnel {
            tunnel.hold(in_flight);
            return answer;
        }
        let body = answer.response.body_mut();
        body.hold_in_flight(in_flight);
        body.set_timeouts(self.clock.idle, self.clock.end());
        let headers = answer.response.headers_mut();
        headers::remove_hop_by_hop(headers, Fields::of(headers));
        answer
    }

    /// The request in an HTTP/1.1 endpoint's form, and the client's end of a tunnel.
    fn as_h1(&self, request: Request<RequestBody>) -> Result<Parted, Fault> {
        let (mut head, body) = request.into_parts();
        self.outgoing.to_h1(&mut head, !body.is_end_stream())?;
        Ok(self.parted(head, body))
    }

    /// The same in HTTP/2's.
    fn as_h2(&self, request: Request<RequestBody>) -> Result<Parted, Fault> {
        let (mut head, body) = request.into_parts();
        let scheme = if self.cluster.compiled.borrow().tls.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        self.outgoing.to_h2(&mut head, &scheme)?;
        Ok(self.parted(head, body))
    }

    fn parted(&self, head: http::request::Parts, body: RequestBody) -> Parted {
        let (body, client_stream) = match self.outgoing.purpose {
            Purpose::Exchange => (body, None),
            _ => (RequestBody::empty(), body.into_stream()),
        };
        (Request::from_parts(head, body), client_stream)
    }

    /// A connection, waiting or new; with whom, where the name's other address family was quicker.
    async fn lease(&self, endpoint: &Chosen, fresh: bool) -> Result<(Lease, Option<Chosen>), Fault> {
        if !fresh && let Some(waiting) = endpoint.pool.take() {
            return Ok((waiting, None));
        }
        // Boxed: most requests find a connection waiting.
        let mut opening = Box::pin(self.open(endpoint, fresh));
        self.clock.within(opening.as_mut()).await
    }

    async fn open(&self, endpoint: &Chosen, fresh: bool) -> Result<(Lease, Option<Chosen>), Fault> {
        let ends = (self.connection.peer, self.connection.local);
        let first = endpoint.pool.lease(fresh, ends);
        let rival = || {
            let rival = self.cluster.balancer.borrow().other_family(endpoint)?;
            let pool = Rc::clone(&rival.pool);
            Some((rival, async move { pool.lease(fresh, ends).await }))
        };
        upstream::race(first, rival).await
    }

    async fn over_h1(
        &self,
        request: Box<Request<RequestBody>>,
        mut lease: Box<H1Lease>,
        sink: &InterimSink,
    ) -> Result<Answer, Failed> {
        if self.outgoing.purpose != Purpose::Exchange {
            lease.is_last();
        }
        let (request, client_stream) = self.as_h1(*request)?;
        let answered = self.clock.within(pin!(lease.send(request, sink))).await?;
        let tunnel = match answered {
            H1Answer::Response(response) => return Ok(Answer::from_upstream(response)),
            // Boxed: few requests become one, and all would carry its state.
            H1Answer::Tunnel(response, lease) => Box::pin(self.h1_tunnel(response, lease, client_stream)),
        };
        Ok(tunnel.await)
    }

    async fn over_h2(
        &self,
        request: Box<Request<RequestBody>>,
        lease: H2Lease,
        sink: &InterimSink,
    ) -> Result<Answer, Failed> {
        let (request, client_stream) = self.as_h2(*request)?;
        if matches!(self.outgoing.purpose, Purpose::Upgrade(_))
            && !Box::pin(lease.takes_extended_connect()).await
        {
            return Err(Fault::BadResponse.into());
        }
        let mut sending = Box::pin(lease.send(request, sink));
        let answered = self.clock.within(sending.as_mut()).await;
        answered.map(|answer| self.h2_answer(answer, client_stream))
    }

    async fn h1_tunnel(
        &self,
        response: Response<()>,
        lease: Box<H1Lease>,
        client_stream: Option<RecvStream>,
    ) -> Answer {
        let (transport, ahead, slot) = lease.into_tunnel().await;
        self.tunnel(response, Upstream::H1(transport, ahead, slot), client_stream)
    }

    fn h2_answer(&self, answer: H2Answer, client_stream: Option<RecvStream>) -> Answer {
        match answer {
            H2Answer::Response(response) => Answer::from_upstream(response),
            H2Answer::Tunnel(response, receive, send, lease) => {
                self.tunnel(response, Upstream::H2(receive, send, lease), client_stream)
            }
        }
    }

    fn tunnel(
        &self,
        response: Response<()>,
        upstream: Upstream,
        client_stream: Option<RecvStream>,
    ) -> Answer {
        let (mut head, ()) = response.into_parts();
        self.outgoing.tunnel_head(&mut head, client_stream.is_some());
        let tunnel = Tunnel::new(upstream, client_stream, self.clock.idle);
        Answer::tunnel(Response::from_parts(head, ResponseBody::empty()), tunnel)
    }
}
