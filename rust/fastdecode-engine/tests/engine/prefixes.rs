//! Caches that are kept for prompts that begin alike change no bit.

use crate::families::{CONTEXT, Small, VOCABULARY, all};
use crate::small::{bits, tokens};
use fastdecode_engine::{Batch, Format, Level, Model};
use std::sync::Arc;

/// Prompts that have beginnings of several lengths in common, and some that are the same.
fn prompts() -> Vec<Vec<u32>> {
    let (one, two) = (tokens(0, CONTEXT), tokens(1, CONTEXT));
    let mut prompts = Vec::new();
    for length in [1, 15, 16, 17, 33, 40, CONTEXT - 1, CONTEXT] {
        prompts.push(one[..length].to_vec());
        prompts.push([&one[..length / 2], &two[length / 2..length]].concat());
    }
    prompts.push(one.clone());
    prompts.push(two);
    prompts
}

fn next(model: &Arc<Model>, prompts: &[&[u32]]) -> Vec<Vec<u32>> {
    let mut batch = Batch::new(Arc::clone(model));
    let mut out = vec![0.0; prompts.len() * VOCABULARY];
    batch.join(prompts, &vec![1; prompts.len()], &mut out).unwrap();
    out.chunks(VOCABULARY).map(bits).collect()
}

fn same_bits(small: &Small, limit: usize) {
    let (plain, keeping) = (
        Arc::new(small.model(Format::Float32, Level::detect(), 2)),
        Arc::new(small.model(Format::Float32, Level::detect(), 2)),
    );
    keeping.keep_prefixes(limit);
    let prompts = prompts();
    let expected: Vec<_> = prompts.iter().flat_map(|prompt| next(&plain, &[prompt])).collect();
    for together in [1, 3, prompts.len()] {
        let (chunks, expected) = (prompts.chunks(together), expected.chunks(together));
        for (prompts, expected) in chunks.zip(expected) {
            let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            assert_eq!(next(&keeping, &prompts), expected, "{}, {together}", small.name);
            assert!(keeping.kept_prefixes().0 <= limit);
        }
    }
    assert_eq!(keeping.kept_prefixes().1, limit);
    keeping.keep_prefixes(0);
    assert_eq!(keeping.kept_prefixes(), (0, 0));
    assert_eq!(keeping.cache_bytes(), 0, "{}", small.name);
}

#[test]
fn prompts_that_begin_alike_give_the_same_bits() {
    for small in all() {
        let model = small.model(Format::Float32, Level::PORTABLE, 1);
        let prompt = model.bytes_per_token() * CONTEXT;
        for limit in [0, prompt / 2, 4 * prompt, 100 * prompt] {
            same_bits(&small, limit);
        }
    }
}

#[test]
fn prompts_with_a_common_beginning_have_it_computed_once() {
    let model = Arc::new(all()[0].model(Format::Float32, Level::detect(), 2));
    model.keep_prefixes(1 << 30);
    let beginning = tokens(0, CONTEXT - 2);
    let prompts: Vec<Vec<u32>> =
        (0..8).map(|i| beginning.iter().copied().chain([i]).collect()).collect();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let mut batch = Batch::new(Arc::clone(&model));
    let mut out = vec![0.0; 8 * VOCABULARY];
    batch.join(&prompts, &[1; 8], &mut out).unwrap();
    let [first, others @ ..] = batch.sequences() else { unreachable!() };
    assert!(others.iter().all(|other| other.shared_with(first) > 0));
}
