//! Tracing: which requests, and the collector that their spans go to.

use super::{Checks, Document, Place, settings::only_one, text, tls};
use crate::{
    config::{error::Mistake, limits, raw, suggest::shown},
    model::{
        Collector, OtlpProtocol, Ratio, Tracing,
        l7::{TlsVersion, UpstreamTls, Verify},
    },
};
use http::{HeaderName, HeaderValue, Uri, header, uri::Scheme};
use std::{sync::Arc, time::Duration};

/// Where OTLP over HTTP takes spans (OTLP 1.5, "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";

/// The same over gRPC.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

pub(super) fn read(documents: &[Document], checks: &mut Checks<'_>) -> Option<Arc<Tracing>> {
    let (place, typed) = only_one(documents, "tracing", |raw| raw.tracing.as_ref(), checks)?;
    let otlp = typed.otlp.as_ref()?;
    let collector = collector(otlp, &place.key("otlp"), checks)?;
    Some(Arc::new(Tracing {
        collector,
        sampling: Ratio::new(typed.sampling.unwrap_or(limits::SAMPLING)),
        max_per_second: typed.max_per_second.unwrap_or(limits::SAMPLED),
        service_name: typed.service_name.as_ref().map_or("weir", |name| &name.0).into(),
    }))
}

fn collector(typed: &raw::Otlp, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<Collector> {
    let protocol = match typed.protocol {
        None | Some(raw::OtlpProtocol::Http) => OtlpProtocol::Http,
        Some(raw::OtlpProtocol::Grpc) => OtlpProtocol::Grpc,
    };
    let timeout = checks.duration(
        &place.key("timeout"),
        typed.timeout.as_ref(),
        &(Duration::from_millis(10)..=Duration::from_secs(60)),
        limits::OTLP_TIMEOUT,
    );
    let headers = headers(typed, place, checks);
    let tls_place = place.key("tls");
    let tls = typed
        .tls
        .as_ref()
        .map(|typed| tls::upstream(typed, &tls_place, checks));
    let url = typed.endpoint.as_ref()?;
    let url = checks.parsed(&place.key("endpoint"), url_of(&url.0, protocol))?;
    let tls = match (url.secure, tls) {
        (true, Some(tls)) => Some(Arc::new(tls?)),
        (true, None) => Some(Arc::new(system_tls())),
        (false, None) => None,
        (false, Some(_)) => {
            let problem = "`tls` for an endpoint that begins with http://";
            checks.error(&tls_place, problem, "write `endpoint: https://…`, or remove it");
            return None;
        }
    };
    Some(Collector {
        protocol,
        host: url.host,
        port: url.port,
        authority: url.authority,
        path: url.path,
        tls,
        headers,
        timeout,
    })
}

/// `tls: {}`.
fn system_tls() -> UpstreamTls {
    UpstreamTls {
        verify: Verify::System,
        server_name: None,
        certificate: None,
        min_version: TlsVersion::V1_2,
    }
}

struct Url {
    secure: bool,
    host: Box<str>,
    port: u16,
    authority: Box<str>,
    path: Box<str>,
}

fn url_of(typed: &str, protocol: OtlpProtocol) -> Result<Url, Mistake> {
    let (port, example) = match protocol {
        OtlpProtocol::Http => (4_318, "http://127.0.0.1:4318"),
        OtlpProtocol::Grpc => (4_317, "http://127.0.0.1:4317"),
    };
    let mistake = |problem: &str, remedy: String| Mistake::new(format!("{} {problem}", shown(typed)), remedy);
    let uri: Option<Uri> = typed.parse().ok();
    let scheme = uri.as_ref().and_then(Uri::scheme);
    let secure = scheme == Some(&Scheme::HTTPS);
    let Some(uri) = uri.as_ref().filter(|_| secure || scheme == Some(&Scheme::HTTP)) else {
        let with_scheme = format!("http://{typed}");
        let fits = !typed.contains("://") && with_scheme.parse::<Uri>().is_ok();
        let meant = if fits { &with_scheme } else { example };
        return Err(mistake(
            "is not a URL of http or https",
            format!("write it as {meant}"),
        ));
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        let remedy = "write `header_files: { authorization: FILE }`";
        // Not shown: it is a secret.
        return Err(Mistake::new("the URL has a name or password in it", remedy));
    }
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.is_empty() || uri.port().is_some_and(|port| port.as_u16() == 0) {
        return Err(mistake(
            "has no usable host and port",
            format!("write it as {example}"),
        ));
    }
    if uri.query().is_some() {
        return Err(mistake("has a query", "write the URL without `?`".to_owned()));
    }
    let has_path = !matches!(uri.path(), "" | "/");
    if has_path && protocol == OtlpProtocol::Grpc {
        let remedy = format!("write host and port alone, usually {port}: {example}");
        return Err(mistake("has a path, which gRPC fixes", remedy));
    }
    let path = match (protocol, has_path) {
        (OtlpProtocol::Grpc, _) => METHOD,
        (OtlpProtocol::Http, true) => uri.path(),
        (OtlpProtocol::Http, false) => PATH,
    };
    Ok(Url {
        secure,
        host: bare.into(),
        port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        authority: authority.into(),
        path: path.into(),
    })
}

fn headers(typed: &raw::Otlp, place: &Place<'_>, checks: &mut Checks<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let written = place.key("headers");
    for (name, value) in typed.headers.iter().flat_map(raw::Texts::iter) {
        let place = written.key(name);
        let name = checks.parsed(&place, own_header(name));
        let value = checks.parsed(&place, text::header_value(value));
        headers.extend(name.zip(value));
    }
    let in_files = place.key("header_files");
    for (name, file) in typed.header_files.iter().flat_map(raw::Texts::iter) {
        let place = in_files.key(name);
        let Some(name) = checks.parsed(&place, own_header(name)) else {
            continue;
        };
        if headers.iter().any(|(other, _)| *other == name) {
            let problem = "this header stands in `headers` too";
            checks.error(&place, problem, "keep one of the two");
            continue;
        }
        let Some(contents) = checks.file(&place, &raw::Otlp::file(file)) else {
            continue;
        };
        let value = std::str::from_utf8(&contents.bytes).map_or("\u{0}", str::trim);
        match HeaderValue::from_str(value) {
            Ok(value) if !value.is_empty() => headers.push((name, value)),
            _ => checks.error(
                &place,
                format!("{} holds no header's value", shown(file)),
                "write one line of visible ASCII into it, such as Bearer TOKEN",
            ),
        }
    }
    for (_, value) in &mut headers {
        // Shown by no log.
        value.set_sensitive(true);
    }
    headers
}

/// A header that is the user's to choose.
fn own_header(typed: &str) -> Result<HeaderName, Mistake> {
    let name = text::changed_header(typed, false)?;
    let ours = [header::HOST, header::CONTENT_TYPE, header::CONTENT_ENCODING];
    if ours.contains(&name) {
        let problem = format!("{} is Weir's to write", shown(typed));
        return Err(Mistake::new(problem, "remove it"));
    }
    Ok(name)
}
