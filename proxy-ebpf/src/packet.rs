//! The one place where packet bytes are reached: a bounds check and a pointer.

use core::{arch::asm, ptr};
use proxy_common::checksum::Delta;

/// The linear part of a frame.
#[derive(Clone, Copy)]
pub struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    /// From the fields of a context that hold its bounds, `data` and `data_end` say. Stale after
    /// any helper that moves packet memory.
    #[inline(always)]
    pub fn between(start: &u32, end: &u32) -> Self {
        Self::new(pointer(start), pointer(end))
    }

    /// From bounds that were read before.
    #[inline(always)]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Its first byte.
    #[inline(always)]
    pub fn start(&self) -> usize {
        self.start
    }

    /// The byte after its last.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.end
    }

    /// Bytes in the linear part.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// A pointer to `T` at `offset`, if all of it lies inside.
    #[inline(always)]
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        // The verifier knows a packet pointer's range only if the offset added is bounded, and only
        // if the register that is compared is the one that is added.
        let offset = opaque(offset);
        if offset > 0x7fff {
            return None;
        }
        // The pointer that is checked must be the one that is used: its range is the verifier's
        // proof, and LLVM would make it twice.
        let pointer = opaque(self.start + offset);
        if pointer + size_of::<T>() > self.end {
            return None;
        }
        Some(pointer as *mut T)
    }

    /// A copy of `T` at `offset`, in the byte order of the wire.
    #[inline(always)]
    pub fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: `at` checked that the bytes are inside the packet; unaligned, since frames are.
        Some(unsafe { pointer.read_unaligned() })
    }

    /// Replaces the 32-bit words at `offset` by `new`, in memory order, and adds the change to
    /// `delta`. Word by word, so that no copy of an IPv6 address takes stack.
    #[inline(always)]
    pub fn replace<const N: usize>(&self, offset: usize, new: [u32; N], delta: Delta) -> Option<Delta> {
        let words = self.at::<[u32; N]>(offset)?.cast::<u32>();
        let mut delta = delta;
        for (index, new) in new.into_iter().enumerate() {
            // SAFETY: `at` checked all N words; unaligned, since frames are.
            unsafe {
                let word = words.add(index);
                delta = delta.word(word.read_unaligned(), new);
                word.write_unaligned(new);
            }
        }
        Some(delta)
    }

    /// Writes `value` at `offset`, in the byte order of the wire. `None` if it doesn't fit.
    #[inline(always)]
    pub fn write<T: Copy>(&self, offset: usize, value: T) -> Option<()> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: as in `read`; nobody else holds a reference into the packet.
        unsafe { pointer.write_unaligned(value) };
        Some(())
    }
}

/// A packet pointer from a context's field.
///
/// The field is 32 bits wide for the compiler, and the verifier makes a pointer of it. Left to
/// itself, LLVM compares such pointers as 32-bit words or hands them to functions as such, and
/// the verifier loses track: hence a volatile read, and a barrier.
#[inline(always)]
fn pointer(field: &u32) -> usize {
    // SAFETY: a reference is valid for reads.
    opaque(unsafe { ptr::read_volatile(field) } as usize)
}

/// The same offset, of which the verifier knows nothing but its bounds: it keeps no track of what is stored in two bytes. Ways that led to
/// different offsets are one from here on, where each would be followed by itself.
#[inline(always)]
pub fn forgotten(offset: u16) -> usize {
    let mut kept = 0;
    // SAFETY: a variable of this function.
    unsafe {
        ptr::write_volatile(&raw mut kept, offset);
        usize::from(ptr::read_volatile(&raw const kept))
    }
}

/// The same value, of which the compiler knows nothing.
#[inline(always)]
fn opaque(value: usize) -> usize {
    let mut value = value;
    // SAFETY: a register copied to itself. Not an empty string: two line records of the debug
    // information would then share an instruction, which the kernel refuses.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}
