//! Large stretches of memory.

use crate::error::{Error, Result};
use fastdecode_simd::Line;
use memmap2::MmapMut;

/// Anonymous memory, zeros at first, in large pages where the system has them: with small ones a step
/// loses time in finding them.
pub(crate) struct Arena(MmapMut);

impl Arena {
    /// Of so many lines. Memory is taken as it is written to.
    pub fn new(lines: usize) -> Result<Self> {
        let bytes = lines.saturating_mul(size_of::<Line>());
        let refused = |source| Error::Memory { bytes, source };
        let map = MmapMut::map_anon(bytes.min(isize::MAX.cast_unsigned())).map_err(refused)?;
        #[cfg(all(target_os = "linux", not(miri)))]
        // Advice; a system without large pages refuses it, and all works as before.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self(map))
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    pub fn lines(&self) -> &[Line] {
        // SAFETY: the mapping begins at a page, any bytes are a Line, it is borrowed as long as
        // the result, and the division leaves out what is no whole line.
        unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() / size_of::<Line>())
        }
    }

    pub fn lines_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.0.as_mut_ptr().cast(),
                self.0.len() / size_of::<Line>(),
            )
        }
    }
}
