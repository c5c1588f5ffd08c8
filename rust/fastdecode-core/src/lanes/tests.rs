use super::{LANES, Lanes};
use crate::level::Level;

/// What is special.
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
    fn all(a: &[f32; LANES], b: &[f32; LANES]) -> Vec<[u32; LANES]> = all_body;
}

#[inline(always)]
fn all_body<L: Lanes>(on: L, a: &[f32; LANES], b: &[f32; LANES]) -> Vec<[u32; LANES]> {
    let (x, y) = (on.load(a), on.load(b));
    let (low, high) = (on.splat(-1.5), on.splat(1.0));
    let table = on.load_int(&std::array::from_fn(|i| 0x0102_0304 * (i as u32 % 8 + 1)));
    let index = on.load_int(&std::array::from_fn(|i| (b[i].to_bits() >> 9) ^ (5 * i as u32)));
    let some = on.load(&std::array::from_fn(|i| i as f32 * 1.37e8));
    let many = [
        on.bits(on.max(x, y)),
        on.bits(on.min(x, y)),
        on.bits(on.nearer(x, y)),
        on.bits(on.reaching(x, y, low)),
        on.bits(on.between(x, low, high, x, y)),
        on.eighths(table, index),
        on.to_exponent(index),
        on.truncate(some),
        on.bits(on.to_float(index)),
    ];
    many.map(|i| on.int_array(i))
        .into_iter()
        .chain([[u32::from(on.at_least(x, y)); LANES]])
        .collect()
}

#[test]
fn every_level_gives_the_bits_of_plain_code_for_special_values() {
    for context in 0..LANES {
        let mut other = VALUES;
        other.rotate_left(context);
        for level in Level::available() {
            assert_eq!(all(level, &VALUES, &other), all(Level::Portable, &VALUES, &other));
        }
    }
}

kernel! {
    fn chosen(from: &[u32; LANES], bits: u16) -> [Vec<u32>; 2] = chosen_body;
}

#[inline(always)]
fn chosen_body<L: Lanes>(on: L, from: &[u32; LANES], bits: u16) -> [Vec<u32>; 2] {
    let (mut ints, mut floats) = ([0; LANES], [0.0; LANES]);
    let i = on.load_int(from);
    let counts =
        [on.compress_int(i, bits, &mut ints), on.compress(on.of_bits(i), bits, &mut floats)];
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
