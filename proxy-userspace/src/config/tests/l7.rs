//! The same for listeners of the L7 plane.

use super::*;
use crate::model::{
    ClusterName,
    l7::{Action, ListenerKind, PortRange, Route},
};

/// Whether every listener could be served.
pub(super) fn assert_sound<'a>(loaded: &'a Loaded, names: &mut HashSet<&'a str>) {
    let mut ranges: Vec<PortRange> = Vec::new();
    let known = |cluster: &ClusterName| assert!(loaded.clusters.contains_key(cluster), "{cluster}");
    for listener in &loaded.listeners {
        assert!(names.insert(&listener.name) && listener.place.line > 0 && !listener.addresses.is_empty());
        for range in &listener.addresses {
            assert!(range.first > 0 && range.first <= range.last);
            for service in &loaded.services {
                let tcp = service.protocol == proxy_common::net::Protocol::Tcp;
                assert!(!tcp || !range.contains(service.address.0.ip(), service.address.0.port()));
            }
            assert!(!ranges.iter().any(|other| overlap(other, range)));
            ranges.push(*range);
        }
        if let Some(tls) = &listener.tls {
            assert!(!tls.certificates.is_empty());
        }
        match &listener.kind {
            ListenerKind::Http { routes, .. } => {
                assert!(!routes.is_empty());
                routes.iter().flat_map(clusters).for_each(known);
            }
            ListenerKind::Tcp { settings, .. } => {
                assert!(settings.cluster.is_some() || !settings.sni.is_empty());
                settings.cluster.iter().for_each(known);
                settings.sni.iter().for_each(|route| known(&route.cluster));
            }
        }
    }
}

fn overlap(a: &PortRange, b: &PortRange) -> bool {
    let family = a.address.is_ipv4() == b.address.is_ipv4();
    let any = a.address.is_unspecified() || b.address.is_unspecified();
    family && (any || a.address == b.address) && a.first <= b.last && b.first <= a.last
}

fn clusters(route: &Route) -> Vec<&ClusterName> {
    let Action::Forward(clusters) = &route.action else {
        return Vec::new();
    };
    assert!(clusters.iter().any(|cluster| cluster.weight > 0));
    clusters.iter().map(|cluster| &cluster.cluster).collect()
}

/// Defaults of the schema as they stand in a YAML flow mapping; nothing where they are left out.
struct Defaults<'a> {
    schema: &'a serde_json::Value,
    typed_out: bool,
}

impl Defaults<'_> {
    /// Behind other keys: `, a: 1, b: 2`.
    fn group(&self, definition: &str, keys: &[&str]) -> String {
        if !self.typed_out {
            return String::new();
        }
        let typed = keys.iter().map(|key| {
            let value = &self.schema["$defs"][definition]["properties"][key]["default"];
            assert!(!value.is_null(), "{definition}.{key} has no default");
            format!(", {key}: {value}")
        });
        typed.collect()
    }

    /// As a mapping of this key.
    fn mapping(&self, key: &str, definition: &str, keys: &[&str]) -> String {
        let group = self.group(definition, keys);
        match group.strip_prefix(", ") {
            Some(group) => format!(", {key}: {{ {group} }}"),
            None => group,
        }
    }

    /// Those of an HTTP listener.
    fn http(&self) -> String {
        let listener = [
            "protocol",
            "proxy_protocol",
            "max_connections",
            "upgrades",
            "grpc_web",
            "server_header",
            "connect",
        ];
        let limits = ["header_bytes", "header_count", "uri_bytes", "concurrent_streams"];
        let timeouts = [
            "header_read",
            "request",
            "idle_stream",
            "idle_connection",
            "per_try",
        ];
        let path = ["resolve_dot_segments", "merge_slashes", "encoded_slashes"];
        let forwarded = [
            "trusted_hops",
            "x_forwarded",
            "forwarded",
            "request_id",
            "client_certificate",
        ];
        [
            self.group("Listener", &listener),
            self.mapping("limits", "HttpLimits", &limits),
            self.mapping("timeouts", "HttpTimeouts", &timeouts),
            self.mapping("path", "PathOptions", &path),
            self.mapping("forwarded", "Forwarded", &forwarded),
        ]
        .concat()
    }

    /// Those of a cluster.
    fn cluster(&self) -> String {
        let pool = [
            "max_idle",
            "max_connections",
            "max_pending",
            "max_streams",
            "idle_timeout",
            "max_age",
        ];
        [
            self.group("Cluster", &["policy", "protocol"]),
            self.mapping("pool", "Pool", &pool),
            self.mapping("timeouts", "UpstreamTimeouts", &["connect"]),
        ]
        .concat()
    }

    /// The text of a config.
    fn config(&self) -> String {
        let certificates = "../tests/data/certificates";
        format!(
            "listeners:\n\
             - {{ name: a, address: \"192.0.2.1:1\"{}, access_log: {{ path: /dev/stdout{} }}, routes: [\
               {{ match: {{ headers: [{{ name: a, exact: b{} }}] }}, clusters: [{{ cluster: a{} }}] }}, \
               {{ redirect: {{ scheme: https{} }} }}], \
               tls: {{ self_signed: true{}, client_certificates: {{ ca: {certificates}/ca.pem{} }} }} }}\n\
             - {{ name: b, address: \"192.0.2.1:2\", tcp: {{ cluster: a{} }} }}\n\
             clusters:\n\
             - {{ name: a, endpoints: [\"a.example:1\"], health_check: {{ http: {{ host: a{} }} }}, \
               tls: {{ server_name: a{} }}, sticky: {{ cookie: a{} }}{} }}\n",
            self.http(),
            self.group("AccessLog", &["format"]),
            self.group("TextMatch", &["invert"]),
            self.group("WeightedCluster", &["weight"]),
            self.group("Redirect", &["strip_query", "status"]),
            self.group("ServerTls", &["min_version", "handshake_timeout"]),
            self.group("ClientCertificates", &["mode"]),
            self.group("TcpProxy", &["idle_timeout"]),
            self.group("HttpCheck", &["path"]),
            self.group("UpstreamTls", &["verify", "min_version"]),
            self.group("Sticky", &["path"]),
            self.cluster(),
        )
    }
}

/// Every default of the schema, typed out, means the same as leaving the key out.
#[test]
fn defaults_of_the_schema_are_those_of_the_model() {
    let schema = schema();
    let load = |typed_out| {
        let text = Defaults {
            schema: &schema,
            typed_out,
        }
        .config();
        load_text(&text, &schema).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    };
    let (left_out, typed_out) = (load(false), load(true));
    assert_eq!(left_out.listeners, typed_out.listeners);
    assert_eq!(left_out.clusters, typed_out.clusters);
    assert_eq!(left_out.warnings, typed_out.warnings);
}

#[test]
fn ten_thousand_routes_are_read() {
    let mut text = String::from("listeners:\n  - name: web\n    address: 127.0.0.1:80\n    routes:\n");
    for number in 0..10_000 {
        text += &format!(
            "      - {{ match: {{ host: h{number}.example.com, path_prefix: /p{number}/ }}, cluster: web }}\n"
        );
    }
    text += "clusters:\n  - { name: web, endpoints: [\"127.0.0.1:81\"] }\n";
    let loaded = load_text(&text, &schema()).unwrap();
    let ListenerKind::Http { routes, .. } = &loaded.listeners[0].kind else {
        panic!("it has routes");
    };
    assert_eq!((routes.len(), routes[9_999].place.line), (10_000, 10_004));
}
