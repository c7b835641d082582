//! Defaults and bounds of config values that the kernel side does not already fix.

use crate::model::{DaemonSettings, Endpoint};
pub(super) use proxy_common::fragments::FRAGMENTS;
pub(super) use proxy_common::limits::{
    BACKENDS, FLOWS, GUE_PORT, MAGLEV_SIZE, MAGLEV_SIZE_MAX, NAT_PORTS, SERVICES, TRACKED_FLOWS,
};
use std::time::Duration;

/// Least MSS: what fits into IPv6's least MTU of 1,280 is less than IPv4's default of 536, but links with smaller ones exist (RFC 791: 68).
pub(super) const MIN_SEGMENT: u16 = 88;

/// Greatest MSS: none larger fits an IP packet.
pub(super) const MAX_SEGMENT: u16 = 65_495;

/// Clients remembered for affinity.
pub(super) const AFFINITIES: u32 = proxy_common::affinity::SOURCES;

/// How long a client's flows follow one another: Kubernetes' `ClientIP` affinity.
pub(super) const AFFINITY: Duration = Duration::from_secs(3 * 3_600);

/// Longest affinity: a month, as IPVS's persistence.
pub(super) const MAX_AFFINITY: Duration = Duration::from_secs(31 * 24 * 3_600);

/// Addresses of a prefix of VIPs that a backend serves: each becomes an address of the host.
pub(super) const MAX_VIPS_OF_PREFIX: u128 = 1_024;

/// Where maps and links are pinned unless configured.
pub(super) const PIN_PATH: &str = DaemonSettings::PIN_PATH;

/// The admin API's socket unless configured.
pub(super) const ADMIN_SOCKET: &str = DaemonSettings::ADMIN_SOCKET;

/// Longest path of a UNIX socket: `sun_path` has 108 bytes, the last of them zero (unix(7)); the socket for upgrades beside it has
/// eight more than the admin socket.
pub(super) const MAX_SOCKET_PATH: usize = 107 - ".upgrade".len();

/// Part of the requests that are sampled: enough to see what is usual, little enough for a collector that is shared.
pub(super) const SAMPLING: f64 = 0.01;

/// Requests sampled a second: some 2,000 spans, which a small collector takes.
pub(super) const SAMPLED: u32 = 1_000;

/// Most requests sampled a second.
pub(super) const MAX_SAMPLED: u32 = 1_000_000;

/// For one try at a collector: OTLP exporters' usual.
pub(super) const OTLP_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest that the parts of an upgrade or a drain may take.
pub(super) const MAX_HAND_OVER_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Most services: at 8 bytes a slot and 65,537 slots a table this is 32 GiB, far more than a host has use for.
pub(super) const MAX_SERVICES: u32 = 65_536;

/// Most backends: about 100 bytes each and as many per CPU.
pub(super) const MAX_BACKENDS: u32 = 1_048_576;

/// Most flows: at about 320 bytes each this is 5 GiB.
pub(super) const MAX_FLOWS: u32 = 16_777_216;

/// Most tokens of a source a second, and at once: more packets than a core forwards.
pub(super) const MAX_SOURCE_RATE: u32 = 100_000_000;

/// Most rules of a service.
pub(super) const MAX_RULES: usize = proxy_common::guard::RULES as usize;

/// Greatest weight, HAProxy's and IPVS's order of magnitude: shares finer than a slot in 65,537
/// could not be kept anyway.
pub(super) const MAX_WEIGHT: u32 = Endpoint::MAX_WEIGHT;

/// Least Maglev table: the stride needs a size of at least 3, and is a prime.
pub(super) const MIN_TABLE_SIZE: u32 = 3;

/// Slots per endpoint for shares that are off by 1 % at most (section 5.3 of the Maglev paper).
pub(super) const SLOTS_PER_ENDPOINT: u32 = 100;

/// Most passes or failures in a row that a health check may ask for.
pub(super) const MAX_PROBES: u32 = 100;

/// Passes in a row until healthy.
pub(super) const RISE: u32 = 2;

/// Failures in a row until unhealthy.
pub(super) const FALL: u32 = 3;

/// Time between two probes.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// Time a probe may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// Probes more often than this would measure the prober.
pub(super) const MIN_PROBE_TIME: Duration = Duration::from_millis(10);

/// An endpoint probed less often than this is not checked.
pub(super) const MAX_PROBE_TIME: Duration = Duration::from_secs(3_600);

/// Idle timeouts are whole seconds: a flow's `last_seen` is no finer than half a second.
pub(super) const MIN_IDLE: Duration = Duration::from_secs(1);

/// A week: longer than any keepalive.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// First of Linux's usual ephemeral ports (`net.ipv4.ip_local_port_range`), where the host's own
/// connections to a backend could collide with NAT flows.
pub(super) const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// Greatest config file: 100,000 endpoints are about 10 MiB.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

/// Most workers: more than any host has cores for.
pub(super) const MAX_WORKERS: u16 = 1_024;

/// Connections of a listener at a time unless configured.
pub(super) const CONNECTIONS: u32 = 65_536;

/// Most connections of a listener: a host has no more file descriptors.
pub(super) const MAX_CONNECTIONS: u32 = 16_777_216;

/// Least room for a request's head: a browser's has about 1 KiB.
pub(super) const MIN_HEADER_BYTES: u32 = 1_024;

/// Most room for a request's head: each connection may take that much.
pub(super) const MAX_HEADER_BYTES: u32 = 16 << 20;

/// Most header fields of a request.
pub(super) const MAX_HEADERS: u16 = 32_767;

/// Longest path and query.
pub(super) const MAX_URI_BYTES: u32 = 1 << 20;

/// Most streams of an HTTP/2 connection (RFC 9113, 6.5.2, has no bound; each costs about 1 KiB).
pub(super) const MAX_STREAMS: u32 = 1_000_000;

/// Greatest bound of a body: what a signed 64-bit number holds.
pub(super) const MAX_BODY_BYTES: i64 = i64::MAX;

/// Most proxies in front of this one.
pub(super) const MAX_HOPS: u8 = 32;

/// Most connections of a pool, and most requests that wait for one.
pub(super) const MAX_POOL: u32 = 1_000_000;

/// Longest timeout of the L7 plane: a week.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Least time for a handshake with a client or an endpoint.
pub(super) const MIN_HANDSHAKE: Duration = Duration::from_millis(10);

/// Longest handshake.
pub(super) const MAX_HANDSHAKE: Duration = Duration::from_secs(3_600);

/// A TLS client that has not finished by then is gone.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// A TCP connection without a byte for this long is closed. Envoy's.
pub(super) const TCP_IDLE: Duration = Duration::from_secs(3_600);

/// Longest life of a sticky cookie: browsers keep none longer (RFC 6265bis: 400 days).
pub(super) const MAX_COOKIE_AGE: Duration = Duration::from_secs(400 * 24 * 3_600);

/// Least memory that a daemon can be held to: it starts with some 20 MiB.
pub(super) const LEAST_MEMORY: u64 = 16 << 20;

/// Most of it: 1 TiB.
pub(super) const MOST_MEMORY: u64 = 1 << 40;

/// Greatest certificate, key, CA or secret: the system's CAs are 250 KiB.
pub(super) const MAX_REFERENCED_BYTES: u64 = 4 << 20;

/// Least bytes of a sticky cookie's secret, the output of its hash (RFC 2104, 3).
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// Longest body of a response that Weir makes.
pub(super) const MAX_RESPOND_BYTES: usize = 64 << 10;

/// A certificate that ends sooner than this is a warning.
pub(super) const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3_600);

/// NAT ports as a user would type them.
pub(super) fn nat_ports_text() -> String {
    format!("{}-{}", NAT_PORTS.0, NAT_PORTS.1)
}
