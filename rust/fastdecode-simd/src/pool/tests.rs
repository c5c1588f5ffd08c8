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
                let counts: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
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
