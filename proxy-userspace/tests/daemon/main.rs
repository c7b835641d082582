//! The daemon from outside: config in, signals in, API out; no privileges needed.

mod admin;
mod admin_tcp;
mod api;
mod certificates;
mod command_line;
mod discovery;
mod drain;
mod explain;
mod failure;
mod health;
mod logging;
mod metrics;
mod metrics_shipped;
mod openapi;
mod proxy;
mod reload;
mod service;
mod support;

use serde_json::Value;

/// A cluster of two endpoints that nobody needs to reach.
const WEB: &str = "  - { name: web, endpoints: [\"198.51.100.1:80\", \"198.51.100.2:80\"] }\n";

fn endpoints(status: &Value) -> Vec<&Value> {
    status["services"][0]["backends"]
        .as_array()
        .unwrap()
        .iter()
        .collect()
}
