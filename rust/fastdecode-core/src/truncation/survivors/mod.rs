//! The tokens that are left while a row passes through its truncations.
//!
//! They are always an interval of the total order, stored as the interval's two ends while they may
//! be many, and as a list once they are known to be few. Everything that a truncation may need (a
//! mass, a threshold, an entropy) is computed from either form, with the same integers.

pub(crate) mod nucleus;
pub(crate) mod picked;
mod typical;
mod workspace;

pub(crate) use workspace::SurvivorWorkspace;

use crate::error::Result;
use crate::law::bounds::Bounds;
use crate::law::entropy::{Entropy, depth};
use crate::law::estimate::Between;
use crate::law::share::target_mass;
use crate::law::weight::{Halves, Real, Scale, weigh, weight};
use crate::law::{Draw, Law, first_above};
use crate::row::order::Candidate;
use crate::row::scan;
use crate::row::select;
use fastdecode_simd::{LANES, Lanes, kernel};

/// A listed survivor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub candidate: Candidate,
    pub weight: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The law's interval of the row.
    Interval,
    /// `workspace.list`, in the order of ids.
    ById,
    /// `workspace.list`, in the total order.
    Ranked,
}

/// The survivors of one row, and memory for intermediate results about them.
pub(crate) struct Survivors<'a, 's> {
    law: Law<'a>,
    form: Form,
    /// W of the interval, where it is known.
    total: Option<u64>,
    /// The first pass's bounds on W of the whole row, with the scale that it used.
    weighed: Option<(Scale, Between)>,
    /// Whether only one token is left, which no further rule can change.
    settled: bool,
    /// Whether `workspace.nucleus.picked` are the interval's tokens.
    picked: bool,
    workspace: &'s mut SurvivorWorkspace,
}

/// The most tokens that are examined one by one rather than by a pass over the row.
const SHORT_LIST: usize = 256;

impl<'a, 's> Survivors<'a, 's> {
    /// Every token of a row that has been surveyed into `workspace.tops`, and weighed into
    /// `workspace.groups` if `weighed` has bounds on W.
    pub fn all(
        law: Law<'a>,
        weighed: Option<(Scale, Between)>,
        workspace: &'s mut SurvivorWorkspace,
    ) -> Self {
        workspace.sums.clear();
        let form = Form::Interval;
        Self { law, form, total: None, weighed, settled: false, picked: false, workspace }
    }

    /// The row's logits, and the largest of them.
    pub fn logits(&self) -> (&'a [f32], f32) {
        (self.law.row, self.law.max)
    }

    /// Keeps the likeliest token, whatever rules remain.
    pub fn settle_for_likeliest(&mut self) {
        self.keep_likeliest();
        self.settled = true;
    }

    /// Whether one token is left that no further rule can change.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Keeps the likeliest token.
    fn keep_likeliest(&mut self) {
        let Law { level, row, max, .. } = self.law;
        let id = scan::first_equal(level, row, &self.workspace.tops, max);
        self.workspace.candidates.clear();
        self.workspace.candidates.push(Candidate::new(max, id));
        self.list_candidates();
    }

    /// Keeps the first `k`.
    pub fn keep_first(&mut self, k: usize) {
        if self.form == Form::Interval {
            if k >= self.law.row.len() {
                return;
            }
            let SurvivorWorkspace { tops, folded, keys, candidates, .. } = &mut *self.workspace;
            select::top_k(self.law.level, self.law.row, tops, k, folded, keys, candidates);
            self.list_candidates();
        } else {
            self.rank();
            self.workspace.list.truncate(k);
        }
    }

    /// Keeps those whose logit is at least `bound`, and the first.
    pub fn keep_logits(&mut self, bound: f64) {
        // The smallest float32 that reaches it.
        let nearest = bound as f32;
        let logit = if f64::from(nearest) < bound { nearest.next_up() } else { nearest };
        self.cut_after(Candidate { logit: logit.min(self.law.max), id: u32::MAX });
    }

    /// Keeps the smallest prefix that has the share `p` of the mass.
    pub fn keep_mass(&mut self, p: f64) {
        if !self.is_whole() {
            let target = target_mass(p, self.total());
            self.list();
            self.keep_target(target);
            return;
        }
        // Bounds on W hold for the scale that the row was weighed with, and for no other.
        let between = self.weighed.filter(|&(scale, _)| scale == self.law.scale);
        let between = between.map(|(_, between)| between);
        let known = between.unwrap_or_else(|| (self.total(), self.total()));
        let SurvivorWorkspace { tops, groups, nucleus, .. } = &mut *self.workspace;
        let groups = between.is_some().then_some(&*groups);
        let mass = nucleus::keep(&mut self.law, tops, p, known, groups, nucleus);
        self.keep_picked(mass);
    }

    /// Records that the interval's tokens are `workspace.nucleus.picked`, and their mass.
    fn keep_picked(&mut self, mass: u64) {
        self.workspace.sums.clear();
        self.total = Some(mass);
        if self.workspace.nucleus.picked.len() <= SHORT_LIST {
            self.list_picked();
        } else {
            self.picked = true;
        }
    }

    fn keep_target(&mut self, target: u64) {
        self.rank();
        let (kept, _) = nucleus::prefix(self.workspace.list.iter().map(|x| x.weight), target);
        self.workspace.list.truncate(kept);
    }

    /// Keeps those whose weight is at least `least`, and the first.
    ///
    /// Rounding may swap the weights of tokens with nearly equal logits; everything up to the last
    /// token that reaches the weight is kept.
    pub fn keep_weights(&mut self, least: u64) {
        if self.is_whole() {
            self.pick_weights(least);
        } else {
            let last = self.last_reaching(least);
            self.cut_after(last);
        }
    }

    /// [`Survivors::keep_weights`] before anything was cut: picks out what is near `least` first.
    fn pick_weights(&mut self, least: u64) {
        let Law { level, row, max, scale, .. } = self.law;
        let SurvivorWorkspace { tops, nucleus, .. } = &mut *self.workspace;
        let picked = &mut nucleus.picked;
        picked.pick(level, row, tops, nucleus::bound_of(least, &self.law).min(max), false);
        let lowest = lowest_reaching(level, picked.logits(), Bounds::ALL, max, scale, least);
        match picked.last_with(lowest) {
            Some(last) => {
                picked.filter(level, last.logit, f32::INFINITY);
                self.law.last = Some(last);
                let mass = picked.mass(&self.law);
                self.keep_picked(mass);
            }
            // Not even the first token's weight reaches it.
            None => self.keep_likeliest(),
        }
    }

    /// Drops those before the last whose weight is at least `least`.
    pub fn drop_before(&mut self, least: u64) {
        let pivot = self.last_reaching(least);
        if self.form == Form::Interval {
            self.law.first = Some(pivot);
            self.total = None;
            self.picked = false;
        } else {
            self.workspace.list.retain(|x| x.candidate.key() >= pivot.key());
        }
    }

    /// W.
    pub fn total(&mut self) -> u64 {
        if self.form != Form::Interval {
            return self.workspace.list.iter().map(|x| x.weight).sum();
        }
        if let Some(total) = self.total {
            return total;
        }
        let total = self.law.sum(&mut self.workspace.sums);
        self.total = Some(total);
        total
    }

    /// The weight of the first.
    pub fn largest_weight(&mut self) -> u64 {
        let Law { max, scale, first, .. } = self.law;
        match self.form {
            Form::Interval => weight(first.map_or(max, |first| first.logit) - max, scale),
            Form::ById | Form::Ranked => {
                self.workspace.list.iter().map(|x| x.weight).max().unwrap_or(0)
            }
        }
    }

    pub fn entropy(&mut self) -> Entropy {
        if self.form == Form::Interval {
            let entropy = Entropy::of(&self.law);
            self.total = Some(entropy.weight);
            return entropy;
        }
        let Law { max, scale, .. } = self.law;
        let mut sum = Entropy::default();
        for x in &self.workspace.list {
            sum.add(x.weight, depth(x.candidate.logit - max, scale));
        }
        sum
    }

    /// Sets the temperature, before anything has been cut.
    pub fn rescale(&mut self, scale: Scale) {
        debug_assert!(self.is_whole());
        self.law.scale = scale;
        self.total = None;
    }

    /// The survivors as a law over the row, and the law's W.
    pub fn into_law(mut self) -> (Law<'a>, u64) {
        let total = self.total();
        if self.form != Form::Interval {
            self.rank();
            let list = &self.workspace.list;
            self.law.first = list.first().map(|x| x.candidate);
            self.law.last = list.last().map(|x| x.candidate);
        }
        (self.law, total)
    }

    /// Draws the token of the ticket that `ticket` returns for W.
    pub fn draw(mut self, ticket: impl FnOnce(u64) -> u64) -> Result<Draw> {
        let total = self.total();
        let ticket = ticket(total);
        if self.form == Form::Interval {
            let sums = &self.workspace.sums;
            let law = &self.law;
            let picked = &self.workspace.nucleus.picked;
            return if self.picked {
                law.draw(total, ticket, |ticket| picked.token_at(law, ticket))
            } else if sums.is_empty() {
                law.draw(total, ticket, |ticket| law.find(ticket))
            } else {
                law.draw(total, ticket, |ticket| law.token_at(sums, ticket))
            };
        }
        if self.form == Form::Ranked {
            self.workspace.list.sort_unstable_by_key(|x| x.candidate.id);
        }
        let list = &self.workspace.list;
        let of = |ticket| {
            let index = first_above(list.iter().map(|x| x.weight), ticket);
            list[index].candidate.id as usize
        };
        self.law.draw(total, ticket, of)
    }

    /// The law before anything was cut, at its temperature, and whether nothing has been cut.
    pub fn uncut(&self) -> (Law<'a>, bool) {
        (self.law.uncut(), self.is_whole())
    }

    /// Whether nothing has been cut.
    fn is_whole(&self) -> bool {
        self.form == Form::Interval && self.law.first.is_none() && self.law.last.is_none()
    }

    fn cut_after(&mut self, last: Candidate) {
        match self.form {
            Form::Interval => {
                // An interval is only ever made smaller.
                let before = self.law.last.filter(|before| before.key() < last.key());
                self.law.last = Some(before.unwrap_or(last));
                self.total = None;
                self.picked = false;
                self.workspace.sums.clear();
                if self.groups_reaching(last.logit) <= SHORT_LIST {
                    self.list();
                }
            }
            Form::ById | Form::Ranked => {
                self.workspace.list.retain(|x| x.candidate.key() <= last.key());
            }
        }
    }

    /// The last token whose weight is at least `least`; the first token where there is none.
    fn last_reaching(&mut self, least: u64) -> Candidate {
        if self.form != Form::Interval {
            self.rank();
            let list = &self.workspace.list;
            let index = list.iter().rposition(|x| x.weight >= least).unwrap_or(0);
            return list[index].candidate;
        }
        let Law { level, row, max, scale, first, last } = self.law;
        let loose = scale.logit_of(least, max);
        if self.groups_reaching(loose) <= SHORT_LIST {
            let SurvivorWorkspace { tops, candidates, weights, .. } = &mut *self.workspace;
            select::gather(level, row, tops, loose, candidates);
            weigh(level, candidates, max, scale, weights);
            let law = &self.law;
            return candidates
                .iter()
                .zip(weights)
                .filter(|(x, weight)| **weight >= least && law.contains(**x))
                .map(|(x, _)| x)
                .max_by(|a, b| a.order(b))
                .copied()
                .unwrap_or_else(|| self.first());
        }
        let mut lowest = f32::INFINITY;
        for (from, to, bounds) in self.law.stretches(0, row.len()) {
            let span = lowest_reaching(level, &row[from..to], bounds, max, scale, least);
            lowest = lowest.min(span);
        }
        match row.iter().rposition(|&x| x == lowest) {
            // Ties after the interval's last token are not in it.
            Some(id) => {
                let reached = Candidate::new(lowest, id);
                last.filter(|last| last.key() < reached.key()).unwrap_or(reached)
            }
            None => first.unwrap_or_else(|| self.first()),
        }
    }

    fn first(&self) -> Candidate {
        let Law { level, row, max, first, .. } = self.law;
        first.unwrap_or_else(|| {
            Candidate::new(max, scan::first_equal(level, row, &self.workspace.tops, max))
        })
    }

    /// How many groups have a logit of at least `bound`.
    fn groups_reaching(&self, bound: f32) -> usize {
        select::count_reaching(self.law.level, &self.workspace.tops, bound)
    }

    /// Turns an interval into a list.
    fn list(&mut self) {
        if self.form != Form::Interval {
            return;
        }
        let bound = self.law.last.map_or(f32::NEG_INFINITY, |last| last.logit);
        let SurvivorWorkspace { tops, candidates, .. } = &mut *self.workspace;
        select::gather(self.law.level, self.law.row, tops, bound, candidates);
        self.list_candidates();
    }

    /// Turns the picked tokens into a list.
    fn list_picked(&mut self) {
        let SurvivorWorkspace { candidates, nucleus, .. } = &mut *self.workspace;
        candidates.clear();
        candidates.extend(nucleus.picked.candidates());
        self.list_candidates();
    }

    /// Turns those of `workspace.candidates` that survive and can be drawn into a list.
    fn list_candidates(&mut self) {
        let law = &self.law;
        let SurvivorWorkspace { candidates, list, weights, .. } = &mut *self.workspace;
        weigh(law.level, candidates, law.max, law.scale, weights);
        list.clear();
        list.extend(candidates.iter().zip(weights).filter_map(|(&candidate, &mut weight)| {
            (weight > 0 && law.contains(candidate)).then_some(Listed { candidate, weight })
        }));
        self.form = Form::ById;
    }

    fn rank(&mut self) {
        if self.form == Form::ById {
            self.workspace.list.sort_unstable_by_key(|x| x.candidate.key());
            self.form = Form::Ranked;
        }
    }
}

kernel! {
    fn lowest_reaching(
        span: &[f32], bounds: Bounds, max: f32, scale: Scale, least: u64,
    ) -> f32 = lowest_reaching_body;
}

/// The lowest logit inside the bounds whose weight is at least `least`; +inf where there is none.
#[inline(always)]
fn lowest_reaching_body<L: Lanes>(
    on: L,
    span: &[f32],
    bounds: Bounds,
    max: f32,
    scale: Scale,
    least: u64,
) -> f32 {
    let (zero, none) = (on.splat(0.0), on.splat(f32::INFINITY));
    let mut lowest = none;
    for chunk in span.chunks(LANES) {
        let logits = on.load_part(chunk, f32::NEG_INFINITY);
        let weights = Halves::new(on, Real::bounded(on, logits, bounds, max, scale));
        let surplus = weights.less(on, least);
        lowest = on.min(lowest, on.between(surplus, zero, none, logits, none));
    }
    on.array(lowest).into_iter().fold(f32::INFINITY, f32::min)
}
