//! Per-CPU counters. Readers add the CPUs up; each CPU writes only its own.

/// Value of `service_counters` and `backend_counters`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(any(feature = "user", test), derive(Debug))]
pub struct Counters {
    /// Packets from clients that were forwarded.
    pub packets: u64,
    /// Their frame bytes.
    pub bytes: u64,
    /// Packets from backends that were forwarded.
    pub reply_packets: u64,
    /// Their frame bytes.
    pub reply_bytes: u64,
    /// Flows opened.
    pub flows: u64,
    /// Packets from clients that were dropped after the service was known.
    pub drops: u64,
    /// Packets whose flow was to be stored in `tracked_flows` and was not: it was full, or too many came.
    pub untracked: u64,
}

const _: () = assert!(size_of::<Counters>() == 56);

impl Counters {
    /// Adds another CPU's part.
    pub const fn add(&mut self, other: &Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.reply_packets = self.reply_packets.wrapping_add(other.reply_packets);
        self.reply_bytes = self.reply_bytes.wrapping_add(other.reply_bytes);
        self.flows = self.flows.wrapping_add(other.flows);
        self.drops = self.drops.wrapping_add(other.drops);
        self.untracked = self.untracked.wrapping_add(other.untracked);
    }
}
