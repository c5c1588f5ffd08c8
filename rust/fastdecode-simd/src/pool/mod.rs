//! Threads for many short parallel phases in quick succession.
//!
//! Within a session the workers poll a word in memory for the next phase: a forward pass has a hundred
//! phases, each shorter than waking a thread takes. Between sessions they sleep, but not at once, because a
//! session often follows closely upon another.
//!
//! Each thread has its own share of a phase's tasks, in a cache line of its own, and takes from other
//! shares only after its own. One counter for all tasks would move between distant cores with every
//! task.
//!
//! The caller takes part, and no thread waits for a worker that has claimed no task. So a worker that the
//! system has suspended costs speed, never progress.

mod shared;
mod sync;

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::per_process::PerProcess;
use crate::settings::{SettingError, processors, threads_or};
use shared::{Job, Shared, wait, work};
use std::panic::resume_unwind;
use std::sync::{OnceLock, PoisonError, TryLockError};
use sync::{Arc, AtomicBool, Builder, MOST_THREADS, Mutex, Ordering, Thread};

#[derive(Default)]
struct Workers {
    threads: Vec<Thread>,
    /// The system has refused another thread.
    refused: bool,
}

/// A pool of threads, the caller's among them. Workers are started by the first session that wants
/// them.
pub struct Pool {
    shared: Arc<Shared>,
    /// A session has the workers. Released at its end, and acquired by the next one, which goes on from
    /// its phase and reuses its shares.
    busy: AtomicBool,
    /// Locked only by the session that has set `busy`, so no thread ever waits for it.
    workers: Mutex<Workers>,
    processors: OnceLock<usize>,
}

impl Pool {
    /// A pool that has not started any workers.
    ///
    /// For the pool that everything shares see [`Pool::global`]. A forked process must not rely on the
    /// workers of a pool it has inherited: sessions of such a pool run on the caller's thread alone.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared::new()),
            busy: AtomicBool::new(false),
            workers: Mutex::new(Workers::default()),
            processors: OnceLock::new(),
        }
    }

    /// The process's pool. A forked process makes its own.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: PerProcess<Pool> = PerProcess::new();
        GLOBAL.get_or_make(Self::new)
    }

    /// The threads that a parallel loop should use: those that the environment gives, or the processors
    /// that the process could use when it first asked.
    ///
    /// # Errors
    /// If the environment's number is not a positive integer.
    pub fn threads(&self) -> Result<usize, SettingError> {
        threads_or(|| *self.processors.get_or_init(processors))
    }

    /// Wakes workers, so that up to `threads` threads, the caller's among them, run phases until the
    /// session is dropped. Where another session has the workers, or the system refuses to start them,
    /// this one runs on the caller's thread alone.
    #[must_use]
    pub fn session(&self, threads: usize) -> Session<'_> {
        let has_workers = threads > 1
            && self
                .busy
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        let threads = if has_workers { self.wake(threads.min(MOST_THREADS)) } else { 1 };
        Session { pool: self, threads, has_workers }
    }

    /// Starts workers where there are too few for `threads` threads, and wakes as many as there are.
    /// Returns the number of threads, the caller's among them.
    fn wake(&self, threads: usize) -> usize {
        let mut workers = match self.workers.try_lock() {
            Ok(workers) => workers,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            // In a forked process, where a session was opened at the moment of the fork.
            Err(TryLockError::WouldBlock) => return 1,
        };
        while workers.threads.len() + 1 < threads && !workers.refused {
            let (index, shared) = (workers.threads.len() + 1, Arc::clone(&self.shared));
            let thread = Builder::new().name(format!("fastdecode-{index}"));
            match thread.spawn(move || work(&shared, index)) {
                Ok(handle) => workers.threads.push(handle.thread().clone()),
                Err(_) => workers.refused = true,
            }
        }
        let threads = threads.min(workers.threads.len() + 1);
        self.shared.awake.store(threads, Ordering::Relaxed);
        for worker in &workers.threads[..threads - 1] {
            worker.unpark();
        }
        threads
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The workers are not joined: in a forked process they do not exist.
        self.shared.quit.store(true, Ordering::Relaxed);
        for worker in &self.workers.get_mut().unwrap_or_else(PoisonError::into_inner).threads {
            worker.unpark();
        }
    }
}

/// Awake threads of a pool.
pub struct Session<'a> {
    pool: &'a Pool,
    /// The caller's among them.
    threads: usize,
    /// It has set `busy`.
    has_workers: bool,
}

impl Session<'_> {
    /// The threads that take part, the caller's among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `task(i)` once for each i below `count`, in any order, on any of the threads, and returns
    /// when all have finished. Each thread takes the tasks of its share upwards.
    ///
    /// # Panics
    /// With the panic of a task.
    pub fn run<F: Fn(usize) + Sync>(&mut self, count: usize, task: F) {
        self.run_in_order(count, task, |_| false);
    }

    /// [`Session::run`], upwards in one phase and downwards in the next. If consecutive phases read the
    /// same memory, each begins with what the one before has left in the cache.
    ///
    /// # Panics
    /// With the panic of a task.
    pub fn run_back_and_forth<F: Fn(usize) + Sync>(&mut self, count: usize, task: F) {
        self.run_in_order(count, task, |phase| phase & 1 == 1);
    }

    /// `backwards` tells by a phase's number whether the tasks of each share are taken from its end.
    fn run_in_order<F: Fn(usize) + Sync>(
        &mut self,
        count: usize,
        task: F,
        backwards: impl FnOnce(u64) -> bool,
    ) {
        /// # Safety
        /// `data` is a live `&F`.
        unsafe fn call<F: Fn(usize)>(data: *const (), index: usize) {
            // SAFETY: the caller's promise.
            let task = unsafe { &*data.cast::<F>() };
            task(index);
        }
        if self.threads < 2 || count <= 1 || u32::try_from(count).is_err() {
            (0..count).for_each(task);
            return;
        }
        let shared = &*self.pool.shared;
        let data = (&raw const task).cast();
        let shares = &shared.shares[..self.threads];
        let number = (shares[0].claims.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let phase = number << 32;
        let backwards = backwards(number);
        let job = Job { data, call: call::<F>, count, threads: self.threads, backwards };
        shared.data.store(job.data.cast_mut(), Ordering::Relaxed);
        shared.call.store(job.call as *mut (), Ordering::Relaxed);
        shared.count.store(count, Ordering::Relaxed);
        shared.threads.store(self.threads, Ordering::Relaxed);
        shared.backwards.store(backwards, Ordering::Relaxed);
        // Released last: a worker that sees the phase in its share sees the job, and what the caller has
        // written for its tasks.
        for (index, share) in shares.iter().enumerate().rev() {
            let tasks = job.first(index + 1) - job.first(index);
            share.done.store(0, Ordering::Relaxed);
            share.claims.store(phase | tasks as u64, Ordering::Release);
        }
        shared.take_part(0, phase, job);
        // The closure must outlive every task that has been claimed, and what tasks wrote is the caller's.
        let done = || shares.iter().map(|share| share.done.load(Ordering::Acquire)).sum::<usize>();
        let mut looks = 0;
        while done() < count {
            wait(&mut looks);
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.has_workers {
            self.pool.shared.awake.store(0, Ordering::Relaxed);
            self.pool.busy.store(false, Ordering::Release);
        }
    }
}
