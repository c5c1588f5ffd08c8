//! Exact top-k of a row without sorting it.
//!
//! The k-th largest of the groups' maxima bounds the k-th largest element from below, because k
//! different elements reach it. So after the pass that takes the maxima, a second one looks only at
//! the groups that reach the bound.

use crate::row::order::Candidate;
use crate::row::scan::{SPAN, Tops};
use fastdecode_simd::Level;
use fastdecode_simd::{LANES, Lanes, kernel};

/// The first `k` tokens of a surveyed row in the total order, listed by id; all of them where
/// there are fewer. `folded` and `keys` are workspace.
pub(crate) fn top_k(
    level: Level,
    row: &[f32],
    tops: &Tops,
    k: usize,
    folded: &mut Tops,
    keys: &mut Vec<u64>,
    out: &mut Vec<Candidate>,
) {
    let bound = lower_bound(level, tops, k, folded);
    gather(level, row, tops, bound, out);
    if k < out.len() {
        keys.clear();
        keys.extend(out.iter().map(Candidate::key));
        let (_, &mut last, _) = keys.select_nth_unstable(k - 1);
        out.retain(|candidate| candidate.key() <= last);
    }
}

/// The number of groups that the bound is taken from, as a multiple of k. With m groups about
/// k + k^2 / 2m elements reach the bound.
const GROUPS_PER_K: usize = 8;

/// A logit that at least `k` tokens of the row reach; -inf where the groups are too few to help.
pub(crate) fn lower_bound(level: Level, tops: &Tops, k: usize, folded: &mut Tops) -> f32 {
    let groups = tops.len() * LANES;
    if k * 2 > groups {
        return f32::NEG_INFINITY;
    }
    let fold = (groups / (GROUPS_PER_K * k)).max(1);
    fold_tops(level, tops, fold, folded);
    kth_of(level, folded, k)
}

/// A value that at least `k` entries reach and few more, by bisection.
fn kth_of(level: Level, groups: &Tops, k: usize) -> f32 {
    let enough = k..=k + k / 8 + 1;
    let (mut low, mut high) = (sortable(f32::NEG_INFINITY), sortable(f32::INFINITY));
    // Invariant: at least k entries reach `low` (all reach -inf), fewer than k reach `high`.
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let count = count_reaching(level, groups, unsortable(middle));
        if count < k {
            high = middle;
        } else {
            low = middle;
            if enough.contains(&count) {
                break;
            }
        }
    }
    unsortable(low)
}

/// The rank of a float among all floats, by value.
fn sortable(x: f32) -> i64 {
    let bits = x.to_bits().cast_signed();
    i64::from(bits ^ ((bits >> 31) & i32::MAX))
}

fn unsortable(place: i64) -> f32 {
    let bits = place as i32;
    f32::from_bits((bits ^ ((bits >> 31) & i32::MAX)).cast_unsigned())
}

kernel! {
    fn fold_tops(tops: &[[f32; LANES]], fold: usize, out: &mut Tops) = fold_body;
}
kernel! {
    /// How many groups have an entry of at least `bound`.
    pub(crate) fn count_reaching(groups: &[[f32; LANES]], bound: f32) -> usize = count_body;
}
kernel! {
    /// Every token of the row whose logit reaches `bound`, in the order of ids.
    pub(crate) fn gather(
        row: &[f32], tops: &[[f32; LANES]], bound: f32, out: &mut Vec<Candidate>,
    ) = gather_body;
}

#[inline(always)]
fn fold_body<L: Lanes>(on: L, tops: &[[f32; LANES]], fold: usize, out: &mut Tops) {
    out.clear();
    for group in tops.chunks(fold) {
        let mut max = on.splat(f32::NEG_INFINITY);
        for top in group {
            max = on.max(on.load(top), max);
        }
        out.push(on.array(max));
    }
}

#[inline(always)]
fn count_body<L: Lanes>(on: L, groups: &[[f32; LANES]], bound: f32) -> usize {
    let bound = on.splat(bound);
    groups.iter().map(|group| on.at_least(on.load(group), bound).count_ones() as usize).sum()
}

#[inline(always)]
fn gather_body<L: Lanes>(
    on: L,
    row: &[f32],
    tops: &[[f32; LANES]],
    bound: f32,
    out: &mut Vec<Candidate>,
) {
    out.clear();
    let bounds = on.splat(bound);
    for (span, (top, chunk)) in tops.iter().zip(row.chunks(SPAN)).enumerate() {
        if on.at_least(on.load(top), bounds) == 0 {
            continue;
        }
        let (chunks, rest) = chunk.as_chunks::<LANES>();
        let mut start = span * SPAN;
        for chunk in chunks {
            let mut hits = on.at_least(on.load(chunk), bounds);
            while hits != 0 {
                let lane = hits.trailing_zeros() as usize;
                out.push(Candidate::new(chunk[lane], start + lane));
                hits &= hits - 1;
            }
            start += LANES;
        }
        for (lane, &logit) in rest.iter().enumerate() {
            if logit >= bound {
                out.push(Candidate::new(logit, start + lane));
            }
        }
    }
}
