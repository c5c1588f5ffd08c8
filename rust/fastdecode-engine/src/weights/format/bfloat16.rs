//! bfloat16: the upper half of a float32.

use super::{ACROSS, PAIR, PANEL};
use fastdecode_simd::{LANES, Line};

/// 2^-56. Values below it count as zeros.
pub const LEAST: f32 = f32::from_bits((127 - 56) << 23);
const INFINITY: u32 = f32::INFINITY.to_bits();
/// The bit that makes a NaN a quiet one, so that it stays a NaN without its lower half.
const QUIET: u32 = 1 << 22;

/// The float nearest to `x` whose lower 16 bits are zeros, ties to even, as bits.
#[inline(always)]
pub fn nearest_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let is_nan = bits & !SIGN > INFINITY;
    (if is_nan { bits | QUIET } else { nearest }) & HIGH
}

/// The same, but 0 where |x| < 2^-56.
///
/// Two such values other than 0 have a product that is a multiple of 2^-126, and therefore every sum of
/// products is one, too. So nothing is subnormal, and instructions that flush subnormal numbers give the
/// same bits as those that do not.
#[inline(always)]
pub fn rounded_bits(x: f32) -> u32 {
    if x.to_bits() & !SIGN < LEAST.to_bits() { 0 } else { nearest_bits(x) }
}

const SIGN: u32 = 1 << 31;
const HIGH: u32 = 0xFFFF_0000;

/// Packs a panel. A line has two inputs of sixteen outputs, the first one in the high halves of its words,
/// because the instruction for products of bfloat16 begins with them.
pub fn pack(rows: &[[f32; PANEL]], lines: &mut [Line], bits: impl Fn(f32) -> u32) {
    for (lines, rows) in lines.chunks_exact_mut(ACROSS).zip(rows.chunks(PAIR)) {
        let mut words = rows[0].map(&bits);
        if let Some(second) = rows.get(1) {
            for (word, x) in words.iter_mut().zip(second) {
                *word |= bits(*x) >> 16;
            }
        }
        for (line, words) in lines.iter_mut().zip(words.as_chunks().0) {
            *line.words_mut() = *words;
        }
    }
}

/// One element of a packed panel, widened.
pub fn element(lines: &[Line], k: usize, output: usize) -> f32 {
    let word = lines[k / PAIR * ACROSS + output / LANES].words()[output % LANES];
    f32::from_bits(word << (k % PAIR * 16) & HIGH)
}

#[cfg(test)]
mod tests {
    use super::{nearest_bits, rounded_bits};

    #[test]
    fn rounds_as_a_library_does() {
        for i in 0..1 << 16 {
            // All upper halves, with lower halves around the middle and at random.
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, (i * 40_503) & 0xFFFF] {
                let x = f32::from_bits(i << 16 | low);
                let expected = half::bf16::from_f32(x).to_f32();
                let found = f32::from_bits(nearest_bits(x));
                assert!(found.to_bits() == expected.to_bits() || found.is_nan() && x.is_nan());
                let found = f32::from_bits(rounded_bits(x));
                if x.abs() < 2f32.powi(-56) {
                    assert_eq!(found.to_bits(), 0);
                } else {
                    assert!(found == expected || found.is_nan() && x.is_nan());
                }
            }
        }
    }

    #[test]
    fn products_are_multiples_of_the_smallest_normal_number() {
        let least = f64::from(f32::from_bits(rounded_bits(2f32.powi(-56))));
        // The last of the eight digits of the smallest value.
        let unit = least * 2f64.powi(-7);
        assert!(unit * unit >= f64::from(f32::MIN_POSITIVE));
    }
}
