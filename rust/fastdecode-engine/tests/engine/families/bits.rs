//! The small models against their plain forward passes, and the same bits in any company.

use super::{CONTEXT, Small, VOCABULARY, all};
use crate::bits::digest;
use crate::small::{bits, logits, tokens};
use fastdecode_engine::{Batch, CacheFormat, Format, Level, Model};
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

/// Digests of the logits in each of `Format::ALL` and `Format::OF_FILES`. They belong to the definitions of the
/// formats: where one changes, its number is raised.
const GOLDEN: &[(&str, [u64; 7])] = &[
    (
        "llama",
        [
            0xbf2f_5074_a9dd_1ed6,
            0xc7bf_9623_361d_8324,
            0xcd99_b821_e8ee_bc34,
            0x607c_0677_3e17_6532,
            0xe739_20b4_3c01_2b73,
            0xb9e8_02ac_9adb_4ed2,
            0x13c0_5992_e568_229d,
        ],
    ),
    (
        "llama3",
        [
            0x54b9_1463_c3d0_535b,
            0x9f7f_13b5_9530_5127,
            0x4d95_575a_cdfb_0010,
            0xe8f7_6e68_90aa_cf29,
            0xc135_fa87_085b_de7f,
            0xb91a_2c0a_2e7b_faf0,
            0xf499_ebc8_c3fb_2078,
        ],
    ),
    (
        "yarn",
        [
            0xab19_8474_5a5b_79d9,
            0x2d0b_e8c8_fac8_2ebf,
            0x2c0a_5ae1_778e_1dc4,
            0x42b0_81c1_2524_3bf1,
            0xe644_2e19_41d5_d3ff,
            0xf7e1_866c_a429_b636,
            0xc230_c544_e145_f444,
        ],
    ),
    (
        "qwen2",
        [
            0x34fc_62bb_70e4_7566,
            0x8f03_4c41_0f5c_2883,
            0x8d9a_8365_79ac_dac4,
            0x30c0_e6c4_56a4_e908,
            0x2245_56bd_4193_6217,
            0x6463_0add_ed0c_957a,
            0xe2ed_e2b3_822e_6cf0,
        ],
    ),
    (
        "qwen3",
        [
            0x0ca2_bdb6_800d_a3cf,
            0x4c7b_4e68_3d92_80d5,
            0xcf75_f7c6_b12f_84b8,
            0x49fb_7b92_d87f_cffc,
            0x92d5_fb53_c1c9_6d8c,
            0x43bf_f1e0_1c45_8a02,
            0xcc3a_8c3a_5265_08fe,
        ],
    ),
    (
        "mistral",
        [
            0x8d5a_295e_cfba_10f3,
            0x95d9_e811_61f4_2946,
            0x0564_d1b1_b40a_5dfe,
            0x6848_9c90_6a05_830d,
            0x377f_da34_ab4f_a7f1,
            0x25c3_d908_6163_1148,
            0xaa2a_2243_5647_8a67,
        ],
    ),
    (
        "smollm3",
        [
            0xea2e_e4b0_4c59_3077,
            0x6dbf_4de7_b0ff_f6d5,
            0x2366_d307_4a44_267d,
            0x0a91_667c_0b42_b6d5,
            0xe675_fd37_f5cb_7e33,
            0x60b3_5578_60ed_ac6a,
            0x4568_1514_27a6_3b91,
        ],
    ),
    (
        "gemma3_text",
        [
            0x1d6c_1e7c_32a3_7ff0,
            0xdb70_c2b4_e1f2_4ec1,
            0xc86c_7447_5868_bec0,
            0x45b0_7ca8_3d85_f7bb,
            0x680c_2480_a10a_58d2,
            0xf4a3_6acd_3f59_f3ca,
            0x3248_1c5f_e14c_a642,
        ],
    ),
    (
        "gpt_neox",
        [
            0x2e4e_8abd_8cc6_a038,
            0xa807_6768_e0aa_d474,
            0x34d5_4809_273c_de29,
            0x0343_00b2_54b7_a437,
            0xf542_9ecd_1230_c7de,
            0xe661_3d09_32b6_0f52,
            0xf660_ba45_ef78_ce59,
        ],
    ),
    (
        "gpt_neox, one after the other",
        [
            0x1f60_2f1e_d110_9652,
            0xc334_3012_828a_9166,
            0x7174_0fb9_c1ba_bde0,
            0x409e_d5b0_ee13_b222,
            0x56f7_dee5_5425_1682,
            0x7a04_ba87_1060_18a0,
            0x4896_abb0_8e4d_2995,
        ],
    ),
    (
        "gpt_neo",
        [
            0x0c1e_2049_0477_a841,
            0xb517_477d_f44e_b1a2,
            0x9d54_c76d_8891_eb6c,
            0x8571_007a_9b17_4b4f,
            0x6b34_e5e7_b84c_5936,
            0x549c_7f1b_77ac_c033,
            0x8090_6b2c_a19d_5b21,
        ],
    ),
    (
        "opt",
        [
            0xad3e_f6c7_033a_37a8,
            0x43aa_567a_a0c0_5704,
            0xf802_2316_9e64_bcda,
            0x861e_ec07_98c2_e95c,
            0x3433_012f_135f_d0ec,
            0x9197_b979_88aa_3dcb,
            0x2d78_3c74_bc0f_ce9f,
        ],
    ),
    (
        "gpt2 with variants",
        [
            0x10e5_215a_805c_fbed,
            0x078a_0bd5_db88_03bd,
            0x557e_a146_af22_1aa1,
            0x0cfe_4e8b_0f11_2e5b,
            0xe0e0_b213_fcbc_fd76,
            0x9012_c6ad_751e_8ab0,
            0x624a_25ba_4e21_cc66,
        ],
    ),
];

fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().chain(Format::OF_FILES)
}

#[test]
fn golden_digests_on_every_level_and_number_of_threads() {
    let mut wrong = Vec::new();
    for small in all() {
        let golden = GOLDEN.iter().find(|(name, _)| *name == small.name);
        for (i, format) in formats().enumerate() {
            let expected = golden.map(|(_, digests)| digests[i]);
            for level in Level::available() {
                for threads in [1, 3] {
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
        // As many threads as heads of keys and values, and more, which share the rows of a head.
        for (format, threads) in formats().zip([2, 3, 5, 4, 3, 5]) {
            in_any_company(&small, small.model(format, Level::detect(), threads));
        }
    }
}

/// The same for one model.
pub fn in_any_company(small: &Small, model: Model) {
    let named = format!("{}, {:?}, {:?}", small.name, model.storage(), model.cache_format());
    let model = Arc::new(model);
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
            assert_eq!(bits(out), alone(history), "{named}, round {round}");
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
        assert_eq!(bits(out), whole[i * VOCABULARY..(i + 1) * VOCABULARY], "{named}, {i}");
    }
}

/// The KV cache of a token: keys and values of each head that has them.
#[test]
fn the_cache_has_its_real_size() {
    let small = all().into_iter().find(|small| small.name == "llama").unwrap();
    let model = small.model(Format::Float32, Level::detect(), 1);
    // Two layers, two heads of 20 dimensions.
    assert_eq!(model.bytes_per_token(), 2 * 2 * 2 * 20 * 4);
    // Values take whole lines, of sixteen dimensions.
    let model = model.with_cache(CacheFormat::BFloat16);
    assert_eq!(model.bytes_per_token(), 2 * 2 * (20 + 32) * 2);
    // With a scale of four bytes for each key and each value.
    let model = model.with_cache(CacheFormat::Int8);
    assert_eq!(model.bytes_per_token(), 2 * 2 * (20 + 4 + 32 + 4));
}
