//! Threads for one forward pass: many short parallel phases, with little between them.
//!
//! A library's fork and join costs 5 to 10 microseconds, and a decode step has a hundred phases
//! within 15 milliseconds. Here the workers sleep between forward passes, and within one they watch
//! a word for the next phase. Nobody waits for a worker that has taken no task, so a worker that
//! the system has put aside (or that a fork of the process has lost) costs speed, never progress.
//!
//! Each thread has its own share of a phase's tasks, in a cache line of its own, and goes to the
//! others' only when its own is done. With one counter for all, cores that lie far apart handed its
//! line to and fro for every task, which took a tenth of a step of eight rows in int8.

use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::yield_now;

/// After so many looks at a word the thread offers its core to others before each further look.
const LOOKS: u32 = 2000;

/// A task of the current phase: a type-erased `&(dyn Fn(usize) + Sync)`.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize),
    /// Tasks in all.
    count: usize,
}

/// A thread's share of the current phase, in cache lines that are written for its sake alone.
#[repr(align(128))]
#[derive(Default)]
struct Share {
    /// The number of the phase (high 32 bits), tasks of the share not yet claimed (low 32 bits).
    claims: AtomicU64,
    /// Tasks of any share that this thread has ended in the phase.
    done: AtomicUsize,
}

struct Shared {
    /// One for each thread, the caller's first.
    shares: Box<[Share]>,
    /// The current job, as words, because a late worker may read them while they change.
    data: AtomicPtr<()>,
    call: AtomicPtr<()>,
    count: AtomicUsize,
    /// Whether a forward pass is under way.
    open: AtomicBool,
    gate: Mutex<Gate>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Gate {
    open: bool,
    quit: bool,
}

/// A pool of threads, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: usize,
    /// Held by the forward pass that uses the workers.
    busy: Mutex<()>,
}

impl Pool {
    /// With `threads >= 1` threads in all. A thread that the system refuses is done without.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            shares: (0..threads.max(1)).map(|_| Share::default()).collect(),
            data: AtomicPtr::new(std::ptr::null_mut()),
            call: AtomicPtr::new(std::ptr::null_mut()),
            count: AtomicUsize::new(0),
            open: AtomicBool::new(false),
            gate: Mutex::new(Gate { open: false, quit: false }),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let name = format!("fastdecode-{index}");
                std::thread::Builder::new().name(name).spawn(move || work(&shared, index)).ok()
            })
            .count();
        Self { shared, workers, busy: Mutex::new(()) }
    }

    /// Threads, the caller's among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers + 1
    }

    /// Wakes the workers until the session is dropped. Where another session has them, this one
    /// runs on its caller's thread alone.
    #[must_use]
    pub fn session(&self) -> Session<'_> {
        let busy = match self.busy.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let busy = if self.workers == 0 { None } else { busy };
        if busy.is_some() {
            self.shared.open.store(true, Ordering::Relaxed);
            lock(&self.shared.gate).open = true;
            self.shared.wake.notify_all();
        }
        Session { shared: &self.shared, busy, threads: self.threads() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The workers are not joined: in a forked process they are not there.
        lock(&self.shared.gate).quit = true;
        self.shared.wake.notify_all();
    }
}

/// The workers, awake.
pub struct Session<'a> {
    shared: &'a Shared,
    busy: Option<MutexGuard<'a, ()>>,
    threads: usize,
}

impl Session<'_> {
    /// Threads that take part, the caller's among them.
    #[must_use]
    pub fn threads(&self) -> usize {
        if self.busy.is_some() { self.threads } else { 1 }
    }

    /// Runs `task(i)` once for each i below `count`, in any order, on any of the threads; returns
    /// when all have ended.
    ///
    /// # Panics
    /// With the panic of a task.
    pub fn run<F: Fn(usize) + Sync>(&mut self, count: usize, task: F) {
        /// # Safety
        /// `data` is a live `&F`.
        unsafe fn call<F: Fn(usize)>(data: *const (), index: usize) {
            // SAFETY: the caller's promise.
            let task = unsafe { &*data.cast::<F>() };
            task(index);
        }
        if self.busy.is_none() || count <= 1 || u32::try_from(count).is_err() {
            (0..count).for_each(task);
            return;
        }
        let shared = self.shared;
        let job = Job { data: (&raw const task).cast(), call: call::<F>, count };
        shared.data.store(job.data.cast_mut(), Ordering::Release);
        shared.call.store(job.call as *mut (), Ordering::Release);
        shared.count.store(count, Ordering::Release);
        let last = shared.shares[0].claims.load(Ordering::Relaxed);
        let phase = (last >> 32).wrapping_add(1) << 32;
        for (index, share) in shared.shares.iter().enumerate().rev() {
            let tasks = shared.first(index + 1, count) - shared.first(index, count);
            share.done.store(0, Ordering::Relaxed);
            share.claims.store(phase | tasks as u64, Ordering::Release);
        }
        shared.take_part(0, phase, job);
        // The closure must outlive every task that has been claimed.
        let mut looks = 0;
        while shared.done() < count {
            wait(&mut looks);
        }
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.busy.is_some() {
            self.shared.open.store(false, Ordering::Relaxed);
            lock(&self.shared.gate).open = false;
        }
    }
}

impl Shared {
    /// The first task of a share.
    fn first(&self, share: usize, count: usize) -> usize {
        count * share / self.shares.len()
    }

    /// Tasks of the phase that have ended and been reported.
    fn done(&self) -> usize {
        self.shares.iter().map(|share| share.done.load(Ordering::Acquire)).sum()
    }

    /// Claims and runs tasks of `phase` until none is left, those of share `own` before the others'.
    fn take_part(&self, own: usize, phase: u64, job: Job) {
        let threads = self.shares.len();
        let mut ended = 0;
        for share in (own..own + threads).map(|share| share % threads) {
            let claims = &self.shares[share].claims;
            let end = self.first(share + 1, job.count);
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
                        self.run_one(job, end - left);
                        ended += 1;
                        word -= 1;
                    }
                    Err(now) => word = now,
                }
            }
        }
        // Where nothing was claimed the phase may have ended, and the count may be another's.
        if ended > 0 {
            self.shares[own].done.store(ended, Ordering::Release);
        }
    }

    fn run_one(&self, job: Job, index: usize) {
        // SAFETY: the claim of a task of this phase succeeded, so `Session::run` of this phase
        // still waits for it, its closure is alive, and `job` was read after that phase began.
        let call = || unsafe { (job.call)(job.data, index) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            lock(&self.panic).get_or_insert(panic);
        }
    }
}

/// A worker's life.
fn work(shared: &Shared, own: usize) {
    let claims = &shared.shares[own].claims;
    let mut seen = 0;
    loop {
        {
            let mut gate = lock(&shared.gate);
            while !gate.open && !gate.quit {
                gate = shared.wake.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            if gate.quit {
                return;
            }
        }
        let mut looks = 0;
        while shared.open.load(Ordering::Relaxed) {
            let phase = claims.load(Ordering::Acquire) & !u64::from(u32::MAX);
            if phase == seen {
                wait(&mut looks);
                continue;
            }
            let data = shared.data.load(Ordering::Acquire).cast_const();
            let call = shared.call.load(Ordering::Acquire);
            let count = shared.count.load(Ordering::Acquire);
            // If they belong to a later phase already, this one has ended: none of its tasks is left
            // in any share (all are read with Acquire), and no claim of it will succeed.
            // SAFETY: `call` was stored from a function pointer of this type before the phase
            // began, and it is not null, because a phase has begun.
            let call = unsafe { std::mem::transmute::<*mut (), unsafe fn(*const (), usize)>(call) };
            shared.take_part(own, phase, Job { data, call, count });
            seen = phase;
            looks = 0;
        }
    }
}

/// One look at a word that another thread will change soon.
fn wait(looks: &mut u32) {
    if *looks < LOOKS {
        *looks += 1;
        spin_loop();
    } else {
        yield_now();
    }
}

/// The lock, also where a panic has left it: what these guard is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for sessions in 0..20 {
                let mut session = pool.session();
                for count in [0, 1, 2, 7, 100, sessions] {
                    let counts: Vec<AtomicUsize> =
                        (0..count).map(|_| AtomicUsize::new(0)).collect();
                    session.run(count, |i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn a_second_session_works_alone() {
        let pool = Pool::new(3);
        let mut first = pool.session();
        let mut second = pool.session();
        assert_eq!((first.threads(), second.threads()), (3, 1));
        let sum = AtomicUsize::new(0);
        first.run(10, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
        second.run(10, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 90);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let mut session = pool.session();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            session.run(8, |i| assert!(i != 5, "task {i}"));
        }));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        session.run(8, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 28);
    }
}
