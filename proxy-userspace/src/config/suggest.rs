//! What the user may have meant: near names, other programs' names, and keys of versions to come.

use super::{
    error::Mistake,
    path::clipped,
    schema::{Shape, shapes},
};
use serde_json::Value;

/// Keys that later versions bring, by definition of the schema.
const LATER_KEYS: &[(&str, &[&str])] = &[
    (
        "Listener",
        &[
            "tls",
            "routes",
            "http",
            "http3",
            "filters",
            "access_log",
            "redirect",
            "proxy_protocol",
        ],
    ),
    (
        "Cluster",
        &[
            "policy",
            "protocol",
            "tls",
            "circuit_breaker",
            "outlier_detection",
            "retry",
            "slow_start",
            "panic_threshold",
            "dns",
        ],
    ),
    ("HealthCheck", &["http", "grpc"]),
    ("Forward", &["tracking"]),
    (
        "Config",
        &[
            "routes",
            "certificates",
            "access_log",
            "tracing",
            "metrics",
            "kubernetes",
            "xds",
        ],
    ),
];

/// Values that later versions bring, by definition.
const LATER_VALUES: &[(&str, &[&str])] = &[("Mode", &["dsr-l2", "dsr_l2", "dsr", "ipip", "gue"])];

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
    ("Listener", "backend", "forward: { cluster: … }"),
    ("Listener", "upstream", "forward: { cluster: … }"),
    ("Listener", "pool", "forward: { cluster: … }"),
    ("Forward", "backend", "cluster"),
    ("Forward", "upstream", "cluster"),
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

/// Whether a later version has this key.
pub(super) fn is_later_key(definition: &str, key: &str) -> bool {
    listed(LATER_KEYS, definition, key)
}

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
    /// What to call it: its path, or "the top level".
    pub(super) name: String,
    pub(super) shape: Shape<'a>,
}

/// What to say of a key that its mapping, the last of the levels, does not have.
pub(super) fn unknown_key(root: &Value, levels: &[Level<'_>], key: &str) -> Mistake {
    let Some((here, above)) = levels.split_last() else {
        return Mistake::new("unknown key", "remove it");
    };
    let definition = here.shape.definition;
    if is_later_key(definition, key) {
        return later(definition, key);
    }
    let unknown = |remedy: String| Mistake::new("unknown key", remedy);
    let keys = || here.shape.properties().map(|(name, _)| name);
    let snake = snake_case(key);
    if let Some(name) = keys().find(|name| *name == snake) {
        return unknown(format!("write `{name}`"));
    }
    if definition.starts_with("Endpoint") && key == "port" {
        return unknown("write the port behind the address: `address: 192.0.2.11:53`".to_owned());
    }
    if definition == "Listener" && key == "port" {
        return unknown("write the port behind the address: `address: 192.0.2.53:53`".to_owned());
    }
    if let Some((_, _, ours)) = OTHER_NAMES
        .iter()
        .find(|(of, theirs, _)| *of == definition && *theirs == snake)
    {
        return unknown(format!("here it is called `{ours}`"));
    }
    if let Some(path) = below(root, here.shape, &snake, 0) {
        return unknown(format!("it belongs one level deeper: `{path}`"));
    }
    if let Some(level) = above
        .iter()
        .rev()
        .find(|level| level.shape.property(&snake).is_some())
    {
        return unknown(format!("it is a key of {}: indent it less", level.name));
    }
    if let Some(name) = nearest(key, keys()) {
        return unknown(format!("did you mean `{name}`?"));
    }
    let keys: Vec<&str> = keys().collect();
    match keys.as_slice() {
        [only] => unknown(format!("the only key here is {only}")),
        _ => unknown(format!("the keys here are {}", keys.join(", "))),
    }
}

fn later(definition: &str, key: &str) -> Mistake {
    let forward = "forward in the kernel (L4) with `forward: { cluster: NAME }`";
    match definition {
        "Listener" => Mistake::new(
            "L7 listeners are not in this version yet",
            format!("remove `{key}` and {forward}"),
        ),
        "HealthCheck" => Mistake::new(
            format!("health checks by {key} are not in this version yet"),
            "check by connecting: `tcp: {}`",
        ),
        _ => Mistake::new("not in this version yet", format!("remove `{key}`")),
    }
}

/// Where a key of this name stands further down: `forward.cluster`, `listeners[].name`.
fn below(root: &Value, shape: Shape<'_>, key: &str, depth: u8) -> Option<String> {
    let children: Vec<(String, Shape<'_>)> = shape
        .properties()
        .flat_map(|(name, schema)| {
            let elements = schema.get("items");
            let suffix = if elements.is_some() { "[]" } else { "" };
            let shapes = shapes(root, elements.unwrap_or(schema)).into_iter();
            shapes
                .filter(|shape| shape.is("object"))
                .map(move |shape| (format!("{name}{suffix}"), shape))
        })
        .collect();
    let found = children.iter().find(|(_, shape)| shape.property(key).is_some());
    if let Some((name, _)) = found {
        return Some(format!("{name}.{key}"));
    }
    if depth == 2 {
        return None;
    }
    children
        .iter()
        .find_map(|(name, shape)| Some(format!("{name}.{}", below(root, *shape, key, depth + 1)?)))
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
