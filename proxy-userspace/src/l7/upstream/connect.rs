//! Opens connections to endpoints: TCP, then TLS.

use crate::{
    descriptors,
    l7::{compile::CompiledCluster, error::Fault, proxy_header, stream::Transport, tls},
    model::BackendAddr,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// The client's address and the one it connected to, for the PROXY protocol.
pub type Ends = (SocketAddr, SocketAddr);

/// A TCP connection to an endpoint, within the time; with a PROXY header where the cluster asks for one.
///
/// # Errors
/// [`Fault::Exhausted`], [`Fault::Connect`], [`Fault::ConnectTimeout`].
pub async fn connect_tcp(
    address: BackendAddr,
    cluster: &CompiledCluster,
    ends: Option<Ends>,
) -> Result<TcpStream, Fault> {
    let settings = &cluster.model.l7;
    let mut stream = within(settings.timeouts.connect, open(address.0)).await?;
    if let (Some(version), Some((client, local))) = (settings.proxy_protocol, ends) {
        let header = proxy_header::header(version, client, local);
        stream.write_all(&header).await.map_err(|_| Fault::Connect)?;
    }
    Ok(stream)
}

async fn open(address: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = descriptors::ask().and_then(|()| match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    });
    let socket = socket.map_err(|error| fault(&error))?;
    // Small writes are whole requests: waiting for more only delays them.
    let _not_vital = socket.set_nodelay(true);
    socket.connect(address).await.map_err(|error| fault(&error))
}

/// Whose fault it is: what this host lacks says nothing of the endpoint.
fn fault(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL) => {
            Fault::Exhausted
        }
        _ => Fault::Connect,
    }
}

/// The same with TLS where the cluster has it; the second value is whether ALPN chose h2.
///
/// # Errors
/// As above, and [`Fault::ConnectTls`].
pub async fn connect_transport(
    address: BackendAddr,
    name: Option<&str>,
    cluster: &CompiledCluster,
    ends: Option<Ends>,
) -> Result<(Transport, bool), Fault> {
    let stream = connect_tcp(address, cluster, ends).await?;
    let (Some(config), Some(settings)) = (&cluster.tls, &cluster.model.l7.tls) else {
        return Ok((Transport::Plain(stream), false));
    };
    let server_name = tls::server_name(settings, name, address.0.ip());
    let connector = TlsConnector::from(Arc::clone(config));
    let handshake = async {
        let connected = connector.connect(server_name, stream).await;
        connected.map_err(|error| {
            tracing::debug!("TLS with {address}: {error}");
            Fault::ConnectTls
        })
    };
    let stream = within(cluster.model.l7.timeouts.connect, handshake).await?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Transport::Client(Box::new(stream)), is_h2))
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(time, work).await.unwrap_or(Err(Fault::ConnectTimeout))
}
