//! Memory that passes reuse.

use crate::error::Result;
use crate::ops::{Converted, PassRows};
use fastdecode_simd::memory;

/// Activations of a pass, kept from one to the next.
#[derive(Default)]
pub struct Workspace {
    pub(crate) buffers: Buffers,
    pub(crate) converted: Converted,
    pub(crate) rows: PassRows,
}

/// Reusable buffers of floats, as many as an architecture wants.
#[derive(Default)]
pub(crate) struct Buffers(Vec<Vec<f32>>);

impl Buffers {
    /// Buffers of these sizes. Their contents are unspecified.
    ///
    /// # Errors
    /// If the system refuses memory.
    pub fn take<const N: usize>(&mut self, sizes: [usize; N]) -> Result<[&mut [f32]; N]> {
        if self.0.len() < N {
            self.0.resize_with(N, Vec::new);
        }
        for (buffer, size) in self.0.iter_mut().zip(sizes) {
            memory::room(buffer, size)?;
        }
        let mut buffers = self.0.iter_mut().zip(sizes);
        Ok(std::array::from_fn(|_| {
            buffers.next().map(|(buffer, size)| &mut buffer[..size]).unwrap_or_default()
        }))
    }
}
