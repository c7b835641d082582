//! QUIC connection IDs that name their server: draft-ietf-quic-load-balancers-21, plaintext.
//!
//! The first octet of such an ID has the config ID in its three high bits, the server ID follows it, and then a nonce.

/// Bytes of the longest server ID.
pub const SERVER_ID_BYTES: usize = 15;

/// Greatest config ID: 7 marks IDs that name no server.
pub const MAX_CONFIG_ID: u8 = 6;

/// Key of `quic_servers`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct ServerKey {
    /// Index of the service.
    pub service: u32,
    /// Server ID, and zeros behind it: those of one service are of one length.
    pub server_id: [u8; 16],
}

const _: () = assert!(size_of::<ServerKey>() == 20 && align_of::<ServerKey>() == 4);

/// Value of `quic_servers`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct ServerValue {
    /// Index of the backend.
    pub backend: u32,
    /// [`crate::values::BackendValue::incarnation`] of the one that is meant.
    pub incarnation: u32,
}

const _: () = assert!(size_of::<ServerValue>() == 8 && align_of::<ServerValue>() == 4);

/// The part of [`crate::values::ServiceValue::flags`] that says how a service's connection IDs are read.
pub mod flags {
    const LENGTH_SHIFT: u32 = 24;
    const CONFIG_SHIFT: u32 = 28;

    /// From a config ID and a server ID's bytes.
    pub const fn of(config_id: u8, server_id_bytes: u8) -> u32 {
        (server_id_bytes as u32 & 15) << LENGTH_SHIFT | (config_id as u32 & 7) << CONFIG_SHIFT
    }

    /// Bytes of a server ID.
    #[inline(always)]
    pub const fn server_id_bytes(flags: u32) -> u32 {
        flags >> LENGTH_SHIFT & 15
    }

    /// The config ID.
    #[inline(always)]
    pub const fn config_id(flags: u32) -> u32 {
        flags >> CONFIG_SHIFT & 7
    }
}

#[cfg(test)]
mod tests {
    use super::flags;

    #[test]
    fn flags_hold_both() {
        for config in 0..=super::MAX_CONFIG_ID {
            for bytes in 1..=super::SERVER_ID_BYTES as u8 {
                let flags = flags::of(config, bytes);
                assert_eq!(flags::config_id(flags), u32::from(config));
                assert_eq!(flags::server_id_bytes(flags), u32::from(bytes));
                assert_eq!(flags & 0x00ff_ffff, 0);
            }
        }
    }
}
