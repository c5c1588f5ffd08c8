//! A batch of rows as it lies in the caller's memory, and the parallel loop over it.

use std::cell::RefCell;

use fastdecode_simd::{DisjointSlice, Pool};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::pipeline::sampler::Workspace;

/// The numbers of a batch, in one of the formats that models put out.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of a single.
    BF16(&'a [bf16]),
}

/// `rows` rows of `vocabulary` logits, each contiguous, `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct Logits<'a> {
    /// From the first element of the first row to the last of the last.
    pub elements: Elements<'a>,
    /// Number of rows.
    pub rows: usize,
    /// Tokens in a row.
    pub vocabulary: usize,
    /// Elements from one row's start to the next's; may be 0 (one row seen many times).
    pub stride: usize,
}

/// What a thread needs for itself.
#[derive(Debug, Default)]
struct OfThread {
    workspace: Workspace,
    widened: Vec<f32>,
}

thread_local! {
    /// Kept between calls: a call for one row then allocates nothing of the vocabulary's size.
    static OF_THREAD: RefCell<OfThread> = RefCell::default();
}

/// Below this many logits a second thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 15;

impl Logits<'_> {
    /// Calls `work(row index, row, workspace)` for each row, in parallel where there is enough
    /// work, and collects the results in order. The first refusal by row wins.
    ///
    /// # Errors
    /// The first row's refusal, with the row's index in it.
    pub fn map<T: Send>(
        &self,
        work: impl Fn(usize, &[f32], &mut Workspace) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        if self.vocabulary == 0 {
            return Err(Error::EmptyVocabulary);
        }
        let one = |index: usize| {
            OF_THREAD.with_borrow_mut(|OfThread { workspace, widened }| {
                let row = self.row(index, widened);
                work(index, row, workspace).map_err(|error| error.in_row(index))
            })
        };
        let rows_each = (WORTH_A_THREAD / self.vocabulary).max(1);
        let chunks = self.rows / rows_each;
        let pool = Pool::global();
        let threads = if chunks < 2 { 1 } else { pool.threads()?.min(chunks) };
        if threads < 2 {
            return (0..self.rows).map(one).collect();
        }
        let mut results: Vec<Option<Result<T>>> = (0..self.rows).map(|_| None).collect();
        let places = DisjointSlice::new(&mut results);
        pool.session(threads).run(self.rows.div_ceil(rows_each), |task| {
            let rows = task * rows_each..self.rows.min((task + 1) * rows_each);
            // SAFETY: the ranges of two tasks do not overlap.
            let places = unsafe { places.part(rows.clone()) };
            for (index, place) in rows.zip(places) {
                *place = Some(one(index));
            }
        });
        // Every row is tried before the first refusal is picked, so that the message does not
        // depend on which thread was faster.
        results.into_iter().flatten().collect()
    }

    /// A row as single precision: borrowed where it is already, else widened exactly.
    fn row<'s>(&'s self, index: usize, widened: &'s mut Vec<f32>) -> &'s [f32] {
        let range = index * self.stride..index * self.stride + self.vocabulary;
        match self.elements {
            Elements::F32(all) => return &all[range],
            Elements::F16(all) => {
                widened.resize(self.vocabulary, 0.0);
                all[range].convert_to_f32_slice(widened);
            }
            Elements::BF16(all) => {
                widened.resize(self.vocabulary, 0.0);
                all[range].convert_to_f32_slice(widened);
            }
        }
        widened
    }
}
