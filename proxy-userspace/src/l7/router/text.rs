//! Texts whose begin lies with their owner: a short one costs no cache miss of its own.

/// Part of an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) const EMPTY: Self = Self { start: 0, end: 0 };

    pub(super) fn new(start: usize, end: usize) -> Option<Self> {
        Some(Self {
            start: u32::try_from(start).ok()?,
            end: u32::try_from(end).ok()?,
        })
    }

    pub(super) const fn of<T>(self, whole: &[T]) -> &[T] {
        whole
            .split_at(self.start as usize)
            .1
            .split_at((self.end - self.start) as usize)
            .0
    }
}

/// Up to `SHORT` bytes here, more in an array of all texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<const SHORT: usize> {
    length: u32,
    /// Of a long one in the array.
    start: u32,
    short: [u8; SHORT],
}

impl<const SHORT: usize> Text<SHORT> {
    pub(super) const EMPTY: Self = Self {
        length: 0,
        start: 0,
        short: [0; SHORT],
    };

    /// None if the array is too large for 32 bits.
    pub(super) fn new(text: &[u8], long: &mut Vec<u8>) -> Option<Self> {
        let mut new = Self {
            length: u32::try_from(text.len()).ok()?,
            start: u32::try_from(long.len()).ok()?,
            short: [0; SHORT],
        };
        match new.short.get_mut(..text.len()) {
            Some(short) => short.copy_from_slice(text),
            None => long.extend_from_slice(text),
        }
        Some(new)
    }

    #[inline]
    pub(super) fn bytes<'a>(&'a self, long: &'a [u8]) -> &'a [u8] {
        let length = self.length as usize;
        match self.short.get(..length) {
            Some(short) => short,
            None => &long[self.start as usize..][..length],
        }
    }
}
