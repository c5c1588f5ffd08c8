//! What a weighing pass over a row remembers of it: groups of tokens, for each its largest logit and
//! its mass. They tell about where a nucleus ends.

use crate::lanes::{LANES, Lanes, kernel, sum_of};
use crate::level::Level;
use crate::scan::{SPAN, Tops};

/// Spans whose tokens in one lane are a group.
pub(crate) const SPANS: usize = 4;

/// Tokens that end up in one vector of groups.
pub(crate) const STRETCH: usize = SPANS * SPAN;

/// The groups of a row, those of a stretch beside each other.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub maxima: Tops,
    /// In any unit.
    pub masses: Tops,
}

impl Groups {
    /// For a row of so many tokens.
    pub fn resize(&mut self, tokens: usize) {
        self.maxima.resize(tokens.div_ceil(STRETCH), [0.0; LANES]);
        self.masses.resize(tokens.div_ceil(STRETCH), [0.0; LANES]);
    }

    /// A guess at a logit between `low` and `high` such that the tokens that reach it have about
    /// `share` of the mass; None where most groups have one of them, and so tell nothing.
    pub fn bound(&self, level: Level, share: f64, mut low: f32, mut high: f32) -> Option<f32> {
        let groups = self.maxima.len() * LANES;
        let total = f64::from(reaching(level, self, f32::NEG_INFINITY).mass);
        // 19 octaves as a rule, of which a sixth of one is left.
        for _ in 0..7 {
            let middle = low.midpoint(high);
            let Reaching { mass, groups: reached } = reaching(level, self, middle);
            let mass = f64::from(mass);
            // The other groups show how much of a group is too light for `middle`, if likely tokens
            // had no likely neighbours.
            let light = CLUSTERED * (total - mass) / (groups - reached).max(1) as f64;
            if mass - light * reached as f64 >= share * total {
                low = middle;
            } else {
                high = middle;
            }
        }
        let reached = reaching(level, self, low).groups;
        (reached <= groups / 2).then_some(low)
    }
}

/// So many times more than in other groups may lie just below the bound in those that reach it: on
/// GPT-2's rows it is three to eight times as much.
const CLUSTERED: f64 = 4.0;

/// Of the groups whose maximum reaches a bound.
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
