//! Top-p: the smallest set of tokens, in the total order, whose mass is at least p (Holtzman et
//! al., "The curious case of neural text degeneration", 2020). The token that crosses is in.
//!
//! The full row is not sorted: weights are added up in buckets of equal width in octaves, which
//! are monotone in the logit, and only the bucket that crosses is put in order.

use crate::law::{BLOCK, Law};
use crate::level::kernel;
use crate::order::Candidate;
use crate::weight::{Scale, WEIGHT_BITS, weight};

/// Buckets to an octave: narrow enough that a bucket of a GPT-2 row holds a few hundred tokens,
/// few enough that all buckets fit in the first-level cache.
const PER_OCTAVE: usize = 32;
/// Tokens further down than this many octaves have weight zero; they share the last bucket.
const BUCKETS: usize = (WEIGHT_BITS as usize + 1) * PER_OCTAVE + 1;

const LAST_BUCKET: f32 = (BUCKETS - 1) as f32;
/// Logits looked at together for the crossing bucket.
const STRIDE: usize = 64;

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

/// How many of `candidates`, which are in the total order, top-p keeps.
pub(crate) fn prefix(p: f64, weights: impl Iterator<Item = u64>, total: u64) -> usize {
    let target = target_mass(p, total);
    let mut mass = 0;
    let mut kept = 0;
    for weight in weights {
        mass += weight;
        kept += 1;
        if mass >= target {
            break;
        }
    }
    kept
}

/// The last token that top-p keeps of a law nothing was cut from.
pub(crate) fn last_kept(
    law: &Law,
    p: f64,
    total: u64,
    masses: &mut Vec<u64>,
    crossing: &mut Vec<Candidate>,
) -> Candidate {
    let target = target_mass(p, total);
    masses.clear();
    masses.resize(BUCKETS, 0);
    add_up(law.level, law.row, law.max, law.scale, masses);

    let mut above = 0;
    let mut bucket = 0;
    while above + masses[bucket] < target {
        above += masses[bucket];
        bucket += 1;
    }
    gather(law.level, law.row, law.max, law.scale, bucket as u32, crossing);
    crossing.sort_unstable_by(Candidate::order);
    let weights = crossing.iter().map(|c| weight(c.logit - law.max, law.scale));
    let mut mass = above;
    for (candidate, weight) in crossing.iter().zip(weights) {
        mass += weight;
        if mass >= target {
            return *candidate;
        }
    }
    unreachable!("the crossing bucket holds the mass that crosses")
}

kernel! {
    fn add_up(row: &[f32], max: f32, scale: Scale, masses: &mut [u64]) -> () = add_up_body;
}
kernel! {
    fn gather(
        row: &[f32], max: f32, scale: Scale, bucket: u32, out: &mut Vec<Candidate>,
    ) -> () = gather_body;
}

#[inline(always)]
fn bucket_of(difference: f32, scale: Scale) -> u32 {
    let position = -scale.octaves(difference) * PER_OCTAVE as f32;
    let position = if position < LAST_BUCKET { position } else { LAST_BUCKET };
    // Adding 2^23 leaves the rounded position in the low bits; a conversion would stay scalar.
    (position + 8_388_608.0).to_bits() & 0x7F_FFFF
}

#[inline(always)]
fn add_up_body(row: &[f32], max: f32, scale: Scale, masses: &mut [u64]) {
    let mut weights = [0u64; BLOCK];
    let mut buckets = [0u32; BLOCK];
    for block in row.chunks(BLOCK) {
        // Vector code first, into small arrays; the scatter after it cannot be.
        for ((&logit, weight_out), bucket_out) in block.iter().zip(&mut weights).zip(&mut buckets) {
            *weight_out = weight(logit - max, scale);
            *bucket_out = bucket_of(logit - max, scale);
        }
        for (&weight, &bucket) in weights.iter().zip(&buckets).take(block.len()) {
            masses[bucket as usize] += weight;
        }
    }
}

#[inline(always)]
fn gather_body(row: &[f32], max: f32, scale: Scale, bucket: u32, out: &mut Vec<Candidate>) {
    out.clear();
    for (index, chunk) in row.chunks(STRIDE).enumerate() {
        let mut any = false;
        for &logit in chunk {
            any |= bucket_of(logit - max, scale) == bucket;
        }
        if !any {
            continue;
        }
        for (offset, &logit) in chunk.iter().enumerate() {
            if bucket_of(logit - max, scale) == bucket {
                out.push(Candidate::new(logit, index * STRIDE + offset));
            }
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
