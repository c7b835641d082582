//! From a request's head to what is done with it: check, make canonical, route. Nothing here waits.

use super::{
    body::{RequestBody, ResponseBody},
    clock::Clock,
    compile::{CompiledKind, Target},
    connection::Connection,
    error::Fault,
    fields::Fields,
    forward::{self, Forwarding},
    grpc, headers,
    listener::Serving,
    outgoing::{Outgoing, Purpose},
    path,
    record::Record,
    router::{
        self, Facts,
        rewrite::{self, rewrite_path},
    },
    serve::Answer,
};
use crate::model::l7::{Action, HttpSettings, PathOptions, Policy, Redirect, Respond, Route};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header, uri::PathAndQuery};
use std::{borrow::Cow, rc::Rc};

/// What is done with a request.
pub enum Decision {
    /// It is answered.
    Answer(Answer),
    /// It goes to an endpoint; the request is there until it does.
    Forward(Forwarding, Option<Box<Request<RequestBody>>>),
}

/// A decision, and the route that made it, by its place.
pub struct Decided {
    /// What is done.
    pub decision: Decision,
    /// In the listener's router.
    pub route: usize,
}

/// Checks, makes canonical and routes a request.
///
/// # Errors
/// It can't be answered otherwise than with this fault.
pub fn decide(
    connection: &Rc<Connection>,
    serving: &Rc<Serving>,
    request: Request<RequestBody>,
    fields: Fields,
    record: &mut Record,
) -> Result<Decided, Fault> {
    let CompiledKind::Http {
        settings,
        router,
        targets,
    } = &serving.compiled.kind
    else {
        return Err(Fault::NoRoute);
    };
    let purpose = purpose(&request, fields, settings)?;
    check_size(&request, fields, settings)?;
    let host = host_of(&request)?;
    let path = path::canonical(typed_path(&request, &purpose)?, &settings.path)?;
    let facts = Facts {
        host: &host,
        path: &path,
        query: request.uri().query(),
        method: request.method(),
        headers: request.headers(),
    };
    let (index, route) = router.find(&facts).ok_or(Fault::NoRoute)?;
    record.route(index, route);
    let decision = match &route.action {
        Action::Respond(respond) => Decision::Answer(direct(respond)),
        Action::Redirect(redirect) => Decision::Answer(redirected(
            connection, settings, redirect, route, &request, &facts,
        )?),
        Action::Forward(_) => {
            let going = Going {
                route,
                targets: &targets[index],
                target: target(route, &settings.path, &request, &path)?,
                purpose,
                fields,
            };
            drop((host, path));
            forwarded(connection, serving, settings, request, going, record)?
        }
    };
    Ok(Decided {
        decision,
        route: index,
    })
}

/// What the client wants of its connection.
///
/// # Errors
/// It may not have it.
fn purpose(
    request: &Request<RequestBody>,
    fields: Fields,
    settings: &HttpSettings,
) -> Result<Purpose, Fault> {
    let allowed = |protocol: &str| {
        (settings.upgrades.iter())
            .find(|each| each.eq_ignore_ascii_case(protocol))
            .cloned()
    };
    if request.method() == Method::CONNECT {
        if let Some(protocol) = request.extensions().get::<h2::ext::Protocol>() {
            return match allowed(protocol.as_str()) {
                Some(protocol) => Ok(Purpose::Upgrade(protocol)),
                None => Err(Fault::NotAllowed("no such protocol to connect to here")),
            };
        }
        return if settings.connect {
            Ok(Purpose::Connect)
        } else {
            Err(Fault::NotAllowed("CONNECT is not allowed here"))
        };
    }
    if !fields.has(Fields::UPGRADE) {
        return Ok(Purpose::Exchange);
    }
    let headers = request.headers();
    let Some(upgrade) = headers.get(header::UPGRADE) else {
        return Ok(Purpose::Exchange);
    };
    if request.version() != Version::HTTP_11 || !headers::connection_has(headers, "upgrade") {
        return Ok(Purpose::Exchange);
    }
    // A protocol that is not taken is not answered to: the request goes on as what it is (RFC 9110, 7.8).
    let tokens = upgrade.to_str().unwrap_or_default().split(',');
    Ok(tokens
        .map(str::trim)
        .find_map(allowed)
        .map_or(Purpose::Exchange, Purpose::Upgrade))
}

fn check_size(request: &Request<RequestBody>, fields: Fields, settings: &HttpSettings) -> Result<(), Fault> {
    let uri = request.uri().path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > settings.limits.uri_bytes as usize {
        return Err(Fault::UriTooLong);
    }
    let headers = request.headers();
    if request.version() == Version::HTTP_2 && headers.len() > settings.limits.header_count.into() {
        return Err(Fault::HeadersTooMany);
    }
    if fields.has(Fields::TRANSFER_ENCODING) && request.version() != Version::HTTP_2 {
        check_codings(headers)?;
    }
    if let Some(limit) = settings.limits.body_bytes {
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        if length
            .and_then(|text| text.parse::<u64>().ok())
            .is_some_and(|length| length > limit)
        {
            return Err(Fault::BodyTooLarge);
        }
        request.body().limit(limit);
    }
    Ok(())
}

/// `chunked` is undone here and done again towards the endpoint; a coding before it would be lost on the way (RFC 9112,
/// 6.1). The codec lets every list pass that ends with `chunked`.
fn check_codings(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::UnknownCoding);
    }
    Ok(())
}

/// The host, which HTTP/1.0 may leave out.
fn host_of(request: &Request<RequestBody>) -> Result<Cow<'_, str>, Fault> {
    use router::HostMistake::{Malformed, Missing, Several};
    match router::host_of(request.uri(), request.headers()) {
        Ok(host) => Ok(host),
        Err(Missing) if request.version() == Version::HTTP_10 => Ok(Cow::Borrowed("")),
        Err(Missing) => Err(Fault::BadRequest("the request names no host")),
        Err(Several) => Err(Fault::BadRequest("the request names several hosts")),
        Err(Malformed) => Err(Fault::BadRequest("the request's host is malformed")),
    }
}

/// The path as it came; `/` stands for a target that has none.
fn typed_path<'a>(request: &'a Request<RequestBody>, purpose: &Purpose) -> Result<&'a str, Fault> {
    let uri = request.uri();
    let path = uri.path();
    if *purpose == Purpose::Connect {
        return Ok("/");
    }
    if uri.scheme().is_none() && uri.authority().is_some() && request.version() != Version::HTTP_2 {
        // The authority form (RFC 9112, 3.2.3), or a path without its slash: the codec takes both for a host.
        return Err(Fault::BadRequest("the target is neither a path nor a URI"));
    }
    if path.is_empty() {
        return Ok("/");
    }
    if path == "*" {
        return if request.method() == Method::OPTIONS {
            Ok("/")
        } else {
            Err(Fault::BadRequest("* is for OPTIONS alone"))
        };
    }
    Ok(path)
}

/// Path and query for the endpoint; the client's own where nothing changed.
fn target(
    route: &Route,
    options: &PathOptions,
    request: &Request<RequestBody>,
    path: &str,
) -> Result<PathAndQuery, Fault> {
    if let Some(same) = request.uri().path_and_query()
        && route.rewrite.path.is_none()
        // `*` was routed as `/` and stays what it is.
        && (same.path() == path || same.path() == "*")
    {
        return Ok(same.clone());
    }
    let query = request.uri().query();
    let rewritten = match &route.rewrite.path {
        Some(rewrite) => rewrite_path(rewrite, route.matches.path.as_ref(), path, options)?,
        None => Cow::Borrowed(path),
    };
    let text = match query {
        Some(query) => format!("{rewritten}?{query}"),
        None => rewritten.into_owned(),
    };
    PathAndQuery::try_from(text).map_err(|_| Fault::BadRequest("the rewritten path is none"))
}

fn direct(respond: &Respond) -> Answer {
    let body = ResponseBody::full(respond.body.as_bytes().to_vec());
    let mut response = Response::new(body);
    *response.status_mut() = respond.status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Answer::plain(response)
}

fn redirected(
    connection: &Connection,
    settings: &HttpSettings,
    redirect: &Redirect,
    route: &Route,
    request: &Request<RequestBody>,
    facts: &Facts<'_>,
) -> Result<Answer, Fault> {
    let authority = authority(request);
    let target = rewrite::Target {
        scheme: if connection.tls.is_some() { "https" } else { "http" },
        host: facts.host,
        port: router::port_of(authority.to_str().unwrap_or_default()),
        path: facts.path,
        query: facts.query,
    };
    let matched = route.matches.path.as_ref();
    let location = rewrite::location(redirect, matched, &target, &settings.path)?;
    let location = HeaderValue::try_from(location);
    let location = location.map_err(|_| Fault::BadRequest("the redirect's target is none"))?;
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(Answer::plain(response))
}

fn authority(request: &Request<RequestBody>) -> HeaderValue {
    (request.uri().authority())
        .and_then(|authority| HeaderValue::try_from(authority.as_str()).ok())
        .or_else(|| request.headers().get(header::HOST).cloned())
        .unwrap_or_else(|| HeaderValue::from_static(""))
}

/// A request that a route forwards.
struct Going<'a> {
    route: &'a Route,
    targets: &'a [Target],
    target: PathAndQuery,
    purpose: Purpose,
    fields: Fields,
}

/// The request with its headers as the endpoint is to see them, and how long it may take.
fn forwarded(
    connection: &Rc<Connection>,
    serving: &Rc<Serving>,
    settings: &HttpSettings,
    request: Request<RequestBody>,
    going: Going<'_>,
    record: &mut Record,
) -> Result<Decision, Fault> {
    let authority = authority(&request);
    let sent_to = match &going.route.rewrite.host {
        Some(host) => HeaderValue::try_from(&**host).map_err(|_| Fault::BadRequest("no such host"))?,
        None => authority.clone(),
    };
    let (mut head, body) = request.into_parts();
    let peer = headers::client_address(&head.headers, &settings.forwarded, connection.peer);
    let started = record.begun();
    let deadline = (going.fields.has(Fields::GRPC_TIMEOUT))
        .then(|| grpc::timeout(&head.headers).map(|time| started + time))
        .flatten();
    let outgoing = Outgoing::new(going.target, sent_to, going.purpose, &head.headers);
    headers::remove_hop_by_hop(&mut head.headers, going.fields);
    let client = headers::Client {
        address: connection.peer,
        address_text: connection.peer_text(),
        secure: connection.tls.is_some(),
        host: Some(&authority),
        certificate: connection.forwarded_certificate(&settings.forwarded),
    };
    headers::forward(&mut head.headers, &settings.forwarded, &client, going.fields);
    if let Some(via) = &settings.via {
        headers::via(&mut head.headers, head.version, via);
    }
    headers::apply(&mut head.headers, &going.route.request_headers);
    record.forwarded(&head.headers, peer);
    let random = fastrand::u32(..);
    let cluster = forward::pick_target(going.targets, random)
        .and_then(|target| serving.clusters.get(target.cluster))
        .ok_or(Fault::NoEndpoint)?;
    let (route, listener) = (&going.route.timeouts, &settings.timeouts);
    let is_tunnel = outgoing.purpose != Purpose::Exchange;
    let clock = Clock {
        started,
        request: route.request.unwrap_or(listener.request),
        per_try: route.per_try.unwrap_or(listener.per_try),
        idle: route.idle.unwrap_or(listener.idle_stream),
        deadline: deadline.filter(|_| !is_tunnel),
        upload: body.upload().cloned(),
    };
    let forwarding = Forwarding {
        connection: Rc::clone(connection),
        cluster: Rc::clone(cluster),
        outgoing,
        clock,
        client: peer,
        measures: cluster.compiled.borrow().model.l7.policy == Policy::PeakEwma,
    };
    let request = Box::new(Request::from_parts(head, body));
    Ok(Decision::Forward(forwarding, Some(request)))
}
