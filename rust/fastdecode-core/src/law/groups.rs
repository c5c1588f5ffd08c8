//! Groups of a row's tokens, each with its largest logit and its mass, from a pass that weighs the
//! row: an estimate of where a nucleus ends.

use crate::row::scan::{SPAN, Tops};
use fastdecode_simd::{LANES, Lanes, Level, kernel, sum_of};

/// The number of consecutive spans whose tokens in one lane form a group.
pub(crate) const SPANS: usize = 4;

/// The number of tokens in one vector of groups.
pub(crate) const STRETCH: usize = SPANS * SPAN;

/// The groups of a row; the groups of a stretch are adjacent.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub maxima: Tops,
    /// The mass of each group, in an arbitrary unit.
    pub masses: Tops,
    /// The mass of all groups.
    pub total: f64,
}

impl Groups {
    /// Makes room for a row of this many tokens.
    pub fn resize(&mut self, tokens: usize) {
        self.maxima.resize(tokens.div_ceil(STRETCH), [0.0; LANES]);
        self.masses.resize(tokens.div_ceil(STRETCH), [0.0; LANES]);
    }

    /// An estimate of the logit between `low` and `high` above which tokens have the `share` of the
    /// mass; None where most groups have such a token, because the groups then carry no
    /// information.
    pub fn bound(&self, level: Level, share: f64, mut low: f32, mut high: f32) -> Option<f32> {
        let groups = self.maxima.len() * LANES;
        let mut reached = groups;
        // Bisection: usually over 19 octaves, halved until a sixth of one is left.
        for _ in 0..7 {
            let middle = low.midpoint(high);
            let found = reaching(level, self, middle);
            let mass = f64::from(found.mass);
            // Part of these groups' mass belongs to tokens below `middle`: about as much as the
            // other groups have, if likely tokens had no likely neighbours.
            let others = (groups - found.groups).max(1) as f64;
            let light = CLUSTERED * (self.total - mass) / others;
            if mass - light * found.groups as f64 >= share * self.total {
                (low, reached) = (middle, found.groups);
            } else {
                high = middle;
            }
        }
        (reached <= groups / 2).then_some(low)
    }
}

/// Likely tokens do have likely neighbours: how many times more mass than in other groups is assumed
/// to lie below the bound in those that reach it. On GPT-2's rows the factor is three to eight.
const CLUSTERED: f64 = 4.0;

/// The mass and number of the groups whose maximum reaches a bound.
struct Reaching {
    mass: f32,
    groups: usize,
}

kernel! {
    fn reaching(groups: &Groups, bound: f32) -> Reaching = reaching_body;
}

#[inline(always)]
fn reaching_body<L: Lanes>(on: L, groups: &Groups, bound: f32) -> Reaching {
    let bound = on.splat(bound);
    let (maxima, masses) = (&groups.maxima[..], &groups.masses[..groups.maxima.len()]);
    let mut count = 0;
    let mass = sum_of(on, maxima.len(), |i| {
        let maxima = on.load(&maxima[i]);
        count += on.at_least(maxima, bound).count_ones() as usize;
        on.reaching(maxima, bound, on.load(&masses[i]))
    });
    Reaching { mass, groups: count }
}

#[cfg(test)]
mod tests {
    use super::Groups;
    use crate::law::estimate::survey_weighing;
    use crate::law::weight::Scale;
    use fastdecode_simd::Level;

    fn bound(row: &[f32], share: f64) -> (Groups, Option<f32>) {
        let mut groups = Groups::default();
        let level = Level::detect();
        let (max, _) =
            survey_weighing(level, row, Scale::new(1.0), &mut vec![], &mut groups).unwrap();
        let bound = groups.bound(level, share, max - 12.0, max);
        (groups, bound)
    }

    /// A power law, its tokens spread over the row.
    #[test]
    fn few_likely_tokens_are_told_from_the_rest() {
        for stride in [163, 1117] {
            let mut row = vec![0.0; 20_000];
            for rank in 0..row.len() {
                row[rank * stride % 20_000] = -2.0 * ((rank + 1) as f32).ln() - 40.0;
            }
            let weights = row.iter().map(|x| f64::from(x + 40.0).exp());
            let total: f64 = weights.clone().sum();
            for share in [0.7, 0.8, 0.9] {
                let bound = bound(&row, share).1.unwrap();
                let above = row.iter().zip(weights.clone()).filter(|(x, _)| **x >= bound);
                let mass = above.map(|(_, weight)| weight).sum::<f64>() / total;
                assert!((share..share + 0.08).contains(&mass), "{stride} {share} {mass}");
            }
        }
    }

    #[test]
    fn many_likely_tokens_tell_nothing() {
        let row: Vec<f32> = (0..20_000).map(|i| -((i * 7919 % 20_000) as f32) * 1e-4).collect();
        assert_eq!(bound(&row, 0.9).1, None);
    }

    #[test]
    fn each_group_has_its_maximum_and_mass() {
        let row: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 * -0.1).collect();
        let (groups, _) = bound(&row, 0.5);
        for (stretch, tokens) in row.chunks(super::STRETCH).enumerate() {
            for lane in 0..super::LANES {
                let group = tokens.iter().skip(lane).step_by(super::LANES);
                let max = group.clone().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(groups.maxima[stretch][lane], max);
                // The unit is the same for all.
                let mass: f64 = group.map(|x| f64::from(*x).exp()).sum();
                let unit = f64::from(groups.masses[0][0])
                    / row[..super::STRETCH]
                        .iter()
                        .step_by(16)
                        .map(|x| f64::from(*x).exp())
                        .sum::<f64>();
                let found = f64::from(groups.masses[stretch][lane]) / unit;
                assert!((found / mass - 1.0).abs() < 1e-5);
            }
        }
    }
}
