//! The one table of operations: routing, the answers to what is not there, and the OpenAPI document are made from it.

use super::{
    caller::CallerAnswer,
    drain::{DrainOrder, DrainStatus},
    flow::FlowAnswer,
    parameter::{ADDRESS, FLOW, NAME, Parameter},
    status::{ChangeAnswer, EndpointPatch, Status},
    topology::TopologyAnswer,
    views::{
        CertificatesAnswer, ClusterView, ClustersAnswer, ConfigDump, EndpointView, ListenersAnswer,
        LogSettings, WorkersAnswer,
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// What is done for an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Status,
    Metrics,
    Flow,
    Reload,
    Draining,
    Drain,
    EndDrain,
    Endpoint,
    SetEndpoint,
    Config,
    Clusters,
    Cluster,
    Listeners,
    Certificates,
    Workers,
    Topology,
    Caller,
    Log,
    SetLog,
    Document,
}

/// The schema of a body.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One operation.
pub(super) struct Operation {
    pub(super) call: Call,
    /// Unique; what generated clients call it.
    pub(super) id: &'static str,
    /// In capitals.
    pub(super) method: &'static str,
    /// Segments, of which those in braces are parameters.
    pub(super) path: &'static str,
    /// Those of the path in its order, then those of the query.
    pub(super) parameters: &'static [Parameter],
    pub(super) body: Option<Shape>,
    pub(super) answer: Shape,
    /// The answer's media type.
    pub(super) media: &'static str,
    /// Statuses beside those that follow from the rest: [`Operation::errors`].
    refusals: &'static [u16],
    /// Whether it changes something, and is written to the audit log.
    pub(super) changes: bool,
    pub(super) summary: &'static str,
}

/// All there are.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        refusals: &[503],
        ..read(
            Call::Status,
            "status",
            "/status",
            schema::<Status>,
            "The state of things: services, backends, packets, drops; listeners and workers",
        )
    },
    Operation {
        refusals: &[503],
        media: "text/plain",
        ..read(
            Call::Metrics,
            "metrics",
            "/metrics",
            any_text,
            "All metrics for Prometheus; OpenMetrics if that is accepted",
        )
    },
    Operation {
        parameters: &FLOW,
        refusals: &[404, 500, 503],
        ..read(
            Call::Flow,
            "flow",
            "/flows/{protocol}/{client}/{vip}",
            schema::<FlowAnswer>,
            "Which backend a flow goes to, and why",
        )
    },
    Operation {
        refusals: &[422, 500, 503],
        ..change(
            Call::Reload,
            "reload",
            "POST",
            "/reload",
            schema::<ChangeAnswer>,
            "Read the config again and apply it, all or nothing",
        )
    },
    Operation {
        refusals: &[503],
        ..read(
            Call::Draining,
            "draining",
            "/drain",
            schema::<DrainStatus>,
            "Whether the daemon is ready for traffic, and how far its drain is",
        )
    },
    Operation {
        body: Some(schema::<DrainOrder>),
        refusals: &[503],
        ..change(
            Call::Drain,
            "drain",
            "POST",
            "/drain",
            schema::<DrainStatus>,
            "Drain the daemon: not ready at once, then listeners close, then it ends",
        )
    },
    Operation {
        refusals: &[503],
        ..change(
            Call::EndDrain,
            "endDrain",
            "DELETE",
            "/drain",
            schema::<DrainStatus>,
            "Have the daemon go on, as long as its listeners are open",
        )
    },
    Operation {
        parameters: &[NAME, ADDRESS],
        body: Some(schema::<EndpointPatch>),
        refusals: &[404, 500, 503],
        ..change(
            Call::SetEndpoint,
            "setEndpoint",
            "PATCH",
            "/clusters/{name}/endpoints/{address}",
            schema::<ChangeAnswer>,
            "Set an endpoint's weight or drain, until the next start or durably",
        )
    },
    Operation {
        refusals: &[503],
        ..read(
            Call::Config,
            "config",
            "/config",
            schema::<ConfigDump>,
            "The config as it runs, without secrets",
        )
    },
    Operation {
        refusals: &[503],
        ..read(
            Call::Clusters,
            "clusters",
            "/clusters",
            schema::<ClustersAnswer>,
            "Clusters with their endpoints, effective weights and why",
        )
    },
    Operation {
        parameters: &[NAME],
        refusals: &[404, 503],
        ..read(
            Call::Cluster,
            "cluster",
            "/clusters/{name}",
            schema::<ClusterView>,
            "One cluster",
        )
    },
    Operation {
        parameters: &[NAME, ADDRESS],
        refusals: &[404, 503],
        ..read(
            Call::Endpoint,
            "endpoint",
            "/clusters/{name}/endpoints/{address}",
            schema::<EndpointView>,
            "One endpoint, what is counted of it and when its health changed",
        )
    },
    Operation {
        refusals: &[503],
        ..read(
            Call::Listeners,
            "listeners",
            "/listeners",
            schema::<ListenersAnswer>,
            "Listeners with their addresses and routes",
        )
    },
    Operation {
        refusals: &[503],
        ..read(
            Call::Certificates,
            "certificates",
            "/certificates",
            schema::<CertificatesAnswer>,
            "Certificates that Weir shows, and when they end",
        )
    },
    Operation {
        refusals: &[503],
        ..read(
            Call::Workers,
            "workers",
            "/workers",
            schema::<WorkersAnswer>,
            "Workers of the L7 plane, their connections and counters",
        )
    },
    Operation {
        refusals: &[503],
        ..read(
            Call::Topology,
            "topology",
            "/topology",
            schema::<TopologyAnswer>,
            "What is wrong, and what goes where: listeners, clusters and the endpoints to look at, with counters",
        )
    },
    read(
        Call::Caller,
        "caller",
        "/caller",
        schema::<CallerAnswer>,
        "Who asks, and whether it may change anything",
    ),
    read(Call::Log, "log", "/log", schema::<LogSettings>, "What is logged"),
    Operation {
        body: Some(schema::<LogSettings>),
        ..change(
            Call::SetLog,
            "setLog",
            "PUT",
            "/log",
            schema::<LogSettings>,
            "Log more or less, until the next start",
        )
    },
    read(
        Call::Document,
        "openapi",
        "/openapi.json",
        any_object,
        "This API as an OpenAPI document",
    ),
];

const fn read(
    call: Call,
    id: &'static str,
    path: &'static str,
    answer: Shape,
    summary: &'static str,
) -> Operation {
    Operation {
        call,
        id,
        method: "GET",
        path,
        parameters: &[],
        body: None,
        answer,
        media: JSON,
        refusals: &[],
        changes: false,
        summary,
    }
}

const fn change(
    call: Call,
    id: &'static str,
    method: &'static str,
    path: &'static str,
    answer: Shape,
    summary: &'static str,
) -> Operation {
    Operation {
        method,
        changes: true,
        ..read(call, id, path, answer, summary)
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The media type of all bodies and answers, but for metrics.
pub(super) const JSON: &str = "application/json";

fn any_text(_generator: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "string" })
}

fn any_object(_generator: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

impl Operation {
    /// Every status but 200 that it can answer with, in order.
    pub(super) fn errors(&self) -> Vec<u16> {
        let mut errors = vec![401, 403];
        errors.extend(self.refusals);
        if !self.parameters.is_empty() || self.body.is_some() {
            errors.push(400);
        }
        if self.body.is_some() {
            errors.extend([408, 413]);
        }
        errors.sort_unstable();
        errors
    }

    /// Method and path as they are listed for people: `GET /flows/PROTOCOL/CLIENT/VIP[?connection_id=HEX]`.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{} {}", self.method, self.path);
        for parameter in self.parameters {
            if parameter.in_query {
                text += &format!("[?{}={}]", parameter.name, parameter.shown);
            } else {
                text = text.replace(&format!("{{{}}}", parameter.name), parameter.shown);
            }
        }
        text
    }

    /// The values of the path's parameters, as they were sent, if it is a path of this operation.
    pub(super) fn matched<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let (mut template, mut typed) = (self.path.split('/'), path.split('/'));
        let mut values = Vec::new();
        loop {
            match (template.next(), typed.next()) {
                (None, None) => return Some(values),
                (Some(segment), Some(value)) if segment.starts_with('{') && !value.is_empty() => {
                    values.push(value);
                }
                (Some(segment), Some(value)) if segment == value => {}
                _ => return None,
            }
        }
    }
}

/// What a status says.
pub(super) fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The path, query or body is not as described",
        401 => "Over TCP: neither a token nor a client certificate that is known",
        403 => "The token may read only, or a browser asks for a page of another site",
        404 => "What the path names is not there",
        408 => "The body did not come in time",
        413 => "The body is too long",
        422 => "The config has mistakes; what ran goes on",
        500 => "The kernel plane or the disk could not take it; what ran goes on",
        503 => "The daemon is stopping",
        _ => "An error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_operation_is_one_of_its_own_and_its_parameters_are_those_of_its_path() {
        let ids: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
        let shown: BTreeSet<_> = OPERATIONS.iter().map(Operation::shown).collect();
        assert_eq!((ids.len(), shown.len()), (OPERATIONS.len(), OPERATIONS.len()));
        for operation in OPERATIONS {
            let in_path = operation
                .parameters
                .iter()
                .filter(|parameter| !parameter.in_query);
            let in_path: Vec<String> = in_path
                .map(|parameter| format!("{{{}}}", parameter.name))
                .collect();
            assert_eq!(
                operation.matched(operation.path).unwrap(),
                in_path,
                "{}",
                operation.id
            );
            assert_eq!(operation.changes, operation.method != "GET", "{}", operation.id);
            for parameter in operation.parameters {
                let pattern = regex::Regex::new(parameter.pattern).unwrap();
                assert!(pattern.is_match(parameter.example), "{parameter:?}");
            }
            for status in operation.errors() {
                assert_ne!(meaning(status), meaning(0), "{}: {status}", operation.id);
            }
        }
    }

    #[test]
    fn paths_match_whole_and_never_with_empty_segments() {
        let cluster = OPERATIONS
            .iter()
            .find(|operation| operation.call == Call::Cluster)
            .unwrap();
        assert_eq!(cluster.matched("/clusters/web"), Some(vec!["web"]));
        for other in [
            "/clusters/",
            "/clusters",
            "/clusters/web/",
            "/clusters/web/endpoints",
            "clusters/web",
            "",
        ] {
            assert_eq!(cluster.matched(other), None, "{other}");
        }
    }

    #[test]
    fn the_manual_has_every_operation() {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
        let manual = fs::read_to_string(manual).unwrap();
        for operation in OPERATIONS {
            let row = format!("| `{}` | {} |", operation.shown(), operation.summary);
            assert!(manual.contains(&row), "docs/api.md lacks {row}");
        }
        let rows = manual.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(
            rows,
            OPERATIONS.len(),
            "docs/api.md has rows of what is not there"
        );
    }
}
