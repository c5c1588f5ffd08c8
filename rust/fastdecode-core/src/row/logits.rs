//! A batch of rows as it lies in the caller's memory, and the parallel loop over it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Below this many logits a second thread costs more than it saves (about 10 us of work).
const WORTH_A_THREAD: usize = 1 << 15;

/// The caller waits so long for the others before it sleeps. They have a few rows left at most,
/// and to sleep and to be woken takes as long.
const AWAKE: Duration = Duration::from_micros(50);

/// Waits until `done`, without sleeping, but no longer than [`AWAKE`].
fn wait_awake(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() && start.elapsed() < AWAKE {
        std::hint::spin_loop();
    }
}

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
        let threads = rayon::current_num_threads().min(self.rows / rows_each);
        if threads < 2 {
            return (0..self.rows).map(one).collect();
        }
        // The caller takes part and begins at once: handed to the pool as a whole, the rows waited for
        // two threads, while the caller, which has them in its cache, slept. What is left is that a
        // sleeping thread takes a while to wake up (25 to 40 us on a virtual machine).
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::with_capacity(self.rows));
        let take_part = || {
            let mut mine = Vec::with_capacity(self.rows);
            loop {
                let first = next.fetch_add(rows_each, Ordering::Relaxed);
                if first >= self.rows {
                    break;
                }
                let end = self.rows.min(first + rows_each);
                mine.extend((first..end).map(|index| (index, one(index))));
            }
            found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut mine);
        };
        let done = AtomicUsize::new(0);
        rayon::in_place_scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|_| {
                    take_part();
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            take_part();
            wait_awake(|| done.load(Ordering::Relaxed) == threads - 1);
        });
        // Every row is tried before the first refusal is picked, so that the message does not
        // depend on which thread was faster.
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, result)| result).collect()
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
