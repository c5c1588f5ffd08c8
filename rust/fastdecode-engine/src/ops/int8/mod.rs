//! The linear kernel for int8 weights.
//!
//! The products of 128 inputs are summed as integers, in 32 bits and exactly, so their order cannot matter.
//! Each sum becomes a float, exactly (it is below 2^21), is multiplied by the scale of its row and inputs
//! and added to the sum before it by one fused multiply-add; at the end another one applies the scale of the
//! output and the bias. AVX-512's VNNI, AVX2, NEON and portable code give the same bits.
//!
//! Lanes run across outputs here, too: a line of weights has four inputs of sixteen outputs, which is what
//! VNNI's instruction takes.

use super::panel::{PREFETCHED, Panel, Sums, prefetch_of};
use super::quantise::{Quantised, WORDS};
use super::row_blocks::RowBlocks;
use super::tile::{Prefetch, with_rows};
use crate::weights::{ACROSS, ZERO};
use fastdecode_simd::{LANES, Lanes, Level, LevelKind, Line, Portable};
use std::ops::Range;

/// Integer products on one instruction set. A value of the type is the proof that the processor has it.
trait Dots: Copy {
    /// For the computations in floats.
    type L: Lanes;
    /// Sixteen sums of 32 bits.
    type I: Copy;
    /// A line of weights, prepared for the products.
    type W: Copy;
    /// Vectors across in a register tile, 1 or 2.
    const ACROSS: usize;
    /// Rows in a register tile.
    const ROWS: usize;

    fn lanes(self) -> Self::L;
    /// The initial sums of a row with this offset.
    fn start(self, offset: i32) -> Self::I;
    fn weights(self, line: &Line) -> Self::W;
    /// Adds four products to each sum.
    fn dot(self, sums: Self::I, weights: Self::W, word: i32) -> Self::I;
    fn floats(self, sums: Self::I) -> <Self::L as Lanes>::V;
}

impl Dots for Portable {
    type L = Self;
    type I = [i32; LANES];
    type W = [u8; 4 * LANES];
    const ACROSS: usize = 1;
    const ROWS: usize = 4;

    #[inline(always)]
    fn lanes(self) -> Self {
        self
    }
    #[inline(always)]
    fn start(self, _offset: i32) -> Self::I {
        [0; LANES]
    }
    #[inline(always)]
    fn weights(self, line: &Line) -> Self::W {
        *line.bytes()
    }
    #[inline(always)]
    fn dot(self, mut sums: Self::I, weights: Self::W, word: i32) -> Self::I {
        for (i, sum) in sums.iter_mut().enumerate() {
            for (j, byte) in weights[4 * i..4 * i + 4].iter().enumerate() {
                let x = word << (24 - 8 * j) >> 24;
                *sum += (i32::from(*byte) - ZERO) * x;
            }
        }
        sums
    }
    #[inline(always)]
    fn floats(self, sums: Self::I) -> [f32; LANES] {
        sums.map(|sum| sum as f32)
    }
}

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

/// `body`, compiled with these features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($features:literal, fn $name:ident with $dots:ty) => {
        #[target_feature(enable = $features)]
        fn $name(
            panel: Panel<'_>,
            blocks: RowBlocks,
            group: Range<usize>,
            x: &Quantised,
            sums: &mut [Sums],
        ) {
            // SAFETY: this function is compiled for the type's features, and called where they exist.
            body(unsafe { <$dots>::new() }, panel, blocks, group, x, sums);
        }
    };
}

/// Multiplies a panel with several row blocks.
pub(crate) fn dots(
    level: Level,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &Quantised,
    sums: &mut [Sums],
) {
    #[cfg(target_arch = "x86_64")]
    {
        compiled!("avx2,fma,bmi1,bmi2,lzcnt,popcnt", fn avx2 with fastdecode_simd::Avx2);
        compiled!(
            "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt",
            fn vnni with x86::Vnni
        );
        match level.kind() {
            LevelKind::Avx512 if is_x86_feature_detected!("avx512vnni") => {
                // SAFETY: a level is made only where the machine has its features, and VNNI was found.
                unsafe { vnni(panel, blocks, group, x, sums) }
            }
            // SAFETY: as above; a machine with AVX-512 has AVX2 and FMA.
            LevelKind::Avx2 | LevelKind::Avx512 => unsafe { avx2(panel, blocks, group, x, sums) },
            LevelKind::Portable => body(Portable, panel, blocks, group, x, sums),
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        compiled!("dotprod", fn sdot with neon::Sdot);
        match level.kind() {
            LevelKind::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => {
                // SAFETY: the dot products were found.
                unsafe { sdot(panel, blocks, group, x, sums) }
            }
            LevelKind::Neon => body(fastdecode_simd::Neon, panel, blocks, group, x, sums),
            LevelKind::Portable => body(Portable, panel, blocks, group, x, sums),
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let LevelKind::Portable = level.kind();
        body(Portable, panel, blocks, group, x, sums);
    }
}

#[inline(always)]
fn body<D: Dots>(
    d: D,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &Quantised,
    sums: &mut [Sums],
) {
    let words = panel.weights.len() / ACROSS;
    let stretches = words.div_ceil(WORDS);
    for (index, weights) in panel.weights.chunks(WORDS * ACROSS).enumerate() {
        for (i, sums) in sums.iter_mut().enumerate() {
            let rows = blocks.range(group.start + i);
            let height = rows.len();
            let place = rows.start * stretches + index * height;
            let word = rows.start * words + index * WORDS * height;
            let stretch = Stretch {
                weights,
                words: &x.words[word..rows.end * words],
                scales: &x.scales[place..place + height],
                offsets: &x.offsets[place..place + height],
                height,
                prefetch: prefetch_of(weights, i, group.len()),
                first: index == 0,
            };
            products(d, stretch, &mut sums[..height]);
        }
    }
}

/// One stretch of a panel and of a row block.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    weights: &'a [Line],
    words: &'a [i32],
    scales: &'a [f32],
    offsets: &'a [i32],
    height: usize,
    prefetch: Prefetch,
    /// Whether it is the panel's first one, before which there are no sums.
    first: bool,
}

#[inline(always)]
fn products<D: Dots>(d: D, stretch: Stretch<'_>, sums: &mut [[Line; ACROSS]]) {
    let mut done = 0;
    while done < stretch.height {
        let rows = (stretch.height - done).min(D::ROWS);
        let sums = &mut sums[done..done + rows];
        if D::ACROSS == ACROSS {
            with_rows!(rows, D::ROWS, add_dots::<D; R, 2>(d, stretch, done, sums, 0));
        } else {
            with_rows!(rows, D::ROWS, add_dots::<D; R, 1>(d, stretch, done, sums, 0));
            with_rows!(rows, D::ROWS, add_dots::<D; R, 1>(d, stretch, done, sums, 1));
        }
        done += rows;
    }
}

#[inline(always)]
fn add_dots<D: Dots, const R: usize, const N: usize>(
    d: D,
    stretch: Stretch<'_>,
    done: usize,
    sums: &mut [[Line; ACROSS]],
    vector: usize,
) {
    let l = d.lanes();
    // No closures: they would not be compiled for the instruction set.
    let mut acc = [[d.start(0); N]; R];
    for (acc, offset) in acc.iter_mut().zip(&stretch.offsets[done..]) {
        *acc = [d.start(*offset); N];
    }
    let weights = stretch.weights.as_chunks::<ACROSS>().0;
    let words = &stretch.words[done..];
    assert!(weights.is_empty() || (weights.len() - 1) * stretch.height + R <= words.len());
    for (i, w) in weights.iter().enumerate() {
        // SAFETY: i is less than the number of weights, for which the assertion above holds.
        let words = unsafe { &*words.as_ptr().add(i * stretch.height).cast::<[i32; R]>() };
        if !stretch.prefetch.hints_only(R) {
            stretch.prefetch.issue::<D::L, PREFETCHED>(l, i, 1);
        }
        for n in 0..N {
            let w = d.weights(&w[vector + n]);
            for r in 0..R {
                acc[r][n] = d.dot(acc[r][n], w, words[r]);
            }
        }
    }
    for (r, (sum, acc)) in sums.iter_mut().zip(acc).enumerate() {
        let scale = l.splat(stretch.scales[done + r]);
        for (line, acc) in sum[vector..].iter_mut().zip(acc) {
            let before = if stretch.first { l.splat(0.0) } else { l.load(&line.0) };
            let y = l.fma(d.floats(acc), scale, before);
            l.store(y, &mut line.0);
        }
    }
}
