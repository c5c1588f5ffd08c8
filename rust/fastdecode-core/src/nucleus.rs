//! Top-p over a whole row: the smallest set of tokens, in the total order, whose mass is at least p
//! (Holtzman et al., "The curious case of neural text degeneration", 2020). The token that crosses
//! is in.
//!
//! The row is not sorted. With its total known, a sample of the row tells about where the nucleus
//! ends; the tokens above that are picked out, and the one that crosses is found among them by
//! splitting them at pivots. Each step is in exact integers, a bad guess only costs time. (A
//! histogram of the whole row took twice to four times as long.)

use crate::lanes::{LANES, Lanes, kernel};
use crate::law::Law;
use crate::order::Candidate;
use crate::picked::Picked;
use crate::scan::Tops;
use crate::weight::{Real, Scale, WEIGHT_BITS, weigh};

/// The least mass that reaches a share `p` of `total`, neither below zero: `ceil(p * total)`,
/// exactly, and at least one.
#[must_use]
pub(crate) fn target_mass(p: f64, total: u64) -> u64 {
    // p = mantissa * 2^-shift exactly, and the product has at most 117 bits.
    // Zero may have a sign.
    let bits = p.abs().to_bits();
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

/// Where to keep what is worked out.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// The nucleus, once it is known.
    pub picked: Picked,
    rest: Picked,
    sample: Tops,
    listed: Vec<Candidate>,
    weights: Vec<u64>,
}

/// One chunk of lanes in this many is the sample of a row.
const SAMPLED: usize = 16;

/// So few tokens are put in order.
const FEW: usize = 64;

/// Cuts a law of weight `total` that was cut nowhere yet to a mass of `target`, and picks the
/// tokens left; their mass. `tops` are the row's.
pub(crate) fn keep(law: &mut Law, tops: &Tops, total: u64, target: u64, space: &mut Space) -> u64 {
    let Law { level, row, .. } = *law;
    pick_above(law, tops, total - target, space);
    let mut mass = space.picked.mass(law);
    if mass < target {
        // What is below this weight, be it the whole row, is less than what may be cut.
        let least = (total - target) / row.len() as u64;
        space.picked.pick(level, row, tops, bound_of(least, law));
        mass = space.picked.mass(law);
    }
    let (last, mass, ties) = crossing(law, mass, target, space);
    space.picked.filter(level, last.logit, f32::INFINITY);
    if ties {
        space.picked.drop_ties_after(last);
    }
    law.last = Some(last);
    mass
}

/// Picks the tokens from a logit on, which it returns, such that what is left out has about the mass
/// `cut`, or rather less. `tops` are the row's, of which nothing has been cut.
pub(crate) fn pick_above(law: &Law, tops: &Tops, cut: u64, space: &mut Space) -> f32 {
    let Law { level, row, max, scale, .. } = *law;
    sample_weights(level, row, max, scale, &mut space.sample);
    let bound = bound_of(least_kept(law, cut, &space.sample), law);
    space.picked.pick(level, row, tops, bound);
    bound
}

/// A logit that all tokens with a weight of `least` or more reach.
pub(crate) fn bound_of(least: u64, law: &Law) -> f32 {
    if least == 0 { f32::NEG_INFINITY } else { law.scale.logit_of(least, law.max) }
}

/// Thresholds looked at in one go.
const AT_ONCE: usize = 8;

/// A guess at the least weight of the nucleus, when a mass of `cut` is to be left out.
fn least_kept(law: &Law, cut: u64, sample: &Tops) -> u64 {
    // Rather a few tokens too many than one too few.
    let allowed = (cut as f64 / SAMPLED as f64 * 0.9) as f32;
    let mut least = (1u64 << WEIGHT_BITS) as f32;
    // Three octaves between neighbours, then three eighths of one.
    for (down, up) in [(0.125f32, 1.0), (0.771_105_4, 8.0)] {
        let mut threshold = least * up;
        let thresholds: [f32; AT_ONCE] = std::array::from_fn(|_| {
            threshold *= down;
            threshold
        });
        let masses = masses_below(law.level, sample, &thresholds);
        let found = masses.iter().position(|&mass| mass <= allowed).unwrap_or(AT_ONCE - 1);
        least = thresholds[found];
    }
    least as u64
}

/// The token of `space.picked`, of so much `mass`, that reaches `target` in the total order; the
/// mass up to it; and whether tokens that tie with it come after it.
fn crossing(law: &Law, mut mass: u64, target: u64, space: &mut Space) -> (Candidate, u64, bool) {
    let Law { level, max, scale, .. } = *law;
    let Space { picked, rest, listed, weights, .. } = space;
    rest.copy(picked);
    // Of the tokens that are before `rest`.
    let mut above = 0;
    while rest.len() > FEW
        && let Some(pivot) =
            pivot(law, rest, (target - above) as f64 / mass as f64, listed, weights)
    {
        let reaching = rest.mass_reaching(law, pivot);
        if above + reaching >= target {
            rest.filter(level, pivot, f32::INFINITY);
            mass = reaching;
        } else {
            rest.filter(level, f32::NEG_INFINITY, pivot.next_down());
            above += reaching;
            mass -= reaching;
        }
    }
    listed.clear();
    listed.extend(rest.candidates());
    listed.sort_unstable_by_key(Candidate::key);
    weigh(level, listed, max, scale, weights);
    let (kept, reached) = prefix(weights.iter().copied(), target - above);
    let last = listed[kept - 1];
    (last, above + reached, listed.get(kept).is_some_and(|next| next.logit == last.logit))
}

/// A logit that about `share` of the mass reaches, above the least of a few; None where those are
/// all the same.
fn pivot(
    law: &Law,
    rest: &Picked,
    share: f64,
    few: &mut Vec<Candidate>,
    weights: &mut Vec<u64>,
) -> Option<f32> {
    few.clear();
    few.extend(rest.candidates().step_by(rest.len() / (2 * LANES)));
    few.sort_unstable_by_key(Candidate::key);
    weigh(law.level, few, law.max, law.scale, weights);
    let wanted = share * weights.iter().sum::<u64>() as f64;
    let (kept, _) = prefix(weights.iter().copied(), wanted as u64);
    let least = few[few.len() - 1].logit;
    few[..kept].iter().rev().map(|x| x.logit).find(|&logit| logit > least)
}

kernel! {
    fn sample_weights(row: &[f32], max: f32, scale: Scale, out: &mut Tops) -> () = sample_body;
}
kernel! {
    /// The mass of a sample below each threshold.
    fn masses_below(
        sample: &[[f32; LANES]], thresholds: &[f32; AT_ONCE],
    ) -> [f32; AT_ONCE] = masses_below_body;
}

#[inline(always)]
fn sample_body<L: Lanes>(on: L, row: &[f32], max: f32, scale: Scale, out: &mut Tops) {
    out.clear();
    for chunk in row.as_chunks::<LANES>().0.iter().step_by(SAMPLED) {
        let real = Real::new(on, on.sub(on.load(chunk), on.splat(max)), scale);
        out.push(on.array(real.value(on)));
    }
}

#[inline(always)]
fn masses_below_body<L: Lanes>(
    on: L,
    sample: &[[f32; LANES]],
    thresholds: &[f32; AT_ONCE],
) -> [f32; AT_ONCE] {
    let (zero, least) = (on.splat(0.0), on.splat(f32::NEG_INFINITY));
    // The float below, as the bounds of `between` are both inside.
    let highs = thresholds.map(|threshold| on.splat(threshold.next_down()));
    let mut sums = [zero; AT_ONCE];
    for chunk in sample {
        let real = on.load(chunk);
        for (sum, high) in sums.iter_mut().zip(highs) {
            *sum = on.add(*sum, on.between(real, least, high, real, zero));
        }
    }
    sums.map(|sum| on.array(sum).into_iter().sum())
}

#[cfg(test)]
mod tests {
    use super::{SAMPLED, Space, keep, prefix, target_mass};
    use crate::lanes::LANES;
    use crate::law::Law;
    use crate::level::Level;
    use crate::order::Candidate;
    use crate::scan::survey;
    use crate::weight::Scale;

    /// Rows whose sample knows nothing of the nucleus: too few tokens are picked at first, or all.
    #[test]
    fn a_sample_that_misleads_costs_no_token() {
        for (sampled, other) in [(-50.0, -6.0), (-6.0, -50.0), (-0.5, -6.0)] {
            let row: Vec<f32> = (0..6000)
                .map(|i| {
                    let logit = if (i / LANES).is_multiple_of(SAMPLED) { sampled } else { other };
                    if i == 777 { 0.0 } else { logit - (i * 37 % 101) as f32 * 1e-3 }
                })
                .collect();
            for level in Level::available() {
                let mut tops = vec![];
                let max = survey(level, &row, &mut tops).unwrap();
                let mut law = Law::whole(level, &row, max, Scale::new(1.0));
                let total = law.sum(&mut vec![]);
                let mut all: Vec<_> =
                    row.iter().enumerate().map(|(id, &x)| Candidate::new(x, id)).collect();
                all.sort_unstable_by_key(Candidate::key);
                for p in [0.05, 0.5, 0.9, 0.999, 1.0] {
                    let target = target_mass(p, total);
                    let weights = all.iter().map(|x| law.weight_of(x.id as usize));
                    let (kept, mass) = prefix(weights, target);
                    let mut space = Space::default();
                    let found = keep(&mut law, &tops, total, target, &mut space);
                    assert_eq!((found, law.last), (mass, Some(all[kept - 1])), "{p} {level:?}");
                    assert_eq!(space.picked.len(), kept);
                    law.last = None;
                }
            }
        }
    }

    #[test]
    fn target_is_the_exact_ceiling() {
        assert_eq!(target_mass(0.5, 10), 5);
        assert_eq!(target_mass(0.5, 11), 6);
        assert_eq!(target_mass(1.0, u64::MAX), u64::MAX);
        assert_eq!(target_mass(0.0, 10), 1);
        assert_eq!(target_mass(-0.0, 10), 1);
        assert_eq!(target_mass(f64::MIN_POSITIVE, u64::MAX), 1);
        assert_eq!(target_mass(5e-324, 1), 1);
        // The double 0.1 is a little more than a tenth, 0.7 a little less than seven.
        assert_eq!(target_mass(0.1, 10), 2);
        assert_eq!(target_mass(0.7, 10), 7);
    }
}
