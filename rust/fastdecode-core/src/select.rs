//! Exact top-k of a row without sorting it.
//!
//! The k-th largest of the groups' maxima bounds the k-th largest element from below, because k
//! different elements reach it. So one vector pass takes the maxima, and a second looks only into
//! the groups that reach the bound.

use crate::error::{Error, Result};
use crate::level::{Level, kernel};
use crate::order::Candidate;
use crate::sampler::Scratch;
use crate::scan::{LANES, maximum};

/// The first `k` tokens of `row` in the total order, in that order.
///
/// `row` must have been checked by [`crate::scan::maximum`]; `k` is capped at its length.
/// `out` and `maxima` are scratch space, reused between rows.
pub fn top_k(level: Level, row: &[f32], k: usize, maxima: &mut Vec<f32>, out: &mut Vec<Candidate>) {
    out.clear();
    let k = k.min(row.len());
    if k == 0 {
        return;
    }
    match group_size(row.len(), k) {
        Some(group) => {
            group_maxima(level, row, group, maxima);
            let bound = kth_largest(maxima, k);
            // `kth_largest` has reordered the maxima: take them again, it is the cheap part.
            group_maxima(level, row, group, maxima);
            for (index, chunk) in row.chunks(group).enumerate() {
                if maxima[index] >= bound {
                    gather(chunk, index * group, bound, out);
                }
            }
        }
        None => gather(row, 0, f32::NEG_INFINITY, out),
    }
    if k < out.len() {
        out.select_nth_unstable_by(k - 1, Candidate::order);
        out.truncate(k);
    }
    out.sort_unstable_by(Candidate::order);
}

/// [`top_k`] of a row straight from a caller.
///
/// # Errors
/// As [`maximum`], and [`Error::K`] for a `k` that is not between 1 and the row's length.
pub fn checked_top_k(
    level: Level,
    row: &[f32],
    k: i64,
    scratch: &mut Scratch,
) -> Result<Vec<Candidate>> {
    let size = row.len();
    let wanted = usize::try_from(k).ok().filter(|k| (1..=size).contains(k));
    let wanted = wanted.ok_or(Error::K { k, size })?;
    maximum(level, row)?;
    top_k(level, row, wanted, &mut scratch.maxima, &mut scratch.candidates);
    Ok(scratch.candidates.clone())
}

/// The largest group size that still gives a few times `k` groups; none for large k, where
/// looking at every element costs no more.
fn group_size(len: usize, k: usize) -> Option<usize> {
    const LARGEST: usize = 128;
    let mut group = LARGEST;
    while group >= LANES {
        if len / group >= 4 * k {
            return Some(group);
        }
        group /= 2;
    }
    None
}

fn kth_largest(values: &mut [f32], k: usize) -> f32 {
    let (_, kth, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    *kth
}

fn gather(chunk: &[f32], start: usize, bound: f32, out: &mut Vec<Candidate>) {
    for (offset, &logit) in chunk.iter().enumerate() {
        if logit >= bound {
            out.push(Candidate::new(logit, start + offset));
        }
    }
}

kernel! {
    fn group_maxima(row: &[f32], group: usize, maxima: &mut Vec<f32>) -> () = group_maxima_body;
}

#[inline(always)]
fn group_maxima_body(row: &[f32], group: usize, maxima: &mut Vec<f32>) {
    maxima.clear();
    for chunk in row.chunks(group) {
        let mut max = [f32::NEG_INFINITY; LANES];
        let (lanes, rest) = chunk.as_chunks::<LANES>();
        for lane in lanes {
            for i in 0..LANES {
                max[i] = if lane[i] > max[i] { lane[i] } else { max[i] };
            }
        }
        let mut top = f32::NEG_INFINITY;
        for x in max.into_iter().chain(rest.iter().copied()) {
            top = if x > top { x } else { top };
        }
        maxima.push(top);
    }
}
