//! The linear kernels for weights in groups: 32 inputs of an output share a scale, and maybe an offset.
//!
//! The products of a group are summed as integers, exactly. Each sum becomes a float, exactly (it is below
//! 2^20), and is added, times the scale of its output and group, to those of the groups before it among the
//! same 128 inputs, by one fused multiply-add, from zero. With offsets, the integers of the group's inputs are
//! summed as well, and that sum is added, times the offset, by another one right after. What comes of 128 inputs
//! is added, times the scale of its row, to the stretches before by another one; at the end the bias is added.

use super::Dots;
use super::stretch::{Products, Stretch};
use crate::ops::panel::PREFETCHED;
use crate::ops::quantise::{GROUPS, WORDS_OF_GROUP};
use crate::weights::{ACROSS, LINES_OF_4, LINES_OF_8, ZERO, ZERO_OF_4};
use fastdecode_simd::{Lanes, Line};

/// How the integers of a group are stored and multiplied.
trait Integers {
    /// Lines of a group's integers, before that of its scales.
    const LINES: usize;
    /// Whether a line of offsets follows.
    const OFFSETS: bool;
    /// Lines of a group.
    const ALL: usize = Self::LINES + 1 + Self::OFFSETS as usize;
    /// Prepared for the products.
    type Weights<D: Dots>: Copy;

    /// The initial sums of a row, from its offset.
    fn start<D: Dots>(d: D, offset: i32) -> D::I;
    /// The weights of the words 2i and 2i + 1.
    fn weights<D: Dots>(d: D, group: &[Line], i: usize, vector: usize) -> [Self::Weights<D>; 2];
    fn dot<D: Dots>(d: D, sums: D::I, weights: Self::Weights<D>, word: i32) -> D::I;
}

/// Four bits of which 8 stands for zero.
pub struct Int4;

impl Integers for Int4 {
    const LINES: usize = LINES_OF_4;
    const OFFSETS: bool = false;
    type Weights<D: Dots> = D::Nibbles;

    #[inline(always)]
    fn start<D: Dots>(d: D, offset: i32) -> D::I {
        d.start_of_4(offset)
    }
    #[inline(always)]
    fn weights<D: Dots>(d: D, group: &[Line], i: usize, vector: usize) -> [D::Nibbles; 2] {
        d.nibbles(&group[ACROSS * i + vector])
    }
    #[inline(always)]
    fn dot<D: Dots>(d: D, sums: D::I, weights: D::Nibbles, word: i32) -> D::I {
        d.dot_of_4(sums, weights, word)
    }
}

/// Four bits without a sign, and offsets.
pub struct Int4Offsets;

impl Integers for Int4Offsets {
    const LINES: usize = LINES_OF_4;
    const OFFSETS: bool = true;
    type Weights<D: Dots> = D::Nibbles;

    #[inline(always)]
    fn start<D: Dots>(d: D, _: i32) -> D::I {
        d.zeros()
    }
    #[inline(always)]
    fn weights<D: Dots>(d: D, group: &[Line], i: usize, vector: usize) -> [D::Nibbles; 2] {
        d.plain_nibbles(&group[ACROSS * i + vector])
    }
    #[inline(always)]
    fn dot<D: Dots>(d: D, sums: D::I, weights: D::Nibbles, word: i32) -> D::I {
        d.dot_of_4(sums, weights, word)
    }
}

/// Eight bits of which 128 stands for zero.
pub struct Int8Groups;

impl Integers for Int8Groups {
    const LINES: usize = LINES_OF_8;
    const OFFSETS: bool = false;
    type Weights<D: Dots> = D::W;

    #[inline(always)]
    fn start<D: Dots>(d: D, offset: i32) -> D::I {
        d.start(ZERO / ZERO_OF_4 * offset)
    }
    #[inline(always)]
    fn weights<D: Dots>(d: D, group: &[Line], i: usize, vector: usize) -> [D::W; 2] {
        let first = 2 * ACROSS * i + vector;
        [d.weights(&group[first]), d.weights(&group[first + ACROSS])]
    }
    #[inline(always)]
    fn dot<D: Dots>(d: D, sums: D::I, weights: D::W, word: i32) -> D::I {
        d.dot(sums, weights, word)
    }
}

/// Pairs of words of a group.
const PAIRS: usize = WORDS_OF_GROUP / 2;

impl<G: Integers> Products for G {
    const LINES: usize = GROUPS * G::ALL;
    const SPANS: usize = GROUPS;

    #[inline(always)]
    fn rows<D: Dots>() -> usize {
        D::ROWS_OF_GROUPS
    }

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "iterators keep the sums in memory")]
    fn add<D: Dots, const R: usize, const N: usize>(
        d: D,
        stretch: Stretch<'_>,
        done: usize,
        sums: &mut [[Line; ACROSS]],
        vector: usize,
    ) {
        let l = d.lanes();
        let Stretch { height, .. } = stretch;
        let mut total = [[l.splat(0.0); N]; R];
        let mut words = &stretch.words[done..];
        let mut offsets = &stretch.offsets[done..];
        let mut padded = [[0; R]; WORDS_OF_GROUP];
        // No closures: they would not be compiled for the instruction set.
        for (index, group) in stretch.weights.chunks_exact(G::ALL).enumerate() {
            let of_rows = offsets.first_chunk().copied().unwrap_or([0; R]);
            let mut acc = [[d.zeros(); N]; R];
            for r in 0..R {
                acc[r] = [G::start(d, of_rows[r]); N];
            }
            // The last group may have fewer words than weights.
            let (from, step) = if words.len() >= (WORDS_OF_GROUP - 1) * height + R {
                (words.as_ptr(), height)
            } else {
                for (to, words) in padded.iter_mut().zip(words.chunks(height)) {
                    if let Some(words) = words.first_chunk() {
                        *to = *words;
                    }
                }
                (padded.as_ptr().cast(), R)
            };
            for i in 0..PAIRS {
                if !stretch.prefetch.hints_only(R) {
                    let first = index * G::ALL;
                    for line in G::ALL * i / PAIRS..G::ALL * (i + 1) / PAIRS {
                        stretch.prefetch.issue_line::<D::L, PREFETCHED>(l, first + line);
                    }
                }
                // SAFETY: from `from` on there are `R` words at each of eight steps. They are references, so
                // that each word is broadcast from where it lies.
                let now: [&[i32; R]; 2] = unsafe {
                    [&*from.add(2 * i * step).cast(), &*from.add((2 * i + 1) * step).cast()]
                };
                for n in 0..N {
                    let weights = G::weights(d, group, i, vector + n);
                    for (weights, words) in weights.into_iter().zip(now) {
                        for r in 0..R {
                            acc[r][n] = G::dot(d, acc[r][n], weights, words[r]);
                        }
                    }
                }
            }
            for n in 0..N {
                let scale = halves(l, &group[G::LINES], vector + n);
                for r in 0..R {
                    total[r][n] = l.fma(d.floats(acc[r][n]), scale, total[r][n]);
                }
            }
            if G::OFFSETS {
                // Both factors times a power of two: the product is the same.
                let unit = l.splat(-1.0 / ZERO_OF_4 as f32);
                for n in 0..N {
                    let offset = l.mul(halves(l, &group[G::LINES + 1], vector + n), unit);
                    for r in 0..R {
                        total[r][n] = l.fma(l.splat(of_rows[r] as f32), offset, total[r][n]);
                    }
                }
            }
            words = words.get(WORDS_OF_GROUP * height..).unwrap_or_default();
            offsets = offsets.get(height..).unwrap_or_default();
        }
        for (r, (sum, total)) in sums.iter_mut().zip(total).enumerate() {
            let scale = l.splat(stretch.scales[done + r]);
            for (line, total) in sum[vector..].iter_mut().zip(total) {
                let before = if stretch.first { l.splat(0.0) } else { l.load(&line.0) };
                let y = l.fma(total, scale, before);
                l.store(y, &mut line.0);
            }
        }
    }
}

/// The float16 of each output of a vector.
#[inline(always)]
fn halves<L: Lanes>(l: L, line: &Line, vector: usize) -> L::V {
    l.float16(if vector == 0 { l.low_halves(line) } else { l.high_halves(line) })
}
