use super::{HIGH_BIAS, LANES, LOW_BIAS, Lanes, ROUNDER};
use crate::kernel;
use crate::level::Level;
use crate::line::Line;

/// Special values. Rotated against themselves, they meet in all pairs.
const VALUES: [f32; LANES] = [
    0.0,
    -0.0,
    f32::NAN,
    1.5,
    f32::INFINITY,
    -1.5,
    f32::NEG_INFINITY,
    1e-40,
    -f32::NAN,
    f32::MAX,
    f32::MIN,
    -1e-40,
    1.0,
    f32::MIN_POSITIVE,
    3e-39,
    -7.0,
];

kernel! {
    fn all(from: &[f32; LANES], other: &Line) -> Vec<[u32; LANES]> = all_body;
}

#[inline(always)]
fn all_body<L: Lanes>(l: L, from: &[f32; LANES], other: &Line) -> Vec<[u32; LANES]> {
    let (x, y) = (l.load(from), l.load(&other.0));
    let (low, high) = (l.splat(-1.5), l.splat(1.0));
    let table = l.load_int(&std::array::from_fn(|i| 0x0102_0304 * (i as u32 % 8 + 1)));
    let index = l.load_int(&std::array::from_fn(|i| (other.0[i].to_bits() >> 9) ^ (5 * i as u32)));
    let some = l.load(&std::array::from_fn(|i| i as f32 * 1.37e8));
    let size = l.larger_size(l.splat(0.0), x);
    let shifted = l.add(l.splat(ROUNDER), l.min(l.max(y, l.splat(-126.0)), l.splat(127.0)));
    let (upper, lower) = l.split(some, l.splat(1999.7));
    let mut out: Vec<[u32; LANES]> = [
        l.bits(l.max(x, y)),
        l.bits(l.min(x, y)),
        l.bits(l.nearer(x, y)),
        l.bits(l.larger_size(size, y)),
        l.bits(l.reaching(x, y, low)),
        l.bits(l.between(x, low, high, x, y)),
        l.eighths(table, index),
        l.to_exponent(index),
        l.truncate(some),
        l.bits(l.to_float(index)),
        l.bits(l.low_halves(other)),
        l.bits(l.high_halves(other)),
        l.bits(l.float16(l.high_halves(other))),
        l.bits(l.low_bytes([x, y, size, shifted])),
        l.bits(l.power_of_two(shifted)),
        upper,
        lower,
    ]
    .map(|i| l.int_array(i))
    .to_vec();
    out.push([u32::from(l.at_least(x, y)); LANES]);
    out.push(l.lowest_bytes(y).map(u32::from));
    first_lanes::<L, 1>(l, from, &mut out);
    first_lanes::<L, 2>(l, from, &mut out);
    first_lanes::<L, 3>(l, from, &mut out);
    first_lanes::<L, 4>(l, from, &mut out);
    first_lanes::<L, 7>(l, from, &mut out);
    first_lanes::<L, 8>(l, from, &mut out);
    first_lanes::<L, 9>(l, from, &mut out);
    first_lanes::<L, 14>(l, from, &mut out);
    first_lanes::<L, 16>(l, from, &mut out);
    out
}

/// The first lanes, read and written.
#[inline(always)]
fn first_lanes<L: Lanes, const R: usize>(l: L, from: &[f32; LANES], out: &mut Vec<[u32; LANES]>) {
    let Some(from) = from.first_chunk::<R>() else { return };
    let v = l.first(from);
    out.push(l.int_array(l.bits(v)));
    let mut words = [0; R];
    l.put_first(v, &mut words);
    assert!(words.iter().zip(from).all(|(word, x)| word.cast_unsigned() == x.to_bits()));
}

#[test]
fn every_level_gives_the_bits_of_plain_code_for_special_values() {
    for turn in 0..LANES {
        let mut other = Line(VALUES);
        other.0.rotate_left(turn);
        let expected = all(Level::PORTABLE, &VALUES, &other);
        for level in Level::available() {
            assert_eq!(all(level, &VALUES, &other), expected, "{level:?}, {turn}");
        }
    }
}

kernel! {
    fn arithmetic(x: &[f32; LANES], y: &[f32; LANES]) -> [[f32; LANES]; 7] = arithmetic_body;
}

#[inline(always)]
fn arithmetic_body<L: Lanes>(l: L, x: &[f32; LANES], y: &[f32; LANES]) -> [[f32; LANES]; 7] {
    let (x, y) = (l.load(x), l.load(y));
    let reduced = l.splat(l.sum(x) + l.largest(y));
    [l.add(x, y), l.sub(x, y), l.mul(x, y), l.div(x, y), l.fma(x, y, x), reduced, l.splat(3.5)]
        .map(|v| l.array(v))
}

#[test]
fn arithmetic_is_rounded_alike_on_every_level() {
    let x = std::array::from_fn(|i| (i as f32 + 0.3).sqrt() - 2.0);
    let y = std::array::from_fn(|i| (i as f32 * 7.7 + 1.0).recip());
    let expected: [f32; LANES] = std::array::from_fn(|i| x[i].mul_add(y[i], x[i]));
    for level in Level::available() {
        let found = arithmetic(level, &x, &y);
        assert_eq!(found, arithmetic(Level::PORTABLE, &x, &y), "{level:?}");
        assert_eq!(found[4], expected);
    }
}

#[test]
fn the_halves_of_a_product_make_it_up() {
    use super::Portable;
    for (a, b) in [(0.0, 7.0), (3.25, 1000.5), (2f32.powi(20), 2f32.powi(22)), (1.1e6, 1.3e6)] {
        let (high, low) = Portable.split([a; LANES], [b; LANES]);
        let half = |bits: u32, bias: u32| i64::from(bits.wrapping_sub(bias).cast_signed());
        let whole = (half(high[0], HIGH_BIAS) << 21) + half(low[0], LOW_BIAS);
        let exact = f64::from(a) * f64::from(b);
        assert!((whole as f64 - exact).abs() <= 0.5, "{a} * {b}: {whole}");
    }
}

kernel! {
    fn chosen(from: &[u32; LANES], bits: u16) -> [Vec<u32>; 2] = chosen_body;
}

#[inline(always)]
fn chosen_body<L: Lanes>(l: L, from: &[u32; LANES], bits: u16) -> [Vec<u32>; 2] {
    let (mut ints, mut floats) = ([0; LANES], [0.0; LANES]);
    let i = l.load_int(from);
    let counts = [l.compress_int(i, bits, &mut ints), l.compress(l.of_bits(i), bits, &mut floats)];
    [ints[..counts[0]].to_vec(), floats[..counts[1]].iter().map(|x| x.to_bits()).collect()]
}

#[test]
fn every_choice_of_lanes() {
    let from = std::array::from_fn(|i| 0x3F80_0000 + 0x0001_0203 * i as u32);
    for bits in 0..=u16::MAX {
        let expected: Vec<u32> =
            (0..LANES).filter(|i| bits >> i & 1 == 1).map(|i| from[i]).collect();
        for level in Level::available() {
            let [ints, floats] = chosen(level, &from, bits);
            assert!(ints == expected && floats == expected, "{level:?}, {bits:#x}");
        }
    }
}

kernel! {
    fn of_float16(words: &Line) -> [f32; LANES] = of_float16_body;
}

#[inline(always)]
fn of_float16_body<L: Lanes>(l: L, words: &Line) -> [f32; LANES] {
    l.array(l.float16(l.load(&words.0)))
}

#[test]
fn every_finite_float16_is_widened_exactly() {
    for level in Level::available() {
        for first in (0..1u32 << 16).step_by(LANES) {
            let half = |i: usize| first + i as u32;
            let words = Line(std::array::from_fn(|i| f32::from_bits(half(i) << 16)));
            for (i, found) in of_float16(level, &words).into_iter().enumerate() {
                let (sign, size) = (half(i) >> 15, half(i) & 0x7FFF);
                if size >= 0x7C00 {
                    continue;
                }
                let (exponent, fraction) = ((size >> 10).cast_signed(), f64::from(size & 0x3FF));
                let exact = match exponent {
                    0 => fraction * 2f64.powi(-24),
                    _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
                };
                assert_eq!(f64::from(found.abs()), exact, "{level:?} {:#x}", half(i));
                assert_eq!(found.is_sign_negative(), sign == 1);
            }
        }
    }
}
