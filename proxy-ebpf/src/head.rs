//! The first bytes of a frame, checked once, read and written by single instructions.
//!
//! LLVM takes packet fields that aren't aligned apart into bytes; the kernel doesn't ask for that where the
//! machine doesn't (CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS: x86-64, arm64). On the fast path this is half of the cost.

use crate::packet::Packet;
use core::arch::asm;

/// A frame of which `N` bytes at least are in the linear part.
#[derive(Clone, Copy)]
pub struct Head<const N: usize>(usize);

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $size:literal, $name:literal) => {
        #[doc = concat!("The ", $size, " bytes at `AT`, as they lie.")]
        #[inline(always)]
        pub fn $read<const AT: usize>(self) -> $type {
            const { assert!(AT < N && AT + ($size - 1) < N) };
            let value: u64;
            // SAFETY: inside the N bytes that were checked; the verifier proves it again at load.
            unsafe {
                asm!(
                    concat!("{value} = *(", $name, " *)({pointer} + {at})"),
                    value = out(reg) value,
                    pointer = in(reg) self.0,
                    at = const AT,
                    options(readonly, nostack, preserves_flags)
                );
            }
            value as $type
        }

        #[doc = concat!("Writes the ", $size, " bytes at `AT`.")]
        #[inline(always)]
        pub fn $write<const AT: usize>(self, value: $type) {
            const { assert!(AT < N && AT + ($size - 1) < N) };
            // SAFETY: as for reading; nobody else holds a reference into the packet.
            unsafe {
                asm!(
                    concat!("*(", $name, " *)({pointer} + {at}) = {value}"),
                    value = in(reg) value as u64,
                    pointer = in(reg) self.0,
                    at = const AT,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

impl<const N: usize> Head<N> {
    /// Those bytes of a frame, if it has them.
    #[inline(always)]
    pub fn of(packet: &Packet) -> Option<Self> {
        if packet.start() + N > packet.end() {
            return None;
        }
        Some(Self(packet.start()))
    }

    access!(read_u8, write_u8, u8, 1, "u8");
    access!(read_u16, write_u16, u16, 2, "u16");
    access!(read_u32, write_u32, u32, 4, "u32");
    access!(read_u64, write_u64, u64, 8, "u64");
}
