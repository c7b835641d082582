//! Events of the kernel programs, as they lie in the ring buffer `events`.

use crate::keys::FlowKey;

/// No service, or none that is known where the event was made.
pub const NO_SERVICE: u32 = u32::MAX;

/// Bytes of a frame that an event holds: all headers of a tunnelled TCP segment with options, and nothing much of what
/// people say to each other.
pub const SNAPSHOT: usize = 128;

/// Bytes of the ring: a power of two of pages. About 5,000 events, which is what a reader may be late by.
pub const RING: u32 = 1 << 20;

/// Bits of [`crate::values::Settings::flags`] about events.
pub mod wanted {
    /// Somebody reads events.
    pub const EVENTS: u64 = 1;
    /// Where the sampling rate begins, a number of 32 bits: one in so many events is written. 0 and 1 mean all.
    pub const RATE_SHIFT: u32 = 32;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal;)*) => {
        /// What happened to a packet. The code is [`Event::kind`], the label names it in `weir monitor`.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum EventKind { $($(#[$doc])* $name = $code,)* }

        impl EventKind {
            /// Every kind, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The kind with this code.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// It was dropped, for [`Event::reason`].
    Dropped = 0, "dropped";
    /// Its flow got an entry: in `flows`, or without NAT in `tracked_flows`.
    Opened = 1, "opened";
    /// Its flow had an entry that is of no use any more, and goes to another backend from here on.
    Moved = 2, "moved";
    /// Its sender is told of the drop, by an ICMP error of our own: the frame is that error.
    Answered = 3, "answered";
}

/// A record of `events`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
    /// The packet's 5-tuple as it arrived; all zero where it wasn't read, as of one that is cut off.
    pub key: FlowKey,
    /// Index of its service, or [`NO_SERVICE`].
    pub service: u32,
    /// Index of its backend, or [`crate::values::NO_BACKEND`].
    pub backend: u32,
    /// Of [`EventKind::Moved`], the backend before.
    pub previous: u32,
    /// Where the packet came in, or of a packet of this host's own, where it was about to leave.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Of which so many are in `frame`; what is behind them is left from other records.
    pub captured: u16,
    /// [`EventKind`].
    pub kind: u8,
    /// [`crate::verdict::DropReason`], of packets dropped and answered.
    pub reason: u8,
    /// The frame's first bytes, as it is at this moment: a packet may be translated when it turns out to have no way.
    pub frame: [u8; SNAPSHOT],
}

const _: () = assert!(size_of::<Event>() == 72 + SNAPSHOT && align_of::<Event>() == 8);
