//! What becomes of a packet: a verdict, or one reason for dropping it.

/// What to do with a packet that is not dropped.
///
/// No variant carries a value: LLVM would combine it with the others' undefined bytes, and the
/// verifier refuses to read those.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Hand it to the network stack.
    Pass = 0,
    /// Send it out of the interface it came in by.
    Transmit = 1,
    /// Send it out of the interface that `bpf_redirect` was told.
    Redirect = 2,
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal;)*) => {
        /// Why a packet was dropped. The code is the index into `drop_counters`, the label
        /// names it in metrics and `weir status`.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum DropReason { $($(#[$doc])* $name = $code,)* }

        impl DropReason {
            /// Every reason, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The reason with this code; [`Self::Truncated`] for codes there are none of.
            pub const fn from_code(code: u32) -> Self {
                match code {
                    $($code => Self::$name,)*
                    _ => Self::Truncated,
                }
            }
        }
    };
}

drop_reasons! {
    /// For a VIP, but a header is cut short, or the frame is shorter than its IP length says.
    Truncated = 0, "truncated";
    /// For a VIP, but an impossible header: IHL under 5, a length shorter than the headers.
    BadHeader = 1, "bad_header";
    /// An IPv4 or IPv6 fragment for a VIP whose datagram's ports aren't known: its first fragment didn't come before it.
    Fragment = 2, "fragment";
    /// For a VIP, behind more IPv6 extension headers than are walked.
    ExtensionHeaders = 3, "extension_headers";
    /// TTL or hop limit would reach zero.
    TtlExpired = 4, "ttl_expired";
    /// The service has no backend that takes new flows.
    NoBackend = 5, "no_backend";
    /// No free NAT source port to the backend among those probed.
    PortExhausted = 6, "port_exhausted";
    /// The flow table is full.
    FlowTableFull = 7, "flow_table_full";
    /// No route to the backend or client, or a blackhole route.
    NoRoute = 8, "no_route";
    /// `net.ipv4.conf.IFACE.forwarding` or its IPv6 like is 0 on the arriving interface.
    ForwardingDisabled = 9, "forwarding_disabled";
    /// Larger than the leaving interface's or the route's MTU.
    MtuExceeded = 10, "mtu_exceeded";
    /// The neighbour is unresolved and the driver has no room to hand the packet to TC.
    NeighbourUnresolved = 11, "neighbour_unresolved";
    /// The driver leaves no room in front of the packet for the outer headers.
    NoHeadroom = 12, "no_headroom";
    /// The source may not send to the service.
    Denied = 13, "denied";
    /// The source sends more packets to the service than it may.
    PacketLimit = 14, "packet_limit";
    /// The source opens more connections to the service than it may.
    ConnectionLimit = 15, "connection_limit";
    /// More new flows come to this host than it may store, and this one could not do without an entry.
    FlowLimit = 16, "flow_limit";
}

impl DropReason {
    /// Number of reasons: the size of `drop_counters`.
    pub const COUNT: usize = Self::ALL.len();
}

/// A result in one word, for functions of the kernel programs that aren't inlined: BPF returns 64
/// bits. High half: 0 for a verdict, 1 for a drop; low half: its code.
#[inline(always)]
pub const fn pack(verdict: Result<Verdict, DropReason>) -> u64 {
    match verdict {
        Ok(verdict) => verdict as u64,
        Err(reason) => 1 << 32 | reason as u64,
    }
}

/// The inverse of [`pack`].
///
/// # Errors
/// The packed reason.
#[inline(always)]
pub const fn unpack(packed: u64) -> Result<Verdict, DropReason> {
    match packed {
        0 => Ok(Verdict::Pass),
        1 => Ok(Verdict::Transmit),
        2 => Ok(Verdict::Redirect),
        _ => Err(DropReason::from_code(packed as u32)),
    }
}
