//! The config as it runs: settings, listeners with their routes, certificates.

use super::{
    Core,
    report::unix_seconds,
    report_l7::{l7_status, shown},
    report_upstream::Counted,
};
use crate::{
    admin::views::{
        ActionView, CertificateView, CertificatesAnswer, ConfigDump, ForwardView, ListenerKind, ListenerView,
        ListenersAnswer, RouteView, SettingsView, SniView, TargetView, TcpView, TlsView, WorkersAnswer,
    },
    l7::{router::explain::conditions, tls},
    model::{
        self, DaemonSettings, Service,
        l7::{
            Action, Certificate, ClientAuthMode, HostMatch, Listener, Route, ServerTls, TcpSettings,
            TlsVersion,
        },
    },
};
use std::time::SystemTime;

impl Core {
    /// `GET /config`.
    pub(crate) fn config_dump(&self) -> ConfigDump {
        ConfigDump {
            generation: self.snapshot.generation,
            path: self.path.display().to_string(),
            settings: settings(&self.snapshot.settings),
            listeners: self.listeners_view().listeners,
            clusters: self.cluster_views(&Counted::default()),
        }
    }

    /// `GET /listeners`.
    pub(crate) fn listeners_view(&self) -> ListenersAnswer {
        let services = self.snapshot.services.iter().map(service);
        ListenersAnswer {
            generation: self.snapshot.generation,
            listeners: services
                .chain(self.snapshot.listeners.iter().map(listener))
                .collect(),
        }
    }

    /// `GET /certificates`.
    pub(crate) fn certificates_view(&self) -> CertificatesAnswer {
        let now = unix_seconds(SystemTime::now()).cast_signed();
        let view = |certificate| certificate_view(certificate, now);
        let of_listeners = self.snapshot.listeners.iter().flat_map(|listener| {
            of_server(listener.tls.as_deref())
                .filter_map(view)
                .map(|it| CertificateView {
                    listener: Some(listener.name.to_string()),
                    ..it
                })
        });
        let of_clusters = self.snapshot.clusters.values().flat_map(|cluster| {
            let tls = cluster.l7.tls.as_ref();
            let certificate = tls.and_then(|tls| tls.certificate.as_ref());
            certificate.and_then(view).map(|it| CertificateView {
                cluster: Some(cluster.name.to_string()),
                ..it
            })
        });
        let admin = self.snapshot.settings.admin.remote.as_ref();
        let of_admin = of_server(admin.and_then(|remote| remote.tls.as_deref())).filter_map(view);
        CertificatesAnswer {
            generation: self.snapshot.generation,
            certificates: of_listeners.chain(of_clusters).chain(of_admin).collect(),
        }
    }

    /// `GET /workers`.
    pub(crate) fn workers_view(&self) -> WorkersAnswer {
        let l7 = l7_status(self.plane.l7(), &self.snapshot, self.memory_status());
        WorkersAnswer {
            generation: l7.generation,
            steering: l7.steering,
            connections: l7.workers.iter().map(|worker| worker.connections).sum(),
            workers: l7.workers,
        }
    }
}

fn settings(settings: &DaemonSettings) -> SettingsView {
    let remote = settings.admin.remote.as_ref();
    SettingsView {
        interfaces: settings.interfaces.iter().map(|it| it.name.clone()).collect(),
        pin_path: settings.pin_path.display().to_string(),
        admin_socket: settings.admin_socket.display().to_string(),
        admin_address: remote.map(|remote| remote.address.to_string()),
        admin_tokens: (remote.iter())
            .flat_map(|remote| &remote.tokens)
            .map(|token| token.name.to_string())
            .collect(),
        state_directory: settings.admin.state_directory.display().to_string(),
        dns_servers: settings.dns_servers.iter().map(ToString::to_string).collect(),
    }
}

fn service(service: &Service) -> ListenerView {
    let guard = &service.guard;
    let forward = ForwardView {
        cluster: service.cluster.to_string(),
        mode: service.mode.to_string(),
        hash: service.hash.to_string(),
        tracking: service.tracking.to_string(),
        table_size: service.table_size,
        affinity: service.affinity.map(|affinity| affinity.to_string()),
        allowed_prefixes: guard.allow.len(),
        denied_prefixes: guard.deny.len(),
        packets_per_second: guard.packets.map(|rate| rate.per_second),
        connections_per_second: guard.connections.map(|rate| rate.per_second),
    };
    ListenerView {
        name: service.name.to_string(),
        kind: ListenerKind::L4,
        addresses: vec![service.span.text(service.address)],
        protocol: service.protocol.name().into(),
        place: None,
        forward: Some(forward),
        routes: Vec::new(),
        tcp: None,
        tls: None,
        proxy_protocol: false,
        max_connections: None,
    }
}

fn listener(listener: &Listener) -> ListenerView {
    let has_tls = listener.tls.is_some();
    let (kind, routes, tcp) = match &listener.kind {
        model::l7::ListenerKind::Http { routes, .. } => {
            let kind = if has_tls {
                ListenerKind::Https
            } else {
                ListenerKind::Http
            };
            (kind, routes.iter().enumerate().map(route).collect(), None)
        }
        model::l7::ListenerKind::Tcp { settings, .. } => {
            let kind = if has_tls {
                ListenerKind::Tls
            } else {
                ListenerKind::Tcp
            };
            (kind, Vec::new(), Some(tcp(settings)))
        }
    };
    ListenerView {
        name: listener.name.to_string(),
        kind,
        addresses: listener.addresses.iter().map(shown).collect(),
        protocol: "tcp".into(),
        place: Some(listener.place.to_string()),
        forward: None,
        routes,
        tcp,
        tls: listener.tls.as_deref().map(tls_view),
        proxy_protocol: listener.proxy_protocol,
        max_connections: Some(listener.max_connections),
    }
}

fn route((index, route): (usize, &Route)) -> RouteView {
    RouteView {
        number: index + 1,
        name: route.name.as_deref().map(str::to_owned),
        place: route.place.to_string(),
        conditions: conditions(&route.matches),
        action: match &route.action {
            Action::Forward(clusters) => {
                let target = |it: &model::l7::WeightedCluster| TargetView {
                    cluster: it.cluster.to_string(),
                    weight: it.weight,
                };
                ActionView::Forward(clusters.iter().map(target).collect())
            }
            Action::Redirect(redirect) => ActionView::Redirect {
                status: redirect.status.as_u16(),
            },
            Action::Respond(respond) => ActionView::Respond {
                status: respond.status.as_u16(),
                body_bytes: respond.body.len(),
            },
        },
    }
}

fn tcp(settings: &TcpSettings) -> TcpView {
    let host = |host: &HostMatch| match host {
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    };
    TcpView {
        cluster: settings.cluster.as_ref().map(ToString::to_string),
        sni: (settings.sni.iter())
            .map(|route| SniView {
                hosts: route.hosts.iter().map(host).collect(),
                cluster: route.cluster.to_string(),
            })
            .collect(),
    }
}

fn tls_view(tls: &ServerTls) -> TlsView {
    TlsView {
        alpn: tls.alpn.iter().map(ToString::to_string).collect(),
        min_version: match tls.min_version {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
        .into(),
        client_certificates: tls.client_auth.as_ref().map(|auth| {
            match auth.mode {
                ClientAuthMode::Require => "require",
                ClientAuthMode::Request => "request",
            }
            .into()
        }),
        certificates: tls.certificates.len(),
    }
}

fn of_server(tls: Option<&ServerTls>) -> impl Iterator<Item = &Certificate> {
    tls.into_iter().flat_map(|tls| &tls.certificates)
}

/// What can't be read is left out: it could not be loaded either.
fn certificate_view(certificate: &Certificate, now: i64) -> Option<CertificateView> {
    let leaf = tls::leaf(certificate)?;
    Some(CertificateView {
        listener: None,
        cluster: None,
        file: certificate
            .chain
            .path
            .as_ref()
            .map(|path| path.display().to_string()),
        subject: leaf.subject,
        names: leaf.names.iter().map(ToString::to_string).collect(),
        not_before_unix_seconds: leaf.not_before,
        not_after_unix_seconds: leaf.not_after,
        seconds_left: leaf.not_after.saturating_sub(now),
    })
}
