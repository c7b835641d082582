//! Keys of the BPF maps. Ports are in host order, so that `bpftool map dump` shows them as typed.

use crate::net::Address;

/// Key of `services`: what a client's packet is addressed to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct ServiceKey {
    /// The VIP.
    pub address: Address,
    /// Host order.
    pub port: u16,
    /// IANA protocol number: 6 or 17.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<ServiceKey>() == 20 && align_of::<ServiceKey>() == 4);

/// Key of `flows`: the 5-tuple of a packet as it arrives, before translation.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct FlowKey {
    /// Sender.
    pub source: Address,
    /// Receiver: a VIP, or for replies the address that NAT put as the source.
    pub destination: Address,
    /// Host order.
    pub source_port: u16,
    /// Host order.
    pub destination_port: u16,
    /// IANA protocol number: 6 or 17.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowKey>() == 40 && align_of::<FlowKey>() == 4);

impl FlowKey {
    /// The key of a packet going the other way.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            pad: [0; 3],
        }
    }

    /// The service this packet would belong to.
    #[inline(always)]
    pub const fn service(&self) -> ServiceKey {
        ServiceKey {
            address: self.destination,
            port: self.destination_port,
            protocol: self.protocol,
            pad: 0,
        }
    }
}
