//! A bare read of memory: the bound on the speed of a step.

use super::panel::NEAR;
use fastdecode_simd::{DisjointSlice, Lanes, Level, Line, Session, kernel, wants_every_line};

/// Lines of a task.
const STRIP: usize = 1 << 12;

/// Reads all lines once, by all threads, and returns the bits of the largest float, so that the reads
/// cannot be optimised away.
pub(crate) fn sweep(level: Level, session: &mut Session<'_>, lines: &[Line]) -> u32 {
    let mut largest = vec![0.0; lines.len().div_ceil(STRIP)];
    let tasks = largest.len();
    let to = DisjointSlice::new(&mut largest);
    session.run(tasks, |task| {
        let strip = &lines[task * STRIP..lines.len().min((task + 1) * STRIP)];
        // SAFETY: an element belongs to one task.
        largest_of(level, strip, unsafe { &mut to.part(task..task + 1)[0] });
    });
    largest.into_iter().fold(0.0, f32::max).to_bits()
}

kernel! {
    fn largest_of(lines: &[Line], to: &mut f32) = largest_body;
}

/// Nothing but loads, with the prefetches of a step of one row.
#[inline(always)]
fn largest_body<L: Lanes>(l: L, lines: &[Line], to: &mut f32) {
    let step = if wants_every_line() { 1 } else { 2 };
    let mut largest = [l.splat(0.0); 4];
    for four in lines.as_chunks::<4>().0 {
        let ahead = four.as_ptr().wrapping_add(NEAR);
        for line in (0..4).step_by(step) {
            l.prefetch_l2(ahead.wrapping_add(line));
        }
        for (largest, line) in largest.iter_mut().zip(four) {
            *largest = l.max(l.load(&line.0), *largest);
        }
    }
    let mut of_all = largest[0];
    for other in &largest[1..] {
        of_all = l.max(of_all, *other);
    }
    *to = l.largest(of_all);
}
