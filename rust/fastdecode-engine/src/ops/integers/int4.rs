//! The linear kernel for int4 weights.
//!
//! The products of a group of 32 inputs are summed as integers, exactly. Each sum becomes a float, exactly
//! (it is below 2^15), and is added, times the scale of its output and group, to those of the groups before
//! it among the same 128 inputs, by one fused multiply-add, from zero. What comes of 128 inputs is added,
//! times the scale of its row, to the stretches before by another one; at the end the bias is added.

use super::Dots;
use crate::ops::panel::{PREFETCHED, Panel, Sums, prefetch_of};
use crate::ops::quantise::{GROUPS, Quantised, WORDS, WORDS_OF_GROUP};
use crate::ops::row_blocks::RowBlocks;
use crate::ops::tile::{Prefetch, with_rows};
use crate::weights::{ACROSS, GROUP_LINES};
use fastdecode_simd::{Lanes, Line};
use std::ops::Range;

/// From this many rows on, a stretch is unpacked once for all of them.
const MANY: usize = 4;

#[inline(always)]
pub fn body<D: Dots>(
    d: D,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &Quantised,
    sums: &mut [Sums],
) {
    let groups = panel.weights.len() / GROUP_LINES;
    let stretches = groups.div_ceil(GROUPS);
    let many = blocks.range(group.end - 1).end - blocks.range(group.start).start >= MANY;
    let mut unpacked = Unpacked::EMPTY;
    for (index, weights) in panel.weights.chunks(GROUPS * GROUP_LINES).enumerate() {
        if many {
            unpacked.fill(d, weights);
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let rows = blocks.range(group.start + i);
            let height = rows.len();
            let place = rows.start * stretches + index * height;
            let stretch = Stretch {
                weights,
                unpacked: &unpacked,
                words: &x.words_of(rows.clone())[index * WORDS * height..],
                scales: &x.scales[place..place + height],
                offsets: &x.groups[rows.start * groups + index * GROUPS * height..],
                height,
                prefetch: prefetch_of(weights, i, group.len()),
                first: index == 0,
            };
            let sums = &mut sums[..height];
            if many {
                products::<D, true>(d, stretch, sums);
            } else {
                products::<D, false>(d, stretch, sums);
            }
        }
    }
}

/// Lines of a group for each vector.
const PAIRS: usize = (GROUP_LINES - 1) / ACROSS;

/// A stretch whose weights are a byte each, and its scales.
struct Unpacked {
    /// The lines of each four inputs of a group.
    groups: [[[Line; ACROSS]; WORDS_OF_GROUP]; GROUPS],
    scales: [[Line; ACROSS]; GROUPS],
}

impl Unpacked {
    const EMPTY: Self = Self {
        groups: [[[Line::ZERO; ACROSS]; WORDS_OF_GROUP]; GROUPS],
        scales: [[Line::ZERO; ACROSS]; GROUPS],
    };

    #[inline(always)]
    fn fill<D: Dots>(&mut self, d: D, weights: &[Line]) {
        let to = self.groups.iter_mut().zip(&mut self.scales);
        for ((to, scales), lines) in to.zip(weights.as_chunks::<GROUP_LINES>().0) {
            let pairs = lines.as_chunks::<ACROSS>().0;
            for (to, lines) in to.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
                let [low, high] = to;
                for n in 0..ACROSS {
                    let bytes = lines[n].bytes();
                    for (to, byte) in low[n].bytes_mut().iter_mut().zip(bytes) {
                        *to = byte & 0xF;
                    }
                    for (to, byte) in high[n].bytes_mut().iter_mut().zip(bytes) {
                        *to = byte >> 4;
                    }
                }
            }
            for (n, to) in scales.iter_mut().enumerate() {
                let l = d.lanes();
                l.store(scale_of(l, lines, n), &mut to.0);
            }
        }
    }
}

/// The scales of a vector of a group.
#[inline(always)]
fn scale_of<L: Lanes>(l: L, group: &[Line; GROUP_LINES], vector: usize) -> L::V {
    let scales = &group[GROUP_LINES - 1];
    l.float16(if vector == 0 { l.low_halves(scales) } else { l.high_halves(scales) })
}

/// One stretch of a panel and of a row block.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    weights: &'a [Line],
    /// The same, where there are many rows.
    unpacked: &'a Unpacked,
    /// From the stretch on, as the offsets.
    words: &'a [i32],
    scales: &'a [f32],
    offsets: &'a [i32],
    height: usize,
    prefetch: Prefetch,
    /// Whether it is the panel's first one, before which there are no sums.
    first: bool,
}

#[inline(always)]
fn products<D: Dots, const MANY: bool>(
    d: D,
    mut stretch: Stretch<'_>,
    sums: &mut [[Line; ACROSS]],
) {
    let mut done = 0;
    while done < stretch.height {
        let rows = (stretch.height - done).min(D::ROWS_OF_4);
        let sums = &mut sums[done..done + rows];
        if D::ACROSS == ACROSS {
            with_rows!(rows, D::ROWS_OF_4, add_groups::<D; R, 2, MANY>(d, stretch, done, sums, 0));
        } else {
            with_rows!(rows, D::ROWS_OF_4, add_groups::<D; R, 1, MANY>(d, stretch, done, sums, 0));
            stretch.prefetch = Prefetch::NONE;
            with_rows!(rows, D::ROWS_OF_4, add_groups::<D; R, 1, MANY>(d, stretch, done, sums, 1));
        }
        stretch.prefetch = Prefetch::NONE;
        done += rows;
    }
}

#[inline(always)]
fn add_groups<D: Dots, const R: usize, const N: usize, const MANY: bool>(
    d: D,
    stretch: Stretch<'_>,
    done: usize,
    sums: &mut [[Line; ACROSS]],
    vector: usize,
) {
    let l = d.lanes();
    let Stretch { height, .. } = stretch;
    let groups = stretch.weights.as_chunks::<GROUP_LINES>().0;
    let mut total = [[l.splat(0.0); N]; R];
    let mut words = &stretch.words[done..];
    let mut offsets = &stretch.offsets[done..];
    let mut padded = [[0; R]; WORDS_OF_GROUP];
    // No closures: they would not be compiled for the instruction set.
    for (index, lines) in groups.iter().enumerate() {
        let mut acc = [[d.start_of_4(0); N]; R];
        for (acc, offset) in acc.iter_mut().zip(offsets) {
            *acc = [d.start_of_4(*offset); N];
        }
        offsets = offsets.get(height..).unwrap_or_default();
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
                let first = index * GROUP_LINES;
                for line in GROUP_LINES * i / PAIRS..GROUP_LINES * (i + 1) / PAIRS {
                    stretch.prefetch.issue_line::<D::L, PREFETCHED>(l, first + line);
                }
            }
            // SAFETY: from `from` on there are `R` words at each of eight steps. They are references, so
            // that each word is broadcast from where it lies.
            let now: [&[i32; R]; 2] =
                unsafe { [&*from.add(2 * i * step).cast(), &*from.add((2 * i + 1) * step).cast()] };
            for n in 0..N {
                let halves = if MANY {
                    let words = &stretch.unpacked.groups[index];
                    [
                        d.wide_nibbles(&words[2 * i][vector + n]),
                        d.wide_nibbles(&words[2 * i + 1][vector + n]),
                    ]
                } else {
                    d.nibbles(&lines[ACROSS * i + vector + n])
                };
                for (weights, words) in halves.into_iter().zip(now) {
                    for r in 0..R {
                        acc[r][n] = d.dot_of_4(acc[r][n], weights, words[r]);
                    }
                }
            }
        }
        words = words.get(WORDS_OF_GROUP * height..).unwrap_or_default();
        for n in 0..N {
            let scale = if MANY {
                l.load(&stretch.unpacked.scales[index][vector + n].0)
            } else {
                scale_of(l, lines, vector + n)
            };
            for r in 0..R {
                total[r][n] = l.fma(d.floats(acc[r][n]), scale, total[r][n]);
            }
        }
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
