//! The parallel loop over the rows of a batch.

use std::cell::RefCell;

use fastdecode_simd::{DisjointSlice, Pool, memory};

use crate::error::{Error, Result};
use crate::row::logits::Logits;
use crate::workspace::Workspace;

/// Memory that one thread reuses.
#[derive(Debug, Default)]
struct OfThread {
    workspace: Workspace,
    widened: Vec<f32>,
    /// The longest row that there has been memory for.
    ready: usize,
}

/// Bytes that the workspaces of a thread take for each token of a row, at most.
const EACH_TOKEN: usize = 128;

thread_local! {
    /// Kept between calls, so that a call for one row allocates no memory of the vocabulary's size.
    static OF_THREAD: RefCell<OfThread> = RefCell::default();
}

/// Below this many logits a second thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 15;

impl Logits<'_> {
    /// Calls `work(row index, row, workspace)` for each row, in parallel where there is enough
    /// work, and collects the results in order. If several rows are refused, the error is that of
    /// the first of them.
    ///
    /// # Errors
    /// The error of the first row that is refused, with the row's index.
    pub fn map<T: Send>(
        &self,
        work: impl Fn(usize, &[f32], &mut Workspace) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        if self.vocabulary == 0 {
            return Err(Error::EmptyVocabulary);
        }
        let one = |index: usize| {
            OF_THREAD.with_borrow_mut(|OfThread { workspace, widened, ready }| {
                if *ready < self.vocabulary {
                    memory::probe(self.vocabulary.saturating_mul(EACH_TOKEN))?;
                    *ready = self.vocabulary;
                }
                let row = self.row(index, widened);
                work(index, row, workspace).map_err(|error| error.in_row(index))
            })
        };
        let rows_each = (WORTH_A_THREAD / self.vocabulary).max(1);
        let chunks = self.rows / rows_each;
        let alone = || {
            let mut results = memory::with_room(self.rows)?;
            for index in 0..self.rows {
                results.push(one(index)?);
            }
            Ok(results)
        };
        // Decided before the pool is looked up, because finding the process's pool takes a system
        // call.
        if chunks < 2 {
            return alone();
        }
        let pool = Pool::global();
        let threads = pool.threads()?.min(chunks);
        if threads < 2 {
            return alone();
        }
        let mut results: Vec<Option<Result<T>>> = memory::collect((0..self.rows).map(|_| None))?;
        let places = DisjointSlice::new(&mut results);
        // Back and forth, because rows are often read twice: to sample, then for log-probabilities.
        pool.session(threads).run_back_and_forth(self.rows.div_ceil(rows_each), |task| {
            let rows = task * rows_each..self.rows.min((task + 1) * rows_each);
            // SAFETY: the ranges of two tasks do not overlap.
            let places = unsafe { places.part(rows.clone()) };
            for (index, place) in rows.zip(places) {
                *place = Some(one(index));
            }
        });
        // All rows are processed before the first error is picked, so that the message does not
        // depend on which thread was faster.
        let mut values = memory::with_room(self.rows)?;
        for result in results.into_iter().flatten() {
            values.push(result?);
        }
        Ok(values)
    }
}
