//! One request from its head to its response: check, make canonical, route, then answer or forward.

use super::{
    body::{RequestBody, ResponseBody},
    compile::CompiledKind,
    connection::Connection,
    decide::{Decision, decide},
    error::Fault,
    fields::Fields,
    grpc, grpc_web, headers,
    interim::InterimSink,
    listener::Serving,
    record::Record,
    tunnel::Tunnel,
};
use crate::model::l7::{HttpSettings, ServerHeader};
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use std::rc::Rc;

/// What becomes of a request.
pub struct Answer {
    /// To the client.
    pub response: Response<ResponseBody>,
    /// What the connection or stream turns into after it.
    pub tunnel: Option<Box<Tunnel>>,
    /// Whether an HTTP/1.1 connection is not to be used again.
    pub close: bool,
}

/// Answers a request. Never fails: what goes wrong becomes a response.
///
/// What needs no waiting is done at once. The future holds the rest alone, and it in one place: it lies in memory that the
/// cache has lost since the connection's last request, so its size is its cost.
pub fn answer(
    connection: Rc<Connection>,
    request: Request<RequestBody>,
    sink: InterimSink,
) -> impl Future<Output = Answer> {
    let mut begun = Begun::new(&connection, request);
    async move {
        let outcome = match &mut begun.decision {
            Ok(Decision::Forward(forwarding, request)) => match request.take() {
                Some(request) => forwarding.run(request, &sink, &mut begun.record).await,
                None => Err(Fault::Reset),
            },
            decision => begun_answer(std::mem::replace(decision, Err(Fault::Reset))),
        };
        begun.finish(&connection, outcome)
    }
}

fn begun_answer(decision: Result<Decision, Fault>) -> Result<Answer, Fault> {
    match decision? {
        Decision::Answer(answer) => Ok(answer),
        Decision::Forward(..) => Err(Fault::Reset),
    }
}

/// A request that was decided about.
struct Begun {
    serving: Rc<Serving>,
    record: Record,
    decision: Result<Decision, Fault>,
    /// Where the route is, if one took it.
    route: Option<usize>,
    version: Version,
    is_grpc: bool,
    /// gRPC-Web, and whether as text.
    web: Option<bool>,
}

impl Begun {
    fn new(connection: &Rc<Connection>, mut request: Request<RequestBody>) -> Self {
        connection.worker.counters.requests.increase();
        #[cfg(test)]
        super::panics::as_asked(request.headers());
        let serving = connection.listener.serving();
        let fields = Fields::of(request.headers());
        let is_grpc = fields.has(Fields::CONTENT_TYPE) && grpc::is_grpc(request.headers());
        let mut record = Record::begin(connection, &serving, &mut request, fields, is_grpc);
        let version = request.version();
        let web = match &serving.compiled.kind {
            CompiledKind::Http { settings, .. } if settings.grpc_web => {
                grpc_web::take_request(request.headers_mut())
            }
            _ => None,
        };
        let fields = if let Some(is_text) = web {
            request = request.map(|body| body.decoded(is_text));
            Fields::of(request.headers())
        } else {
            fields
        };
        let decided = decide(connection, &serving, request, fields, &mut record);
        let (decision, route) = match decided {
            Ok(decided) => (Ok(decided.decision), Some(decided.route)),
            Err(fault) => (Err(fault), None),
        };
        Self {
            serving,
            record,
            decision,
            route,
            version,
            is_grpc,
            web,
        }
    }

    fn finish(&mut self, connection: &Connection, outcome: Result<Answer, Fault>) -> Answer {
        let kind = &self.serving.compiled.kind;
        let mut answer = match outcome {
            Ok(mut answer) => {
                if let (CompiledKind::Http { router, .. }, Some(route)) = (kind, self.route)
                    && let Some(route) = router.routes().get(route)
                {
                    headers::apply(answer.response.headers_mut(), &route.response_headers);
                }
                answer
            }
            Err(fault) => {
                self.record.fault(fault);
                fault_answer(fault, self.is_grpc || self.web.is_some())
            }
        };
        if let Some(is_text) = self.web {
            grpc_web::mark_response(answer.response.headers_mut(), is_text);
            answer.response = answer.response.map(|body| body.encoded(is_text));
        }
        let headers = answer.response.headers_mut();
        if self.version < Version::HTTP_2
            && !headers.contains_key(header::DATE)
            && let Some(date) = connection.worker.date.now()
        {
            headers.insert(header::DATE, date);
        }
        if let CompiledKind::Http { settings, .. } = kind {
            dress(answer.response.headers_mut(), settings, self.version);
        }
        connection.worker.counters.responded(answer.response.status());
        self.record.answered(&mut answer.response);
        answer
    }
}

fn fault_answer(fault: Fault, is_grpc: bool) -> Answer {
    let response = if is_grpc {
        grpc::fault_response(fault, ResponseBody::empty())
    } else {
        let mut response = Response::new(ResponseBody::full(fault.to_string()));
        *response.status_mut() = fault.status();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        response
    };
    Answer {
        response,
        tunnel: None,
        close: matches!(
            fault,
            Fault::BadRequest(_)
                | Fault::UnknownCoding
                | Fault::BodyTooLarge
                | Fault::BodyTimeout
                | Fault::ClientGone
        ),
    }
}

/// What every response wears.
fn dress(headers: &mut HeaderMap, settings: &HttpSettings, version: Version) {
    match &settings.server_header {
        ServerHeader::Keep => {}
        ServerHeader::Set(value) => {
            headers.insert(header::SERVER, value.clone());
        }
        ServerHeader::Remove => {
            headers.remove(header::SERVER);
        }
    }
    if let Some(via) = &settings.via {
        headers::via(headers, version, via);
    }
}

impl Answer {
    /// From an endpoint.
    pub fn from_upstream(response: Response<ResponseBody>) -> Self {
        Self::plain(response)
    }

    /// A response and nothing after it.
    pub fn plain(response: Response<ResponseBody>) -> Self {
        Self {
            response,
            tunnel: None,
            close: false,
        }
    }

    /// A tunnel's.
    pub fn tunnel(response: Response<ResponseBody>, tunnel: Tunnel) -> Self {
        Self {
            response,
            tunnel: Some(Box::new(tunnel)),
            close: false,
        }
    }
}
