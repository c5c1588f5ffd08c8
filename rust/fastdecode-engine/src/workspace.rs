//! Memory that passes reuse.

use crate::error::Result;
use crate::ops::{Converted, PassRows};
use fastdecode_simd::{PerProcess, memory};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Activations of a pass, kept from one to the next.
#[derive(Default)]
pub struct Workspace {
    pub(crate) buffers: Buffers,
    pub(crate) converted: Converted,
    pub(crate) rows: PassRows,
}

/// Workspaces that are not in use, kept for the next batches: the pages of new ones would have to be mapped and
/// cleared.
#[derive(Default)]
pub(crate) struct Idle(PerProcess<Mutex<Vec<Workspace>>>);

/// The most that are kept.
const MOST_IDLE: usize = 2;

impl Idle {
    /// One of them, or a new one.
    pub fn take(&self) -> Workspace {
        self.list().pop().unwrap_or_default()
    }

    /// Keeps one, unless there are enough.
    pub fn give(&self, workspace: Workspace) {
        let mut list = self.list();
        if list.len() < MOST_IDLE && list.try_reserve(1).is_ok() {
            list.push(workspace);
        }
    }

    /// The lock, even after a panic: a list is consistent between any two statements.
    fn list(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.0.get_or_make(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
    }
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
