//! The one inner loop: a register tile of `R` rows by `N` vectors of outputs.
//!
//! An output is a chain of fused multiply-adds over k, upwards: `acc = fma(x[k], w[k], acc)`. Lanes run
//! across outputs, so there is no reduction over lanes, and every vector width gives the same bits.

use fastdecode_simd::{LANES, Lanes, Line, Portable, wants_every_line};

/// The shape of the register tile on an instruction set.
pub trait Tile: Lanes {
    /// Vectors across, 1 or 2.
    const ACROSS: usize;
    /// Rows: with `ACROSS` vectors each, their sums fit in the registers.
    const ROWS: usize;
    /// Where `ACROSS` is 1: the most rows that leave registers for two vectors across.
    const ROWS_OF_TWO: usize = Self::ROWS / 2;
    /// Vectors across of a single row, 2 or 4.
    const LONE: usize = 4;
}

impl Tile for Portable {
    const ACROSS: usize = 1;
    const ROWS: usize = 6;
}

#[cfg(target_arch = "x86_64")]
impl Tile for fastdecode_simd::Avx512 {
    const ACROSS: usize = 2;
    const ROWS: usize = 12;
}

#[cfg(target_arch = "x86_64")]
impl Tile for fastdecode_simd::Avx2 {
    const ACROSS: usize = 1;
    const ROWS: usize = 6;
}

/// Of 32 registers 24 hold sums, 4 the weights, and the rest the activations, of which an instruction
/// takes one lane. The compiler loads nothing across a prefetch, so the weights of two vectors take 8
/// registers at once and those of four 16: more rows than these would spill sums to memory.
#[cfg(target_arch = "aarch64")]
impl Tile for fastdecode_simd::Neon {
    const ACROSS: usize = 1;
    const ROWS: usize = 6;
    const ROWS_OF_TWO: usize = 2;
    const LONE: usize = 2;
}

/// How the weights of a panel are stored, from vector `V` on.
pub trait Stored {
    /// Lines of a panel for each k.
    const LINES: usize;

    /// The number of lines, from a k's first one on, that `load` reads from.
    fn reach(vectors: usize) -> usize;

    /// `N` vectors of the weights of one k.
    ///
    /// # Safety
    /// `reach(N)` lines may be read from the first on.
    unsafe fn load<L: Lanes, const N: usize>(l: L, lines: *const Line) -> [L::V; N];
}

/// float32: a line for each vector.
pub struct Floats<const V: usize>;

impl<const V: usize> Stored for Floats<V> {
    const LINES: usize = 2;

    #[inline(always)]
    fn reach(vectors: usize) -> usize {
        V + vectors
    }

    #[inline(always)]
    unsafe fn load<L: Lanes, const N: usize>(l: L, lines: *const Line) -> [L::V; N] {
        // SAFETY: as the caller promises.
        let lines = unsafe { &*lines.add(V).cast::<[Line; N]>() };
        // No closures here and below: they would not be compiled for the instruction set.
        let mut out = [l.splat(0.0); N];
        for n in 0..N {
            out[n] = l.load(&lines[n].0);
        }
        out
    }
}

/// Lines to prefetch while others are read: `A` with each k, where `A` is the loop's.
#[derive(Clone, Copy)]
pub struct Prefetch {
    first: *const Line,
    /// The number of k, from the first on, with which to prefetch.
    count: usize,
    /// Lines between what is read and what is prefetched, where both belong to one stretch.
    distance: usize,
    /// Whether every line is prefetched also for few rows.
    every_line: bool,
    /// Lines between those of the weights that are read and those that are prefetched from the second-level
    /// cache into the first; none for 0.
    soon: usize,
}

impl Prefetch {
    /// Nothing.
    pub const NONE: Self =
        Self { first: std::ptr::null(), count: 0, distance: 0, every_line: false, soon: 0 };

    /// `lines`, `a` with each k.
    #[inline(always)]
    pub fn of(lines: &[Line], a: usize) -> Self {
        Self { first: lines.as_ptr(), count: lines.len() / a, ..Self::NONE }
    }

    /// `count` lines, from `offset` lines after the first of `lines` on, whatever they hold.
    #[inline(always)]
    pub fn after(lines: &[Line], offset: usize, count: usize, a: usize) -> Self {
        Self { first: lines.as_ptr().wrapping_add(offset), count: count / a, ..Self::NONE }
    }

    /// The lines `distance` ahead of those of `lines` that are being read.
    #[inline(always)]
    pub fn ahead(lines: &[Line], distance: usize, a: usize) -> Self {
        let every_line = wants_every_line();
        Self { distance, every_line, ..Self::after(lines, distance, lines.len(), a) }
    }

    /// On processors that want a prefetch for every line, also prefetches the lines that are about to be read
    /// into the first-level cache. For the first of several row blocks: earlier prefetches have brought the
    /// weights into the second-level cache only.
    #[inline(always)]
    pub fn with_weights(self) -> Self {
        Self { soon: if wants_every_line() { SOON } else { 0 }, ..self }
    }

    /// Prefetches those of k, every `step`-th of them, into the second-level cache.
    #[inline(always)]
    pub fn issue<L: Lanes, const A: usize>(self, l: L, k: usize, step: usize) {
        if k < self.count {
            for line in (0..A).step_by(step) {
                l.prefetch_l2(self.first.wrapping_add(k * A + line));
            }
        }
    }

    /// Prefetches line `line` of them, where the loop has `A` with each k.
    #[inline(always)]
    pub fn issue_line<L: Lanes, const A: usize>(self, l: L, line: usize) {
        if line / A < self.count {
            l.prefetch_l2(self.first.wrapping_add(line));
        }
    }

    /// Prefetches at half the distance, into the first-level cache.
    #[inline(always)]
    fn issue_near<L: Lanes, const A: usize>(self, l: L, k: usize) {
        if k < self.count {
            for line in 0..A {
                let line = self.first.wrapping_add(k * A + line);
                l.prefetch_l1(line.wrapping_sub(self.distance / 2));
            }
        }
    }

    /// Whether this number of rows is too few for anything but hints to the processor's own prefetcher.
    #[inline(always)]
    pub fn hints_only(self, rows: usize) -> bool {
        rows <= HINTED && !self.every_line
    }
}

/// Up to this many rows the own prefetcher of most processors is quick enough, and a hint to it is all that
/// helps: every other line for floats, and none for int8.
const HINTED: usize = 3;
/// Lines that [`Prefetch::with_weights`] is ahead.
const SOON: usize = 16;
/// Up to this many rows every line is prefetched into the first-level cache, a short time before it is
/// read. That holds only where both lines of a panel are read together: not for AVX2, which reads them one
/// after the other.
const NEAR_ROWS: usize = 5;

/// The factors of a register tile's weights: one for each k and row.
pub trait Factors<const R: usize>: Copy {
    /// The number of k.
    fn count(self) -> usize;

    /// That of row `r` for `k`.
    ///
    /// # Safety
    /// `k` is less than the count, and `r` than `R`.
    unsafe fn at(self, k: usize, r: usize) -> f32;
}

/// Factors whose rows lie beside each other: that of row r for k is `x[k * height + r]`.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    x: &'a [f32],
    height: usize,
    count: usize,
}

impl<'a> Beside<'a> {
    /// Of `R` rows and all k that `x` has.
    ///
    /// # Panics
    /// If the last k has fewer rows.
    #[inline(always)]
    pub fn rows<const R: usize>(x: &'a [f32], height: usize) -> Self {
        let count = x.len().div_ceil(height);
        assert!(count == 0 || (count - 1) * height + R <= x.len());
        Self { x, height, count }
    }
}

impl<const R: usize> Factors<R> for Beside<'_> {
    #[inline(always)]
    fn count(self) -> usize {
        self.count
    }
    #[inline(always)]
    unsafe fn at(self, k: usize, r: usize) -> f32 {
        // SAFETY: `rows` has checked the last k, and the caller promises that these are within.
        unsafe { *self.x.as_ptr().add(k * self.height + r) }
    }
}

/// Factors of at most sixteen k, in a line for each row.
#[derive(Clone, Copy)]
pub struct InLines<'a, const R: usize> {
    lines: &'a [Line; R],
    count: usize,
}

impl<'a, const R: usize> InLines<'a, R> {
    /// The first `count` of each line, or all.
    #[inline(always)]
    pub fn new(lines: &'a [Line; R], count: usize) -> Self {
        Self { lines, count: count.min(LANES) }
    }
}

impl<const R: usize> Factors<R> for InLines<'_, R> {
    #[inline(always)]
    fn count(self) -> usize {
        self.count
    }
    #[inline(always)]
    unsafe fn at(self, k: usize, r: usize) -> f32 {
        // SAFETY: as the caller promises; the count is at most a line's.
        unsafe { *self.lines.as_ptr().cast::<f32>().add(r * LANES + k) }
    }
}

/// Continues the chains of `acc` over all k of the factors, prefetching as it goes.
///
/// The weights of k begin at line `k * stride` of `weights`.
///
/// # Panics
/// If there are fewer weights than factors.
#[inline(always)]
pub fn chains<L: Lanes, S: Stored, const R: usize, const N: usize, const A: usize>(
    l: L,
    weights: &[Line],
    stride: usize,
    x: impl Factors<R>,
    prefetch: Prefetch,
    acc: &mut [[L::V; N]; R],
) {
    let count = x.count();
    if count == 0 {
        return;
    }
    // Checked once, not for each k, which would take as long as the arithmetic of a few rows.
    assert!((count - 1) * stride + S::reach(N) <= weights.len());
    let mut sums = *acc;
    let hints = prefetch.hints_only(R);
    if !hints && R <= NEAR_ROWS && N == S::LINES && N == A && prefetch.distance > 0 {
        // A separate loop, because a branch for each k costs a noticeable share of the time with so few rows.
        for k in 0..count {
            prefetch.issue_near::<L, A>(l, k);
            // SAFETY: k is at most `count - 1`, for which the assertion above holds.
            unsafe { add_products::<L, S, R, N>(l, weights, k * stride, x, k, &mut sums) };
        }
    } else {
        for k in 0..count {
            if R > NEAR_ROWS && N == S::LINES && prefetch.soon > 0 {
                for line in 0..N {
                    let ahead = k * stride + prefetch.soon + line;
                    l.prefetch_l1(weights.as_ptr().wrapping_add(ahead));
                }
            }
            prefetch.issue::<L, A>(l, k, if hints { 2 } else { 1 });
            // SAFETY: as above.
            unsafe { add_products::<L, S, R, N>(l, weights, k * stride, x, k, &mut sums) };
        }
    }
    *acc = sums;
}

/// Adds the products of one k, whose weights begin at line `first`.
///
/// # Safety
/// `first + S::reach(N)` lines may be read, and k is less than the factors' count.
#[inline(always)]
unsafe fn add_products<L: Lanes, S: Stored, const R: usize, const N: usize>(
    l: L,
    weights: &[Line],
    first: usize,
    x: impl Factors<R>,
    k: usize,
    sums: &mut [[L::V; N]; R],
) {
    // SAFETY: the caller's promise.
    let w = unsafe { S::load::<L, N>(l, weights.as_ptr().add(first)) };
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: as above, and r is less than R.
        let x = l.splat(unsafe { x.at(k, r) });
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = l.fma(x, w, *sum);
        }
    }
}

/// Calls a function generic over the rows of a tile, for `rows` in 1..=12.
macro_rules! with_rows {
    ($rows:expr, $most:expr, $name:ident::<$($l:ty),+; R, $n:tt $(, $more:tt)*>($($arg:expr),* $(,)?)) => {
        match $rows {
            1 => $name::<$($l),+, 1, $n $(, $more)*>($($arg),*),
            2 => $name::<$($l),+, 2, $n $(, $more)*>($($arg),*),
            3 => $name::<$($l),+, 3, $n $(, $more)*>($($arg),*),
            4 => $name::<$($l),+, 4, $n $(, $more)*>($($arg),*),
            5 => $name::<$($l),+, 5, $n $(, $more)*>($($arg),*),
            6 => $name::<$($l),+, 6, $n $(, $more)*>($($arg),*),
            7 if $most > 6 => $name::<$($l),+, 7, $n $(, $more)*>($($arg),*),
            8 if $most > 6 => $name::<$($l),+, 8, $n $(, $more)*>($($arg),*),
            9 if $most > 6 => $name::<$($l),+, 9, $n $(, $more)*>($($arg),*),
            10 if $most > 6 => $name::<$($l),+, 10, $n $(, $more)*>($($arg),*),
            11 if $most > 6 => $name::<$($l),+, 11, $n $(, $more)*>($($arg),*),
            12 if $most > 6 => $name::<$($l),+, 12, $n $(, $more)*>($($arg),*),
            rows => unreachable!("a register tile of {rows} rows"),
        }
    };
}
pub(crate) use with_rows;
