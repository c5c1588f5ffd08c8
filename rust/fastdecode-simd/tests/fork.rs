//! A forked process uses the global pool, whatever the pool's threads were doing at the fork.
#![cfg(all(unix, not(miri)))]

use fastdecode_simd::Pool;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Seconds after which a child that hangs is killed.
const PATIENCE: u32 = 20;

fn sum_of(count: usize, threads: usize) -> usize {
    let sum = AtomicUsize::new(0);
    Pool::global().session(threads).run(count, |i| _ = sum.fetch_add(i, Ordering::Relaxed));
    sum.into_inner()
}

/// Forks; the child runs `child` and exits with 0 if that returns true.
fn survives(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls nothing but what is under test, and `_exit`.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "fork failed");
    if process == 0 {
        // SAFETY: both only take a number.
        unsafe {
            libc::alarm(PATIENCE);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            libc::_exit(i32::from(!done.unwrap_or(false)));
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours, and the status is written to a local.
    let ended = unsafe { libc::waitpid(process, &raw mut status, 0) };
    ended == process && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn a_child_uses_the_pool_while_other_threads_are_in_it() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(sum_of(100, 3), 4950);
                }
            });
        }
        let all = (0..200).all(|_| {
            survives(|| {
                // It has workers of its own, and so has its own child.
                Pool::global().session(3).threads() == 3
                    && sum_of(1000, 3) == 499_500
                    && survives(|| sum_of(10, 2) == 45)
            })
        });
        stop.store(true, Ordering::Relaxed);
        assert!(all, "a child failed or hung");
    });
}
