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

use crate::float_mode::set_default_float_mode;
use crate::per_process::PerProcess;
use crate::settings::{MOST_THREADS, SettingError, processors, threads_or};
use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::{Thread, park, yield_now};
use std::time::{Duration, Instant};

/// After polling a word this many times, a thread yields its core before each further poll.
const LOOKS: u32 = 2000;

/// How long a worker stays awake after a session: about as long as waking it would take.
const LINGER: Duration = Duration::from_micros(50);

/// The current phase: a type-erased `&(dyn Fn(usize) + Sync)` and the number of its tasks.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize),
    count: usize,
    threads: usize,
    /// Whether the tasks of a share are taken from its end.
    backwards: bool,
}

impl Job {
    /// The first task of a share.
    fn first(self, share: usize) -> usize {
        self.count * share / self.threads
    }

    /// The next task of a share that has `left` tasks left.
    fn next(self, share: usize, left: usize) -> usize {
        if self.backwards { self.first(share) + left - 1 } else { self.first(share + 1) - left }
    }
}

/// A thread's share of the current phase, in cache lines that only its progress writes to.
#[repr(align(128))]
#[derive(Default)]
struct Share {
    /// The number of the phase (high 32 bits); tasks of the share not yet claimed (low 32 bits).
    claims: AtomicU64,
    /// Tasks of any share that this thread has finished in the phase.
    done: AtomicUsize,
}

struct Shared {
    /// One for each thread, the caller's first.
    shares: [Share; MOST_THREADS],
    /// The current job, as words, because a late worker may read them while they change.
    data: AtomicPtr<()>,
    call: AtomicPtr<()>,
    count: AtomicUsize,
    threads: AtomicUsize,
    backwards: AtomicBool,
    /// Threads of the current session, the caller's among them: workers from this index on sleep.
    awake: AtomicUsize,
    quit: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

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
    /// A session has the workers.
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
        let shared = Arc::new(Shared {
            shares: std::array::from_fn(|_| Share::default()),
            data: AtomicPtr::new(std::ptr::null_mut()),
            call: AtomicPtr::new(std::ptr::null_mut()),
            count: AtomicUsize::new(0),
            threads: AtomicUsize::new(1),
            backwards: AtomicBool::new(false),
            awake: AtomicUsize::new(0),
            quit: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        Self {
            shared,
            busy: AtomicBool::new(false),
            workers: Mutex::default(),
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
        let alone = Session { pool: self, threads: 1 };
        if threads < 2
            || self
                .busy
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return alone;
        }
        let threads = self.wake(threads.min(MOST_THREADS));
        if threads < 2 {
            self.busy.store(false, Ordering::Release);
            return alone;
        }
        Session { pool: self, threads }
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
            let thread = std::thread::Builder::new().name(format!("fastdecode-{index}"));
            match thread.spawn(move || work(&shared, index)) {
                Ok(handle) => workers.threads.push(handle.thread().clone()),
                Err(_) => workers.refused = true,
            }
        }
        let threads = threads.min(workers.threads.len() + 1);
        self.shared.awake.store(threads, Ordering::Release);
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
        self.shared.quit.store(true, Ordering::Release);
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
        shared.data.store(job.data.cast_mut(), Ordering::Release);
        shared.call.store(job.call as *mut (), Ordering::Release);
        shared.count.store(count, Ordering::Release);
        shared.threads.store(self.threads, Ordering::Release);
        shared.backwards.store(backwards, Ordering::Release);
        for (index, share) in shares.iter().enumerate().rev() {
            let tasks = job.first(index + 1) - job.first(index);
            share.done.store(0, Ordering::Relaxed);
            share.claims.store(phase | tasks as u64, Ordering::Release);
        }
        shared.take_part(0, phase, job);
        // The closure must outlive every task that has been claimed.
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
        if self.threads > 1 {
            self.pool.shared.awake.store(0, Ordering::Relaxed);
            self.pool.busy.store(false, Ordering::Release);
        }
    }
}

impl Shared {
    /// Claims and runs tasks of `phase` until none is left, those of share `own` before the others'.
    fn take_part(&self, own: usize, phase: u64, job: Job) {
        let mut ended = 0;
        for share in (own..own + job.threads).map(|share| share % job.threads) {
            let claims = &self.shares[share].claims;
            let mut word = claims.load(Ordering::Acquire);
            while word & !u64::from(u32::MAX) == phase && word != phase {
                match claims.compare_exchange_weak(
                    word,
                    word - 1,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(_) => {
                        let left = (word & u64::from(u32::MAX)) as usize;
                        self.run_one(job, job.next(share, left));
                        ended += 1;
                        word -= 1;
                    }
                    Err(now) => word = now,
                }
            }
        }
        // If nothing was claimed, the phase may have ended, and `done` may count for a later one.
        if ended > 0 {
            self.shares[own].done.store(ended, Ordering::Release);
        }
    }

    fn run_one(&self, job: Job, index: usize) {
        // SAFETY: a task of this phase was claimed, so `Session::run` of this phase still waits for it,
        // its closure is alive, and `job` was read after that phase began.
        let call = || unsafe { (job.call)(job.data, index) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }
}

/// The main loop of a worker.
fn work(shared: &Shared, own: usize) {
    // A new thread inherits the mode of the one that starts it.
    set_default_float_mode();
    let claims = &shared.shares[own].claims;
    let mut seen = 0;
    loop {
        let session_ended = Instant::now();
        while own >= shared.awake.load(Ordering::Acquire) {
            if shared.quit.load(Ordering::Acquire) {
                return;
            }
            if session_ended.elapsed() < LINGER {
                spin_loop();
            } else {
                park();
            }
        }
        let mut looks = 0;
        while own < shared.awake.load(Ordering::Relaxed) {
            let phase = claims.load(Ordering::Acquire) & !u64::from(u32::MAX);
            if phase == seen {
                wait(&mut looks);
                continue;
            }
            // If these belong to a later phase already, this one has ended: none of its tasks is left in
            // any share (all are read with Acquire), and no claim of it will succeed.
            let data = shared.data.load(Ordering::Acquire).cast_const();
            let call = shared.call.load(Ordering::Acquire);
            let count = shared.count.load(Ordering::Acquire);
            let threads = shared.threads.load(Ordering::Acquire);
            let backwards = shared.backwards.load(Ordering::Acquire);
            // SAFETY: `call` was stored from a function pointer of this type before the phase began, and
            // it is not null, because a phase has begun.
            let call = unsafe { std::mem::transmute::<*mut (), unsafe fn(*const (), usize)>(call) };
            shared.take_part(own, phase, Job { data, call, count, threads, backwards });
            seen = phase;
            looks = 0;
        }
    }
}

/// One poll of a word that another thread will change soon.
fn wait(looks: &mut u32) {
    if *looks < LOOKS {
        *looks += 1;
        spin_loop();
    } else {
        yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_runs_once() {
        let pool = Pool::new();
        for threads in [1, 2, 5, 3, 2] {
            for sessions in 0..20 {
                let mut session = pool.session(threads);
                assert_eq!(session.threads(), threads);
                for count in [0, 1, 2, 7, 100, sessions] {
                    let counts: Vec<AtomicUsize> =
                        (0..count).map(|_| AtomicUsize::new(0)).collect();
                    let task = |i: usize| _ = counts[i].fetch_add(1, Ordering::Relaxed);
                    session.run(count, task);
                    session.run_back_and_forth(count, task);
                    session.run_back_and_forth(count, task);
                    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 3));
                }
            }
        }
    }

    #[test]
    fn a_second_session_runs_alone() {
        let pool = Pool::new();
        let mut first = pool.session(3);
        let mut second = pool.session(3);
        assert_eq!((first.threads(), second.threads()), (3, 1));
        let sum = AtomicUsize::new(0);
        first.run(10, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
        second.run(10, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
        drop(second);
        assert_eq!(pool.session(3).threads(), 1);
        drop(first);
        assert_eq!(pool.session(3).threads(), 3);
        assert_eq!(sum.into_inner(), 90);
    }

    #[test]
    fn many_callers_at_once() {
        let pool = Pool::new();
        let rounds = if cfg!(miri) { 5 } else { 300 };
        std::thread::scope(|scope| {
            for caller in 0..3 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..rounds {
                        let count = 1 + (round * 7 + caller) % 40;
                        let sum = AtomicUsize::new(0);
                        let mut session = pool.session(2 + round % 3);
                        session.run(count, |i| _ = sum.fetch_add(i + 1, Ordering::Relaxed));
                        assert_eq!(sum.into_inner(), count * (count + 1) / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_stays_usable() {
        let pool = Pool::new();
        let mut session = pool.session(2);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            session.run(8, |i| assert!(i != 5, "task {i}"));
        }));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        session.run(8, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 28);
    }
}
