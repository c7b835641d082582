//! The handshake with a client, and why it failed.

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible, ServerConfig};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Why a handshake failed; the client's doing, but for `Other`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AcceptError {
    /// It wasn't finished in time.
    Timeout,
    /// The client went away before it was finished, without a word.
    Closed,
    /// HTTP without TLS. The client was told so with a 400.
    PlainHttp,
    /// The first bytes are not a TLS record.
    NotTls,
    /// No version, cipher suite, key exchange or signature scheme that both sides know.
    NothingShared,
    /// No application protocol (ALPN) that both sides speak.
    NoProtocol,
    /// The client showed no certificate where it must.
    NoCertificate,
    /// The client's certificate is expired, of an unknown authority, or otherwise wrong.
    BadCertificate,
    /// The client doesn't accept the server's certificate.
    Rejected,
    /// The client ended it with another alert.
    Alert,
    /// The client broke TLS's rules.
    Misbehaved,
    /// The connection failed, or the daemon did.
    Other,
}

impl AcceptError {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Timeout,
        Self::Closed,
        Self::PlainHttp,
        Self::NotTls,
        Self::NothingShared,
        Self::NoProtocol,
        Self::NoCertificate,
        Self::BadCertificate,
        Self::Rejected,
        Self::Alert,
        Self::Misbehaved,
        Self::Other,
    ];

    /// A metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::NothingShared => "nothing_shared",
            Self::NoProtocol => "no_protocol",
            Self::NoCertificate => "no_client_certificate",
            Self::BadCertificate => "bad_client_certificate",
            Self::Rejected => "server_certificate_rejected",
            Self::Alert => "client_alert",
            Self::Misbehaved => "client_misbehaved",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "the client didn't finish the TLS handshake in time",
            Self::Closed => "the client closed the connection during the TLS handshake",
            Self::PlainHttp => "the client speaks HTTP without TLS; use https:// for this port",
            Self::NotTls => "the client doesn't speak TLS",
            Self::NothingShared => {
                "the client shares no TLS version, cipher suite or key exchange with the listener"
            }
            Self::NoProtocol => "the client speaks none of the protocols under `alpn`",
            Self::NoCertificate => "the client showed no certificate, and the listener requires one",
            Self::BadCertificate => {
                "the client's certificate is not one that the listener's `ca` vouches for now"
            }
            Self::Rejected => "the client doesn't accept the listener's certificate",
            Self::Alert => "the client ended the TLS handshake with an alert",
            Self::Misbehaved => "the client broke the rules of TLS",
            Self::Other => "the connection failed during the TLS handshake",
        })
    }
}

impl std::error::Error for AcceptError {}

impl From<&rustls::Error> for AcceptError {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::PeerIncompatible(
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
            ) => Self::BadCertificate,
            rustls::Error::PeerIncompatible(_) => Self::NothingShared,
            rustls::Error::NoApplicationProtocol => Self::NoProtocol,
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(_) => Self::BadCertificate,
            rustls::Error::AlertReceived(
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA,
            ) => Self::Rejected,
            rustls::Error::AlertReceived(_) => Self::Alert,
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::InvalidMessage(_)
            | rustls::Error::PeerMisbehaved(_)
            | rustls::Error::PeerSentOversizedRecord
            | rustls::Error::DecryptError => Self::Misbehaved,
            _ => Self::Other,
        }
    }
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (inner, error.kind()) {
            (Some(inner), _) => inner.into(),
            (
                None,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => Self::Closed,
            _ => Self::Other,
        }
    }
}

/// Does the handshake within `limit`. Nothing is allocated for the connection until its first bytes are there.
///
/// # Errors
/// Why it failed. The client has its alert, or where it speaks plain HTTP an answer; the connection is closed.
pub async fn accept(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, AcceptError> {
    timeout(limit, handshake(stream, config))
        .await
        .unwrap_or(Err(AcceptError::Timeout))
}

async fn handshake(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, AcceptError> {
    let mut first = [0; 8];
    match stream.peek(&mut first).await? {
        0 => return Err(AcceptError::Closed),
        count if looks_like_http(&first[..count]) => {
            // Boxed: its buffer would be part of every connection.
            Box::pin(answer_plain_http(&mut stream)).await;
            return Err(AcceptError::PlainHttp);
        }
        _ => {}
    }
    Ok(TlsAcceptor::from(config).accept(stream).await?)
}

/// A method in capitals and a space, or HTTP/2's preface: `PRI `. A TLS handshake record begins with 22.
fn looks_like_http(bytes: &[u8]) -> bool {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    letters >= 3 && bytes.get(letters).is_none_or(|next| *next == b' ')
}

/// Says what is wrong to whoever reads it, and reads what came, since closing a socket with unread bytes would reset
/// the connection before the answer is read.
async fn answer_plain_http(stream: &mut TcpStream) {
    const ANSWER: &str = concat!(
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n",
        "content-length: 44\r\n\r\nThis port speaks HTTPS: use an https:// URL\n",
    );
    let mut sink = [0; 4_096];
    let read = stream.try_read(&mut sink);
    if read.is_ok() && stream.try_write(ANSWER.as_bytes()).is_ok() {
        // The client may have gone by now; there is nobody else to tell.
        let _gone = stream.shutdown().await;
    }
}
