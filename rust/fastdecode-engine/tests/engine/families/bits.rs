//! The small models against their plain forward passes, and the same bits in any company.

use super::{CONTEXT, Small, VOCABULARY, all};
use crate::bits::digest;
use crate::small::{bits, logits, tokens};
use fastdecode_engine::{Batch, Format, Level};
use std::sync::Arc;

/// The root mean square of the differences, relative to that of the exact logits, is at most 2e-6 where
/// everything is computed in float32: some hundred roundings of 6e-8.
#[test]
fn the_engine_is_close_to_the_plain_forward_pass() {
    for small in all() {
        for level in Level::available() {
            let model = small.model(Format::Float32, level, 2);
            for (row, length) in [(0, 1), (1, 17), (2, CONTEXT)] {
                let tokens = tokens(row, length);
                let exact = small.exact(&tokens);
                let found = logits(&model, &tokens);
                assert_eq!(found.len(), exact.len());
                let square = |x: f64| x * x;
                let error: f64 = found
                    .iter()
                    .zip(&exact)
                    .map(|(x, y)| square(f64::from(f32::from_bits(*x)) - y))
                    .sum();
                let relative = (error / exact.iter().copied().map(square).sum::<f64>()).sqrt();
                assert!(relative < 2e-6, "{}, {level:?}, {length}: {relative}", small.name);
            }
        }
    }
}

/// Digests of the logits in float32, bfloat16 and int8. They belong to the definitions of the formats: where
/// one changes, its number is raised.
const GOLDEN: &[(&str, [u64; 3])] = &[];

#[test]
fn golden_digests_on_every_level_and_number_of_threads() {
    let mut wrong = Vec::new();
    for small in all() {
        let golden = GOLDEN.iter().find(|(name, _)| *name == small.name);
        for (i, format) in Format::ALL.into_iter().enumerate() {
            let expected = golden.map(|(_, digests)| digests[i]);
            for level in Level::available() {
                for threads in [1, 2, 3] {
                    let model = small.model(format, level, threads);
                    let found = digest(&logits(&model, &tokens(0, CONTEXT)));
                    if Some(found) != expected {
                        wrong.push(format!(
                            "{}, {format:?}, {level:?}, {threads} threads: {found:#x}",
                            small.name
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows of any lengths together, a step later, forked, and beside rows that join late have the logits that
/// they have alone and as one prompt.
#[test]
fn the_same_bits_in_any_company() {
    for small in all() {
        for format in Format::ALL {
            in_any_company(&small, format);
        }
    }
}

fn in_any_company(small: &Small, format: Format) {
    let model = Arc::new(small.model(format, Level::detect(), 2));
    let alone = |history: &[u32]| -> Vec<u32> {
        let all = logits(&model, history);
        all[all.len() - VOCABULARY..].to_vec()
    };
    let mut batch = Batch::new(Arc::clone(&model));
    let mut histories: Vec<Vec<u32>> = (0..7).map(|row| tokens(row, 1 + 9 * row)).collect();
    let mut out = vec![0.0; 16 * VOCABULARY];
    {
        let prompts: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
        batch.join(&prompts, &[1; 7], &mut out[..7 * VOCABULARY]).unwrap();
    }
    for round in 0..6 {
        if round == 2 {
            let order = [3, 3, 0, 6, 3, 5];
            batch.keep(&order).unwrap();
            histories =
                order.iter().map(|&row| histories[usize::try_from(row).unwrap()].clone()).collect();
            let late = [tokens(8, 33), tokens(9, 2)];
            let prompts: Vec<&[u32]> = late.iter().map(Vec::as_slice).collect();
            batch.join(&prompts, &[2, 1], &mut out[..3 * VOCABULARY]).unwrap();
            histories.extend([&late[0], &late[0], &late[1]].map(Clone::clone));
        }
        let next: Vec<u32> =
            (0..histories.len()).map(|row| ((row * 7 + round * 5) % VOCABULARY) as u32).collect();
        let out = &mut out[..next.len() * VOCABULARY];
        batch.step(&next, out).unwrap();
        for ((history, token), out) in histories.iter_mut().zip(next).zip(out.chunks(VOCABULARY)) {
            history.push(token);
            assert_eq!(bits(out), alone(history), "{}, {format:?}, round {round}", small.name);
        }
    }
    let whole = logits(&model, &tokens(3, CONTEXT));
    let mut batch = Batch::new(Arc::clone(&model));
    let out = &mut out[..VOCABULARY];
    for (i, token) in tokens(3, CONTEXT).into_iter().enumerate() {
        if i == 0 {
            batch.join(&[&[token]], &[1], out).unwrap();
        } else {
            batch.step(&[token], out).unwrap();
        }
        assert_eq!(bits(out), whole[i * VOCABULARY..(i + 1) * VOCABULARY], "{}, {i}", small.name);
    }
}

/// The KV cache of a token: keys and values of each head that has them, in float32.
#[test]
fn the_cache_has_its_real_size() {
    let small = all().into_iter().find(|small| small.name == "llama").unwrap();
    let model = small.model(Format::Float32, Level::detect(), 1);
    // Heads of 20 dimensions: keys as they are, values in two vectors of sixteen.
    assert_eq!(model.bytes_per_token(), 2 * 2 * (20 + 32) * 4);
}
