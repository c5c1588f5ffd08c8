//! The linear kernels for weights that are integers: products of integers, exactly, on each instruction set.
//!
//! AVX-512's VNNI, AVX2, NEON and portable code give the same bits. Lanes run across outputs here, too: a
//! line of int8 weights has four inputs of sixteen outputs, which is what VNNI's instruction takes.

use super::panel::{Panel, Sums};
use super::quantise::Quantised;
use super::row_blocks::RowBlocks;
use crate::weights::{ZERO, ZERO_OF_4};
use fastdecode_simd::{LANES, Lanes, Level, LevelKind, Line, Portable};
use std::ops::Range;

/// Integer products on one instruction set. A value of the type is the proof that the processor has it.
pub(crate) trait Dots: Copy {
    /// For the computations in floats.
    type L: Lanes;
    /// Sixteen sums of 32 bits.
    type I: Copy;
    /// A line of weights of eight bits, prepared for the products.
    type W: Copy;
    /// A line of weights of four bits, half of it prepared for the products.
    type Nibbles: Copy;
    /// Vectors across in a register tile, 1 or 2.
    const ACROSS: usize;
    /// Rows in a register tile.
    const ROWS: usize;
    /// Rows in a register tile that has twice as many sums.
    const ROWS_OF_GROUPS: usize;

    fn lanes(self) -> Self::L;
    /// Sums of zero.
    fn zeros(self) -> Self::I;
    /// The initial sums of a row of which this is `-ZERO` times the sum of the integers.
    fn start(self, offset: i32) -> Self::I;
    /// Bytes of which `ZERO` stands for zero.
    fn weights(self, line: &Line) -> Self::W;
    /// Adds four products to each sum.
    fn dot(self, sums: Self::I, weights: Self::W, word: i32) -> Self::I;
    /// The initial sums of a row of which this is `-ZERO_OF_4` times the sum of the integers.
    fn start_of_4(self, offset: i32) -> Self::I;
    /// The low four bits of the bytes of a line, and the high ones, of which `ZERO_OF_4` stands for zero.
    fn nibbles(self, line: &Line) -> [Self::Nibbles; 2];
    /// The same where 0 stands for zero.
    fn plain_nibbles(self, line: &Line) -> [Self::Nibbles; 2];
    /// Adds four products to each sum.
    fn dot_of_4(self, sums: Self::I, weights: Self::Nibbles, word: i32) -> Self::I;
    fn floats(self, sums: Self::I) -> <Self::L as Lanes>::V;
}

impl Dots for Portable {
    type L = Self;
    type I = [i32; LANES];
    type W = [i8; 4 * LANES];
    type Nibbles = [i8; 4 * LANES];
    const ACROSS: usize = 1;
    const ROWS: usize = 4;
    const ROWS_OF_GROUPS: usize = 2;

    #[inline(always)]
    fn lanes(self) -> Self {
        self
    }
    #[inline(always)]
    fn zeros(self) -> Self::I {
        [0; LANES]
    }
    #[inline(always)]
    fn start(self, _offset: i32) -> Self::I {
        [0; LANES]
    }
    #[inline(always)]
    fn weights(self, line: &Line) -> Self::W {
        line.bytes().map(|byte| byte.wrapping_sub(ZERO as u8).cast_signed())
    }
    #[inline(always)]
    fn dot(self, mut sums: Self::I, weights: Self::W, word: i32) -> Self::I {
        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (j, weight) in weights.iter().enumerate() {
                *sum += i32::from(*weight) * (word << (24 - 8 * j) >> 24);
            }
        }
        sums
    }
    #[inline(always)]
    fn start_of_4(self, _offset: i32) -> Self::I {
        [0; LANES]
    }
    #[inline(always)]
    fn nibbles(self, line: &Line) -> [Self::Nibbles; 2] {
        let less = |nibbles: Self::Nibbles| nibbles.map(|nibble| nibble - ZERO_OF_4 as i8);
        self.plain_nibbles(line).map(less)
    }
    #[inline(always)]
    fn plain_nibbles(self, line: &Line) -> [Self::Nibbles; 2] {
        let bytes = *line.bytes();
        let signed = u8::cast_signed;
        [bytes.map(|byte| signed(byte & 0xF)), bytes.map(|byte| signed(byte >> 4))]
    }
    #[inline(always)]
    fn dot_of_4(self, sums: Self::I, weights: Self::Nibbles, word: i32) -> Self::I {
        self.dot(sums, weights, word)
    }
    #[inline(always)]
    fn floats(self, sums: Self::I) -> [f32; LANES] {
        sums.map(|sum| sum as f32)
    }
}

mod groups;
mod int8;
#[cfg(target_arch = "aarch64")]
mod neon;
mod stretch;
#[cfg(target_arch = "x86_64")]
mod x86;

use groups::{Int4, Int4Offsets, Int8Groups};
use int8::Int8;

/// A kernel's body, compiled with these features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compiled {
    ($features:literal, fn $name:ident with $dots:ty, $products:ty) => {
        #[target_feature(enable = $features)]
        fn $name(
            panel: Panel<'_>,
            blocks: RowBlocks,
            group: Range<usize>,
            x: &Quantised,
            sums: &mut [Sums],
        ) {
            // SAFETY: this function is compiled for the type's features, and called where they exist.
            let dots = unsafe { <$dots>::new() };
            stretch::body::<_, $products>(dots, panel, blocks, group, x, sums);
        }
    };
}

/// Calls `body(dots, argument)`, generic over [`Dots`], compiled for the best products of a level.
macro_rules! with_dots {
    ($level:expr, $body:ident($argument:ident: $type:ty)) => {{
        use $crate::ops::integers::on;
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
            fn avx2($argument: $type) {
                // SAFETY: this function is compiled for the type's features, and called where they exist.
                $body(unsafe { fastdecode_simd::Avx2::new() }, $argument);
            }
            #[target_feature(
                enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt"
            )]
            fn vnni($argument: $type) {
                // SAFETY: as above.
                $body(unsafe { on::Vnni::new() }, $argument);
            }
            match $level.kind() {
                fastdecode_simd::LevelKind::Avx512 if is_x86_feature_detected!("avx512vnni") => {
                    // SAFETY: a level is made only where the machine has its features, and VNNI was found.
                    unsafe { vnni($argument) }
                }
                fastdecode_simd::LevelKind::Avx2 | fastdecode_simd::LevelKind::Avx512 => {
                    // SAFETY: as above; a machine with AVX-512 has AVX2 and FMA.
                    unsafe { avx2($argument) }
                }
                fastdecode_simd::LevelKind::Portable => $body(fastdecode_simd::Portable, $argument),
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            #[target_feature(enable = "dotprod")]
            fn sdot($argument: $type) {
                // SAFETY: this function is compiled for the type's features, and called where they exist.
                $body(unsafe { on::Sdot::new() }, $argument);
            }
            match $level.kind() {
                fastdecode_simd::LevelKind::Neon
                    if std::arch::is_aarch64_feature_detected!("dotprod") =>
                {
                    // SAFETY: the dot products were found.
                    unsafe { sdot($argument) }
                }
                fastdecode_simd::LevelKind::Neon => $body(fastdecode_simd::Neon, $argument),
                fastdecode_simd::LevelKind::Portable => $body(fastdecode_simd::Portable, $argument),
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            let fastdecode_simd::LevelKind::Portable = $level.kind();
            $body(fastdecode_simd::Portable, $argument);
        }
    }};
}
pub(crate) use with_dots;

/// The types of products that `with_dots` names.
pub(crate) mod on {
    #[cfg(target_arch = "aarch64")]
    pub(crate) use super::neon::Sdot;
    #[cfg(target_arch = "x86_64")]
    pub(crate) use super::x86::Vnni;
}

/// A kernel that multiplies a panel with several row blocks, for each instruction set.
macro_rules! dots {
    ($(#[$doc:meta])* fn $name:ident = $products:ty) => {
        $(#[$doc])*
        pub(crate) fn $name(
            level: Level,
            panel: Panel<'_>,
            blocks: RowBlocks,
            group: Range<usize>,
            x: &Quantised,
            sums: &mut [Sums],
        ) {
            #[cfg(target_arch = "x86_64")]
            {
                compiled!("avx2,fma,bmi1,bmi2,lzcnt,popcnt", fn avx2 with fastdecode_simd::Avx2, $products);
                compiled!(
                    "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt",
                    fn vnni with x86::Vnni,
                        $products
                );
                match level.kind() {
                    LevelKind::Avx512 if is_x86_feature_detected!("avx512vnni") => {
                        // SAFETY: a level is made only where the machine has its features, and VNNI was found.
                        unsafe { vnni(panel, blocks, group, x, sums) }
                    }
                    // SAFETY: as above; a machine with AVX-512 has AVX2 and FMA.
                    LevelKind::Avx2 | LevelKind::Avx512 => unsafe { avx2(panel, blocks, group, x, sums) },
                    LevelKind::Portable => stretch::body::<_, $products>(Portable, panel, blocks, group, x, sums),
                }
            }
            #[cfg(target_arch = "aarch64")]
            {
                compiled!("dotprod", fn sdot with neon::Sdot, $products);
                match level.kind() {
                    LevelKind::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => {
                        // SAFETY: the dot products were found.
                        unsafe { sdot(panel, blocks, group, x, sums) }
                    }
                    LevelKind::Neon => stretch::body::<_, $products>(fastdecode_simd::Neon, panel, blocks, group, x, sums),
                    LevelKind::Portable => stretch::body::<_, $products>(Portable, panel, blocks, group, x, sums),
                }
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                let LevelKind::Portable = level.kind();
                stretch::body::<_, $products>(Portable, panel, blocks, group, x, sums);
            }
        }
    };
}

dots! {
    /// Multiplies a panel of int8 weights with several row blocks.
    fn int8 = Int8
}

dots! {
    /// Multiplies a panel of int4 weights with several row blocks.
    fn int4 = Int4
}

dots! {
    /// Multiplies a panel of int4 weights with offsets with several row blocks.
    fn int4_offsets = Int4Offsets
}

dots! {
    /// Multiplies a panel of int8 weights in groups with several row blocks.
    fn int8_groups = Int8Groups
}
