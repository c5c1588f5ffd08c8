//! Tokens picked out of a row by their logits, in the order of ids.

use crate::law::bounds::Bounds;
use crate::law::{BLOCK, Law, first_above, span_fill, span_sum};
use crate::row::order::Candidate;
use crate::row::scan::{SPAN, Tops};
use fastdecode_simd::Level;
use fastdecode_simd::{LANES, Lanes, kernel};

/// Logits and ids, in separate arrays so that vectors can be loaded from each.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    /// At least one vector longer than `len`, so that whole vectors can be written.
    logits: Vec<f32>,
    ids: Vec<u32>,
    len: usize,
}

impl Picked {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let tokens = self.logits[..self.len].iter().zip(&self.ids);
        tokens.map(|(&logit, &id)| Candidate::new(logit, id as usize))
    }

    pub fn candidate(&self, place: usize) -> Candidate {
        Candidate::new(self.logits[place], self.ids[place] as usize)
    }

    /// Picks every token of a row whose logit reaches `bound`. `tops` are the row's. Where there are
    /// `many`, no time is spent on skipping vectors that have none.
    pub fn pick(&mut self, level: Level, row: &[f32], tops: &Tops, bound: f32, many: bool) {
        if many {
            pick_many(level, row, tops, bound, self);
        } else {
            pick_few(level, row, tops, bound, self);
        }
    }

    /// Keeps those between two logits, both included.
    pub fn filter(&mut self, level: Level, low: f32, high: f32) {
        filter(level, self, low, high);
    }

    /// Their logits, in the order of ids.
    pub fn logits(&self) -> &[f32] {
        &self.logits[..self.len]
    }

    /// The last of those with this logit.
    pub fn last_with(&self, logit: f32) -> Option<Candidate> {
        let place = self.logits().iter().rposition(|&x| x == logit)?;
        Some(Candidate::new(logit, self.ids[place] as usize))
    }

    /// Drops those that tie with `last` and come after it.
    pub fn drop_ties_after(&mut self, last: Candidate) {
        let mut kept = 0;
        for i in 0..self.len {
            if self.logits[i] != last.logit || self.ids[i] <= last.id {
                self.logits[kept] = self.logits[i];
                self.ids[kept] = self.ids[i];
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// Copies the tokens of another.
    pub fn copy(&mut self, other: &Self) {
        self.make_room(other.len);
        self.logits[..other.len].copy_from_slice(&other.logits[..other.len]);
        self.ids[..other.len].copy_from_slice(&other.ids[..other.len]);
        self.len = other.len;
    }

    /// The weight of all of them.
    pub fn mass(&self, law: &Law) -> u64 {
        self.mass_reaching(law, f32::NEG_INFINITY)
    }

    /// The weight of those whose logit reaches `low`.
    pub fn mass_reaching(&self, law: &Law, low: f32) -> u64 {
        let bounds = Bounds { low, ..Bounds::ALL };
        let blocks = self.logits[..self.len].chunks(BLOCK);
        blocks.map(|block| span_sum(law.level, block, bounds, law.max, law.scale)).sum()
    }

    /// The token that a ticket draws where these are all the survivors of `law`.
    pub fn token_at(&self, law: &Law, ticket: u64) -> usize {
        let Law { level, max, scale, .. } = *law;
        let mut rest = ticket;
        for (logits, ids) in self.logits[..self.len].chunks(BLOCK).zip(self.ids.chunks(BLOCK)) {
            let mass = span_sum(level, logits, Bounds::ALL, max, scale);
            if rest < mass {
                let mut weights = [0u64; BLOCK];
                let weights = &mut weights[..logits.len()];
                span_fill(level, logits, Bounds::ALL, max, scale, weights);
                return ids[first_above(weights.iter().copied(), rest)] as usize;
            }
            rest -= mass;
        }
        unreachable!("the ticket is below the total of the weights")
    }

    /// Room for `len` tokens and a vector.
    fn make_room(&mut self, len: usize) {
        if self.logits.len() < len + LANES {
            self.logits.resize(len + LANES, 0.0);
            self.ids.resize(len + LANES, 0);
        }
    }
}

kernel! {
    fn pick_few(row: &[f32], tops: &[[f32; LANES]], bound: f32, out: &mut Picked) =
        pick_few_body;
}
kernel! {
    fn pick_many(row: &[f32], tops: &[[f32; LANES]], bound: f32, out: &mut Picked) =
        pick_many_body;
}
kernel! {
    fn filter(tokens: &mut Picked, low: f32, high: f32) = filter_body;
}

/// 0, 1, 2, ...
const COUNT: [u32; LANES] = {
    let mut count = [0; LANES];
    let mut i = 1;
    while i < LANES {
        count[i] = count[i - 1] + 1;
        i += 1;
    }
    count
};

/// Writes the lanes whose bits are set to `at` and the places after it; how many they are.
#[inline(always)]
fn write<L: Lanes>(
    on: L,
    (logits, ids): (L::V, L::I),
    bits: u16,
    (all, all_ids): (&mut [f32], &mut [u32]),
    at: usize,
) -> usize {
    let to = all[at..].first_chunk_mut().expect("room for a vector");
    let to_ids = all_ids[at..].first_chunk_mut().expect("room for a vector");
    on.compress(logits, bits, to);
    on.compress_int(ids, bits, to_ids)
}

#[inline(always)]
fn pick_few_body<L: Lanes>(on: L, row: &[f32], tops: &[[f32; LANES]], bound: f32, to: &mut Picked) {
    pick_body::<L, false>(on, row, tops, bound, to);
}

#[inline(always)]
fn pick_many_body<L: Lanes>(
    on: L,
    row: &[f32],
    tops: &[[f32; LANES]],
    bound: f32,
    to: &mut Picked,
) {
    pick_body::<L, true>(on, row, tops, bound, to);
}

#[inline(always)]
fn pick_body<L: Lanes, const MANY: bool>(
    on: L,
    row: &[f32],
    tops: &[[f32; LANES]],
    bound: f32,
    out: &mut Picked,
) {
    out.len = 0;
    let (bounds, count) = (on.splat(bound), on.load_int(&COUNT));
    for (span, (top, chunk)) in tops.iter().zip(row.chunks(SPAN)).enumerate() {
        if on.at_least(on.load(top), bounds) == 0 {
            continue;
        }
        out.make_room(out.len + SPAN);
        let (chunks, rest) = chunk.as_chunks::<LANES>();
        let mut start = span * SPAN;
        for chunk in chunks {
            let logits = on.load(chunk);
            let hits = on.at_least(logits, bounds);
            if MANY || hits != 0 {
                let ids = on.add_int(count, on.splat_int(start as u32));
                let to = (&mut out.logits[..], &mut out.ids[..]);
                out.len += write(on, (logits, ids), hits, to, out.len);
            }
            start += LANES;
        }
        for (lane, &logit) in rest.iter().enumerate() {
            if logit >= bound {
                out.logits[out.len] = logit;
                out.ids[out.len] = (start + lane) as u32;
                out.len += 1;
            }
        }
    }
}

/// In place: what is written never overtakes what is read.
#[inline(always)]
fn filter_body<L: Lanes>(on: L, tokens: &mut Picked, low: f32, high: f32) {
    let (lows, highs) = (on.splat(low), on.splat(high));
    let mut kept = 0;
    for start in (0..tokens.len).step_by(LANES) {
        let Some(logits) = tokens.logits[start..].first_chunk() else { break };
        let Some(ids) = tokens.ids[start..].first_chunk() else { break };
        let (logits, ids) = (on.load(logits), on.load_int(ids));
        let mut hits = on.at_least(logits, lows) & on.at_least(highs, logits);
        if tokens.len - start < LANES {
            hits &= (1 << (tokens.len - start)) - 1;
        }
        if hits != 0 {
            let to = (&mut tokens.logits[..], &mut tokens.ids[..]);
            kept += write(on, (logits, ids), hits, to, kept);
        }
    }
    tokens.len = kept;
}

#[cfg(test)]
mod tests {
    use super::Picked;
    use crate::row::order::Candidate;
    use crate::row::scan::survey;
    use fastdecode_simd::Level;

    #[test]
    fn picks_and_filters_as_a_plain_loop() {
        for len in [1, 15, 16, 17, 127, 128, 129, 1000] {
            let row: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            for level in Level::available() {
                let mut tops = vec![];
                let max = survey(level, &row, &mut tops).unwrap();
                let mut picked = Picked::default();
                for bound in [f32::NEG_INFINITY, -20.0, 0.0, max] {
                    for (low, high, many) in
                        [(-10.0, 30.0, true), (f32::NEG_INFINITY, 5.0, false), (60.0, 70.0, true)]
                    {
                        picked.pick(level, &row, &tops, bound, many);
                        let expected = |low: f32, high: f32| -> Vec<Candidate> {
                            let all = row.iter().enumerate();
                            let inside = all.filter(|&(_, &x)| x >= low && x <= high);
                            inside.map(|(id, &x)| Candidate::new(x, id)).collect()
                        };
                        let all = expected(bound, f32::INFINITY);
                        assert_eq!(picked.candidates().collect::<Vec<_>>(), all);
                        assert_eq!(picked.len(), all.len());
                        picked.filter(level, low, high);
                        let inside = expected(low.max(bound), high);
                        assert_eq!(picked.candidates().collect::<Vec<_>>(), inside);
                    }
                }
                picked.pick(level, &row, &tops, -50.0, false);
                picked.drop_ties_after(Candidate::new(row[0], 0));
                let first = row.iter().enumerate().filter(|&(id, &x)| id == 0 || x != row[0]);
                assert!(picked.candidates().map(|x| x.id as usize).eq(first.map(|(id, _)| id)));
            }
        }
    }
}
