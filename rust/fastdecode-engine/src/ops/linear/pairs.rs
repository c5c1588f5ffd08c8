//! The linear kernels for weights in bfloat16, two inputs of an output in a word. See `ops::bfloat16` for the
//! definition.

use super::chains::{Chains, through};
use crate::ops::bfloat16::Instruction;
use crate::ops::panel::{PREFETCHED, Panel, Sums};
use crate::ops::row_blocks::RowBlocks;
use crate::ops::tile::{Prefetch, Tile};
use crate::weights::{ACROSS, CHAIN, PAIR};
use fastdecode_simd::{Lanes, Line, kernel};
use std::ops::Range;

/// Lines of a chain's weights.
const LINES: usize = CHAIN / PAIR * ACROSS;

/// By multiply-adds in float32.
#[derive(Clone, Copy)]
struct MultiplyAdds<L>(L);

impl<L: Tile> Chains for MultiplyAdds<L> {
    type L = L;
    type X = f32;
    const INPUTS: usize = 1;
    const LINES: usize = LINES;

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
        let l = self.0;
        let weights = weights.as_chunks::<ACROSS>().0;
        let pairs = x.chunks(PAIR * height);
        assert!(V + N <= ACROSS && pairs.len() <= weights.len());
        let hints = prefetch.hints_only(R);
        for (i, (weights, x)) in weights.iter().zip(pairs).enumerate() {
            prefetch.issue::<L, PREFETCHED>(l, i, if hints { 2 } else { 1 });
            // No closures: they would not be compiled for the instruction set.
            if let Some(x) = x.first_chunk::<R>() {
                let mut high = [l.splat(0.0); N];
                for n in 0..N {
                    high[n] = l.high_halves(&weights[V + n]);
                }
                add(l, x, high, sums);
            }
            if let Some(x) = x.get(height..).and_then(|x| x.first_chunk::<R>()) {
                let mut low = [l.splat(0.0); N];
                for n in 0..N {
                    low[n] = l.low_halves(&weights[V + n]);
                }
                add(l, x, low, sums);
            }
        }
    }
}

/// Adds the products of one input.
#[inline(always)]
fn add<L: Lanes, const R: usize, const N: usize>(
    l: L,
    x: &[f32; R],
    weights: [L::V; N],
    sums: &mut [[L::V; N]; R],
) {
    for r in 0..R {
        let x = l.splat(x[r]);
        for n in 0..N {
            sums[r][n] = l.fma(x, weights[n], sums[r][n]);
        }
    }
}

kernel! {
    /// Multiplies a panel of bfloat16 weights with several row blocks of floats, rounded or not.
    pub fn by_multiply_adds(
        panel: Panel<'_>, blocks: RowBlocks, group: Range<usize>, x: &[f32], sums: &mut [Sums]
    ) = multiply_adds_body;
}

#[inline(always)]
fn multiply_adds_body<L: Tile>(
    l: L,
    panel: Panel<'_>,
    blocks: RowBlocks,
    group: Range<usize>,
    x: &[f32],
    sums: &mut [Sums],
) {
    through(MultiplyAdds(l), panel, blocks, group, x, sums);
}

#[cfg(target_arch = "x86_64")]
pub use x86::by_instruction;

#[cfg(not(target_arch = "x86_64"))]
/// Never called: this machine does not have the instruction.
pub fn by_instruction(
    instruction: Instruction,
    _: Panel<'_>,
    _: RowBlocks,
    _: Range<usize>,
    _: &[u32],
    _: &mut [Sums],
) {
    match instruction {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{
        ACROSS, Chains, Instruction, LINES, Line, PAIR, PREFETCHED, Panel, Prefetch, Range,
        RowBlocks, Sums, through,
    };
    use fastdecode_simd::Avx512;
    use std::arch::x86_64::{__m512, _mm512_loadu_si512, _mm512_setzero_si512};

    /// By the instruction. A value is the proof that the processor has it, and that the code around it is
    /// compiled for it.
    #[derive(Clone, Copy)]
    struct Dots(Avx512);

    impl Chains for Dots {
        type L = Avx512;
        type X = u32;
        const INPUTS: usize = PAIR;
        const LINES: usize = LINES;

        #[inline(always)]
        fn lanes(self) -> Avx512 {
            self.0
        }

        #[inline(always)]
        fn extend<const R: usize, const N: usize, const V: usize>(
            self,
            weights: &[Line],
            x: &[u32],
            height: usize,
            prefetch: Prefetch,
            sums: &mut [[__m512; N]; R],
        ) {
            let weights = weights.as_chunks::<ACROSS>().0;
            assert!(V + N <= ACROSS);
            assert!(weights.is_empty() || (weights.len() - 1) * height + R <= x.len());
            let hints = prefetch.hints_only(R);
            let mut acc = *sums;
            for (i, weights) in weights.iter().enumerate() {
                prefetch.issue::<Avx512, PREFETCHED>(self.0, i, if hints { 2 } else { 1 });
                // SAFETY: i is less than the number of weights, for which the assertion above holds.
                let x = unsafe { &*x.as_ptr().add(i * height).cast::<[u32; R]>() };
                // SAFETY: a load of one line.
                let mut w = [unsafe { _mm512_setzero_si512() }; N];
                for n in 0..N {
                    let line = weights[V + n].words();
                    // SAFETY: as above.
                    w[n] = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
                }
                for r in 0..R {
                    for n in 0..N {
                        // SAFETY: `self` is the proof.
                        acc[r][n] = unsafe { Instruction::dot(acc[r][n], w[n], x[r]) };
                    }
                }
            }
            *sums = acc;
        }
    }

    /// Multiplies a panel of bfloat16 weights with several row blocks of words.
    pub fn by_instruction(
        _: Instruction,
        panel: Panel<'_>,
        blocks: RowBlocks,
        group: Range<usize>,
        x: &[u32],
        sums: &mut [Sums],
    ) {
        // SAFETY: the value of `Instruction` proves that the processor has all of these.
        unsafe { compiled(panel, blocks, group, x, sums) }
    }

    #[target_feature(
        enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt"
    )]
    fn compiled(
        panel: Panel<'_>,
        blocks: RowBlocks,
        group: Range<usize>,
        x: &[u32],
        sums: &mut [Sums],
    ) {
        // SAFETY: this function is compiled for AVX-512, which the processor has.
        let dots = Dots(unsafe { Avx512::new() });
        through(dots, panel, blocks, group, x, sums);
    }
}
