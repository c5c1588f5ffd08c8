//! Large stretches of memory.

use crate::error::Result;
use fastdecode_simd::Line;
use fastdecode_simd::memory::{Refused, admit, check};
use memmap2::MmapMut;

/// Anonymous memory, zeros at first, in large pages where the system has them, because with small pages
/// address translation costs a noticeable part of a step.
pub(crate) struct Arena(MmapMut);

impl Arena {
    /// Memory for `lines` lines. The system provides pages as they are first written to.
    pub fn new(lines: usize) -> Result<Self> {
        let bytes = lines.saturating_mul(size_of::<Line>());
        admit(bytes)?;
        check()?;
        let map = MmapMut::map_anon(bytes).map_err(|_| Refused::by_the_system(bytes))?;
        #[cfg(all(target_os = "linux", not(miri)))]
        // Only advice: a system without large pages refuses it, and everything works with small ones.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self(map))
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    pub fn lines(&self) -> &[Line] {
        // SAFETY: the mapping is aligned to a page, any bytes are a valid Line, it is borrowed as long as
        // the result lives, and the division leaves out what is not a whole line.
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
