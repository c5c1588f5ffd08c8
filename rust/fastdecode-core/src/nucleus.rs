//! Top-p over a whole row: the smallest set of tokens, in the total order, whose mass is at least p
//! (Holtzman et al., "The curious case of neural text degeneration", 2020). The token that crosses
//! is in.
//!
//! The row is not sorted: weights are added up in buckets of equal width in octaves, which are
//! monotone in the logit, and only the bucket that crosses is put in order.

use crate::lanes::{LANES, Lanes, kernel};
use crate::law::{BLOCK, Law};
use crate::order::Candidate;
use crate::weight::{Halves, Real, Scale, WEIGHT_BITS, weigh};

/// Buckets to an octave: narrow enough that a bucket of a GPT-2 row holds a few hundred tokens,
/// few enough that all buckets fit in the first-level cache.
const PER_OCTAVE: usize = 32;
/// Tokens further down than this many octaves have weight zero; they share the last bucket.
const BUCKETS: usize = (WEIGHT_BITS as usize + 1) * PER_OCTAVE + 1;

/// Sums kept for each bucket, by lane: neighbours in the row that fall into one bucket would have
/// to wait for each other's store (five times as slow over a flat row).
const COPIES: usize = 4;

const LAST_BUCKET: f32 = (BUCKETS - 1) as f32;

/// The least mass that reaches `p` of `total`: `ceil(p * total)`, exactly, and at least one.
#[must_use]
pub(crate) fn target_mass(p: f64, total: u64) -> u64 {
    if p <= 0.0 || total == 0 {
        return 1;
    }
    // p = mantissa * 2^-shift exactly, and the product has at most 117 bits.
    let bits = p.to_bits();
    let biased = (bits >> 52) as u32;
    let fraction = bits & ((1 << 52) - 1);
    let mantissa = if biased == 0 { fraction } else { fraction | 1 << 52 };
    let shift = 1075 - biased.max(1);
    let product = u128::from(mantissa) * u128::from(total);
    if shift >= 128 {
        return 1;
    }
    let floor = product >> shift;
    let ceil = floor + u128::from(product & ((1 << shift) - 1) != 0);
    (ceil as u64).clamp(1, total)
}

/// How many of a list in the total order reach `target`, with their mass.
pub(crate) fn prefix(weights: impl IntoIterator<Item = u64>, target: u64) -> (usize, u64) {
    let mut mass = 0;
    let mut kept = 0;
    for weight in weights {
        mass += weight;
        kept += 1;
        if mass >= target {
            break;
        }
    }
    (kept, mass)
}

/// Cuts a law that was cut nowhere yet to `p` of its mass; the mass that is left.
pub(crate) fn keep(
    law: &mut Law,
    p: f64,
    masses: &mut Vec<u64>,
    crossing: &mut Vec<Candidate>,
    weights: &mut Vec<u64>,
) -> u64 {
    masses.clear();
    masses.resize(BUCKETS * COPIES, 0);
    add_up(law.level, law.row, law.max, law.scale, masses);
    let target = target_mass(p, masses.iter().sum());

    let mut above = 0;
    let mut bucket = 0;
    let (masses, _) = masses.as_chunks::<COPIES>();
    loop {
        let mass: u64 = masses[bucket].iter().sum();
        if above + mass >= target {
            break;
        }
        above += mass;
        bucket += 1;
    }
    gather(law.level, law.row, law.max, law.scale, bucket as u32, crossing);
    crossing.sort_unstable_by(Candidate::order);
    weigh(law.level, crossing, law.max, law.scale, weights);
    let (kept, mass) = prefix(weights.iter().copied(), target - above);
    law.last = Some(crossing[kept - 1]);
    above + mass
}

kernel! {
    fn add_up(row: &[f32], max: f32, scale: Scale, masses: &mut [u64]) -> () = add_up_body;
}
kernel! {
    fn gather(
        row: &[f32], max: f32, scale: Scale, bucket: u32, out: &mut Vec<Candidate>,
    ) -> () = gather_body;
}

/// Adding 2^23 rounds a small float to an integer and leaves it in the low bits.
const ROUNDER: f32 = 8_388_608.0;

/// The buckets of tokens so far below the maximum, as `ROUNDER` and the bucket.
#[inline(always)]
fn buckets_of<L: Lanes>(on: L, differences: L::V, scale: Scale) -> L::V {
    let position = on.mul(scale.octaves(on, differences), on.splat(-(PER_OCTAVE as f32)));
    on.add(on.min(position, on.splat(LAST_BUCKET)), on.splat(ROUNDER))
}

/// Vectors write a block's buckets and weights, a plain loop reads them: taking lanes out of
/// registers one by one was twice as slow.
#[inline(always)]
fn add_up_body<L: Lanes>(on: L, row: &[f32], max: f32, scale: Scale, masses: &mut [u64]) {
    let (masses, _) = masses.as_chunks_mut::<COPIES>();
    let mut buckets = [0u32; BLOCK];
    let mut weights = [0u64; BLOCK];
    for block in row.chunks(BLOCK) {
        let parts = buckets.as_chunks_mut::<LANES>().0.iter_mut();
        let parts = parts.zip(weights.as_chunks_mut::<LANES>().0);
        for (chunk, (buckets, weights)) in block.chunks(LANES).zip(parts) {
            let logits = match chunk.try_into() {
                Ok(whole) => on.load(whole),
                Err(_) => on.load_part(chunk, f32::NEG_INFINITY),
            };
            let differences = on.sub(logits, on.splat(max));
            *weights = Halves::new(on, Real::new(on, differences, scale)).values(on);
            let bits = on.bits(buckets_of(on, differences, scale));
            on.store_int(on.and(bits, on.splat_int(0x7F_FFFF)), buckets);
        }
        let whole = block.len().next_multiple_of(LANES);
        let quads = buckets[..whole].as_chunks::<COPIES>().0.iter();
        for (buckets, weights) in quads.zip(weights.as_chunks::<COPIES>().0) {
            for lane in 0..COPIES {
                masses[buckets[lane] as usize][lane] += weights[lane];
            }
        }
    }
}

#[inline(always)]
fn gather_body<L: Lanes>(
    on: L,
    row: &[f32],
    max: f32,
    scale: Scale,
    bucket: u32,
    out: &mut Vec<Candidate>,
) {
    out.clear();
    let (maxima, wanted) = (on.splat(max), on.splat(ROUNDER + bucket as f32));
    for (index, chunk) in row.chunks(LANES).enumerate() {
        let logits = match chunk.try_into() {
            Ok(whole) => on.load(whole),
            Err(_) => on.load_part(chunk, f32::NEG_INFINITY),
        };
        let buckets = buckets_of(on, on.sub(logits, maxima), scale);
        let mut hits = on.at_least(buckets, wanted) & on.at_least(wanted, buckets);
        while hits != 0 {
            let lane = hits.trailing_zeros() as usize;
            if let Some(&logit) = chunk.get(lane) {
                out.push(Candidate::new(logit, index * LANES + lane));
            }
            hits &= hits - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::target_mass;

    #[test]
    fn target_is_the_exact_ceiling() {
        assert_eq!(target_mass(0.5, 10), 5);
        assert_eq!(target_mass(0.5, 11), 6);
        assert_eq!(target_mass(1.0, u64::MAX), u64::MAX);
        assert_eq!(target_mass(0.0, 10), 1);
        assert_eq!(target_mass(f64::MIN_POSITIVE, u64::MAX), 1);
        assert_eq!(target_mass(5e-324, 1), 1);
        // The double 0.1 is a little more than a tenth, 0.7 a little less than seven.
        assert_eq!(target_mass(0.1, 10), 2);
        assert_eq!(target_mass(0.7, 10), 7);
    }
}
