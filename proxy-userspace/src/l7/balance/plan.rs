//! What all workers' balancers of a cluster share: tables, built once on the control thread.

use super::{
    identity,
    ring::Ring,
    sticky::{EndpointHash, Signer},
    weighted::Weighted,
};
use crate::model::{
    BackendAddr, Cluster,
    l7::{Policy, Sticky},
};
use proxy_common::{
    hash::{slot, xxh64_24},
    limits::MAGLEV_SIZE,
    maglev::{self, MaglevEndpoint},
};
use std::{collections::HashMap, sync::Arc};

/// Read-only; cheap to clone. Indices are those of the cluster's endpoints.
#[derive(Clone, Debug)]
pub struct Plan {
    policy: Policy,
    /// Address, configured and effective weight.
    endpoints: Arc<[(BackendAddr, u32, u32)]>,
    pub(super) weighted: Arc<Weighted>,
    table: Table,
    pub(super) cookies: Option<Arc<Cookies>>,
}

#[derive(Clone, Debug)]
enum Table {
    None,
    Ring(Arc<Ring>),
    Maglev(Arc<[u32]>),
}

/// Signs cookies, and knows endpoints by their names in them.
#[derive(Debug)]
pub(super) struct Cookies {
    pub(super) signer: Signer,
    pub(super) by_hash: HashMap<EndpointHash, usize>,
}

impl Plan {
    /// For this cluster as it is now; takes over from the one before what stays the same. A Maglev table takes about a
    /// millisecond, a ring up to some ten.
    pub fn new(cluster: &Cluster, before: Option<&Self>) -> Self {
        let policy = cluster.l7.policy;
        let endpoints: Arc<[_]> = (cluster.endpoints.iter())
            .map(|endpoint| (endpoint.address, endpoint.weight, endpoint.effective_weight()))
            .collect();
        let sticky = cluster.l7.sticky.as_deref();
        if let Some(before) = before.filter(|it| it.policy == policy && it.endpoints == endpoints) {
            let same = before.cookies.as_ref().map(|it| it.signer.settings()) == sticky;
            let mut plan = before.clone();
            if !same {
                plan.cookies = Cookies::new(sticky, &endpoints);
            }
            return plan;
        }
        let weights: Vec<u32> = endpoints.iter().map(|(_, _, effective)| *effective).collect();
        Self {
            policy,
            weighted: Arc::new(Weighted::new(&weights)),
            table: Table::new(policy, &endpoints),
            cookies: Cookies::new(sticky, &endpoints),
            endpoints,
        }
    }

    /// The endpoint a key belongs to, with a consistent policy. `attempt` above 0 asks for others, the same
    /// ones for the same key.
    pub(super) fn owner(&self, key: u64, attempt: u32) -> Option<usize> {
        let key = match attempt {
            0 => key,
            _ => xxh64_24([key, u64::from(attempt), 0], 0),
        };
        match &self.table {
            Table::None => None,
            Table::Ring(ring) => ring.owner(key),
            Table::Maglev(table) => {
                let slot = slot(key, u32::try_from(table.len()).ok()?);
                // NO_BACKEND is no index of an endpoint, which the caller finds out.
                table.get(slot as usize).map(|index| *index as usize)
            }
        }
    }

    pub(super) fn is_of(&self, cluster: &Cluster) -> bool {
        self.policy == cluster.l7.policy && self.endpoints.len() == cluster.endpoints.len()
    }
}

impl Table {
    fn new(policy: Policy, endpoints: &[(BackendAddr, u32, u32)]) -> Self {
        match policy {
            Policy::RingHash => Self::Ring(Arc::new(Ring::new(endpoints))),
            Policy::Maglev => {
                let endpoints: Vec<MaglevEndpoint> = (endpoints.iter())
                    .map(|(BackendAddr(address), _, effective)| MaglevEndpoint {
                        address: address.ip().into(),
                        port: address.port(),
                        weight: *effective,
                    })
                    .collect();
                Self::Maglev(maglev::build(&endpoints, MAGLEV_SIZE).into())
            }
            Policy::RoundRobin | Policy::LeastRequest | Policy::Random | Policy::PeakEwma => Self::None,
        }
    }
}

impl Cookies {
    fn new(sticky: Option<&Sticky>, endpoints: &[(BackendAddr, u32, u32)]) -> Option<Arc<Self>> {
        let signer = Signer::new(sticky?)?;
        let names = endpoints.iter().map(|(address, ..)| signer.hash(*address));
        let by_hash = names.zip(0..).collect();
        Some(Arc::new(Self { signer, by_hash }))
    }
}

/// Where an endpoint stands in every schedule: the high 32 bits of a hash of its address and this process's salt.
pub(super) fn phase(address: BackendAddr, salt: u64) -> u32 {
    (xxh64_24(identity(address), salt) >> 32) as u32
}
