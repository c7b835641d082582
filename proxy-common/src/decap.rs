//! What both sides know of the end of tunnels on a backend's host.

/// Value of `decap_addresses`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct DecapValue {
    /// [`decap_flags`].
    pub flags: u32,
}

/// Bits of [`DecapValue::flags`].
pub mod decap_flags {
    /// Tunnels may end at this address: it is this host's.
    pub const END: u32 = 1;
    /// Packets in tunnels may be for this address: a VIP that this host serves.
    pub const VIP: u32 = 2;
    /// Where a number of 16 bits begins: what clients may send to this VIP in a TCP segment at most; 0 for as much as its servers say.
    pub const MAX_SEGMENT_SHIFT: u32 = 16;
}

/// Addresses in `decap_addresses`.
pub const DECAP_ADDRESSES: u32 = 4_096;

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal;)*) => {
        /// What became of a packet that came through a tunnel to one of this host's addresses. The code is the index into
        /// `decap_counters`, the label names it in metrics and `weir status`.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum DecapOutcome { $($(#[$doc])* $name = $code,)* }

        impl DecapOutcome {
            /// Every outcome, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

outcomes! {
    /// Came by IP in IP, and was delivered.
    Ipip = 0, "ipip";
    /// Came by GUE, and was delivered.
    Gue = 1, "gue";
    /// For an address that is no VIP of this host's: left to the host, which may have a tunnel device for it.
    NotVip = 2, "not_a_vip";
    /// Holds no whole IP header: left to the host.
    Malformed = 3, "malformed";
}

impl DecapOutcome {
    /// Number of outcomes: the size of `decap_counters`.
    pub const COUNT: usize = Self::ALL.len();
}
