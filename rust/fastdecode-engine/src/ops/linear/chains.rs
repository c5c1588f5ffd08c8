//! Chains of multiply-adds through a panel, for weights that are floats.

use crate::ops::panel::{PREFETCHED, Panel, Sums, prefetch_of};
use crate::ops::row_blocks::RowBlocks;
use crate::ops::tile::{self, Beside, Floats, Prefetch, Tile, with_rows};
use crate::weights::{ACROSS, CHAIN};
use fastdecode_simd::{Lanes, Line, kernel};
use std::ops::Range;

/// How the weights of a panel are stored, and multiplied on one instruction set.
pub trait Chains: Copy {
    type L: Tile;
    /// What activations are stored as.
    type X: Copy;
    /// Inputs of one of them.
    const INPUTS: usize;
    /// Lines of a chain's weights.
    const LINES: usize;

    fn lanes(self) -> Self::L;

    /// The chains of `R` rows, and of `N` vectors from number `V` on, through the weights of at most 128
    /// inputs. Activation `k` of row `r` is `x[k * height + r]`.
    fn extend<const R: usize, const N: usize, const V: usize>(
        self,
        weights: &[Line],
        x: &[Self::X],
        height: usize,
        prefetch: Prefetch,
        sums: &mut [[<Self::L as Lanes>::V; N]; R],
    );
}

/// float32: a line for each vector and input.
#[derive(Clone, Copy)]
struct Singles<L>(L);

impl<L: Tile> Chains for Singles<L> {
    type L = L;
    type X = f32;
    const INPUTS: usize = 1;
    const LINES: usize = CHAIN * ACROSS;

    #[inline(always)]
    fn lanes(self) -> L {
        self.0
    }

    #[inline(always)]
    fn extend<const R: usize, const N: usize, const V: usize>(
        self,
        weights: &[Line],
        x: &[f32],
        height: usize,
        prefetch: Prefetch,
        sums: &mut [[L::V; N]; R],
    ) {
        let x = Beside::rows::<R>(x, height);
        tile::chains::<L, Floats<V>, R, N, PREFETCHED>(self.0, weights, ACROSS, x, prefetch, sums);
    }
}

kernel! {
    /// Multiplies the float32 weights of a panel with several row blocks.
    pub fn float32(
        panel: Panel<'_>, blocks: RowBlocks, group: Range<usize>, x: &[f32], sums: &mut [Sums]
    ) = float32_body;
}

#[inline(always)]
fn float32_body<L: Tile>(
    l: L,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &[f32],
    sums: &mut [Sums],
) {
    through(Singles(l), panel, blocks, group, x, sums);
}

/// Multiplies a panel with several row blocks.
#[inline(always)]
pub fn through<C: Chains>(
    c: C,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &[C::X],
    sums: &mut [Sums],
) {
    let width = panel.operands.matrix.inputs.div_ceil(C::INPUTS);
    let length = CHAIN / C::INPUTS;
    for (chain, now) in panel.weights.chunks(C::LINES).enumerate() {
        let stretch = chain * length..width.min((chain + 1) * length);
        for (i, sums) in sums.iter_mut().enumerate() {
            let rows = blocks.range(group.start + i);
            let height = rows.len();
            let x = &x[rows.start * width..rows.end * width]
                [stretch.start * height..stretch.end * height];
            let prefetch = prefetch_of(now, i, group.len());
            products(c, now, x, height, prefetch, chain == 0, &mut sums[..height]);
        }
    }
}

/// One stretch of a panel, at most a chain long, with one row block.
#[inline(always)]
fn products<C: Chains>(
    c: C,
    weights: &[Line],
    x: &[C::X],
    height: usize,
    prefetch: Prefetch,
    first: bool,
    sums: &mut [[Line; ACROSS]],
) {
    let mut done = 0;
    while done < height {
        let rows = (height - done).min(C::L::ROWS);
        let sums = &mut sums[done..done + rows];
        let x = &x[done..];
        let prefetch = if done == 0 { prefetch } else { Prefetch::NONE };
        if C::L::ACROSS == ACROSS || rows <= C::L::ROWS_OF_TWO {
            with_rows!(
                rows,
                C::L::ROWS,
                add_chains::<C; R, 2, 0>(c, weights, x, height, prefetch, sums, first)
            );
        } else {
            with_rows!(
                rows,
                C::L::ROWS,
                add_chains::<C; R, 1, 0>(c, weights, x, height, prefetch, sums, first)
            );
            with_rows!(
                rows,
                C::L::ROWS,
                add_chains::<C; R, 1, 1>(c, weights, x, height, Prefetch::NONE, sums, first)
            );
        }
        done += rows;
    }
}

/// The chains of one stretch of inputs, from zero, added to the sums of the stretches before it.
#[inline(always)]
fn add_chains<C: Chains, const R: usize, const N: usize, const V: usize>(
    c: C,
    weights: &[Line],
    x: &[C::X],
    height: usize,
    prefetch: Prefetch,
    sums: &mut [[Line; ACROSS]],
    first: bool,
) {
    let l = c.lanes();
    let mut acc = [[l.splat(0.0); N]; R];
    c.extend::<R, N, V>(weights, x, height, prefetch, &mut acc);
    for (sum, acc) in sums.iter_mut().zip(acc) {
        for (line, acc) in sum[V..].iter_mut().zip(acc) {
            let y = if first { acc } else { l.add(l.load(&line.0), acc) };
            l.store(y, &mut line.0);
        }
    }
}
