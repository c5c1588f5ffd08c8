//! The KV cache in its formats, on small models of each family.

use super::bits::in_any_company;
use super::{CONTEXT, all};
use crate::bits::digest;
use crate::small::{logits, tokens};
use fastdecode_engine::{CacheFormat, Format, Level};

/// The smaller formats.
const SMALLER: [CacheFormat; 2] = [CacheFormat::BFloat16, CacheFormat::Int8];

/// What the cache holds of a key or a value.
fn kept(format: CacheFormat) -> fn(&mut [f64]) {
    match format {
        CacheFormat::Float32 => |_| (),
        CacheFormat::BFloat16 => |x| {
            for x in x {
                *x = f64::from(half::bf16::from_f32(*x as f32));
            }
        },
        CacheFormat::Int8 => |x| {
            let scale = x.iter().fold(0.0f64, |largest, x| largest.max(x.abs())) / 127.0;
            for x in x {
                *x = (*x / scale).round_ties_even() * scale;
            }
        },
    }
}

/// The root mean square of the differences, relative to that of the exact logits.
fn error(found: &[u32], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let square = |x: f64| x * x;
    let differences = found.iter().zip(exact);
    let error: f64 = differences.map(|(x, y)| square(f64::from(f32::from_bits(*x)) - y)).sum();
    (error / exact.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// Only a key or a value that lies between two steps may be rounded to the other one here, so the error is far
/// below what the format itself costs.
#[test]
fn the_engine_is_close_to_a_plain_forward_pass_with_rounded_keys_and_values() {
    for small in all() {
        for cache in SMALLER {
            let tokens = tokens(2, CONTEXT);
            let (exact, plain) = (small.exact_with(&tokens, kept(cache)), small.exact(&tokens));
            for level in Level::available() {
                let model = small.model(Format::Float32, level, 2).with_cache(cache);
                let found = logits(&model, &tokens);
                let (own, cost) = (error(&found, &exact), error(&found, &plain));
                eprintln!("{}, {cache:?}, {level:?}: {own:.2e} {cost:.2e}", small.name);
                assert!(own < 0.2 * cost, "{}, {cache:?}: {own} {cost}", small.name);
            }
        }
    }
}

/// Digests of the logits with float32 weights and a cache in bfloat16 and in int8. They belong to the definitions
/// of the formats: where one changes, its number is raised.
const GOLDEN: &[(&str, [u64; 2])] = &[
    ("llama", [0x9895_e8ef_5e14_3621, 0x17c4_5a92_2607_040a]),
    ("llama3", [0x1b95_3f8c_9484_a9d6, 0x5bb2_f8fc_f2cd_8a2e]),
    ("yarn", [0x3831_f308_b26b_43b6, 0x0bf7_5943_2708_3d1b]),
    ("qwen2", [0x32ff_491a_5200_475d, 0x797e_bfe8_01f5_8894]),
    ("qwen3", [0xef5e_e25b_31af_f39e, 0xdeeb_9a91_17e9_e9ec]),
    ("mistral", [0xb795_f041_f139_6b51, 0x96ea_4a3f_1cdd_1720]),
    ("smollm3", [0xbc35_843f_220e_9787, 0x0f49_6808_9dac_c29b]),
    ("gemma3_text", [0x29c6_0685_2b9d_dd3d, 0xb09f_0c80_ae10_8d5f]),
    ("gpt_neox", [0xb05f_e198_bd9d_432a, 0x5c55_bcfd_a7ad_0428]),
    ("gpt_neox, one after the other", [0x4725_cddb_068e_763f, 0x845d_5755_363f_07fa]),
    ("gpt_neo", [0xfe43_4023_1fd4_8cda, 0x6edc_0c3d_87bd_95b9]),
    ("opt", [0xcfef_4ecb_baac_524e, 0xbb20_4286_8150_a5f3]),
    ("gpt2 with variants", [0xeae2_3640_e068_51ec, 0xedca_6ca1_70b8_fd16]),
];

#[test]
fn golden_digests_on_every_level_and_number_of_threads() {
    let mut wrong = Vec::new();
    for small in all() {
        let golden = GOLDEN.iter().find(|(name, _)| *name == small.name);
        for (i, cache) in SMALLER.into_iter().enumerate() {
            let expected = golden.map(|(_, digests)| digests[i]);
            for level in Level::available() {
                for threads in [1, 3] {
                    let model = small.model(Format::Float32, level, threads).with_cache(cache);
                    let found = digest(&logits(&model, &tokens(0, CONTEXT)));
                    if Some(found) != expected {
                        wrong.push(format!(
                            "{}, {cache:?}, {level:?}, {threads} threads: {found:#x}",
                            small.name
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_bits_in_any_company() {
    for small in all() {
        for (cache, threads) in SMALLER.into_iter().zip([3, 2]) {
            for format in [Format::Float32, Format::Int8] {
                let model = small.model(format, Level::detect(), threads);
                in_any_company(&small, model.with_cache(cache));
            }
        }
    }
}

/// Formats are a property of the cache: weights are as they were.
#[test]
fn a_float32_cache_is_the_default() {
    let small = all().into_iter().next().unwrap();
    let plain = small.model(Format::Int8, Level::detect(), 1);
    let bits = logits(&plain, &tokens(0, CONTEXT));
    assert_eq!(plain.cache_format(), CacheFormat::Float32);
    for cache in SMALLER {
        let model = small.model(Format::Int8, Level::detect(), 1).with_cache(cache);
        assert_eq!((model.cache_format(), model.bytes()), (cache, plain.bytes()));
        assert_ne!(logits(&model, &tokens(0, CONTEXT)), bits);
        let back = model.with_cache(CacheFormat::Float32);
        assert_eq!(logits(&back, &tokens(0, CONTEXT)), bits);
    }
}
