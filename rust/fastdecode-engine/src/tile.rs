//! The one inner loop: a register tile of `R` rows by `N` vectors of outputs.
//!
//! An output is a chain of fused multiply-adds over k, upwards: `acc = fma(x[k], w[k], acc)`. Lanes
//! run across outputs, so that there is no reduction over lanes and every width gives the same bits.

use crate::lanes::{Lanes, Line};

/// What weights are stored as, from vector `V` of a panel on.
pub trait Stored {
    /// Lines of a panel for each k.
    const LINES: usize;
    /// The same from the second vector on.
    type Second: Stored;

    /// `N` vectors of the lines of one k; none behind the last.
    fn load<L: Lanes, const N: usize>(l: L, lines: &[Line]) -> Option<[L::V; N]>;
}

/// float32: a line for each vector.
pub struct Floats<const V: usize>;

/// bfloat16: one line for two vectors, the first in the low halves of its words.
pub struct Halves<const V: usize>;

impl<const V: usize> Stored for Floats<V> {
    const LINES: usize = 2;
    type Second = Floats<1>;

    #[inline(always)]
    fn load<L: Lanes, const N: usize>(l: L, lines: &[Line]) -> Option<[L::V; N]> {
        let lines: &[Line; N] = lines.get(V..)?.first_chunk()?;
        // No closures here and below: they are not compiled for the instruction set.
        let mut out = [l.splat(0.0); N];
        for n in 0..N {
            out[n] = l.load(&lines[n].0);
        }
        Some(out)
    }
}

impl<const V: usize> Stored for Halves<V> {
    const LINES: usize = 1;
    type Second = Halves<1>;

    #[inline(always)]
    fn load<L: Lanes, const N: usize>(l: L, lines: &[Line]) -> Option<[L::V; N]> {
        let line = lines.first()?;
        let mut out = [l.splat(0.0); N];
        for (n, out) in out.iter_mut().enumerate() {
            *out = if V + n == 0 { l.low_halves(line) } else { l.high_halves(line) };
        }
        Some(out)
    }
}

/// Continues the chains of `acc` over all k.
///
/// The weights of k are among the lines from `k * stride` of `weights`; its activations are
/// the floats `k * height .. k * height + R` of `x`. Meanwhile the lines `ahead` are asked for, `A`
/// with each k as far as they go.
#[inline(always)]
pub fn chains<L: Lanes, S: Stored, const R: usize, const N: usize, const A: usize>(
    l: L,
    weights: &[Line],
    stride: usize,
    x: &[f32],
    height: usize,
    ahead: &[Line],
    acc: &mut [[L::V; N]; R],
) {
    let mut sums = *acc;
    let (ahead, _) = ahead.as_chunks::<A>();
    for (i, (w, x)) in weights.chunks(stride).zip(x.chunks(height)).enumerate() {
        let (Some(w), Some(x)) = (S::load::<L, N>(l, w), x.first_chunk::<R>()) else { break };
        if let Some(lines) = ahead.get(i) {
            // The processor fetches well for a row or two and wants no more than a hint: a prefetch
            // for each line took an eighth of the memory's speed. With eight rows every line has to be
            // asked for (22 ms a step instead of 16).
            for line in lines.iter().step_by(if R <= 2 { 2 } else { 1 }) {
                l.prefetch(line);
            }
        }
        for r in 0..R {
            let x = l.splat(x[r]);
            for n in 0..N {
                sums[r][n] = l.fma(x, w[n], sums[r][n]);
            }
        }
    }
    *acc = sums;
}

/// Calls a function generic over the rows of a tile, for `rows` in 1..=12.
macro_rules! with_rows {
    ($rows:expr, $most:expr, $name:ident::<$($l:ty),+; R, $n:tt>($($arg:expr),* $(,)?)) => {
        match $rows {
            1 => $name::<$($l),+, 1, $n>($($arg),*),
            2 => $name::<$($l),+, 2, $n>($($arg),*),
            3 => $name::<$($l),+, 3, $n>($($arg),*),
            4 => $name::<$($l),+, 4, $n>($($arg),*),
            5 => $name::<$($l),+, 5, $n>($($arg),*),
            6 => $name::<$($l),+, 6, $n>($($arg),*),
            7 if $most > 6 => $name::<$($l),+, 7, $n>($($arg),*),
            8 if $most > 6 => $name::<$($l),+, 8, $n>($($arg),*),
            9 if $most > 6 => $name::<$($l),+, 9, $n>($($arg),*),
            10 if $most > 6 => $name::<$($l),+, 10, $n>($($arg),*),
            11 if $most > 6 => $name::<$($l),+, 11, $n>($($arg),*),
            12 if $most > 6 => $name::<$($l),+, 12, $n>($($arg),*),
            rows => unreachable!("a register tile of {rows} rows"),
        }
    };
}
pub(crate) use with_rows;
