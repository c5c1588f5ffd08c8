//! What the pool's threads synchronise with: std's types, or, compiled with `--cfg loom`, those of the
//! model checker [loom](https://docs.rs/loom), which runs the tests in `model.rs` under every
//! interleaving and with every value that a relaxed load may return.

#[cfg(not(loom))]
pub(super) use self::std_types::*;
#[cfg(loom)]
pub(super) use self::{checker::*, loom_types::*};

#[cfg(not(loom))]
mod std_types {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
    pub use std::sync::{Arc, Mutex};
    pub use std::thread::{Builder, Thread, park, yield_now};
    use std::time::{Duration, Instant};

    /// The most threads of a session.
    pub const MOST_THREADS: usize = crate::settings::MOST_THREADS;

    /// After polling a word this many times, a thread yields its core before each further poll.
    pub const LOOKS: u32 = 2000;

    /// How long a worker stays awake after a session: about as long as waking it would take.
    const LINGER: Duration = Duration::from_micros(50);

    /// The time during which a worker stays awake after a session.
    pub struct Linger(Instant);

    impl Linger {
        pub fn begin() -> Self {
            Self(Instant::now())
        }

        pub fn lasts(&self) -> bool {
            self.0.elapsed() < LINGER
        }
    }
}

#[cfg(loom)]
mod loom_types {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
    pub use loom::sync::{Arc, Mutex};
    pub use loom::thread::{Builder, Thread, park, yield_now};
}

#[cfg(loom)]
mod checker {
    use std::cell::Cell;

    /// Each share is state that loom has to follow.
    pub const MOST_THREADS: usize = 3;

    /// Loom explores no further than a yield that lets the other threads run.
    pub const LOOKS: u32 = 0;

    std::thread_local! {
        /// How often a worker polls after a session before it sleeps. Loom runs all threads of a model
        /// on one thread of the system.
        pub static LINGERS: Cell<u32> = const { Cell::new(0) };
    }

    /// The time during which a worker stays awake after a session, in polls.
    pub struct Linger(Cell<u32>);

    impl Linger {
        pub fn begin() -> Self {
            Self(Cell::new(LINGERS.get()))
        }

        pub fn lasts(&self) -> bool {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            left > 0
        }
    }
}
