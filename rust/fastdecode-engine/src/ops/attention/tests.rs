//! Attention against its definition, step by step.

use super::{Attention, Heads};
use crate::cache::{CacheFormat, Layout, Reserved, Sequence, Shape};
use crate::ops::activations::exp;
use crate::ops::converted::Converted;
use crate::ops::pass_rows::PassRows;
use crate::ops::row_blocks::RowBlocks;
use crate::ops::run::Run;
use crate::weights::{Weights, scale_of};
use fastdecode_core::philox::philox4x32;
use fastdecode_simd::{Lanes, Level, Pool, Portable};
use std::ops::Range;
use std::sync::Arc;

/// The heads of a layer, and how it is run.
#[derive(Clone, Copy)]
struct Case {
    format: CacheFormat,
    heads: usize,
    group: usize,
    width: usize,
    window: Option<usize>,
}

/// Queries, keys and values of a position: numbers in -2..2, of which some are far larger and some zeros.
fn row(case: Case, sequence: usize, position: usize) -> Vec<f32> {
    let count = (case.group + 2) * case.heads * case.width;
    let number = |i: usize| {
        let words = philox4x32([i as u32, sequence as u32, position as u32, 0], [7, 8]);
        let x = (words[0] >> 8) as f32 / (1 << 22) as f32 - 2.0;
        match words[1] % 40 {
            0 => x * 20.0,
            1 => 0.0,
            _ => x,
        }
    };
    // A key of zeros, whose scale is zero, too.
    (0..count).map(|i| if position == 5 { 0.0 } else { number(i) }).collect()
}

/// The first and second integers of a vector, and its scale.
fn integers(x: &[f32]) -> (Vec<[i64; 2]>, f32) {
    let (scale, inverse) = scale_of(x.iter().fold(0.0f32, |most, x| most.max(x.abs())));
    let both = |x: &f32| {
        let high = (x * inverse).round_ties_even();
        let low = ((x * inverse - high) * 254.0).round_ties_even();
        [high as i64, low as i64]
    };
    (x.iter().map(both).collect(), scale)
}

/// The sums of the products of both integers with another vector's first ones, as one float.
fn product(x: &[[i64; 2]], y: &[i64]) -> f32 {
    let sum = |i: usize| x.iter().zip(y).map(|(x, y)| x[i] * y).sum::<i64>() as f32;
    sum(1).mul_add(1.0 / 254.0, sum(0))
}

/// The softmax's terms of the scores of these positions, and their sum.
fn softmax(scores: &[f32], positions: Range<usize>) -> (Vec<f32>, f32) {
    let largest = scores.iter().copied().fold(f32::MIN, f32::max);
    let term = |score: &f32| exp(Portable, [score - largest; 16])[0];
    let terms: Vec<f32> = scores.iter().map(term).collect();
    let mut lanes = [0.0; 16];
    for (position, term) in positions.zip(&terms) {
        lanes[position % 16] += term;
    }
    (terms, Portable.sum(lanes))
}

impl Case {
    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// The output of a head of queries at a position, by the rows up to it.
    fn plain(self, rows: &[Vec<f32>], head: usize) -> Vec<f32> {
        let queries = self.heads * self.group;
        let part =
            |position: usize, head: usize| &rows[position][head * self.width..][..self.width];
        let last = rows.len() - 1;
        let query: Vec<f32> = part(last, head).iter().map(|q| q * self.scale()).collect();
        let key = |i: usize| part(i, queries + head / self.group);
        let value = |i: usize| part(i, queries + self.heads + head / self.group);
        let first = self.window.map_or(0, |window| rows.len().saturating_sub(window));
        if self.format == CacheFormat::Int8 {
            return self.plain_integers(&query, key, value, first..rows.len());
        }
        let stored = |x: f32| match self.format {
            CacheFormat::BFloat16 => half::bf16::from_f32(x).to_f32(),
            _ => x,
        };
        let score = |i: usize| {
            query.iter().zip(key(i)).fold(0.0f32, |sum, (q, k)| q.mul_add(stored(*k), sum))
        };
        let scores: Vec<f32> = (first..rows.len()).map(score).collect();
        let (terms, total) = softmax(&scores, first..rows.len());
        let mean = |d: usize| {
            let terms = terms.iter().enumerate();
            let sum =
                terms.fold(0.0f32, |sum, (i, term)| term.mul_add(stored(value(first + i)[d]), sum));
            sum / total
        };
        (0..self.width).map(mean).collect()
    }

    fn plain_integers<'a>(
        self,
        query: &[f32],
        key: impl Fn(usize) -> &'a [f32],
        value: impl Fn(usize) -> &'a [f32],
        reach: Range<usize>,
    ) -> Vec<f32> {
        let high = |x: &[[i64; 2]]| -> Vec<i64> { x.iter().map(|x| x[0]).collect() };
        let (query, query_scale) = integers(query);
        let score = |i: usize| {
            let (key, key_scale) = integers(key(i));
            product(&query, &high(&key)) * (query_scale * key_scale)
        };
        let scores: Vec<f32> = reach.clone().map(score).collect();
        let (terms, total) = softmax(&scores, reach.clone());
        let mut sums = vec![0.0f32; self.width];
        for chunk in reach.start / 16..reach.end.div_ceil(16) {
            let mut weighted = [0.0; 16];
            let mut values = vec![vec![0; self.width]; 16];
            for (lane, weighted) in weighted.iter_mut().enumerate() {
                let position = 16 * chunk + lane;
                if reach.contains(&position) {
                    let (integers, scale) = integers(value(position));
                    *weighted = terms[position - reach.start] * scale;
                    values[lane] = high(&integers);
                }
            }
            let (weighted, scale) = integers(&weighted);
            for (d, sum) in sums.iter_mut().enumerate() {
                let column: Vec<i64> = values.iter().map(|value| value[d]).collect();
                *sum = product(&weighted, &column).mul_add(scale, *sum);
            }
        }
        sums.into_iter().map(|sum| sum / total).collect()
    }

    /// Runs attention over passes, each of which has a number of new positions for each sequence; compares
    /// every output.
    fn check(self, level: Level, threads: usize, passes: &[&[usize]]) {
        let shape = Shape::new(1, self.heads, self.width).with_format(self.format);
        let layout = Arc::new(Layout::new(shape, &[self.window]));
        let count = passes[0].len();
        let mut sequences = vec![Sequence::new(Arc::clone(&layout)); count];
        let mut histories: Vec<Vec<Vec<f32>>> = vec![Vec::new(); count];
        let heads = Heads {
            queries: self.heads * self.group,
            scale: self.scale(),
            window: self.window,
            norms: None,
        };
        let (pool, weights) = (Pool::new(), Weights::empty());
        for news in passes {
            let mut session = pool.session(threads);
            let mut reserved =
                Reserved::new(&mut sequences, |i| news[i], 512, &layout, &mut session).unwrap();
            let (mut rows, mut qkv) = (PassRows::default(), Vec::new());
            for (i, &new) in news.iter().enumerate().filter(|(_, new)| **new > 0) {
                let start = histories[i].len();
                rows.push(i, start, &vec![0; new]);
                reserved.open(i, new);
                for position in start..start + new {
                    histories[i].push(row(self, i, position));
                    qkv.extend_from_slice(&histories[i][position]);
                }
            }
            let blocks = RowBlocks::new(rows.len());
            let width = heads.queries * self.width;
            let mut to = vec![f32::NAN; rows.len() * width];
            let mut converted = Converted::default();
            let mut run = Run { level, session, weights: &weights, converted: &mut converted };
            Attention::new(&mut reserved, &rows, (&qkv, None), &heads, 0)
                .apply(&mut run, blocks, &mut to);
            for block in (0..blocks.count()).map(|block| blocks.range(block)) {
                for row in block.clone() {
                    let (sequence, position) = (rows.segment(row).sequence, rows.position(row));
                    for head in 0..heads.queries {
                        let expected = self.plain(&histories[sequence][..=position], head);
                        let place = |d: usize| {
                            let at = (head * self.width + d) * block.len() + row - block.start;
                            block.start * width + at
                        };
                        for (d, expected) in expected.into_iter().enumerate() {
                            let found = to[place(d)];
                            assert!(
                                found.to_bits() == expected.to_bits() || found == expected,
                                "{:?}, {level:?}, position {position}, {head}, {d}: {found} {expected}",
                                self.format
                            );
                        }
                    }
                }
            }
            for (i, &new) in news.iter().enumerate() {
                reserved.advance(i, new);
            }
        }
    }
}

#[test]
fn every_format_is_computed_as_it_is_defined() {
    let shapes = [
        (1, 1, 16, None),
        (2, 1, 20, None),
        (1, 3, 64, None),
        (2, 2, 5, Some(9)),
        (1, 4, 80, Some(40)),
        (1, 7, 47, Some(1)),
        (1, 2, 130, None),
    ];
    for (heads, group, width, window) in shapes {
        for format in CacheFormat::ALL {
            let case = Case { format, heads, group, width, window };
            for level in Level::available() {
                // A long prompt beside short ones, single tokens, and both together.
                case.check(level, 2, &[&[37, 1, 20], &[1, 1, 1], &[3, 17, 1], &[0, 1, 30]]);
                case.check(level, 1, &[&[90], &[1], &[1]]);
            }
        }
    }
}
