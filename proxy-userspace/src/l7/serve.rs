//! One request from its head to its response: check, make canonical, route, then answer or forward.

use super::{
    body::{RequestBody, ResponseBody},
    compile::CompiledKind,
    connection::Connection,
    decide::{Decision, decide},
    error::Fault,
    grpc, grpc_web, headers,
    interim::InterimSink,
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
pub async fn answer(
    connection: &Rc<Connection>,
    mut request: Request<RequestBody>,
    sink: InterimSink,
) -> Answer {
    connection.worker.counters.requests.increase();
    let serving = connection.listener.serving();
    let is_grpc = grpc::is_grpc(request.headers());
    let mut record = Record::begin(connection, &serving, &request);
    let version = request.version();
    let web = match &serving.compiled.kind {
        CompiledKind::Http { settings, .. } if settings.grpc_web => {
            grpc_web::take_request(request.headers_mut())
        }
        _ => None,
    };
    if let Some(is_text) = web {
        request = request.map(|body| body.decoded(is_text));
    }
    let outcome = match decide(connection, &serving, request, &mut record) {
        Ok(decided) => {
            let answered = match decided.decision {
                Decision::Answer(answer) => Ok(answer),
                Decision::Forward(forwarding, request) => forwarding.run(request, &sink, &mut record).await,
            };
            answered.map(|mut answer| {
                headers::apply(answer.response.headers_mut(), decided.response_headers);
                answer
            })
        }
        Err(fault) => Err(fault),
    };
    let mut answer = match outcome {
        Ok(answer) => answer,
        Err(fault) => {
            record.fault(fault);
            fault_answer(fault, is_grpc || web.is_some())
        }
    };
    if let Some(is_text) = web {
        grpc_web::mark_response(answer.response.headers_mut(), is_text);
        answer.response = answer.response.map(|body| body.encoded(is_text));
    }
    if let CompiledKind::Http { settings, .. } = &serving.compiled.kind {
        dress(answer.response.headers_mut(), settings, version);
    }
    connection.worker.counters.responded(answer.response.status());
    record.answered(&mut answer.response);
    answer
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
