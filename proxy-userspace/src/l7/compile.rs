//! What all workers share of a Snapshot, made once on the control thread: routers, TLS, clusters. Never written again.

use super::{
    balance::Plan,
    log,
    meters::{ClusterMeters, ListenerMeters, MOST_ROUTES},
    router::Router,
    tls,
    trace::{Exporter, Tracing},
};
use crate::model::{
    Cluster, ClusterName, Snapshot,
    l7::{AccessLog, Action, HttpSettings, Listener, ListenerKind, Route, TcpSettings},
};
use std::{collections::HashMap, sync::Arc};

/// One generation.
pub struct Compiled {
    /// The Snapshot's.
    pub generation: u64,
    /// In config order.
    pub listeners: Vec<Arc<CompiledListener>>,
    /// Those that listeners name.
    pub clusters: Vec<Arc<CompiledCluster>>,
    /// How requests are traced.
    pub tracing: Option<Arc<Tracing>>,
}

/// A listener, ready to serve.
pub struct CompiledListener {
    /// What it was made of.
    pub model: Listener,
    /// Its TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What it speaks.
    pub kind: CompiledKind,
    /// The clusters that [`Target`]s count from.
    pub clusters: Vec<ClusterName>,
    /// Its access log: where to, and how.
    pub log: Option<(Arc<log::Sink>, Arc<log::Format>)>,
    /// What is counted of it.
    pub meters: ListenerMeters,
}

/// What a listener speaks.
pub enum CompiledKind {
    /// HTTP.
    Http {
        /// Limits and timeouts.
        settings: Arc<HttpSettings>,
        /// Finds the route.
        router: Router,
        /// By route: where it forwards to; empty where it doesn't.
        targets: Vec<Vec<Target>>,
    },
    /// A byte stream.
    Tcp(Arc<TcpSettings>),
}

/// A cluster of a listener and its share.
#[derive(Clone, Copy)]
pub struct Target {
    /// Among the listener's clusters.
    pub cluster: usize,
    /// Relative share.
    pub weight: u32,
}

/// A cluster, ready to be connected to.
pub struct CompiledCluster {
    /// What it was made of, endpoints and weights too.
    pub model: Cluster,
    /// TLS towards its endpoints.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Tables that endpoints are chosen by.
    pub plan: Plan,
    /// What is counted of it.
    pub meters: Arc<ClusterMeters>,
}

/// Why a Snapshot can't be served: what is wrong, and the remedy.
#[derive(thiserror::Error, Debug)]
#[error("{what}: {why}")]
pub struct CompileError {
    /// Listener or cluster.
    pub what: String,
    /// Problem and remedy.
    pub why: String,
}

/// Makes a generation; what is as it was before is taken from there.
///
/// # Errors
/// TLS material that can't be used.
pub fn compile(
    snapshot: &Snapshot,
    before: Option<&Compiled>,
    shared: &tls::Shared,
    writers: &log::Writers,
    exporter: &Exporter,
    workers: usize,
) -> Result<Compiled, CompileError> {
    let tracing = exporter.prepare(snapshot.settings.tracing.as_ref());
    let tracing = tracing.map_err(|mistake| CompileError {
        what: "tracing".to_owned(),
        why: mistake.to_string(),
    })?;
    let old: HashMap<&str, &Arc<CompiledListener>> = (before.iter())
        .flat_map(|before| &before.listeners)
        .map(|listener| (&*listener.model.name, listener))
        .collect();
    let mut routes_left = MOST_ROUTES;
    let listeners = snapshot.listeners.iter().map(|listener| {
        let routes = routes_of(listener);
        let own = routes_left.min(routes.len());
        routes_left -= own;
        let old = old.get(&*listener.name);
        if let Some(old) = old
            && old.model == *listener
            && old.meters.own_routes() == own
        {
            return Ok(Arc::clone(old));
        }
        let meters = ListenerMeters::new(routes, own, old.map(|old| &old.meters), workers);
        compile_listener(listener, meters, shared, writers).map(Arc::new)
    });
    let listeners: Vec<_> = listeners.collect::<Result<_, _>>()?;
    let old: HashMap<&ClusterName, &Arc<CompiledCluster>> = (before.iter())
        .flat_map(|before| &before.clusters)
        .map(|cluster| (&cluster.model.name, cluster))
        .collect();
    let mut names: Vec<&ClusterName> = listeners.iter().flat_map(|each| &each.clusters).collect();
    names.sort_unstable();
    names.dedup();
    let named = (names.into_iter()).filter_map(|name| snapshot.clusters.get(name));
    let clusters = named.map(|cluster| compile_cluster(cluster, old.get(&cluster.name).copied(), workers));
    let clusters = clusters.collect::<Result<_, _>>()?;
    Ok(Compiled {
        generation: snapshot.generation,
        listeners,
        clusters,
        tracing,
    })
}

fn routes_of(listener: &Listener) -> &[Route] {
    match &listener.kind {
        ListenerKind::Http { routes, .. } => routes,
        ListenerKind::Tcp { .. } => &[],
    }
}

fn compile_listener(
    listener: &Listener,
    meters: ListenerMeters,
    shared: &tls::Shared,
    writers: &log::Writers,
) -> Result<CompiledListener, CompileError> {
    let wrong = |why: String| CompileError {
        what: format!("listener {}", listener.name),
        why,
    };
    let tls = (listener.tls.as_deref())
        .map(|settings| tls::server(settings, shared).map_err(|mistake| wrong(mistake.to_string())))
        .transpose()?;
    let mut clusters = Vec::new();
    let mut numbers = HashMap::new();
    let mut number = |name: &ClusterName| {
        *numbers.entry(name.clone()).or_insert_with(|| {
            clusters.push(name.clone());
            clusters.len() - 1
        })
    };
    let (kind, access_log) = match &listener.kind {
        ListenerKind::Http {
            settings,
            routes,
            access_log,
        } => {
            let targets = routes.iter().map(|route| match &route.action {
                Action::Forward(weighted) => (weighted.iter())
                    .map(|each| Target {
                        cluster: number(&each.cluster),
                        weight: each.weight,
                    })
                    .collect(),
                _ => Vec::new(),
            });
            let targets = targets.collect();
            let kind = CompiledKind::Http {
                settings: Arc::clone(settings),
                router: Router::compile(Arc::clone(routes)),
                targets,
            };
            (kind, access_log)
        }
        ListenerKind::Tcp { settings, access_log } => {
            let named = settings.sni.iter().map(|route| &route.cluster);
            for name in named.chain(&settings.cluster) {
                number(name);
            }
            (CompiledKind::Tcp(Arc::clone(settings)), access_log)
        }
    };
    let open = |access_log: &AccessLog| {
        let sink = writers.open(&access_log.target);
        let sink = sink.map_err(|error| wrong(error.to_string()))?;
        let format = log::Format::new(&access_log.format).map_err(wrong)?;
        Ok((sink, Arc::new(format)))
    };
    let log = access_log.as_deref().map(open).transpose()?;
    Ok(CompiledListener {
        model: listener.clone(),
        tls,
        kind,
        clusters,
        log,
        meters,
    })
}

fn compile_cluster(
    cluster: &Cluster,
    before: Option<&Arc<CompiledCluster>>,
    workers: usize,
) -> Result<Arc<CompiledCluster>, CompileError> {
    if let Some(before) = before
        && before.model == *cluster
    {
        return Ok(Arc::clone(before));
    }
    let same_tls = before.filter(|before| {
        before.model.l7.tls == cluster.l7.tls && before.model.l7.protocol == cluster.l7.protocol
    });
    let tls = match (&cluster.l7.tls, same_tls) {
        (None, _) => None,
        // Its session cache goes on.
        (Some(_), Some(before)) => before.tls.clone(),
        (Some(settings), None) => {
            use crate::model::l7::UpstreamProtocol;
            let alpn: &[&[u8]] = match cluster.l7.protocol {
                UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
                UpstreamProtocol::Http1 => &[b"http/1.1"],
                UpstreamProtocol::Http2 => &[b"h2"],
            };
            let config = tls::client(settings, alpn).map_err(|mistake| CompileError {
                what: format!("cluster {}", cluster.name),
                why: mistake.to_string(),
            })?;
            Some(config)
        }
    };
    Ok(Arc::new(CompiledCluster {
        model: cluster.clone(),
        tls,
        plan: Plan::new(cluster, before.map(|before| &before.plan)),
        meters: ClusterMeters::new(cluster, before.map(|before| &before.meters), workers),
    }))
}
