//! The whole map from tickets to tokens, proved row by row.
//!
//! Token i owns the tickets `C[i - 1]..C[i]`, where C is the cumulative sum of the weights. The
//! map is a walk along cumulative sums, so it never decreases in the ticket; the first and the
//! last ticket of each token with a weight therefore show all of it.

mod common;

use common::{Dice, rows};
use fastdecode_core::{
    DrawContext, DynamicTemperature, Error, Key, Params, Sampler, Workspace, Xtc,
};

fn sampler(temperature: f64, top_k: Option<i64>, top_p: Option<f64>) -> Sampler {
    of(Params { temperature, top_k, top_p, ..Params::default() })
}

const CONTEXT: DrawContext =
    DrawContext { key: Key { seed: 0, stream: 0, sample: 0, position: 0 }, mu: None };

fn of(params: Params) -> Sampler {
    Sampler::new(params).unwrap()
}

/// Every path through the core.
fn samplers() -> Vec<Sampler> {
    vec![
        sampler(1.0, None, None),
        sampler(0.7, None, None),
        sampler(0.0, None, None),
        sampler(1.3, Some(5), None),
        sampler(1.0, Some(100), None),
        sampler(1.0, None, Some(0.9)),
        sampler(2.5, None, Some(0.3)),
        sampler(0.9, Some(50), Some(0.95)),
        of(Params { min_p: Some(0.05), ..Params::default() }),
        of(Params { typical_p: Some(0.9), ..Params::default() }),
        of(Params { typical_p: Some(0.3), top_k: Some(40), ..Params::default() }),
        of(Params { epsilon_cutoff: Some(0.002), eta_cutoff: Some(0.004), ..Params::default() }),
        of(Params { top_n_sigma: Some(1.0), temperature: 1.5, ..Params::default() }),
        of(Params {
            dynamic_temperature: Some(DynamicTemperature { low: 0.5, high: 1.5, exponent: 1.0 }),
            ..Params::default()
        }),
        of(Params {
            xtc: Some(Xtc { probability: 1.0, threshold: 0.1 }),
            top_p: Some(0.95),
            ..Params::default()
        }),
    ]
}

/// The first and the last ticket of every token with a weight, with their owner.
fn border_tickets(weights: &[u64]) -> (Vec<u64>, Vec<u32>) {
    let mut tickets = Vec::new();
    let mut owners = Vec::new();
    let mut cumulative = 0;
    for (id, &weight) in (0..).zip(weights) {
        if weight > 0 {
            tickets.extend([cumulative, cumulative + weight - 1]);
            owners.extend([id, id]);
            cumulative += weight;
        }
    }
    (tickets, owners)
}

fn prove(sampler: &Sampler, row: &[f32], workspace: &mut Workspace) {
    let weights = sampler.weights(row, CONTEXT, workspace).unwrap();
    let total = weights.iter().sum();
    let (tickets, owners) = border_tickets(&weights);
    let draws = sampler.redeem(row, CONTEXT, &tickets, workspace).unwrap();
    for ((draw, &ticket), &owner) in draws.iter().zip(&tickets).zip(&owners) {
        assert_eq!((draw.token, draw.ticket, draw.total), (owner, ticket, total));
        assert_eq!(draw.weight, weights[owner as usize]);
    }
    // Both ends of the map, and some tickets between, by the path that draws one token.
    let mut dice = Dice::new(total);
    let some = (0..8).map(|_| dice.below(tickets.len()));
    for index in some.chain([0, tickets.len() - 1]) {
        let draw = sampler.sample_with(row, CONTEXT, |_| tickets[index], workspace).unwrap();
        assert_eq!(draw, draws[index]);
    }
}

#[test]
fn thousands_of_small_rows() {
    let mut workspace = Workspace::default();
    let mut samplers = samplers();
    let lens = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 255, 257];
    let (mut lens, mut seeds) = (&lens[..], 6);
    if cfg!(miri) {
        // Some thousand times slower: one length, one sampler of each kind.
        (lens, seeds) = (&lens[4..5], 1);
        samplers = vec![samplers[0], samplers[7]];
    }
    for &len in lens {
        for seed in 0..seeds {
            for row in rows(len, seed) {
                for sampler in &samplers {
                    prove(sampler, &row, &mut workspace);
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow for Miri")]
fn rows_around_the_blocks() {
    let mut workspace = Workspace::default();
    for len in [511, 512, 513, 1023, 1025, 4095, 5000] {
        for row in rows(len, len as u64) {
            for sampler in samplers() {
                prove(&sampler, &row, &mut workspace);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow for Miri")]
fn vocabularies_of_models() {
    let mut workspace = Workspace::default();
    for (len, seed) in [(50_257, 1), (300_000, 2)] {
        for row in rows(len, seed) {
            for sampler in [sampler(1.0, None, None), sampler(0.8, Some(50), Some(0.9))] {
                prove(&sampler, &row, &mut workspace);
            }
        }
    }
}

/// Where `FASTDECODE_GPT2_LOGITS` names a folder of real rows (`row*.f32`).
#[test]
#[cfg_attr(miri, ignore = "too slow for Miri")]
fn real_rows() {
    let Some(folder) = std::env::var_os("FASTDECODE_GPT2_LOGITS") else { return };
    let mut workspace = Workspace::default();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "f32") {
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        let row: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        for sampler in samplers() {
            prove(&sampler, &row, &mut workspace);
        }
        seen += 1;
    }
    assert!(seen > 0, "no row*.f32 in FASTDECODE_GPT2_LOGITS");
}

/// A narrow generator: at this temperature integer logits have weights that are exact powers of
/// two, so that all tickets fall into 2^16 cells or fewer. Each cell's ends are tried, by the path
/// that draws, and each token has the cells its weight says.
#[test]
#[cfg_attr(miri, ignore = "too slow for Miri")]
fn every_cell_of_small_laws() {
    const DEPTH: u32 = 12;
    let temperature = std::f64::consts::LOG2_E;
    let mut workspace = Workspace::default();
    let mut dice = Dice::new(7);
    for len in [1, 2, 3, 6, 9, 15] {
        for top_k in [None, Some(4)] {
            let sampler = sampler(temperature, top_k, None);
            let mut row: Vec<f32> =
                (0..len).map(|_| -(dice.below(DEPTH as usize + 1) as f32)).collect();
            row[len / 2] = 0.0;
            row[len - 1] = if len > 2 { f32::NEG_INFINITY } else { 0.0 };
            let weights = sampler.weights(&row, CONTEXT, &mut workspace).unwrap();
            let total: u64 = weights.iter().sum();
            let cell = 1u64 << (42 - DEPTH);
            assert_eq!(total % cell, 0);
            let cells = total / cell;
            assert!(cells <= 1 << 16);
            let mut counts = vec![0; len];
            for index in 0..cells {
                let mut at = |ticket| {
                    sampler.sample_with(&row, CONTEXT, |_| ticket, &mut workspace).unwrap()
                };
                let first = at(index * cell).token;
                assert_eq!(at(index * cell + cell - 1).token, first);
                counts[first as usize] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                assert_eq!(count * cell, *weight);
            }
        }
    }
}

#[test]
fn a_ticket_beyond_the_total_is_refused() {
    let mut workspace = Workspace::default();
    let row = [0.0, 1.0, 2.0];
    for sampler in [sampler(1.0, None, None), sampler(1.0, Some(2), None)] {
        let total = sampler.weights(&row, CONTEXT, &mut workspace).unwrap().iter().sum();
        for ticket in [total, total + 1, u64::MAX] {
            let refusal = Error::Ticket { ticket, total };
            let drawn = sampler.sample_with(&row, CONTEXT, |_| ticket, &mut workspace);
            assert_eq!(drawn, Err(refusal.clone()));
            assert_eq!(sampler.redeem(&row, CONTEXT, &[0, ticket], &mut workspace), Err(refusal));
        }
    }
}

/// A key's draw is the draw of its ticket.
#[test]
#[cfg_attr(miri, ignore = "too slow for Miri")]
fn keys_and_tickets_agree() {
    let mut workspace = Workspace::default();
    for (seed, row) in (0..).zip(rows(700, 3)) {
        for sampler in samplers() {
            let key = Key { seed, stream: 1, sample: 2, position: 3 };
            let draw = sampler.sample(&row, key.into(), &mut workspace).unwrap();
            assert_eq!(draw.ticket, key.ticket(draw.total));
            let again =
                sampler.sample_with(&row, CONTEXT, |total| key.ticket(total), &mut workspace);
            assert_eq!(again, Ok(draw));
        }
    }
}
