//! Models of the hand-over between threads, which loom runs under every interleaving; CONTRIBUTING has
//! the command.
//!
//! The contents of [`UnsafeCell`] are not synchronised by themselves, so loom reports two accesses that
//! no ordering separates.

use super::sync::LINGERS;
use super::{Pool, Session};
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Places that phases write to, one after another, and what the caller writes between phases.
struct Board {
    places: Vec<UnsafeCell<usize>>,
    /// The phase that is running, or none.
    phase: UnsafeCell<Option<usize>>,
    phases: UnsafeCell<usize>,
}

impl Board {
    fn new(places: usize) -> Self {
        Self {
            places: (0..places).map(|_| UnsafeCell::new(0)).collect(),
            phase: UnsafeCell::new(None),
            phases: UnsafeCell::new(0),
        }
    }

    fn get<T: Copy>(cell: &UnsafeCell<T>) -> T {
        // SAFETY: loom reports accesses at the same time.
        cell.with(|value| unsafe { *value })
    }

    fn set<T>(cell: &UnsafeCell<T>, new: T) {
        // SAFETY: as above.
        cell.with_mut(|value| unsafe { *value = new });
    }

    /// A phase with a task for each of the first `count` places.
    fn phase(&self, session: &mut Session, count: usize) {
        let number = Self::get(&self.phases);
        Self::set(&self.phase, Some(number));
        let before: Vec<_> = self.places.iter().map(Self::get).collect();
        session.run_back_and_forth(count, |i| {
            assert_eq!(Self::get(&self.phase), Some(number), "a task outside its phase");
            let place = &self.places[i];
            Self::set(place, Self::get(place) + 1);
        });
        Self::set(&self.phase, None);
        Self::set(&self.phases, number + 1);
        for (i, place) in self.places.iter().enumerate() {
            assert_eq!(Self::get(place), before[i] + usize::from(i < count), "place {i}");
        }
    }
}

// SAFETY: loom reports accesses at the same time.
unsafe impl Sync for Board {}
// SAFETY: it is plain data.
unsafe impl Send for Board {}

/// Checks `model` with at most `preemptions` involuntary switches of threads, or any number. Workers
/// stay awake between sessions, or sleep.
fn check(preemptions: Option<usize>, lingers: u32, model: impl Fn() + Send + Sync + 'static) {
    LINGERS.set(lingers);
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        LINGERS.set(lingers);
        model();
    });
}

#[test]
fn two_threads_two_phases() {
    check(Some(1), 0, || {
        let (pool, board) = (Pool::new(), Board::new(2));
        let mut session = pool.session(2);
        board.phase(&mut session, 2);
        board.phase(&mut session, 2);
    });
}

#[test]
fn sessions_end_and_begin_while_the_worker_sleeps() {
    check(Some(1), 0, two_sessions);
}

#[test]
fn sessions_end_and_begin_while_the_worker_stays_awake() {
    check(Some(1), 2, two_sessions);
}

/// The second phase has more tasks: a worker that is late in the first reads the words of its phase
/// while the second changes them.
fn two_sessions() {
    let (pool, board) = (Pool::new(), Board::new(3));
    board.phase(&mut pool.session(2), 2);
    board.phase(&mut pool.session(2), 3);
}

#[test]
fn three_threads_one_phase() {
    check(Some(1), 0, || Board::new(3).phase(&mut Pool::new().session(3), 3));
}

#[test]
fn three_threads_and_then_two() {
    check(Some(1), 0, || {
        let (pool, board) = (Pool::new(), Board::new(2));
        board.phase(&mut pool.session(3), 2);
        board.phase(&mut pool.session(2), 2);
    });
}

#[test]
fn two_callers() {
    check(Some(1), 0, || {
        let pool = Arc::new(Pool::new());
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || Board::new(2).phase(&mut pool.session(2), 2))
        };
        Board::new(2).phase(&mut pool.session(2), 2);
        other.join().unwrap();
    });
}

#[test]
fn a_panic_and_the_phase_after_it() {
    check(Some(1), 0, || {
        let (pool, board) = (Pool::new(), Board::new(2));
        let mut session = pool.session(2);
        let panicking = |i: usize| assert!(i == 0, "planted");
        let run = AssertUnwindSafe(|| session.run(2, panicking));
        let caught = catch_unwind(run).unwrap_err();
        assert_eq!(caught.downcast_ref::<&str>(), Some(&"planted"));
        board.phase(&mut session, 2);
    });
}
