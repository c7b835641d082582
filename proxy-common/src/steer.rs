//! Steering of L7 connections: what the daemon, its workers and `sk_steer` tell each other.

use crate::net::Address;

/// Workers that fit. A choice reads all of them, so that more would cost every connection.
pub const WORKERS: usize = 64;

/// Prefixes that fit into `l7_services`: an address with one port takes one, a range of ports at most 30.
/// The trie allocates as it is filled.
pub const L7_SERVICES: u32 = 65_536;

/// A running worker writes [`WorkerLoad::beat`] at least this often, in nanoseconds.
pub const BEAT_INTERVAL_NS: u64 = 250_000_000;

/// A worker whose beat is older than this, in nanoseconds, is stalled: four beats, so that what
/// a scheduler does to a thread on a busy host doesn't count as one.
pub const STALL_NS: u64 = 4 * BEAT_INTERVAL_NS;

/// A worker with more than this utilisation, in thousandths, may be passed over. One below has time left,
/// whatever the others do.
pub const BUSY_PERMILLE: u64 = 850;

/// By how much its utilisation has to be above the mean too, in thousandths: when all are busy, none is passed over.
pub const BUSY_MARGIN_PERMILLE: u64 = 250;

/// Handshakes that a worker was chosen for and that haven't come to it after this long, in nanoseconds, are no
/// longer counted as on their way: Linux sends a SYN-ACK again after one second.
pub const ABANDONED_NS: u64 = 1_000_000_000;

/// Bits of an [`L7Key`] that name the address.
pub const ADDRESS_BITS: u32 = 128;

/// Bits of an [`L7Key`] that count: the address and the port.
pub const KEY_BITS: u32 = ADDRESS_BITS + 16;

/// Key of `l7_services` behind the prefix length: an address and the first bits of a port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct L7Key {
    /// The VIP; 0.0.0.0 for every IPv4 address, :: for every address.
    pub address: Address,
    /// Network order, as a prefix needs it.
    pub port: [u8; 2],
    /// Zero, beyond every prefix.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<L7Key>() == 20 && align_of::<L7Key>() == 4);

/// Value of `l7_services`: the range of ports that the prefix is a part of, as it was configured.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct L7Service {
    /// Host order.
    pub first_port: u16,
    /// Host order; the range includes it.
    pub last_port: u16,
}

const _: () = assert!(size_of::<L7Service>() == 4 && align_of::<L7Service>() == 2);

/// Value of `worker_loads`: one worker, one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct WorkerLoad {
    /// Times that it was chosen. Written by `sk_steer`, at once: a burst of connections is spread although
    /// the worker hasn't seen any of them yet.
    pub chosen: u64,
    /// How many of those are accounted for: accepted or given up. Written by the worker.
    pub settled: u64,
    /// When it was last seen alive: nanoseconds of CLOCK_MONOTONIC_COARSE. Written by the worker.
    pub beat: u64,
    /// Connections it has open. Written by the worker.
    pub connections: u32,
    /// Utilisation over the last moments, in thousandths. Written by the worker.
    pub busy_permille: u32,
    /// [`worker_state`]. Written by the daemon.
    pub state: u32,
    /// Zero.
    pub pad: [u32; 7],
}

const _: () = assert!(size_of::<WorkerLoad>() == 64);

/// Values of [`WorkerLoad::state`].
pub mod worker_state {
    /// There is no such worker, nor one with a greater number.
    pub const NONE: u32 = 0;
    /// It has a socket.
    pub const REGISTERED: u32 = 1;
    /// It has no socket any more, or not yet. The bit of [`REGISTERED`] is off.
    pub const ABSENT: u32 = 2;
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal;)*) => {
        /// What became of a lookup for an L7 address. The code is the index into `steer_counters`, the label names it
        /// in metrics and `weir status`.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum SteerOutcome { $($(#[$doc])* $name = $code,)* }

        impl SteerOutcome {
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
    /// Steered to the least loaded of all workers.
    LeastLoaded = 0, "least_loaded";
    /// Steered to the least loaded of the others: at least one worker was passed over as too busy.
    PassedOverBusy = 1, "passed_over_busy";
    /// Steered to the least loaded of the others: at least one worker was passed over as stalled.
    PassedOverStalled = 2, "passed_over_stalled";
    /// Steered to the least loaded, although every worker is stalled.
    AllStalled = 3, "all_stalled";
    /// Left to the host's ordinary sockets: no worker has a socket, as when the daemon is dead.
    NoWorker = 4, "no_worker";
    /// Left to the host's ordinary sockets: the kernel refused the worker's socket.
    Refused = 5, "refused";
}

impl SteerOutcome {
    /// Number of outcomes: the size of `steer_counters`.
    pub const COUNT: usize = Self::ALL.len();
}
