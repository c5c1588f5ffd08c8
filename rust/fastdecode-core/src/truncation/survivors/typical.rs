//! Survivors by the distance of their surprisal from the entropy.

use super::{Form, SurvivorWorkspace, Survivors, nucleus};
use crate::law::Law;
use crate::law::entropy::{Distances, depth};
use crate::law::share::target_mass;

impl Survivors<'_, '_> {
    /// Keeps those whose surprisal is nearest to the entropy, until they have the share `p` of the
    /// mass, and all ties at the border.
    pub fn keep_typical(&mut self, p: f64) {
        let entropy = self.entropy();
        let target = target_mass(p, entropy.weight);
        let distances = entropy.distances();
        let mut cut = entropy.weight - target;
        let limit = loop {
            let outside = self.list_near(distances, cut);
            if let Some(limit) = self.typical_limit(distances, target, outside) {
                break limit;
            }
            self.form = Form::Interval;
            cut /= 8;
        };
        let SurvivorWorkspace { list, distant, .. } = &mut *self.workspace;
        let mut of_list = distant.iter();
        list.retain(|_| of_list.next().is_some_and(|(distance, _)| *distance <= limit));
    }

    /// Lists the survivors; if they are a whole row, a tail of about the mass `cut` is left out.
    /// Returns a distance from the mean that everything not listed has at least.
    fn list_near(&mut self, distances: Distances, cut: u64) -> u32 {
        if !self.is_whole() || cut == 0 {
            self.list();
            return u32::MAX;
        }
        let Law { max, scale, .. } = self.law;
        let SurvivorWorkspace { tops, nucleus, .. } = &mut *self.workspace;
        let bound = nucleus::pick_above(&self.law, tops, cut, nucleus);
        self.list_picked();
        let next = depth(bound.next_down() - max, scale);
        if distances.is_above(next) { distances.of(next) } else { 0 }
    }

    /// The largest distance among the tokens that are needed to reach `target`; None where tokens
    /// that are not listed may be needed. Otherwise `workspace.distant` has the list's distances.
    fn typical_limit(&mut self, distances: Distances, target: u64, outside: u32) -> Option<u32> {
        if self.total() < target {
            return None;
        }
        let Law { max, scale, .. } = self.law;
        let SurvivorWorkspace { list, distant, shuffled, .. } = &mut *self.workspace;
        distant.clear();
        distant.extend(
            list.iter().map(|x| (distances.of(depth(x.candidate.logit - max, scale)), x.weight)),
        );
        shuffled.clone_from(distant);
        let limit = crossing(shuffled, target);
        (limit < outside).then_some(limit)
    }
}

/// The least distance up to which the weights reach `target`.
fn crossing(list: &mut [(u32, u64)], target: u64) -> u32 {
    let mut rest = list;
    let mut missing = target;
    // Weighted quickselect: each round halves the candidates.
    loop {
        let middle = rest.len() / 2;
        let (below, &mut (distance, weight), _) =
            rest.select_nth_unstable_by_key(middle, |&(distance, _)| distance);
        let mass: u64 = below.iter().map(|(_, weight)| weight).sum();
        if mass >= missing {
            rest = &mut rest[..middle];
        } else if mass + weight >= missing || middle + 1 == rest.len() {
            return distance;
        } else {
            missing -= mass + weight;
            rest = &mut rest[middle + 1..];
        }
    }
}
