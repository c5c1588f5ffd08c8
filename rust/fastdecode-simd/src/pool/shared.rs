//! The memory that the threads of a pool share, and how a phase's tasks are claimed.
//!
//! A phase begins where the caller releases the words `claims`, and a worker acquires that of its share;
//! it ends where threads release `done`, and the caller acquires them. Nothing else needs an order:
//!
//! - A worker reads a job that is at least as new as the phase in its share. If it is newer, the phase has
//!   ended, so each of its tasks has been claimed. A claim replaces the latest value of its word, which
//!   then has no task of the phase left: the worker claims nothing, and does not use the job.
//! - A worker that has claimed a task keeps its phase from ending, so the job that it read was the phase's:
//!   no value can be read that is stored only after the reading thread has released `done`.
//! - `awake` and `quit` are read again after `park`, which returns after whatever came before `unpark`.

use super::sync::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, LOOKS, Linger, MOST_THREADS, Mutex, Ordering,
    park, spin_loop, yield_now,
};
use crate::float_mode::set_default_float_mode;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

/// The current phase: a type-erased `&(dyn Fn(usize) + Sync)` and the number of its tasks.
#[derive(Clone, Copy)]
pub struct Job {
    pub data: *const (),
    pub call: unsafe fn(*const (), usize),
    pub count: usize,
    pub threads: usize,
    /// Whether the tasks of a share are taken from its end.
    pub backwards: bool,
}

impl Job {
    /// The first task of a share.
    pub fn first(self, share: usize) -> usize {
        self.count * share / self.threads
    }

    /// The next task of a share that has `left` tasks left.
    fn next(self, share: usize, left: usize) -> usize {
        if self.backwards { self.first(share) + left - 1 } else { self.first(share + 1) - left }
    }
}

/// A thread's share of the current phase, in cache lines that only its progress writes to.
#[repr(align(128))]
pub struct Share {
    /// The number of the phase (high 32 bits); tasks of the share not yet claimed (low 32 bits). A
    /// thread's own word tells it that a phase has begun.
    pub claims: AtomicU64,
    /// Tasks of any share that this thread has finished in the phase.
    pub done: AtomicUsize,
}

pub struct Shared {
    /// One for each thread, the caller's first.
    pub shares: [Share; MOST_THREADS],
    /// The current job, as words, because a late worker may read them while they change.
    pub data: AtomicPtr<()>,
    pub call: AtomicPtr<()>,
    pub count: AtomicUsize,
    pub threads: AtomicUsize,
    pub backwards: AtomicBool,
    /// Threads of the current session, the caller's among them: workers from this index on sleep.
    pub awake: AtomicUsize,
    pub quit: AtomicBool,
    pub panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// Without a phase.
    pub fn new() -> Self {
        Self {
            shares: std::array::from_fn(|_| Share {
                claims: AtomicU64::new(0),
                done: AtomicUsize::new(0),
            }),
            data: AtomicPtr::new(std::ptr::null_mut()),
            call: AtomicPtr::new(std::ptr::null_mut()),
            count: AtomicUsize::new(0),
            threads: AtomicUsize::new(1),
            backwards: AtomicBool::new(false),
            awake: AtomicUsize::new(0),
            quit: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    /// Claims and runs tasks of `phase` until none is left, those of share `own` before the others'.
    pub fn take_part(&self, own: usize, phase: u64, job: Job) {
        let mut ended = 0;
        for share in (own..own + job.threads).map(|share| share % job.threads) {
            let claims = &self.shares[share].claims;
            let mut word = claims.load(Ordering::Relaxed);
            while word & !u64::from(u32::MAX) == phase && word != phase {
                match claims.compare_exchange_weak(
                    word,
                    word - 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
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
pub fn work(shared: &Shared, own: usize) {
    // A new thread inherits the mode of the one that starts it.
    set_default_float_mode();
    let claims = &shared.shares[own].claims;
    let mut seen = 0;
    loop {
        let linger = Linger::begin();
        while own >= shared.awake.load(Ordering::Relaxed) {
            if shared.quit.load(Ordering::Relaxed) {
                return;
            }
            if linger.lasts() {
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
            // Where these belong to a later phase already, no claim of this one will succeed.
            let data = shared.data.load(Ordering::Relaxed).cast_const();
            let call = shared.call.load(Ordering::Relaxed);
            let count = shared.count.load(Ordering::Relaxed);
            let threads = shared.threads.load(Ordering::Relaxed);
            let backwards = shared.backwards.load(Ordering::Relaxed);
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
pub fn wait(looks: &mut u32) {
    if *looks < LOOKS {
        *looks += 1;
        spin_loop();
    } else {
        yield_now();
    }
}
