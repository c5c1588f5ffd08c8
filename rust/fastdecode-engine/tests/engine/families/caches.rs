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
                assert!(own < 0.2 * cost && own < 3e-4, "{}, {cache:?}: {own} {cost}", small.name);
            }
        }
    }
}

/// Digests of the logits with float32 weights and a cache in bfloat16 and in int8. They belong to the definitions
/// of the formats: where one changes, its number is raised.
const GOLDEN: &[(&str, [u64; 2])] = &[];

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
