//! TCP listeners: a connection goes whole to an endpoint, chosen by server name where asked for.

use super::{
    balance::{self, Endpoint},
    compile::CompiledCluster,
    error::Fault,
    listener::{Cluster, Serving},
    meters::Downstream,
    stream::Transport,
    tcp, tls,
    upstream::{self, Pool, connect_tcp, connect_transport},
    worker::Worker,
};
use crate::model::l7::TcpSettings;
use http::HeaderMap;
use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// Time for a ClientHello to come.
const HELLO: Duration = Duration::from_secs(10);

/// Endpoints tried for one connection.
const MOST_TRIES: usize = 3;

/// Serves one connection to its end.
pub async fn serve(
    worker: &Rc<Worker>,
    (serving, meter): (&Rc<Serving>, &Downstream),
    settings: &Arc<TcpSettings>,
    stream: TcpStream,
    ends: (SocketAddr, SocketAddr),
) {
    worker.counters.requests.increase();
    let name = &serving.compiled.model.name;
    let (client, server_name) = match (&serving.compiled.tls, &serving.compiled.model.tls) {
        (Some(config), Some(tls_settings)) => {
            match tls::accept(stream, Arc::clone(config), tls_settings.handshake_timeout).await {
                Ok(stream) => {
                    let server_name = stream.get_ref().1.server_name().map(Box::from);
                    (Transport::Server(Box::new(stream)), server_name)
                }
                Err(error) => {
                    worker.counters.handshakes_failed[error as usize].increase();
                    return tracing::debug!("listener {name}: {}: {error}", ends.0);
                }
            }
        }
        _ if settings.sni.is_empty() => (Transport::Plain(stream), None),
        _ => match tcp::sni::read(&stream, HELLO).await {
            Ok(server_name) => (Transport::Plain(stream), server_name),
            Err(error) => return tracing::debug!("listener {name}: {}: {error}", ends.0),
        },
    };
    let chosen = tcp::choose(settings, server_name.as_deref());
    let cluster = chosen.and_then(|chosen| {
        let position = serving.compiled.clusters.iter().position(|each| each == chosen)?;
        serving.clusters.get(position)
    });
    let Some(cluster) = cluster else {
        return tracing::debug!("listener {name}: {}: no cluster for its server name", ends.0);
    };
    cluster.meter.traffic.requests.increase();
    match connect(cluster, ends).await {
        Ok((upstream, endpoint)) => {
            let (_in_flight, _counted) = (endpoint.begin(), endpoint.pool.stream());
            let copied = match (client, upstream) {
                (Transport::Plain(client), Transport::Plain(upstream)) => {
                    tcp::serve(client, upstream, settings.idle_timeout).await
                }
                (client, upstream) => tcp::serve(client, upstream, settings.idle_timeout).await,
            };
            worker.counters.received.add(copied.to_upstream);
            worker.counters.sent.add(copied.to_client);
            meter.received.add(copied.to_upstream);
            meter.sent.add(copied.to_client);
            endpoint.pool.copied(&copied);
        }
        Err(fault) => {
            cluster.meter.failures.increase();
            tracing::debug!("listener {name}: {}: {fault}", ends.0);
        }
    }
}

type Connected = (Transport, Rc<Endpoint<Rc<Pool>>>);

async fn connect(cluster: &Rc<Cluster>, ends: (SocketAddr, SocketAddr)) -> Result<Connected, Fault> {
    let compiled: Arc<CompiledCluster> = Arc::clone(&cluster.compiled.borrow());
    let headers = HeaderMap::new();
    let facts = balance::Facts {
        headers: &headers,
        source: ends.0.ip(),
        query: None,
    };
    let key = balance::key(&compiled.model.l7.hash, &facts);
    let mut tried = Vec::new();
    let mut last = Fault::NoEndpoint;
    while tried.len() < MOST_TRIES {
        let picked = cluster.balancer.borrow().pick(key, &tried);
        let Some(endpoint) = picked.filter(|endpoint| !tried.contains(&endpoint.address)) else {
            return Err(last);
        };
        let rival = || {
            let rival = cluster.balancer.borrow().other_family(&endpoint)?;
            let connecting = transport(Rc::clone(&rival), &compiled, ends);
            Some((rival, connecting))
        };
        let connected = upstream::race(transport(Rc::clone(&endpoint), &compiled, ends), rival).await;
        match connected {
            Ok((transport, rival)) => return Ok((transport, rival.unwrap_or(endpoint))),
            Err(fault) => {
                last = fault;
                endpoint.pool.connect_failed(fault);
                tried.push(endpoint.address);
            }
        }
    }
    Err(last)
}

async fn transport(
    endpoint: Rc<Endpoint<Rc<Pool>>>,
    cluster: &CompiledCluster,
    ends: (SocketAddr, SocketAddr),
) -> Result<Transport, Fault> {
    if cluster.tls.is_some() {
        let name = endpoint.name.as_deref();
        let connected = connect_transport(endpoint.address, name, cluster, Some(ends)).await;
        return connected.map(|(transport, _)| transport);
    }
    let connected = connect_tcp(endpoint.address, cluster, Some(ends)).await;
    connected.map(Transport::Plain)
}
