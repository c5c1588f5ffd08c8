//! The linear kernel for int8 weights.
//!
//! The products of 128 inputs are summed as integers, in 32 bits and exactly, so that their order
//! cannot matter; each sum becomes a float, exactly (it is below 2^21), is multiplied with the
//! scale of its row and inputs and added to those before by one fused multiply-add; at the end the
//! scale of the output and the bias, by another. AVX-512's VNNI, AVX2, NEON and portable code give the
//! same bits.
//!
//! Lanes run across outputs here too: a line of weights has four inputs of sixteen outputs, which is
//! what VNNI's instruction takes.

use crate::blocks::Blocks;
use crate::dtype::{ACROSS, ZERO};
use crate::linear::{ASKED, Panel, Sums, ahead};
use crate::quantise::{Quantised, WORDS};
use crate::tile::{Ahead, with_rows};
use fastdecode_simd::{LANES, Lanes, Level, LevelKind, Line, Portable};
use std::ops::Range;

/// Integer products of one instruction set. A value of the type is the proof that the CPU has it.
trait Dots: Copy {
    /// For what is computed in floats.
    type L: Lanes;
    /// Sixteen sums of 32 bits.
    type I: Copy;
    /// A line of weights, as the products need it.
    type W: Copy;
    /// Vectors across in a register tile, 1 or 2.
    const ACROSS: usize;
    /// Rows in a register tile.
    const ROWS: usize;

    fn lanes(self) -> Self::L;
    /// Where sums begin, of a row with this offset.
    fn start(self, offset: i32) -> Self::I;
    fn weights(self, line: &Line) -> Self::W;
    /// The sums with four products more each.
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

/// `body`, as a function compiled with these features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($features:literal, fn $name:ident with $dots:ty) => {
        #[target_feature(enable = $features)]
        fn $name(
            panel: Panel<'_>,
            blocks: Blocks,
            group: Range<usize>,
            x: &Quantised,
            sums: &mut [Sums],
        ) {
            // SAFETY: this function is compiled for what the type stands for.
            body(unsafe { <$dots>::new() }, panel, blocks, group, x, sums);
        }
    };
}

/// A group of blocks through one panel.
pub(crate) fn dots(
    level: Level,
    panel: Panel<'_>,
    blocks: Blocks,
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
    blocks: Blocks,
    group: Range<usize>,
    x: &Quantised,
    sums: &mut [Sums],
) {
    let words = panel.weights.len() / ACROSS;
    let stretches = words.div_ceil(WORDS);
    for (stretch, weights) in panel.weights.chunks(WORDS * ACROSS).enumerate() {
        for (i, sums) in sums.iter_mut().enumerate() {
            let rows = blocks.range(group.start + i);
            let height = rows.len();
            let place = rows.start * stretches + stretch * height;
            let word = rows.start * words + stretch * WORDS * height;
            let part = Part {
                weights,
                words: &x.words[word..rows.end * words],
                scales: &x.scales[place..place + height],
                offsets: &x.offsets[place..place + height],
                height,
                ahead: ahead(weights, i, group.len()),
                first: stretch == 0,
            };
            products(d, part, &mut sums[..height]);
        }
    }
}

/// Rows up to which nothing is asked for: the processor fetches as well by itself. Asking, for all lines or
/// some, made it 3.1 ms a step of one row, not 2.7.
const UNAIDED: usize = 3;

/// One stretch of a panel and of the rows of a block.
#[derive(Clone, Copy)]
struct Part<'a> {
    weights: &'a [Line],
    words: &'a [i32],
    scales: &'a [f32],
    offsets: &'a [i32],
    height: usize,
    ahead: Ahead,
    /// Whether it is the panel's first, and nothing has been summed.
    first: bool,
}

#[inline(always)]
fn products<D: Dots>(d: D, part: Part<'_>, sums: &mut [[Line; ACROSS]]) {
    let mut done = 0;
    while done < part.height {
        let rows = (part.height - done).min(D::ROWS);
        let sums = &mut sums[done..done + rows];
        if D::ACROSS == ACROSS {
            with_rows!(rows, D::ROWS, add_dots::<D; R, 2>(d, part, done, sums, 0));
        } else {
            with_rows!(rows, D::ROWS, add_dots::<D; R, 1>(d, part, done, sums, 0));
            with_rows!(rows, D::ROWS, add_dots::<D; R, 1>(d, part, done, sums, 1));
        }
        done += rows;
    }
}

#[inline(always)]
fn add_dots<D: Dots, const R: usize, const N: usize>(
    d: D,
    part: Part<'_>,
    done: usize,
    sums: &mut [[Line; ACROSS]],
    vector: usize,
) {
    let l = d.lanes();
    // No closures: they are not compiled for the instruction set.
    let mut acc = [[d.start(0); N]; R];
    for (acc, offset) in acc.iter_mut().zip(&part.offsets[done..]) {
        *acc = [d.start(*offset); N];
    }
    let weights = part.weights.as_chunks::<ACROSS>().0;
    let words = &part.words[done..];
    assert!(weights.is_empty() || (weights.len() - 1) * part.height + R <= words.len());
    for (i, w) in weights.iter().enumerate() {
        // SAFETY: i is at most one less than the weights' number, for which the assertion holds.
        let words = unsafe { &*words.as_ptr().add(i * part.height).cast::<[i32; R]>() };
        if R > UNAIDED {
            part.ahead.ask::<D::L, ASKED>(l, i, 1);
        }
        for n in 0..N {
            let w = d.weights(&w[vector + n]);
            for r in 0..R {
                acc[r][n] = d.dot(acc[r][n], w, words[r]);
            }
        }
    }
    for (r, (sum, acc)) in sums.iter_mut().zip(acc).enumerate() {
        let scale = l.splat(part.scales[done + r]);
        for (line, acc) in sum[vector..].iter_mut().zip(acc) {
            let before = if part.first { l.splat(0.0) } else { l.load(&line.0) };
            let y = l.fma(d.floats(acc), scale, before);
            l.store(y, &mut line.0);
        }
    }
}
