//! One cache line.

/// Lanes of a vector: the floats of a cache line.
pub const LANES: usize = 16;

/// A cache line: sixteen floats, or any 64 bytes, aligned to 64.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

impl Line {
    /// Zeros.
    pub const ZERO: Self = Self([0.0; LANES]);

    /// Lines as floats.
    #[inline]
    pub fn floats_mut(lines: &mut [Self]) -> &mut [f32] {
        let count = lines.len() * LANES;
        // SAFETY: a line is sixteen floats without padding, and the borrow is the argument's.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), count) }
    }

    /// Lines as bytes.
    #[must_use]
    pub fn all_bytes(lines: &[Self]) -> &[u8] {
        // SAFETY: a line is 64 bytes without padding, and the borrow is the argument's.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
    }

    /// Lines as mutable bytes.
    pub fn all_bytes_mut(lines: &mut [Self]) -> &mut [u8] {
        let size = size_of_val(lines);
        // SAFETY: as above, and any bytes are a valid line.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size) }
    }

    /// The line as words, for data that is not float32.
    #[inline(always)]
    #[must_use]
    pub fn words(&self) -> &[u32; LANES] {
        // SAFETY: the sizes are equal, a float's bits are a valid word, and a word's alignment is no
        // greater.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// The line as mutable words.
    #[inline(always)]
    pub fn words_mut(&mut self) -> &mut [u32; LANES] {
        // SAFETY: as above, and any word is a valid float.
        unsafe { &mut *(&raw mut self.0).cast() }
    }

    /// The line as bytes.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8; 4 * LANES] {
        // SAFETY: the sizes are equal, and there is no padding.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// The line as mutable bytes.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8; 4 * LANES] {
        // SAFETY: as above, and any four bytes are a valid float.
        unsafe { &mut *(&raw mut self.0).cast() }
    }
}
