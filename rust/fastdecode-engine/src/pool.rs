//! Threads for one forward pass: many short parallel phases, with little between them.
//!
//! A library's fork and join costs 5 to 10 microseconds, and a decode step has a hundred phases
//! within 15 milliseconds. Here the workers sleep between forward passes, and within one they watch
//! a word for the next phase. Nobody waits for a worker that has taken no task, so a worker that
//! the system has put aside (or that a fork of the process has lost) costs speed, never progress.

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
}

struct Shared {
    /// The number of the phase (high 32 bits), tasks not yet claimed in it (low 32 bits).
    claims: AtomicU64,
    /// Tasks of the phase that have ended.
    done: AtomicUsize,
    /// The current job, as words, because a late worker may read them while they change.
    data: AtomicPtr<()>,
    call: AtomicPtr<()>,
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
            claims: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            data: AtomicPtr::new(std::ptr::null_mut()),
            call: AtomicPtr::new(std::ptr::null_mut()),
            open: AtomicBool::new(false),
            gate: Mutex::new(Gate { open: false, quit: false }),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let name = format!("fastdecode-{index}");
                std::thread::Builder::new().name(name).spawn(move || work(&shared)).ok()
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
        let job = Job { data: (&raw const task).cast(), call: call::<F> };
        shared.data.store(job.data.cast_mut(), Ordering::Release);
        shared.call.store(job.call as *mut (), Ordering::Release);
        shared.done.store(0, Ordering::Relaxed);
        let phase = (shared.claims.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        shared.claims.store(phase | count as u64, Ordering::Release);
        shared.take_part(phase, job);
        // The closure must outlive every task that has been claimed.
        let mut looks = 0;
        while shared.done.load(Ordering::Acquire) < count {
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
    /// Claims and runs tasks of `phase` until none is left.
    fn take_part(&self, phase: u64, job: Job) {
        let mut word = self.claims.load(Ordering::Acquire);
        while word & !u64::from(u32::MAX) == phase && word != phase {
            match self.claims.compare_exchange_weak(
                word,
                word - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    let left = (word & u64::from(u32::MAX)) as usize;
                    self.run_one(job, left - 1);
                    word = self.claims.load(Ordering::Acquire);
                }
                Err(now) => word = now,
            }
        }
    }

    fn run_one(&self, job: Job, index: usize) {
        // SAFETY: the claim of a task of this phase succeeded, so `Session::run` of this phase
        // still waits for it, its closure is alive, and `job` was read after that phase began.
        let call = || unsafe { (job.call)(job.data, index) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            lock(&self.panic).get_or_insert(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
    }
}

/// A worker's life.
fn work(shared: &Shared) {
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
            let word = shared.claims.load(Ordering::Acquire);
            let phase = word & !u64::from(u32::MAX);
            if word == phase || phase == seen {
                wait(&mut looks);
                continue;
            }
            let data = shared.data.load(Ordering::Acquire).cast_const();
            let call = shared.call.load(Ordering::Acquire);
            // If they belong to a later phase already, the claims have moved on as well (both are
            // read with Acquire), and no claim of this phase will succeed.
            // SAFETY: `call` was stored from a function pointer of this type before the phase
            // began, and it is not null, because a phase has begun.
            let call = unsafe { std::mem::transmute::<*mut (), unsafe fn(*const (), usize)>(call) };
            shared.take_part(phase, Job { data, call });
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
