//! Keys and addresses as 32-bit words: of byte arrays LLVM makes as many single-byte loads and stores.

use core::mem::transmute;
use proxy_common::{
    keys::{FlowKey, ServiceKey},
    net::Address,
};

/// The third word of an IPv4-mapped address.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// An address's words in memory order.
#[inline(always)]
pub fn words(address: &Address) -> [u32; 4] {
    // SAFETY: 16 bytes, aligned to 4 by the type.
    unsafe { *(&raw const *address).cast::<[u32; 4]>() }
}

/// The last word: an IPv4 address.
#[inline(always)]
pub fn last_word(address: &Address) -> u32 {
    // SAFETY: as above.
    unsafe { *(&raw const *address).cast::<u32>().add(3) }
}

/// Whether words are those of an IPv4-mapped address.
#[inline(always)]
pub fn is_ipv4([a, b, c, _]: [u32; 4]) -> bool {
    a | b == 0 && c == MAPPED
}

/// Whether an address is IPv4.
#[inline(always)]
pub fn holds_ipv4(address: &Address) -> bool {
    is_ipv4(words(address))
}

/// A [`FlowKey`] as ten words.
#[derive(Clone, Copy)]
pub struct KeyWords([u32; 10]);

const _: () = assert!(size_of::<KeyWords>() == size_of::<FlowKey>());

impl KeyWords {
    /// From words of addresses in memory order, and of both ports as they lie in a packet.
    #[inline(always)]
    pub fn new(source: [u32; 4], destination: [u32; 4], ports: u32, protocol: u8) -> Self {
        let [a, b, c, d] = source;
        let [e, f, g, h] = destination;
        let source_port = u16::from_be(ports as u16);
        let destination_port = u16::from_be((ports >> 16) as u16);
        let ports = u32::from(source_port) | u32::from(destination_port) << 16;
        Self([a, b, c, d, e, f, g, h, ports, u32::from(protocol)])
    }

    /// The same for IPv4.
    #[inline(always)]
    pub fn ipv4(source: u32, destination: u32, ports: u32, protocol: u8) -> Self {
        Self::new(
            [0, 0, MAPPED, source],
            [0, 0, MAPPED, destination],
            ports,
            protocol,
        )
    }

    /// A key as it lies.
    #[inline(always)]
    pub fn view(key: &FlowKey) -> &Self {
        // SAFETY: 40 bytes, aligned to 4 by the type, all of them initialised.
        unsafe { &*(&raw const *key).cast::<Self>() }
    }

    /// A key, by words.
    #[inline(always)]
    pub fn of(key: &FlowKey) -> Self {
        // SAFETY: 40 bytes, aligned to 4 by the type, all of them initialised.
        unsafe { *(&raw const *key).cast::<Self>() }
    }

    /// The key.
    #[inline(always)]
    pub fn key(&self) -> &FlowKey {
        // SAFETY: the same bytes: addresses, ports in host order (little-endian, as the target is), protocol, three zeros.
        unsafe { &*(&raw const *self).cast::<FlowKey>() }
    }

    /// The service that a packet of this key would belong to.
    #[inline(always)]
    pub fn service(&self) -> ServiceKey {
        let words = &self.0;
        let port_and_protocol = words[8] >> 16 | words[9] << 16;
        // SAFETY: 20 bytes: the address, the port in host order, the protocol, a zero.
        unsafe {
            transmute::<[u32; 5], ServiceKey>([words[4], words[5], words[6], words[7], port_and_protocol])
        }
    }

    /// Host order.
    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        (self.0[8] >> 16) as u16
    }

    /// IANA number.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.0[9] as u8
    }

    /// Whether both addresses are other than IPv4-mapped.
    #[inline(always)]
    pub fn is_pure_ipv6(&self) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        !is_ipv4([a, b, c, d]) && !is_ipv4([e, f, g, h])
    }

    /// The words, for hashing: source, destination, ports in host order with the source's low, protocol.
    #[inline(always)]
    pub fn words(&self) -> &[u32; 10] {
        &self.0
    }
}

const _: () = assert!(
    cfg!(target_endian = "little"),
    "ports are packed for little-endian machines"
);
