//! Top-p over a whole row: the smallest set of tokens, in the total order, whose mass is at least p
//! (Holtzman et al., "The curious case of neural text degeneration", 2020). The token that crosses
//! p is kept.
//!
//! The row is not sorted. Its groups, or a sample of it, give an estimate of where the nucleus ends.
//! The tokens above that are picked out, and the one that crosses is found among them by splitting
//! them at pivots. A bad estimate only costs time: each decision is made with exact integers.
//!
//! Usually the exact total is not needed, either: see [`crate::law::estimate`]. It is computed only
//! where the nucleus would end at different tokens for its lower and its upper bound.

use crate::law::Law;
use crate::law::estimate::Between;
use crate::law::groups::Groups;
use crate::law::share::target_mass;
use crate::law::weight::{Real, Scale, WEIGHT_BITS, weigh};
use crate::row::order::Candidate;
use crate::row::scan::Tops;
use crate::row::select::count_reaching;
use crate::truncation::survivors::picked::Picked;
use fastdecode_simd::{LANES, Lanes, kernel, sum_of};

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

/// Memory that is reused from row to row.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// The nucleus, once it is known.
    pub picked: Picked,
    rest: Picked,
    sample: Tops,
    listed: Vec<Candidate>,
    keys: Vec<u64>,
    weights: Vec<u64>,
}

/// One vector in this many is in the sample of a row.
const SAMPLED: usize = 16;

/// The share of the mass to be cut that an estimate leaves out: a few tokens too many cost less than
/// one too few.
const TO_BE_CUT: f64 = 0.9;

/// The number of tokens from which on they are split at pivots before they are sorted.
const FEW: usize = 64;

/// Cuts a law, from which nothing has been cut, to the share `p` of its mass. Picks the tokens that
/// are left and returns their mass. `tops` and `groups`, if any, are the row's. The law's total
/// weight lies between `low` and `high`; it is computed exactly only where the nucleus would end at
/// different tokens for the two.
pub(crate) fn keep(
    law: &mut Law,
    tops: &Tops,
    p: f64,
    (low, high): Between,
    groups: Option<&Groups>,
    workspace: &mut Workspace,
) -> u64 {
    let (least, most) = (target_mass(p, low), target_mass(p, high));
    let cut = low - least;
    let mass = pick_at_least(law, tops, groups, (cut, high), most, workspace);
    workspace.rest.copy(&workspace.picked);
    let mut end = crossing(law, mass, least, workspace);
    if end.mass < most {
        let target = target_mass(p, law.sum(&mut workspace.weights));
        // Not before the end that was found.
        let high = end.last.logit;
        workspace.rest.copy(&workspace.picked);
        workspace.rest.filter(law.level, f32::NEG_INFINITY, high);
        let left = workspace.rest.mass(law);
        let above = mass - left;
        end = crossing(law, left, target - above, workspace);
        end.mass += above;
    }
    workspace.picked.filter(law.level, end.last.logit, f32::INFINITY);
    if end.ties {
        workspace.picked.drop_ties_after(end.last);
    }
    law.last = Some(end.last);
    end.mass
}

/// Picks the tokens from a logit on, such that those left out of a `total` have less than the mass
/// `cut`. Returns the mass of those picked, which is at least `target` unless `target` exceeds
/// `total - cut`.
fn pick_at_least(
    law: &Law,
    tops: &Tops,
    groups: Option<&Groups>,
    (cut, total): (u64, u64),
    target: u64,
    workspace: &mut Workspace,
) -> u64 {
    if let Some(bound) = groups.and_then(|groups| bound_by_groups(law, groups, cut, total)) {
        workspace.picked.pick(law.level, law.row, tops, bound, false);
        let mass = workspace.picked.mass(law);
        if mass >= target {
            return mass;
        }
    }
    pick_above(law, tops, cut, workspace);
    let mass = workspace.picked.mass(law);
    if mass >= target {
        return mass;
    }
    // Tokens below this weight, even if they are the whole row, have less than the mass `cut`.
    let least = cut / law.row.len() as u64;
    workspace.picked.pick(law.level, law.row, tops, bound_of(least, law), true);
    workspace.picked.mass(law)
}

/// A logit such that the tokens below it have about the mass `cut` of a `total`, erring on the
/// smaller side.
fn bound_by_groups(law: &Law, groups: &Groups, cut: u64, total: u64) -> Option<f32> {
    let share = 1.0 - TO_BE_CUT * cut as f64 / total as f64;
    let least = (cut / law.row.len() as u64).max(1);
    groups.bound(law.level, share, bound_of(least, law), law.max)
}

/// Picks the tokens from a logit on, which it returns, such that those left out have about the mass
/// `cut`, erring on the smaller side. `tops` are the row's, of which nothing has been cut.
pub(crate) fn pick_above(law: &Law, tops: &Tops, cut: u64, workspace: &mut Workspace) -> f32 {
    let Law { level, row, max, scale, .. } = *law;
    sample_weights(level, row, max, scale, &mut workspace.sample);
    let allowed = (TO_BE_CUT * cut as f64 / SAMPLED as f64) as f32;
    let surely = (cut / row.len() as u64) as f32;
    let least = largest(surely, |least| mass_below(level, &workspace.sample, least) <= allowed);
    let bound = bound_of(least as u64, law);
    let many = count_reaching(level, tops, bound) > tops.len() * LANES / 4;
    workspace.picked.pick(level, row, tops, bound, many);
    bound
}

/// Approximately the largest weight for which `holds` is true; it should be true for `surely` and
/// all lower weights.
fn largest(surely: f32, holds: impl Fn(f32) -> bool) -> f32 {
    // Bisection over the bits of a float, which are ordered like its octaves: usually 16 octaves,
    // halved until an eighth of one is left.
    let (mut low, mut high) = (surely.max(1.0).to_bits(), ((1u64 << WEIGHT_BITS) as f32).to_bits());
    for _ in 0..7 {
        let middle = low.midpoint(high);
        if holds(f32::from_bits(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f32::from_bits(low)
}

/// A logit that all tokens with a weight of `least` or more reach.
pub(crate) fn bound_of(least: u64, law: &Law) -> f32 {
    if least == 0 { f32::NEG_INFINITY } else { law.scale.logit_of(least, law.max) }
}

/// The end of a nucleus.
struct End {
    last: Candidate,
    /// The mass of the tokens up to and including `last`.
    mass: u64,
    /// Whether tokens that tie with `last` come after it.
    ties: bool,
}

/// Where `workspace.rest`, whose mass is `mass`, reaches `target`.
fn crossing(law: &Law, mut mass: u64, target: u64, workspace: &mut Workspace) -> End {
    let Law { level, max, scale, .. } = *law;
    let Workspace { rest, listed, keys, weights, .. } = workspace;
    let mut missing = target;
    while rest.len() > FEW
        && let Some(pivot) = pivot(law, rest, missing as f64 / mass as f64, listed, keys, weights)
    {
        let reaching = rest.mass_reaching(law, pivot);
        if reaching >= missing {
            rest.filter(level, pivot, f32::INFINITY);
            mass = reaching;
        } else {
            rest.filter(level, f32::NEG_INFINITY, pivot.next_down());
            missing -= reaching;
            mass -= reaching;
        }
    }
    in_order(rest.candidates(), listed, keys);
    weigh(level, listed, max, scale, weights);
    let (kept, reached) = prefix(weights.iter().copied(), missing);
    let last = listed[kept - 1];
    let ties = listed.get(kept).is_some_and(|next| next.logit == last.logit);
    End { last, mass: target - missing + reached, ties }
}

/// Lists tokens in the total order. Sorts their keys, which are plain integers.
fn in_order(
    tokens: impl Iterator<Item = Candidate>,
    listed: &mut Vec<Candidate>,
    keys: &mut Vec<u64>,
) {
    keys.clear();
    keys.extend(tokens.map(|token| token.key()));
    keys.sort_unstable();
    listed.clear();
    listed.extend(keys.iter().map(|&key| Candidate::from_key(key)));
}

/// A logit that about `share` of the mass reaches, above the least of a few; None where those are
/// all the same.
fn pivot(
    law: &Law,
    rest: &Picked,
    share: f64,
    few: &mut Vec<Candidate>,
    keys: &mut Vec<u64>,
    weights: &mut Vec<u64>,
) -> Option<f32> {
    let places = (0..rest.len()).step_by(rest.len() / (2 * LANES));
    in_order(places.map(|place| rest.candidate(place)), few, keys);
    weigh(law.level, few, law.max, law.scale, weights);
    let wanted = share * weights.iter().sum::<u64>() as f64;
    let (kept, _) = prefix(weights.iter().copied(), wanted as u64);
    let least = few[few.len() - 1].logit;
    few[..kept].iter().rev().map(|x| x.logit).find(|&logit| logit > least)
}

kernel! {
    fn sample_weights(row: &[f32], max: f32, scale: Scale, out: &mut Tops) = sample_body;
}
kernel! {
    /// The sum of those weights that are less than `least`.
    fn mass_below(weights: &[[f32; LANES]], least: f32) -> f32 = mass_below_body;
}

#[inline(always)]
fn sample_body<L: Lanes>(on: L, row: &[f32], max: f32, scale: Scale, out: &mut Tops) {
    let (chunks, _) = row.as_chunks::<LANES>();
    out.resize(chunks.len().div_ceil(SAMPLED), [0.0; LANES]);
    for (chunk, out) in chunks.iter().step_by(SAMPLED).zip(out) {
        let real = Real::new(on, on.sub(on.load(chunk), on.splat(max)), scale);
        on.store(real.value(on), out);
    }
}

#[inline(always)]
fn mass_below_body<L: Lanes>(on: L, weights: &[[f32; LANES]], least: f32) -> f32 {
    let least = on.splat(least);
    sum_of(on, weights.len(), |i| {
        let weight = on.load(&weights[i]);
        on.sub(weight, on.reaching(weight, least, weight))
    })
}

#[cfg(test)]
mod tests {
    use super::{SAMPLED, Workspace, keep, prefix};
    use crate::law::Law;
    use crate::law::estimate::survey_weighing;
    use crate::law::groups::Groups;
    use crate::law::share::target_mass;
    use crate::law::weight::Scale;
    use crate::row::order::Candidate;
    use crate::row::scan::survey;
    use fastdecode_simd::LANES;
    use fastdecode_simd::Level;

    /// Rows whose sample misses the nucleus: too few tokens are picked at first, or all.
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
                    for known in [(total, total), (total - total / 64, total + total / 64)] {
                        let mut workspace = Workspace::default();
                        let found = keep(&mut law, &tops, p, known, None, &mut workspace);
                        assert_eq!((found, law.last), (mass, Some(all[kept - 1])), "{p} {level:?}");
                        assert_eq!(workspace.picked.len(), kept);
                        law.last = None;
                    }
                }
            }
        }
    }

    /// Shares that end a nucleus just at a token's own mass, or a hair beside it: nothing but the exact
    /// total can decide.
    #[test]
    fn a_share_on_the_edge_of_a_token_is_decided_exactly() {
        let row: Vec<f32> = (0..3000).map(|i| ((i * 1009) % 2999) as f32 * -4e-3 - 31.7).collect();
        let scale = Scale::new(0.9);
        for level in Level::available() {
            let (mut tops, mut groups) = (vec![], Groups::default());
            let (max, between) =
                survey_weighing(level, &row, scale, &mut tops, &mut groups).unwrap();
            let between = between.unwrap();
            let mut law = Law::whole(level, &row, max, scale);
            let total = law.sum(&mut vec![]);
            let mut all: Vec<_> =
                row.iter().enumerate().map(|(id, &x)| Candidate::new(x, id)).collect();
            all.sort_unstable_by_key(Candidate::key);
            for (place, last) in all.iter().enumerate().take(1200).step_by(7) {
                let mass: u64 =
                    all[..=place].iter().map(|token| law.weight_of(token.id as usize)).sum();
                let edge = mass as f64 / total as f64;
                for p in [edge.next_down(), edge, edge.next_up()] {
                    let target = target_mass(p, total);
                    let weights = all.iter().map(|x| law.weight_of(x.id as usize));
                    let (kept, expected) = prefix(weights, target);
                    let mut workspace = Workspace::default();
                    let found = keep(&mut law, &tops, p, between, Some(&groups), &mut workspace);
                    assert_eq!((found, law.last), (expected, Some(all[kept - 1])));
                    assert!(kept.abs_diff(place + 1) <= 1, "{last:?}");
                    law.last = None;
                }
            }
        }
    }
}
