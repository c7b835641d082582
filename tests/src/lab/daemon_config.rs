//! Configs for the daemon under test, put together piece by piece.

use super::Topology;
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path};

/// A config; [`DaemonConfig::value`] is what is written to the file, for tests that want more.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// JSON is YAML.
    pub value: Value,
}

impl DaemonConfig {
    /// Nothing but interfaces.
    pub fn new(interfaces: &[&str]) -> Self {
        Self {
            value: json!({"interfaces": interfaces, "listeners": [], "clusters": []}),
        }
    }

    /// The interfaces of the standard topology's balancer.
    pub fn standard() -> Self {
        Self::new(&super::INTERFACES)
    }

    /// How XDP is attached to every interface: `native`, `generic`, `off`.
    pub fn xdp(mut self, how: &str) -> Self {
        for interface in self.value["interfaces"].as_array_mut().into_iter().flatten() {
            *interface = json!({"name": interface.clone(), "xdp": how});
        }
        self
    }

    /// One more interface, with how XDP is attached.
    pub fn interface(mut self, name: &str, xdp: &str) -> Self {
        self.push("interfaces", json!({"name": name, "xdp": xdp}));
        self
    }

    /// A listener with a cluster of its own name, each endpoint with a weight.
    pub fn service(
        mut self,
        name: &str,
        protocol: &str,
        address: SocketAddr,
        endpoints: &[(SocketAddr, u32)],
    ) -> Self {
        let endpoint = |(address, weight): &_| json!({"address": address, "weight": weight});
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        self.push("clusters", json!({"name": name, "endpoints": endpoints}));
        self.listener(name, protocol, address, name)
    }

    /// A listener for a cluster that is there already.
    pub fn listener(mut self, name: &str, protocol: &str, address: SocketAddr, cluster: &str) -> Self {
        let forward = json!({"cluster": cluster});
        self.push(
            "listeners",
            json!({"name": name, "protocol": protocol, "address": address, "forward": forward}),
        );
        self
    }

    /// The cluster's value, to change; null if there is none of this name.
    pub fn cluster(&mut self, name: &str) -> &mut Value {
        let clusters = self.value["clusters"].as_array_mut();
        let found = clusters.and_then(|all| all.iter().position(|cluster| cluster["name"] == name));
        match found {
            Some(position) => &mut self.value["clusters"][position],
            None => &mut self.value["no such cluster"],
        }
    }

    /// Every endpoint of the cluster is probed by TCP this often, and believed at the second
    /// answer in a row that differs.
    pub fn health_check(mut self, cluster: &str, interval: &str) -> Self {
        self.cluster(cluster)["health_check"] =
            json!({"tcp": {}, "interval": interval, "timeout": interval, "rise": 2, "fall": 2});
        self
    }

    /// TCP and UDP services `tcp` and `udp` on the family's VIP 1, whose endpoints are all the
    /// topology's backends with weight 1.
    pub fn echo(self, topology: &Topology, family: super::Family, port: u16) -> Self {
        let endpoint = |n| (SocketAddr::new(family.backend(n), port), 1);
        let endpoints: Vec<_> = (0..topology.backends.len()).map(endpoint).collect();
        let vip = SocketAddr::new(family.vip(1), port);
        let suffix = if family == super::Family::V4 { "4" } else { "6" };
        self.service(&format!("tcp{suffix}"), "tcp", vip, &endpoints)
            .listener(&format!("udp{suffix}"), "udp", vip, &format!("tcp{suffix}"))
    }

    /// The text with the daemon's own paths in it.
    pub(super) fn text(&self, pin_path: &Path, socket: &Path) -> String {
        let mut value = self.value.clone();
        if value["kernel"]["pin_path"].is_null() {
            value["kernel"]["pin_path"] = json!(pin_path);
        }
        value["admin"]["socket"] = json!(socket);
        format!("{value:#}\n")
    }

    fn push(&mut self, list: &str, value: Value) {
        if let Some(list) = self.value[list].as_array_mut() {
            list.push(value);
        }
    }
}
