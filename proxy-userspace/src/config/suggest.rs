//! What the user may have meant: near names, other programs' names, and keys of versions to come.

use super::{
    error::Mistake,
    path::{KeyPath, clipped},
    schema::{Shape, shapes},
};
use serde_json::Value;

/// Keys that later versions bring, by definition of the schema.
const LATER_KEYS: &[(&str, &[&str])] = &[
    ("Listener", &["http3", "quic", "filters"]),
    (
        "Route",
        &[
            "retry",
            "retries",
            "mirror",
            "rate_limit",
            "cors",
            "auth",
            "filters",
        ],
    ),
    (
        "Cluster",
        &[
            "circuit_breaker",
            "outlier_detection",
            "retry",
            "slow_start",
            "panic_threshold",
            "dns",
        ],
    ),
    ("HealthCheck", &["grpc"]),
    ("Config", &["kubernetes", "xds"]),
];

/// Values that later versions bring, by definition.
const LATER_VALUES: &[(&str, &[&str])] = &[("UpstreamProtocol", &["h3"])];

/// What other programs call our keys: (definition, their name, ours).
const OTHER_NAMES: &[(&str, &str, &str)] = &[
    ("Config", "frontends", "listeners"),
    ("Config", "services", "listeners"),
    ("Config", "virtual_servers", "listeners"),
    ("Config", "vips", "listeners"),
    ("Config", "backends", "clusters"),
    ("Config", "upstreams", "clusters"),
    ("Config", "pools", "clusters"),
    ("Config", "interface", "interfaces"),
    ("Listener", "bind", "address"),
    ("Listener", "vip", "address"),
    ("Listener", "listen", "address"),
    ("Listener", "ip", "address"),
    ("Listener", "proto", "protocol"),
    ("Listener", "ssl", "tls"),
    ("Listener", "locations", "routes"),
    ("Listener", "rules", "routes"),
    ("Listener", "virtual_hosts", "routes"),
    ("ServerTls", "certs", "certificates"),
    ("ServerTls", "client_auth", "client_certificates"),
    ("Certificate", "certificate", "cert"),
    ("Certificate", "certificate_chain", "cert"),
    ("Certificate", "private_key", "key"),
    ("UpstreamTls", "sni", "server_name"),
    ("Route", "backend", "cluster"),
    ("Route", "upstream", "cluster"),
    ("Route", "backends", "clusters"),
    ("Route", "weighted_clusters", "clusters"),
    ("Route", "matches", "match"),
    ("Route", "location", "match"),
    ("Route", "proxy_pass", "cluster"),
    ("Route", "direct_response", "respond"),
    ("Route", "return", "respond"),
    ("RouteMatch", "prefix", "path_prefix"),
    ("RouteMatch", "regex", "path_regex"),
    ("RouteMatch", "path_separated_prefix", "path_segment_prefix"),
    ("RouteMatch", "hostname", "host"),
    ("RouteMatch", "domains", "hosts"),
    ("RouteMatch", "query_parameters", "query"),
    ("TextMatch", "value", "exact"),
    ("TextMatch", "equals", "exact"),
    ("TextMatch", "header", "name"),
    ("WeightedCluster", "name", "cluster"),
    ("Redirect", "code", "status"),
    ("Respond", "code", "status"),
    ("AccessLog", "file", "path"),
    ("Cluster", "lb_policy", "policy"),
    ("Cluster", "balance", "policy"),
    ("HttpCheck", "expected_statuses", "status"),
    ("Forward", "backend", "cluster"),
    ("Forward", "upstream", "cluster"),
    ("Forward", "timeout", "idle_timeouts"),
    ("Forward", "timeouts", "idle_timeouts"),
    ("Cluster", "servers", "endpoints"),
    ("Cluster", "backends", "endpoints"),
    ("Cluster", "hosts", "endpoints"),
    ("Cluster", "targets", "endpoints"),
    ("Cluster", "members", "endpoints"),
    ("Cluster", "health", "health_check"),
    ("Cluster", "check", "health_check"),
    ("EndpointSettings", "ip", "address"),
    ("EndpointSettings", "host", "address"),
    ("HealthCheck", "period", "interval"),
    ("HealthCheck", "healthy_threshold", "rise"),
    ("HealthCheck", "unhealthy_threshold", "fall"),
    ("Admin", "path", "socket"),
];

/// What other programs call our words: (definition, their word, ours).
const OTHER_VALUES: &[(&str, &str, &str)] = &[
    // OpenTelemetry's words.
    ("OtlpProtocol", "http/protobuf", "http"),
    ("OtlpProtocol", "grpc/protobuf", "grpc"),
    ("UpstreamProtocol", "http2", "h2"),
    ("UpstreamProtocol", "http/2", "h2"),
    ("UpstreamProtocol", "h2c", "h2"),
    ("UpstreamProtocol", "grpc", "h2"),
    ("UpstreamProtocol", "http", "http1"),
    ("UpstreamProtocol", "http/1.1", "http1"),
    ("UpstreamProtocol", "https", "auto"),
    ("Policy", "rr", "round_robin"),
    ("Policy", "wrr", "round_robin"),
    ("Policy", "least_conn", "least_request"),
    ("Policy", "leastconn", "least_request"),
    ("Policy", "least_connections", "least_request"),
    ("Policy", "p2c", "least_request"),
    ("Policy", "ip_hash", "maglev"),
    ("Policy", "ewma", "peak_ewma"),
    ("ClientMode", "optional", "request"),
    ("ClientMode", "required", "require"),
];

/// Our word for another program's.
pub(super) fn other_value(definition: &str, typed: &str) -> Option<&'static str> {
    let folded = typed.to_lowercase();
    let found = OTHER_VALUES
        .iter()
        .find(|(of, theirs, _)| *of == definition && *theirs == folded);
    found.map(|(_, _, ours)| *ours)
}

/// What other programs call a listener's reference to a cluster.
const CLUSTER_NAMES: &[&str] = &["backend", "default_backend", "upstream", "pool", "target"];

/// Whether a later version has this value.
pub(super) fn is_later_value(definition: &str, value: &str) -> bool {
    listed(LATER_VALUES, definition, value)
}

fn listed(table: &[(&str, &[&str])], definition: &str, word: &str) -> bool {
    table
        .iter()
        .any(|(of, words)| *of == definition && words.contains(&word))
}

/// The name nearest to what was typed, if it is near enough to have been meant.
pub(super) fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Bounded, as the distance costs the product of both lengths.
    if typed.len() > 128 {
        return None;
    }
    let bare = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = bare(typed);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &bare(name)), name))
        .filter(|(distance, name)| *distance <= (name.len().max(2) / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A mapping on the way down to an unknown key.
pub(super) struct Level<'a> {
    pub(super) path: KeyPath,
    pub(super) shape: Shape<'a>,
}

/// Which key of the same mapping was meant by an unknown one; it is then not missing.
pub(super) enum Meant<'a> {
    /// None, as far as one can tell.
    None,
    /// This one, under a wrong name: its value can still be checked.
    Renamed(&'a str),
    /// This one, in another shape.
    Reshaped(&'a str),
}

/// What to say of a key that its mapping, the last of the levels, does not have. `previous` is
/// the key above it.
pub(super) fn unknown_key<'a>(
    root: &'a Value,
    levels: &[Level<'a>],
    key: &str,
    previous: Option<&str>,
) -> (Mistake, Meant<'a>) {
    let unknown = |remedy: String| Mistake::new("unknown key", remedy);
    let Some((here, above)) = levels.split_last() else {
        return (unknown("remove it".to_owned()), Meant::None);
    };
    let definition = here.shape.definition;
    let known = |wanted: &str| {
        here.shape
            .properties()
            .map(|(name, _)| name)
            .find(|name| *name == wanted)
    };
    if listed(LATER_KEYS, definition, key) {
        // A listener with `http3` was meant to have no `forward`, a check with `grpc` no `tcp`.
        let instead = known("forward").or(known("tcp"));
        return (
            later(definition, key),
            instead.map_or(Meant::None, Meant::Reshaped),
        );
    }
    if let Some((name, remedy)) = other_name(here.shape, key) {
        return (unknown(remedy), Meant::Renamed(name));
    }
    if let Some(slip) = slip(here.shape, key) {
        return slip;
    }
    let snake = snake_case(key);
    // One letter is nearer than one level: `timeout` is `timeouts` here, not the health check's.
    let plural = format!("{snake}s");
    if let Some(name) = known(&plural).or_else(|| known(snake.strip_suffix('s')?)) {
        return (unknown(format!("did you mean `{name}`?")), Meant::Renamed(name));
    }
    if let Some(path) = below(root, here.shape, &snake, previous, 0) {
        let meant = known(path.split(['.', '[']).next().unwrap_or(&path));
        let remedy = format!("it is a key of `{path}`: indent it to stand under that");
        return (unknown(remedy), meant.map_or(Meant::None, Meant::Reshaped));
    }
    if let Some(level) = above
        .iter()
        .rev()
        .find(|level| level.shape.property(&snake).is_some())
    {
        return (
            unknown(format!("it is a key of {}: indent it less", level.path.shown())),
            Meant::None,
        );
    }
    near_or_none(here.shape, key)
}

/// For keys that are wrong in a way of their own.
fn slip<'a>(shape: Shape<'a>, key: &str) -> Option<(Mistake, Meant<'a>)> {
    let unknown = |remedy: String| Mistake::new("unknown key", remedy);
    let known = |wanted: &str| {
        shape
            .properties()
            .map(|(name, _)| name)
            .find(|name| *name == wanted)
    };
    if let Some((name, rest)) = key.split_once(':')
        && let Some(name) = known(name)
    {
        let remedy = format!("write `{name}: {}`, with a space after the colon", clipped(rest));
        return Some((unknown(remedy), Meant::Reshaped(name)));
    }
    let snake = snake_case(key);
    if snake == "port" && known("address").is_some() {
        let remedy = "write the port behind the address: `address: ADDRESS:PORT`";
        return Some((unknown(remedy.to_owned()), Meant::None));
    }
    if !CLUSTER_NAMES.contains(&snake.as_str()) {
        return None;
    }
    let forward = known("forward")?;
    let remedy = "write `forward: { cluster: NAME }` (in the kernel) or `routes: [{ cluster: NAME }]` (HTTP)";
    Some((unknown(remedy.to_owned()), Meant::Reshaped(forward)))
}

/// For a key that is nothing but misspelled, or nothing at all.
fn near_or_none<'a>(shape: Shape<'a>, key: &str) -> (Mistake, Meant<'a>) {
    let keys: Vec<&str> = shape.properties().map(|(name, _)| name).collect();
    let (remedy, meant) = match (nearest(key, keys.iter().copied()), keys.as_slice()) {
        (Some(name), _) => (format!("did you mean `{name}`?"), Meant::Renamed(name)),
        (None, [only]) => (format!("the only key here is {only}"), Meant::None),
        (None, _) => (format!("the keys here are {}", keys.join(", ")), Meant::None),
    };
    (Mistake::new("unknown key", remedy), meant)
}

/// Our name for a key in another spelling, or of another program.
fn other_name<'a>(shape: Shape<'a>, key: &str) -> Option<(&'a str, String)> {
    let snake = snake_case(key);
    let known = |wanted: &str| {
        shape
            .properties()
            .map(|(name, _)| name)
            .find(|name| *name == wanted)
    };
    if let Some(name) = known(&snake) {
        return Some((name, format!("write `{name}`")));
    }
    let (_, _, ours) = OTHER_NAMES
        .iter()
        .find(|(of, theirs, _)| *of == shape.definition && *theirs == snake)?;
    Some((known(ours)?, format!("here it is called `{ours}`")))
}

fn later(definition: &str, key: &str) -> Mistake {
    match definition {
        "HealthCheck" => Mistake::new(
            format!("health checks by {key} are not in this version yet"),
            "check by `http: { path: / }`, or by connecting: `tcp: {}`",
        ),
        _ => Mistake::new("not in this version yet", format!("remove `{key}`")),
    }
}

/// The mapping further down that has a key of this name: `forward`, `clusters[]`. The one that
/// was typed just above is looked at first.
fn below(root: &Value, shape: Shape<'_>, key: &str, previous: Option<&str>, depth: u8) -> Option<String> {
    let mut children: Vec<(&str, String, Shape<'_>)> = shape
        .properties()
        .flat_map(|(name, schema)| {
            let elements = schema.get("items");
            let suffix = if elements.is_some() { "[]" } else { "" };
            let shapes = shapes(root, elements.unwrap_or(schema)).into_iter();
            shapes
                .filter(|shape| shape.is("object"))
                .map(move |shape| (name, format!("{name}{suffix}"), shape))
        })
        .collect();
    children.sort_by_key(|(name, _, _)| Some(*name) != previous);
    if let Some((_, path, _)) = children
        .iter()
        .find(|(_, _, shape)| shape.property(key).is_some())
    {
        return Some(path.clone());
    }
    if depth == 2 {
        return None;
    }
    children
        .iter()
        .find_map(|(_, path, shape)| Some(format!("{path}.{}", below(root, *shape, key, None, depth + 1)?)))
}

/// `healthCheck`, `Health-Check` and `HEALTH_CHECK` to `health_check`.
fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 2);
    let mut previous_lower = false;
    for c in key.chars() {
        if c.is_uppercase() && previous_lower {
            snake.push('_');
        }
        previous_lower = c.is_lowercase();
        snake.extend(if matches!(c, '-' | ' ') { '_' } else { c }.to_lowercase());
    }
    snake
}

/// `"typed"`, for a message.
pub(super) fn shown(typed: &str) -> String {
    format!("\"{}\"", clipped(typed))
}
