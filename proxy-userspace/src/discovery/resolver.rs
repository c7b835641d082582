//! One look-up of one name: both families, from /etc/hosts or DNS servers.

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RecordType,
};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::Semaphore;

/// Names asked for at a time: a config of thousands must not flood a server.
const AT_A_TIME: usize = 64;

/// Time for one try of a configured server; those of /etc/resolv.conf have `options timeout:`.
const TRY: Duration = Duration::from_secs(2);

/// Where answers come from. Read again when its files change.
pub(super) struct Source {
    servers: Vec<SocketAddr>,
    current: Mutex<Option<(Stamp, TokioResolver)>>,
    permits: Semaphore,
}

/// When /etc/resolv.conf and /etc/hosts changed last.
type Stamp = [Option<SystemTime>; 2];

/// What is known of a name, by family.
#[derive(Default)]
pub(super) struct State {
    ipv4: Vec<IpAddr>,
    ipv6: Vec<IpAddr>,
}

/// What a look-up found.
pub(super) struct Found {
    /// Sorted, never empty.
    pub(super) outcome: Result<Vec<IpAddr>, String>,
    /// How long it may be used.
    pub(super) lifetime: Option<Duration>,
    /// Whether both families were answered, and one of them with an address.
    pub(super) is_whole: bool,
}

/// One family's answer: its records, none of them, or no answer.
type Family = Result<Option<(Vec<IpAddr>, Instant)>, String>;

impl Source {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            current: Mutex::new(None),
            permits: Semaphore::new(AT_A_TIME),
        }
    }

    /// Asks for both families. One that isn't answered keeps what it had; so do both when neither has an address.
    pub(super) async fn look_up(&self, name: &str, state: &mut State) -> Found {
        // Never closed.
        let _permit = self.permits.acquire().await;
        let (ipv4, ipv6) = match self.resolver() {
            Ok(resolver) => tokio::join!(
                family(&resolver, name, RecordType::A),
                family(&resolver, name, RecordType::AAAA)
            ),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        combine([ipv4, ipv6], state)
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = ["/etc/resolv.conf", "/etc/hosts"]
            .map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
        if let Some((known, resolver)) = &*current
            && *known == stamp
        {
            return Ok(resolver.clone());
        }
        let resolver = self.build()?;
        *current = Some((stamp, resolver.clone()));
        Ok(resolver)
    }

    fn build(&self) -> Result<TokioResolver, String> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| {
                format!("/etc/resolv.conf can't be used ({error}); correct it, or set dns.servers")
            })?
        } else {
            let servers = self.servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().timeout = TRY;
            builder
        };
        // A look-up is made when the last one's time is over: what a cache had would be stale.
        builder.options_mut().cache_size = 0;
        builder.build().map_err(|error| error.to_string())
    }
}

async fn family(resolver: &TokioResolver, name: &str, records: RecordType) -> Family {
    match resolver.lookup(name, records).await {
        Ok(lookup) => {
            let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
            let addresses: Vec<IpAddr> = addresses.filter(is_usable).collect();
            Ok((!addresses.is_empty()).then(|| (addresses, lookup.valid_until())))
        }
        Err(error) if error.is_no_records_found() => Ok(None),
        Err(error) => Err(shown(&error)),
    }
}

fn shown(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no DNS server answered in time".into(),
        NetError::NoConnections => "no DNS server can be reached".into(),
        error => error.to_string(),
    }
}

/// 0.0.0.0 is what filters answer for names they block; the others can't be connected to without more than an address.
fn is_usable(address: &IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !address.is_unspecified() && !address.is_multicast() && !link_local
}

fn combine(families: [Family; 2], state: &mut State) -> Found {
    let none_found = families.iter().all(|family| !matches!(family, Ok(Some(_))));
    let is_answered = families.iter().all(Result::is_ok);
    let error = families.iter().find_map(|family| family.as_ref().err()).cloned();
    let mut valid_until: Option<Instant> = None;
    for (family, known) in families.into_iter().zip([&mut state.ipv4, &mut state.ipv6]) {
        match family {
            Ok(Some((addresses, until))) => {
                *known = addresses;
                valid_until = Some(valid_until.map_or(until, |other| other.min(until)));
            }
            // Gone only where the other family shows that the name is alive.
            Ok(None) if !none_found => known.clear(),
            Ok(None) | Err(_) => {}
        }
    }
    let outcome = if none_found {
        Err(error.unwrap_or_else(|| "no such name, or no address".into()))
    } else {
        let mut all = [&state.ipv4[..], &state.ipv6[..]].concat();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    };
    Found {
        outcome,
        lifetime: valid_until.map(|until| until.saturating_duration_since(Instant::now())),
        is_whole: is_answered && !none_found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Family {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Ok(Some((addresses, Instant::now() + Duration::from_secs(60))))
    }

    /// Rows of one name's life: what each family answered, and what is known then.
    #[test]
    fn what_was_found_stays_until_something_else_is() {
        let failed = || Family::Err("timed out".into());
        let nothing = || Family::Ok(None);
        let rows: Vec<(&str, [Family; 2], Result<&[&str], &str>)> = vec![
            (
                "nothing yet",
                [nothing(), nothing()],
                Err("no such name, or no address"),
            ),
            ("no server", [failed(), failed()], Err("timed out")),
            (
                "IPv4 alone",
                [found(&["192.0.2.2", "192.0.2.1"]), nothing()],
                Ok(&["192.0.2.1", "192.0.2.2"]),
            ),
            (
                "both",
                [found(&["192.0.2.1"]), found(&["2001:db8::1"])],
                Ok(&["192.0.2.1", "2001:db8::1"]),
            ),
            (
                "IPv6 unanswered stays",
                [found(&["192.0.2.3"]), failed()],
                Ok(&["192.0.2.3", "2001:db8::1"]),
            ),
            ("server dead", [failed(), failed()], Err("timed out")),
            (
                "name gone",
                [nothing(), nothing()],
                Err("no such name, or no address"),
            ),
            ("half an answer", [nothing(), failed()], Err("timed out")),
            (
                "back, and IPv4 was kept",
                [failed(), found(&["2001:db8::2"])],
                Ok(&["192.0.2.3", "2001:db8::2"]),
            ),
            (
                "IPv4 gone",
                [nothing(), found(&["2001:db8::2"])],
                Ok(&["2001:db8::2"]),
            ),
        ];
        let mut state = State::default();
        for (what, families, expected) in rows {
            let whole = !families.iter().any(Result::is_err) && expected.is_ok();
            let expected = match expected {
                Ok(addresses) => Ok(addresses.iter().map(|address| address.parse().unwrap()).collect()),
                Err(error) => Err(error.to_owned()),
            };
            let found = combine(families, &mut state);
            assert_eq!(found.outcome, expected, "{what}");
            assert_eq!(found.is_whole, whole, "{what}");
        }
    }

    #[test]
    fn unusable_addresses() {
        for (address, usable) in [
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
            ("fe80::1", false),
            ("127.0.0.1", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_usable(&address.parse().unwrap()), usable, "{address}");
        }
    }
}
