use super::Pool;
use std::cell::Cell;
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

#[test]
fn a_million_small_tasks() {
    small_tasks(if cfg!(miri) { 2000 } else { 1_000_000 });
}

#[test]
#[ignore = "takes a minute or more; CONTRIBUTING has the command"]
fn a_hundred_million_small_tasks() {
    small_tasks(100_000_000);
}

/// Runs at least `least` tasks that do nothing but count themselves, in short phases and sessions of
/// several widths, some wider than the machine, and checks after each phase that each ran once.
fn small_tasks(least: usize) {
    thread_local! {
        static CALLER: Cell<bool> = const { Cell::new(false) };
    }
    const SIZES: [usize; 9] = [2, 3, 5, 8, 13, 2, 34, 4, 21];
    CALLER.set(true);
    let pool = Pool::new();
    let counts: Vec<AtomicUsize> = (0..34).map(|_| AtomicUsize::new(0)).collect();
    let by_workers = AtomicUsize::new(0);
    let (mut ran, mut phases, mut widths) = (0, 0, [2, 3, 5, 2, 9].into_iter().cycle());
    while ran < least {
        let width = widths.next().expect("it is a cycle");
        let mut session = pool.session(width);
        assert_eq!(session.threads(), width);
        for _ in 0..40 {
            let size = SIZES[phases % SIZES.len()];
            session.run_back_and_forth(size, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
                if !CALLER.get() {
                    by_workers.fetch_add(1, Ordering::Relaxed);
                } else if phases % 256 == 0 {
                    // Otherwise workers may come too late for any task, where there are few cores.
                    std::thread::yield_now();
                }
            });
            // A task that runs twice, or after the end of its phase, is found here or in the next phase
            // that has as many.
            for (i, count) in counts[..size].iter().enumerate() {
                assert_eq!(count.swap(0, Ordering::Relaxed), 1, "task {i} of phase {phases}");
            }
            ran += size;
            phases += 1;
        }
    }
    let by_workers = by_workers.into_inner();
    println!("{ran} tasks in {phases} phases, {by_workers} of them on workers");
    assert!(by_workers > 0);
}
