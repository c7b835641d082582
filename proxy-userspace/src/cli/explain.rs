//! `weir explain`: which route takes a request, what it does, and why the routes before it did not match.

use super::print;
use crate::{
    config,
    l7::{
        path::canonical,
        router::{
            Facts, Router, canonical_host,
            explain::{Explanation, Outcome, RouteName, explain},
            port_of,
        },
    },
    model::l7::{HttpSettings, Listener, ListenerKind, Route},
};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::{borrow::Cow, fmt::Write, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

/// Says which route takes a request: exit code 0 if one does, 1 if none does.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The config: a file, or a directory of *.yaml and *.yml files.
    pub config: PathBuf,
    /// The request's host, with or without a port.
    #[arg(long, value_name = "HOST", default_value = "")]
    pub host: String,
    /// Its path, with or without a query, as a client sends it.
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// Its method.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: Method,
    /// One of its headers; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The listener it comes to; needed where the config has several with routes.
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// The listener's address, instead of its name.
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "listener")]
    pub address: Option<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints the answer.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    match answer(args, &loaded.listeners) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a route takes the request.
fn answer(args: &ExplainArgs, listeners: &[Listener]) -> anyhow::Result<bool> {
    let (listener, settings, routes) = listener(args, listeners)?;
    let (path, query) = match args.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (args.path.as_str(), None),
    };
    let path = match path {
        // As the worker routes it.
        "*" if args.method == Method::OPTIONS => Cow::Borrowed("/"),
        path => canonical(path, &settings.path)
            .with_context(|| format!("listener {} answers {path} with 400", listener.name))?,
    };
    let host = match args.host.as_str() {
        "" => Cow::Borrowed(""),
        host => canonical_host(host).with_context(|| {
            let name = &listener.name;
            format!("listener {name} answers the host {host} with 400: it is not a name or address, with or without a port")
        })?,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &args.headers {
        headers.append(name, value.clone());
    }
    let facts = Facts {
        host: &host,
        path: &path,
        query,
        method: &args.method,
        headers: &headers,
    };
    let router = Router::compile(Arc::clone(routes));
    let explanation = explain(listener, settings, &router, &facts, port_of(&args.host));
    if args.json {
        print(format!("{}\n", serde_json::to_string_pretty(&explanation)?).as_bytes())?;
    } else {
        print(screen(&explanation, &facts, &listener.place.to_string()).as_bytes())?;
    }
    Ok(explanation.route.is_some())
}

/// The listener that is meant: named, by address, or the only one with routes.
fn listener<'a>(
    args: &ExplainArgs,
    listeners: &'a [Listener],
) -> anyhow::Result<(&'a Listener, &'a HttpSettings, &'a Arc<[Route]>)> {
    let with_routes: Vec<_> = listeners
        .iter()
        .filter_map(|listener| match &listener.kind {
            ListenerKind::Http { settings, routes, .. } => Some((listener, &**settings, routes)),
            ListenerKind::Tcp { .. } => None,
        })
        .collect();
    let names = || {
        let names: Vec<&str> = with_routes.iter().map(|(listener, ..)| &*listener.name).collect();
        names.join(", ")
    };
    let mut meant = with_routes.iter().filter(|(listener, ..)| {
        let is_named = args.listener.as_ref().is_none_or(|name| *name == *listener.name);
        let has_address = args.address.is_none_or(|address| {
            let mut ranges = listener.addresses.iter();
            ranges.any(|range| range.contains(address.ip(), address.port()))
        });
        is_named && has_address
    });
    match (meant.next(), meant.next()) {
        (Some(listener), None) => Ok(*listener),
        (Some(_), Some(_)) => bail!(
            "several listeners have routes; name one with --listener: {}",
            names()
        ),
        (None, _) if with_routes.is_empty() => {
            bail!("{}: no listener has routes", args.config.display())
        }
        (None, _) => bail!("no such listener with routes; use one of: {}", names()),
    }
}

fn header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| anyhow!("no colon in it; write it as 'name: value'"))?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

/// For people.
fn screen(explanation: &Explanation, facts: &Facts<'_>, place: &str) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String can't fail.
        let _ok = writeln!(text, "{name:<9} {value}");
    };
    line("listener", &format!("{} ({place})", explanation.listener));
    let query = facts.query.map(|query| format!("?{query}")).unwrap_or_default();
    line(
        "request",
        &format!("{} {}{}{query}", facts.method, facts.host, facts.path),
    );
    match &explanation.route {
        None => line(
            "route",
            &format!("none of {} matches: answered with 404", explanation.routes),
        ),
        Some(winner) => {
            let number = winner.route.number;
            let of = explanation.routes;
            line(
                "route",
                &format!("{}, number {number} of {of}", title(&winner.route)),
            );
            for condition in &winner.conditions {
                line("", condition);
            }
            if winner.conditions.is_empty() {
                line("", "takes every request");
            }
            for (at, does) in action(&winner.action).iter().enumerate() {
                line(if at == 0 { "does" } else { "" }, does);
            }
        }
    }
    passed(&mut text, explanation);
    text
}

fn action(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Forward { clusters, host, path } => {
            let clusters: Vec<String> = match clusters.as_slice() {
                [(name, _)] => vec![name.clone()],
                several => several
                    .iter()
                    .map(|(name, weight)| format!("{name} (weight {weight})"))
                    .collect(),
            };
            let host = if host.is_empty() { "none" } else { host };
            vec![
                format!("forwards to cluster {}", clusters.join(" or ")),
                format!("with host {host} and path {path}"),
            ]
        }
        Outcome::Redirect { status, location } => vec![format!("redirects with {status} to {location}")],
        Outcome::Respond { status, body_bytes } => {
            vec![format!("answers {status} with a body of {body_bytes} bytes")]
        }
        Outcome::Refuse { status, reason } => vec![format!("answers {status}: {reason}")],
    }
}

/// Routes that do not match, in columns.
fn passed(text: &mut String, explanation: &Explanation) {
    let rows = &explanation.passed;
    let width = |column: fn(&RouteName) -> String| {
        rows.iter()
            .map(|row| column(&row.route).chars().count())
            .max()
            .unwrap_or_default()
    };
    let name = |route: &RouteName| route.name.clone().unwrap_or_default();
    let place = |route: &RouteName| route.place.clone();
    let (names, places) = (width(name), width(place));
    for (at, row) in rows.iter().enumerate() {
        let head = if at == 0 { "not" } else { "" };
        let (name, place) = (name(&row.route), &row.route.place);
        let gap = if names == 0 { "" } else { "  " };
        // Writing to a String can't fail.
        let _ok = writeln!(
            text,
            "{head:<9} {place:<places$}  {name:<names$}{gap}{}",
            row.reason
        );
    }
    if explanation.passed_besides > 0 {
        let _ok = writeln!(
            text,
            "{:<9} and {} more that are further from matching",
            "", explanation.passed_besides
        );
    }
}

fn title(route: &RouteName) -> String {
    match &route.name {
        Some(name) => format!("{name} ({})", route.place),
        None => route.place.clone(),
    }
}
