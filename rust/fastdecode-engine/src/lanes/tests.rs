use super::{LANES, Lanes, Line, ROUNDER};
use fastdecode_core::Level;

/// What is special, beside each other in pairs of any two.
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
    fn all(from: &[f32; LANES], other: &Line, out: &mut Vec<[u32; LANES]>) = all_body;
}

#[inline(always)]
fn all_body<L: Lanes>(l: L, from: &[f32; LANES], other: &Line, out: &mut Vec<[u32; LANES]>) {
    let (x, y) = (l.load(from), l.load(&other.0));
    let size = l.larger_size(l.splat(0.0), x);
    let shifted = l.add(l.splat(ROUNDER), l.min(l.max(y, l.splat(-126.0)), l.splat(127.0)));
    let many = [
        l.max(x, y),
        l.min(x, y),
        l.larger_size(size, y),
        l.low_halves(other),
        l.high_halves(other),
        l.low_bytes([x, y, size, shifted]),
        l.power_of_two(shifted),
    ];
    for v in many {
        let mut line = Line::ZERO;
        l.store(v, &mut line.0);
        out.push(*line.words());
    }
    parts::<L, 1>(l, from, out);
    parts::<L, 2>(l, from, out);
    parts::<L, 3>(l, from, out);
    parts::<L, 4>(l, from, out);
    parts::<L, 7>(l, from, out);
    parts::<L, 8>(l, from, out);
    parts::<L, 9>(l, from, out);
    parts::<L, 14>(l, from, out);
    parts::<L, 16>(l, from, out);
}

/// The first lanes, read and written.
#[inline(always)]
fn parts<L: Lanes, const R: usize>(l: L, from: &[f32; LANES], out: &mut Vec<[u32; LANES]>) {
    let Some(from) = from.first_chunk::<R>() else { return };
    let v = l.first(from);
    let mut line = Line::ZERO;
    l.store(v, &mut line.0);
    out.push(*line.words());
    let mut words = [0; R];
    l.put_first(v, &mut words);
    assert!(words.iter().zip(from).all(|(word, x)| word.cast_unsigned() == x.to_bits()));
}

#[test]
fn every_level_gives_the_bits_of_plain_code_for_special_values() {
    for turn in 0..LANES {
        let a = Line(VALUES);
        let mut b = a;
        b.0.rotate_left(turn);
        let mut expected = Vec::new();
        all(Level::Portable, &a.0, &b, &mut expected);
        for level in Level::available() {
            let mut found = Vec::new();
            all(level, &a.0, &b, &mut found);
            assert_eq!(found, expected, "{level:?}, {turn}");
        }
    }
}
