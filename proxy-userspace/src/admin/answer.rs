//! From a request to its answer: finds the operation in the table, does it, and says what is wrong with a remedy.

use super::{
    Audit, LogControl, Origin, browser,
    caller::CallerAnswer,
    drain::DrainOrder,
    metrics,
    openapi::openapi,
    operations::{Call, OPERATIONS, Operation},
    status::{EndpointPatch, ErrorAnswer},
    views::LogSettings,
};
use crate::{
    control::{FlowQuestion, Handle, Refusal, RefusalKind, Trigger},
    model::BackendAddr,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use proxy_common::net::Protocol;
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tokio::time;

/// A body is one small JSON object.
const MAX_BODY_BYTES: usize = 16 << 10;

/// A client must send its request, and its next one, within this time.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Answer = Response<Full<Bytes>>;

/// What operations work on.
#[derive(Clone)]
pub struct Context {
    /// Control.
    pub control: Handle,
    /// The log's filter.
    pub log: LogControl,
    /// Where changes are written down.
    pub audit: Arc<Audit>,
}

/// Whether the caller may change anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rights {
    Read,
    Change,
}

/// The operation of a request, or what there is instead.
pub(super) fn find<B>(request: &Request<B>) -> Result<(&'static Operation, Vec<&str>), Box<Answer>> {
    let path = request.uri().path();
    let method = request.method().as_str();
    let of_path = || {
        OPERATIONS
            .iter()
            .filter_map(|operation| Some((operation, operation.matched(path)?)))
    };
    if let Some(found) = of_path().find(|(operation, _)| operation.method == method) {
        return Ok(found);
    }
    let allowed: Vec<&str> = of_path().map(|(operation, _)| operation.method).collect();
    if allowed.is_empty() {
        let all: Vec<String> = OPERATIONS.iter().map(Operation::shown).collect();
        return Err(Box::new(error(
            StatusCode::NOT_FOUND,
            format!("no such path {path}"),
            format!("there are {}", all.join(", ")),
        )));
    }
    Err(Box::new(wrong_method(method, path, &allowed.join(", "))))
}

/// There is such a path, and something else to do with it.
pub(super) fn wrong_method(method: &str, path: &str, allowed: &str) -> Answer {
    let what = format!("{path} does not take {method}");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, what, format!("use {allowed}"));
    if let Ok(value) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(ALLOW, value);
    }
    answer
}

/// Does what is asked.
pub(super) async fn answer(
    request: Request<Incoming>,
    origin: Origin,
    rights: Rights,
    context: &Context,
) -> Answer {
    let uri = request.uri().clone();
    let (operation, values) = match find(&request) {
        Ok((operation, _)) => (operation, operation.matched(uri.path()).unwrap_or_default()),
        Err(answer) => return *answer,
    };
    if let Some((what, remedy)) = refusal(request.headers(), operation, &origin, rights) {
        if operation.changes {
            let asked = format!("{} {}", operation.method, uri.path());
            context.audit.write(&origin, &asked, Err(&what));
        }
        return error(StatusCode::FORBIDDEN, what, remedy);
    }
    let control = &context.control;
    match operation.call {
        Call::Topology => outcome(control.look(|core| core.topology()).await),
        Call::Caller => json(
            StatusCode::OK,
            &CallerAnswer {
                caller: origin.caller.to_string(),
                may_change: rights == Rights::Change,
            },
        ),
        Call::Endpoint => either(endpoint(&values, control).await),
        Call::Status => outcome(control.status().await),
        Call::Metrics => metrics::answer(request.headers(), control).await,
        Call::Flow => match question(&values, uri.query()) {
            Some(question) => outcome(control.flow(question).await),
            None => error(
                StatusCode::BAD_REQUEST,
                "no flow in the path",
                "write /flows/tcp/IP:PORT/IP:PORT (or udp), first the client, then the VIP; for IPv6 [IP]:PORT. Of QUIC \
                 ?connection_id=HEX may follow",
            ),
        },
        Call::Reload => outcome(control.reload(Trigger::Api, origin).await),
        Call::Draining => outcome(control.look(|core| core.drain_status()).await),
        Call::Drain => either(drain(request.into_body(), origin, control).await),
        Call::EndDrain => outcome(control.drain(None, origin).await),
        Call::SetEndpoint => either(set_endpoint(&values, request.into_body(), origin, control).await),
        Call::Config => outcome(control.look(|core| core.config_dump()).await),
        Call::Clusters => outcome(control.look(|core| core.clusters_view()).await),
        Call::Cluster => either(cluster(&values, control).await),
        Call::Listeners => outcome(control.look(|core| core.listeners_view()).await),
        Call::Certificates => outcome(control.look(|core| core.certificates_view()).await),
        Call::Workers => outcome(control.look(|core| core.workers_view()).await),
        Call::Log => json(StatusCode::OK, &log_settings(context)),
        Call::SetLog => either(set_log(request.into_body(), &origin, context).await),
        Call::Document => json(StatusCode::OK, &openapi()),
    }
}

/// Why a request is not answered, though it is known who asks: what is wrong, and the remedy.
fn refusal(
    headers: &HeaderMap,
    operation: &Operation,
    origin: &Origin,
    rights: Rights,
) -> Option<(String, &'static str)> {
    let is_local = origin.remote.is_none_or(|remote| remote.ip().is_loopback());
    if let Err(foreign) = browser::admit(headers, is_local) {
        return Some((foreign.to_string(), foreign.remedy()));
    }
    let is_refused = operation.changes && rights == Rights::Read;
    is_refused.then(|| {
        let what = format!("{} may read only", origin.caller);
        (what, "use a token without `read_only: true`")
    })
}

fn either(answer: Result<Answer, Answer>) -> Answer {
    answer.unwrap_or_else(|refused| refused)
}

fn question(values: &[&str], query: Option<&str>) -> Option<FlowQuestion> {
    let [protocol, client, vip] = values else {
        return None;
    };
    let connection_id = match query {
        Some(query) => Some(query.strip_prefix("connection_id=")?.parse().ok()?),
        None => None,
    };
    Some(FlowQuestion {
        protocol: match percent_decoded(protocol)?.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        },
        client: percent_decoded(client)?.parse().ok()?,
        vip: percent_decoded(vip)?.parse().ok()?,
        connection_id,
    })
}

/// A cluster's name from a path was none.
fn no_name(typed: &str) -> Answer {
    let what = format!("{typed} is not a name");
    error(
        StatusCode::BAD_REQUEST,
        what,
        "write it as UTF-8, percent-encoded",
    )
}

async fn cluster(values: &[&str], control: &Handle) -> Result<Answer, Answer> {
    let typed = values.first().copied().unwrap_or_default();
    let name = percent_decoded(typed).ok_or_else(|| no_name(typed))?;
    let found = control.look(move |core| core.cluster_view(&name)).await;
    Ok(outcome(found.and_then(|found| found)))
}

/// The cluster and the address that a path names.
fn named_endpoint(values: &[&str]) -> Result<(String, BackendAddr), Box<Answer>> {
    let [cluster, address] = values else {
        let what = "no endpoint in the path";
        return Err(Box::new(error(StatusCode::NOT_FOUND, what, "name one")));
    };
    let cluster = percent_decoded(cluster).ok_or_else(|| Box::new(no_name(cluster)))?;
    let address = percent_decoded(address)
        .and_then(|address| address.parse().ok())
        .map(BackendAddr);
    let address = address.ok_or_else(|| {
        let remedy = "write IP:PORT, for IPv6 [IP]:PORT";
        let what = "no endpoint address in the path";
        Box::new(error(StatusCode::BAD_REQUEST, what, remedy))
    })?;
    Ok((cluster, address))
}

async fn endpoint(values: &[&str], control: &Handle) -> Result<Answer, Answer> {
    let (cluster, address) = named_endpoint(values).map_err(|refused| *refused)?;
    let found = control
        .look(move |core| core.one_endpoint_view(&cluster, address))
        .await;
    Ok(outcome(found.and_then(|found| found)))
}

async fn set_endpoint(
    values: &[&str],
    body: Incoming,
    origin: Origin,
    control: &Handle,
) -> Result<Answer, Answer> {
    let (cluster, address) = named_endpoint(values).map_err(|refused| *refused)?;
    let remedy = r#"send {"weight": N}, {"drain": true|false}, or both; "durable": true keeps it beyond the next start"#;
    let patch: EndpointPatch = read_json(body, remedy).await?;
    if patch.weight.is_none() && patch.drain.is_none() {
        return Err(error(StatusCode::BAD_REQUEST, "body: nothing to change", remedy));
    }
    Ok(outcome(
        control.set_endpoint(&cluster, address, patch, origin).await,
    ))
}

async fn drain(body: Incoming, origin: Origin, control: &Handle) -> Result<Answer, Answer> {
    let remedy = r#"send {}, or {"notice": "10s", "timeout": "10m"}"#;
    let order: DrainOrder = read_json(body, remedy).await?;
    Ok(outcome(control.drain(Some(order), origin).await))
}

fn log_settings(context: &Context) -> LogSettings {
    LogSettings {
        filter: context.log.filter(),
    }
}

async fn set_log(body: Incoming, origin: &Origin, context: &Context) -> Result<Answer, Answer> {
    let wanted: LogSettings = read_json(body, r#"send {"filter": "info"}"#).await?;
    let what = format!("log filter {} -> {}", context.log.filter(), wanted.filter);
    if let Err((problem, remedy)) = context.log.set(&wanted.filter) {
        context.audit.write(origin, &what, Err(&problem));
        return Err(error(StatusCode::BAD_REQUEST, problem, remedy));
    }
    context.audit.write(origin, &what, Ok(None));
    Ok(json(StatusCode::OK, &log_settings(context)))
}

async fn read_json<T: DeserializeOwned>(body: Incoming, remedy: &str) -> Result<T, Answer> {
    let body = read(body).await?;
    serde_json::from_slice(&body)
        .map_err(|why| error(StatusCode::BAD_REQUEST, format!("body: {why}"), remedy))
}

async fn read(body: Incoming) -> Result<Bytes, Answer> {
    let limited = Limited::new(body, MAX_BODY_BYTES).collect();
    let Ok(read) = time::timeout(REQUEST_TIMEOUT, limited).await else {
        let what = format!("no whole body within {REQUEST_TIMEOUT:?}");
        return Err(error(StatusCode::REQUEST_TIMEOUT, what, "send it at once"));
    };
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(why) if why.is::<LengthLimitError>() => {
            let what = format!("the body is longer than {MAX_BODY_BYTES} bytes");
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, what, "send one JSON object"))
        }
        Err(why) => Err(error(
            StatusCode::BAD_REQUEST,
            format!("body: {why}"),
            "send it whole",
        )),
    }
}

pub(super) fn outcome(outcome: Result<impl Serialize, Refusal>) -> Answer {
    match outcome {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(refusal) => {
            let status = match refusal.kind {
                RefusalKind::NotFound => StatusCode::NOT_FOUND,
                RefusalKind::Invalid => StatusCode::BAD_REQUEST,
                // Understood, and impossible to follow as it stands.
                RefusalKind::Config => StatusCode::UNPROCESSABLE_ENTITY,
                RefusalKind::Kernel | RefusalKind::Disk => StatusCode::INTERNAL_SERVER_ERROR,
                RefusalKind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            error(status, refusal.error, refusal.remedy)
        }
    }
}

pub(super) fn error(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Answer {
    json(
        status,
        &ErrorAnswer {
            error: error.into(),
            remedy: remedy.into(),
        },
    )
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let (status, mut text) = match serde_json::to_vec_pretty(body) {
        Ok(text) => (status, text),
        // Our own types have string keys and finite numbers: not reached, and yet no reason to die.
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.to_string().into_bytes()),
    };
    text.push(b'\n');
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// RFC 3986 section 2.1; none for a bad escape or what is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            decoded.push((digit()? * 16 + digit()?) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding() {
        assert_eq!(
            percent_decoded("%5B2001:db8::1%5d:80").as_deref(),
            Some("[2001:db8::1]:80")
        );
        assert_eq!(percent_decoded("plain").as_deref(), Some("plain"));
        for bad in ["%", "%5", "%zz", "%ff"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_path_with_two_methods_names_both() {
        let request = Request::builder().method("DELETE").uri("/log").body(()).unwrap();
        let answer = find(&request).err().unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()[ALLOW], "GET, PUT");
    }
}
