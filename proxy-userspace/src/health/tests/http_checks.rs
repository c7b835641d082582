//! Probes by HTTP against real servers on the loopback interface.

use super::*;
use crate::{
    health::http::Probe as HttpProbe,
    model::{
        HttpCheck,
        l7::{PemBytes, Verify},
    },
};
use ::http::{Request, Response, StatusCode, Version, header::HOST};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use std::{cell::RefCell, convert::Infallible, rc::Rc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpListener as AsyncListener,
    task::LocalSet,
};
use tokio_rustls::TlsAcceptor;

/// What a server was asked: version, authority, path and query.
type Asked = Rc<RefCell<Vec<(Version, String, String)>>>;

fn asked_by(request: &Request<Incoming>) -> (Version, String, String) {
    let host = request
        .headers()
        .get(HOST)
        .map(|host| host.to_str().unwrap().to_owned());
    let authority = request.uri().authority().map(ToString::to_string);
    let path = request.uri().path_and_query().unwrap().to_string();
    (request.version(), host.or(authority).unwrap_or_default(), path)
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    http2: bool,
    status: u16,
    asked: Asked,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        asked.borrow_mut().push(asked_by(&request));
        let response = Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .body(Full::new(Bytes::from_static(b"hello")));
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let io = TokioIo::new(stream);
    // The probe hangs up as soon as it knows enough.
    let _hung_up = if http2 {
        conn::http2::Builder::new(LocalExecutor)
            .serve_connection(io, service)
            .await
    } else {
        conn::http1::Builder::new().serve_connection(io, service).await
    };
}

/// Runs tasks on the thread of the test.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves until the test ends.
async fn server(tls: Option<Arc<ServerConfig>>, http2: bool, status: u16) -> (SocketAddr, Asked) {
    let listener = AsyncListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let told = Rc::clone(&asked);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let told = Rc::clone(&told);
            let Some(tls) = tls.clone() else {
                answer(stream, http2, status, told).await;
                continue;
            };
            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                answer(stream, http2, status, told).await;
            }
        }
    });
    (address, asked)
}

fn http_check(status: &[u16]) -> HttpCheck {
    HttpCheck {
        path: "/healthz?deep=1".into(),
        host: None,
        status: status
            .iter()
            .map(|code| StatusCode::from_u16(*code).unwrap())
            .collect(),
        port: None,
    }
}

fn how(check: &HttpCheck) -> How {
    How {
        way: None,
        check: HealthCheck {
            probe: Probe::Http(check.clone()),
            ..super::check(1, 1)
        },
        name: None,
        protocol: UpstreamProtocol::Auto,
        tls: None,
        proxy_protocol: None,
    }
}

async fn ask(address: SocketAddr, check: &HttpCheck, how: &How) -> Outcome {
    let endpoint = EndpointId {
        cluster: ClusterName("web".into()),
        address: BackendAddr(address),
    };
    let probe = HttpProbe::new(&endpoint, check, how).unwrap();
    probe.ask(address, None, Duration::from_secs(5)).await
}

fn local<F: Future<Output = ()>>(test: F) {
    run(async { LocalSet::new().run_until(test).await });
}

#[test]
fn the_status_decides() {
    local(async {
        for (status, wanted, passes) in [
            (200, &[][..], true),
            (204, &[], true),
            (302, &[], false),
            (503, &[], false),
            (200, &[204], false),
            (401, &[200, 401], true),
        ] {
            let (address, asked) = server(None, false, status).await;
            let check = http_check(wanted);
            let expected = if passes {
                Outcome::Passed
            } else {
                Outcome::Failed(format!("{address}: answered {status}"))
            };
            assert_eq!(ask(address, &check, &how(&check)).await, expected);
            let asked = asked.take();
            assert_eq!(
                asked,
                [(
                    Version::HTTP_11,
                    address.to_string(),
                    "/healthz?deep=1".to_owned()
                )]
            );
        }
    });
}

#[test]
fn the_host_is_the_one_of_the_check_else_the_endpoints_name() {
    local(async {
        let (address, asked) = server(None, false, 200).await;
        let mut check = http_check(&[]);
        let named = How {
            name: Some("web.internal".into()),
            ..how(&check)
        };
        assert_eq!(ask(address, &check, &named).await, Outcome::Passed);
        check.host = Some("www.example.com".into());
        assert_eq!(ask(address, &check, &named).await, Outcome::Passed);
        let hosts: Vec<String> = asked.take().into_iter().map(|(_, host, _)| host).collect();
        assert_eq!(
            hosts,
            [
                format!("web.internal:{}", address.port()),
                "www.example.com".to_owned()
            ]
        );
    });
}

#[test]
fn http2_with_prior_knowledge() {
    local(async {
        let (address, asked) = server(None, true, 200).await;
        let check = http_check(&[]);
        let http2 = How {
            protocol: UpstreamProtocol::Http2,
            ..how(&check)
        };
        assert_eq!(ask(address, &check, &http2).await, Outcome::Passed);
        assert_eq!(
            asked.take(),
            [(Version::HTTP_2, address.to_string(), "/healthz?deep=1".to_owned())]
        );
    });
}

/// A server's config for `web.internal`, and the certificate as PEM.
fn certificate(alpn: &[u8]) -> (Arc<ServerConfig>, PemBytes) {
    let made = rcgen::generate_simple_self_signed(vec!["web.internal".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let pem = PemBytes {
        path: None,
        bytes: made.cert.pem().into_bytes().into(),
    };
    (Arc::new(config), pem)
}

#[test]
fn over_tls_the_endpoint_must_prove_its_name() {
    local(async {
        for (alpn, http2) in [(&b"http/1.1"[..], false), (b"h2", true)] {
            let (config, ca) = certificate(alpn);
            let (address, asked) = server(Some(config), http2, 200).await;
            let check = http_check(&[]);
            let verified = |name: &str, ca: &PemBytes| How {
                tls: Some(Arc::new(UpstreamTls {
                    verify: Verify::Ca(ca.clone()),
                    server_name: Some(name.into()),
                    certificate: None,
                    min_version: crate::model::l7::TlsVersion::V1_2,
                })),
                ..how(&check)
            };
            assert_eq!(
                ask(address, &check, &verified("web.internal", &ca)).await,
                Outcome::Passed
            );
            assert_eq!(asked.take().len(), 1);
            let (_, other_ca) = certificate(alpn);
            for wrong in [
                verified("other.internal", &ca),
                verified("web.internal", &other_ca),
            ] {
                let outcome = ask(address, &check, &wrong).await;
                let Outcome::Failed(error) = &outcome else {
                    panic!("{outcome:?}");
                };
                assert!(error.starts_with(&format!("{address}: TLS: ")), "{error}");
            }
            assert_eq!(asked.take().len(), 0);
        }
    });
}

#[test]
fn a_proxy_header_comes_first() {
    local(async {
        let listener = AsyncListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let check = http_check(&[]);
        let with_header = How {
            proxy_protocol: Some(ProxyHeader::V1),
            ..how(&check)
        };
        let server = async {
            let (mut stream, client) = listener.accept().await.unwrap();
            let expected = format!(
                "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nGET ",
                client.port(),
                address.port()
            );
            let mut begin = vec![0; expected.len()];
            stream.read_exact(&mut begin).await.unwrap();
            assert_eq!(String::from_utf8(begin).unwrap(), expected);
        };
        let (outcome, ()) = tokio::join!(ask(address, &check, &with_header), server);
        assert!(matches!(outcome, Outcome::Failed(_)), "it hung up: {outcome:?}");
    });
}

#[test]
fn a_server_that_is_silent_or_speaks_something_else_fails() {
    local(async {
        let listener = AsyncListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let check = http_check(&[]);
        let endpoint = EndpointId {
            cluster: ClusterName("web".into()),
            address: BackendAddr(address),
        };
        let probe = HttpProbe::new(&endpoint, &check, &how(&check)).unwrap();
        let outcome = probe.ask(address, None, Duration::from_millis(50)).await;
        assert_eq!(
            outcome,
            Outcome::Failed(format!("{address}: no answer within 50ms"))
        );
        // It expects TLS, and gets a request in plain text.
        let (config, _) = certificate(b"http/1.1");
        let (address, _asked) = server(Some(config), false, 200).await;
        let outcome = ask(address, &check, &how(&check)).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    });
}

#[test]
fn checks_by_http_follow_how_the_cluster_is_spoken_to() {
    local(async {
        let (address, _asked) = server(None, false, 200).await;
        let check = HealthCheck {
            probe: Probe::Http(http_check(&[])),
            ..super::check(1, 1)
        };
        let (sender, mut reports) = mpsc::channel(16);
        let mut checks = Checks::new(sender);
        let mut clusters = cluster(&[address], Some(check));
        checks.follow(&clusters, &Ways::new());
        let first = next_verdict(&mut reports, Health::Unknown).await;
        assert_eq!(first.health, Health::Healthy);
        checks.follow(&clusters, &Ways::new());
        assert!(checks.is_current(&first), "nothing that matters has changed");
        for cluster in clusters.values_mut() {
            Arc::make_mut(cluster).l7.protocol = UpstreamProtocol::Http2;
        }
        checks.follow(&clusters, &Ways::new());
        assert!(!checks.is_current(&first), "it is asked by HTTP/2 now");
    });
}
