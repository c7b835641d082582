//! A server on a thread of its own that tells each client what came of its handshake.

use super::super::{AcceptError, accept, peer_identity};
use rustls::{ServerConfig, ServerConnection};
use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::oneshot};

/// What came of a handshake, for the test.
pub type Outcome = Result<String, AcceptError>;

/// Ends with its drop.
pub struct Site {
    pub address: SocketAddr,
    outcomes: mpsc::Receiver<Outcome>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self::with_limit(config, Duration::from_secs(60))
    }

    /// With this limit for a handshake.
    pub fn with_limit(config: Arc<ServerConfig>, limit: Duration) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (report, outcomes) = mpsc::channel();
        let (ready, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let (stream, _) = tokio::select! {
                        _ = &mut stopped => break,
                        accepted = listener.accept() => accepted.unwrap(),
                    };
                    let outcome = match accept(stream, config.clone(), limit).await {
                        Ok(mut stream) => {
                            let text = describe(stream.get_ref().1);
                            let body = format!("HTTP/1.0 200 OK\r\n\r\n{text}\n");
                            // The client may have left already.
                            let _gone = stream.write_all(body.as_bytes()).await;
                            let _gone = stream.shutdown().await;
                            Ok(text)
                        }
                        Err(error) => Err(error),
                    };
                    report.send(outcome).unwrap();
                }
            });
        });
        Self {
            address: address.recv().unwrap(),
            outcomes,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What came of the next connection.
    pub fn outcome(&self) -> Outcome {
        self.outcomes.recv().unwrap()
    }

    /// What openssl s_client prints; its input stays open until the server has closed.
    pub fn s_client(&self, arguments: &[&str]) -> String {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &self.address.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is not installed");
        let input = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(input);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// What curl prints for a URL with this scheme and host.
    pub fn curl(&self, scheme: &str, host: &str, arguments: &[&str]) -> String {
        let port = self.address.port();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*"])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .args(arguments)
            .arg(format!("{scheme}://{host}:{port}/"))
            .output()
            .expect("curl is not installed");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.stop.take());
        let joined = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            joined.unwrap().unwrap();
        }
    }
}

fn describe(connection: &ServerConnection) -> String {
    let group = connection
        .negotiated_key_exchange_group()
        .map(|group| group.name());
    let alpn = connection.alpn_protocol().map(String::from_utf8_lossy);
    format!(
        "{:?} {:?} {group:?} alpn={alpn:?} client={:?}",
        connection.protocol_version().unwrap(),
        connection.handshake_kind().unwrap(),
        peer_identity(connection).map(|identity| identity.forwarded_client_cert()),
    )
}
