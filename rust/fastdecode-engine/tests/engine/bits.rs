//! A row's logits are the same bits whatever is beside it and whatever runs it.

use crate::small::{
    CONTEXT, VOCABULARY, bits, config, file, logits, model, model_of, tokens, weights,
};
use fastdecode_engine::Level;
use fastdecode_engine::{Batch, Format, Model, Tensors, Wanted, Workspace};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| Arc::new(model(Level::detect(), 2)));

/// FNV-1a over the bits.
pub fn digest(words: &[u32]) -> u64 {
    words.iter().flat_map(|word| word.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn golden_digests_on_every_level_and_number_of_threads() {
    // A digest belongs to a definition: where it changes, its number is raised.
    for (format, definition, expected) in [
        (Format::Float32, "float32/1", 0x114e_2418_3096_a363),
        (Format::BFloat16, "bfloat16/2", 0x6d18_37de_f24d_39ab),
        (Format::BFloat16Weights, "bfloat16/1", 0xfb1a_dfa3_1db2_dbe2),
        (Format::Int8, "int8/1", 0x9213_83c5_7561_6f31),
        (Format::Int4, "int4/1", 0x4578_a3c4_b9d9_cfe8),
        (Format::Int4Offsets, "int4_offsets/1", 0x5e3e_8990_de58_ab69),
        (Format::Int8Groups, "int8_groups/1", 0x0871_0722_af5d_dc62),
    ] {
        assert_eq!(format.definition(), definition);
        for level in Level::available() {
            for threads in [1, 2, 3] {
                let model = model_of(format, level, threads);
                let found = digest(&logits(&model, &tokens(0, CONTEXT)));
                assert_eq!(found, expected, "{format:?}, {level:?}, {threads} threads: {found:#x}");
            }
        }
    }
}

#[test]
fn bfloat16_weights_are_float32_with_rounded_weights() {
    let mut named = weights();
    for (name, (shape, x)) in &mut named {
        if shape.len() == 2 && name != "wpe.weight" {
            for x in x {
                *x = half::bf16::from_f32(*x).to_f32();
            }
        }
    }
    let file = file(&named, "");
    let tensors = Tensors::from_safetensors(&file).unwrap();
    let rounded = Model::with(config(), &tensors, Format::Float32, Level::detect(), 2).unwrap();
    let stored = model_of(Format::BFloat16Weights, Level::detect(), 2);
    let row = tokens(4, CONTEXT);
    assert_eq!(logits(&stored, &row), logits(&rounded, &row));
    assert!(stored.bytes() < rounded.bytes());
}

#[test]
fn integers_in_any_batch_and_token_by_token() {
    let formats = Format::ALL.into_iter().chain(Format::OF_FILES);
    for format in formats.filter(|format| *format != Format::Float32) {
        let model = Arc::new(model_of(format, Level::detect(), 2));
        let rows: Vec<Vec<u32>> = (0..15).map(|row| tokens(row, 3 + 4 * row)).collect();
        let mut batch = Batch::new(Arc::clone(&model));
        let mut out = vec![0.0; rows.len() * VOCABULARY];
        let prompts: Vec<&[u32]> = rows.iter().map(|row| &row[..row.len() - 1]).collect();
        batch.join(&prompts, &[1; 15], &mut out).unwrap();
        let last: Vec<u32> = rows.iter().map(|row| row[row.len() - 1]).collect();
        batch.step(&last, &mut out).unwrap();
        for (row, out) in rows.iter().zip(out.chunks(VOCABULARY)) {
            let alone = logits(&model, row);
            assert_eq!(bits(out), alone[alone.len() - VOCABULARY..]);
        }
    }
}

#[test]
fn a_prompt_whole_or_token_by_token() {
    let all = logits(&MODEL, &tokens(3, CONTEXT));
    let row = tokens(3, CONTEXT);
    for first in [1, 2, 15, 16, 17, 33, CONTEXT] {
        let mut batch = Batch::new(Arc::clone(&MODEL));
        let mut out = vec![0.0; VOCABULARY];
        batch.join(&[&row[..first]], &[1], &mut out).unwrap();
        assert_eq!(bits(&out), all[(first - 1) * VOCABULARY..first * VOCABULARY], "{first}");
        for (i, token) in row.iter().enumerate().skip(first) {
            batch.step(&[*token], &mut out).unwrap();
            assert_eq!(bits(&out), all[i * VOCABULARY..(i + 1) * VOCABULARY], "{first}, {i}");
        }
    }
}

#[test]
fn prompts_longer_than_a_pass() {
    // A thousand tokens in all, so that passes end within prompts.
    let prompts: Vec<Vec<u32>> = (0..16).map(|row| tokens(row, 70 - row)).collect();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let mut batch = Batch::new(Arc::clone(&MODEL));
    let mut out = vec![0.0; 16 * VOCABULARY];
    batch.join(&prompts, &[1; 16], &mut out).unwrap();
    for (prompt, out) in prompts.iter().zip(out.chunks(VOCABULARY)) {
        let alone = logits(&MODEL, prompt);
        assert_eq!(bits(out), alone[alone.len() - VOCABULARY..]);
    }
    let mut sequences = vec![MODEL.sequence(); 16];
    let count: usize = prompts.iter().map(|p| p.len()).sum();
    let mut every = vec![0.0; count * VOCABULARY];
    let workspace = &mut Workspace::default();
    MODEL.forward(&mut sequences, &prompts, Wanted::All, workspace, &mut every).unwrap();
    let alone: Vec<u32> = prompts.iter().flat_map(|prompt| logits(&MODEL, prompt)).collect();
    assert_eq!(bits(&every), alone);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Rows of any lengths join, leave, change places and are forked; each has the logits that it
    /// has alone.
    #[test]
    fn rows_that_come_and_go(
        first in prop::collection::vec((1usize..40, 1usize..4), 1..9),
        late in prop::collection::vec((1usize..20, 1usize..3), 0..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..34),
        steps in 1usize..20,
    ) {
        let mut batch = Batch::new(Arc::clone(&MODEL));
        let mut histories: Vec<Vec<u32>> = Vec::new();
        let join = |batch: &mut Batch, histories: &mut Vec<Vec<u32>>, rows: &[(usize, usize)]| {
            let prompts: Vec<Vec<u32>> =
                rows.iter().enumerate().map(|(i, &(n, _))| tokens(histories.len() + i, n)).collect();
            let repeats: Vec<usize> = rows.iter().map(|&(_, r)| r).collect();
            let mut out = vec![0.0; repeats.iter().sum::<usize>() * VOCABULARY];
            let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            batch.join(&prompts, &repeats, &mut out).unwrap();
            let mut expected = Vec::new();
            for (prompt, repeat) in prompts.iter().zip(repeats) {
                let alone = logits(&MODEL, prompt);
                for _ in 0..repeat {
                    expected.extend_from_slice(&alone[alone.len() - VOCABULARY..]);
                    histories.push(prompt.to_vec());
                }
            }
            assert_eq!(bits(&out), expected);
        };
        let step = |batch: &mut Batch, histories: &mut Vec<Vec<u32>>, round: usize| {
            let next: Vec<u32> =
                (0..histories.len()).map(|row| ((row * 7 + round * 5) % VOCABULARY) as u32).collect();
            let mut out = vec![0.0; next.len() * VOCABULARY];
            batch.step(&next, &mut out).unwrap();
            for ((history, token), out) in histories.iter_mut().zip(next).zip(out.chunks(VOCABULARY)) {
                history.push(token);
                let alone = logits(&MODEL, history);
                assert_eq!(bits(out), alone[alone.len() - VOCABULARY..]);
            }
        };
        join(&mut batch, &mut histories, &first);
        step(&mut batch, &mut histories, 0);
        if !late.is_empty() {
            join(&mut batch, &mut histories, &late);
        }
        let kept: Vec<usize> = order.iter().map(|index| index.index(histories.len())).collect();
        let rows: Vec<i64> = kept.iter().map(|&row| i64::try_from(row).unwrap()).collect();
        batch.keep(&rows).unwrap();
        histories = kept.iter().map(|&row| histories[row].clone()).collect();
        for round in 1..=steps {
            step(&mut batch, &mut histories, round);
        }
    }
}

#[test]
fn forks_share_all_full_chunks() {
    let mut batch = Batch::new(Arc::clone(&MODEL));
    let mut out = vec![0.0; 4 * VOCABULARY];
    batch.join(&[&tokens(0, 40)], &[4], &mut out).unwrap();
    for row in 1..4 {
        assert_eq!(batch.sequences()[0].shared_with(&batch.sequences()[row]), 3);
    }
    // The two full chunks are never copied; the last is, by all rows but one.
    batch.step(&[1, 2, 3, 4], &mut out).unwrap();
    for row in 1..4 {
        assert_eq!(batch.sequences()[0].shared_with(&batch.sequences()[row]), 2);
    }
}

#[test]
fn weights_without_the_prefix_and_in_half_the_bits() {
    let named = weights();
    let plain = file(&named, "");
    let tensors = Tensors::from_safetensors(&plain).unwrap();
    let same = Model::with(config(), &tensors, Format::Float32, Level::detect(), 1).unwrap();
    let row = tokens(5, 20);
    assert_eq!(logits(&same, &row), logits(&MODEL, &row));
}

#[test]
fn what_a_caller_gets_wrong_is_refused_and_changes_nothing() {
    let mut batch = Batch::new(Arc::clone(&MODEL));
    let mut out = vec![0.0; VOCABULARY];
    let long = tokens(0, CONTEXT + 1);
    for (prompt, repeats, message) in [
        (&[][..], 1, "tokens[0] is empty; a sequence begins with at least one token"),
        (&[77], 1, "tokens[0] has 77, which is outside the vocabulary, 0..76"),
        (&long, 1, "tokens[0] makes a sequence of 71 tokens, but the model's context is 70"),
        (&[1], 0, "repeats[0]=0; a prompt becomes at least one sequence"),
    ] {
        let error = batch.join(&[prompt], &[repeats], &mut out).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(batch.is_empty());
    }
    batch.join(&[&tokens(0, CONTEXT - 1)], &[1], &mut out).unwrap();
    let error = batch.step(&[], &mut []).unwrap_err().to_string();
    assert_eq!(error, "tokens has 0 entries for 1 rows; give one a row");
    let error = batch.keep(&[0, -1]).unwrap_err().to_string();
    assert_eq!(error, "rows[1]=-1 is outside 0..0");
    assert!(batch.keep(&[1]).is_err());
    batch.step(&[1], &mut out).unwrap();
    assert!(
        batch
            .step(&[1], &mut out)
            .unwrap_err()
            .to_string()
            .contains("makes a sequence of 71 tokens")
    );
    assert_eq!(batch.sequences()[0].len(), CONTEXT);
}
