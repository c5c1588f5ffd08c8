//! The processors against transformers' own logits processors: rows that its 5.23.0 put out, in its
//! order, for random settings.

use fastdecode_core::{History, ProcessorParams, ProcessorWorkspace, Processors};

const INF: f32 = f32::INFINITY;

struct Case {
    tokens: &'static [u32],
    prompt: usize,
    logit_bias: &'static [(&'static [u32], f32)],
    repetition_penalty: f64,
    no_repeat_ngram_size: i64,
    bad_words: &'static [&'static [u32]],
    eos: &'static [u32],
    min_new_tokens: i64,
    /// Empty: all.
    allowed: &'static [u32],
    row: [f32; 6],
    processed: [f32; 6],
}

const CASES: [Case; 8] = [
    Case {
        tokens: &[1, 0, 0, 0, 4, 1, 4, 0, 0, 1, 5],
        prompt: 5,
        logit_bias: &[
            (&[2], -INF),
            (&[0, 3, 4], -INF),
            (&[2, 1], -INF),
            (&[5, 3], -0.013511664),
            (&[2, 1, 5], -INF),
            (&[3], -INF),
        ],
        repetition_penalty: 1.4710908296378604,
        no_repeat_ngram_size: 2,
        bad_words: &[],
        eos: &[3, 4],
        min_new_tokens: 3,
        allowed: &[0, 5, 2],
        row: [-5.6933694, -1.9360077, 1.4160236, -INF, -0.2088338, 5.026269],
        processed: [-8.3754635, -INF, -INF, -INF, -INF, 3.4166954],
    },
    Case {
        tokens: &[0, 0, 1, 2, 4, 4, 1, 0],
        prompt: 6,
        logit_bias: &[
            (&[3], -0.6343691),
            (&[4, 2], -INF),
            (&[1], 0.6864637),
            (&[3, 0, 2], -3.5987344),
            (&[0, 1], -INF),
        ],
        repetition_penalty: 1.0,
        no_repeat_ngram_size: 2,
        bad_words: &[],
        eos: &[1, 3],
        min_new_tokens: 18,
        allowed: &[],
        row: [-1.9824235, -INF, 0.0011972166, -7.7172136, 5.0705047, 4.762344],
        processed: [-INF, -INF, 0.0011972166, -INF, 5.0705047, 4.762344],
    },
    Case {
        tokens: &[1, 1, 0, 3, 0, 1],
        prompt: 5,
        logit_bias: &[(&[5, 0], -INF), (&[3], -INF), (&[0, 1], -INF)],
        repetition_penalty: 1.0,
        no_repeat_ngram_size: 2,
        bad_words: &[&[3, 4, 4], &[3], &[2], &[1, 2]],
        eos: &[4, 2],
        min_new_tokens: 0,
        allowed: &[],
        row: [-2.6239367, -3.3505135, 6.16337, 0.93679, -8.523059, -1.9770288],
        processed: [-INF, -INF, -INF, -INF, -8.523059, -1.9770288],
    },
    Case {
        tokens: &[3, 0, 0, 0, 0, 1, 1, 0, 0, 0, 3],
        prompt: 1,
        logit_bias: &[
            (&[3, 2], 0.984214),
            (&[4, 5], -INF),
            (&[4, 4, 0], -1.9142851),
            (&[3, 0, 4], -0.9791009),
            (&[4], -1.9689689),
            (&[4, 1], -INF),
        ],
        repetition_penalty: 0.7,
        no_repeat_ngram_size: 3,
        bad_words: &[&[1, 4, 5], &[1, 4, 0], &[5, 1, 0], &[1]],
        eos: &[5],
        min_new_tokens: 0,
        allowed: &[],
        row: [-3.7422707, 0.87516886, 4.609327, 5.9000874, 1.3129789, 0.87978184],
        processed: [-2.6195896, -INF, 5.5935407, 8.428697, -0.65599, 0.87978184],
    },
    Case {
        tokens: &[1, 5, 1, 1, 5, 0, 2],
        prompt: 2,
        logit_bias: &[
            (&[3, 5], 3.2883763),
            (&[5], -2.721888),
            (&[2, 2], -2.512621),
            (&[4, 5, 1], 1.9927185),
            (&[3, 0], 3.5474017),
            (&[1, 3], -INF),
        ],
        repetition_penalty: 0.7,
        no_repeat_ngram_size: 1,
        bad_words: &[&[1], &[4, 0, 5]],
        eos: &[0],
        min_new_tokens: 1,
        allowed: &[2, 3, 5, 4],
        row: [3.127255, 1.1716287, -INF, -3.5482612, 2.4917197, -1.3195603],
        processed: [-INF, -INF, -INF, -3.5482612, 2.4917197, -INF],
    },
    Case {
        tokens: &[0, 0, 0, 3, 1, 1, 4, 0, 1],
        prompt: 9,
        logit_bias: &[(&[3, 1, 2], -3.728925), (&[1, 2], 1.30158), (&[1, 4], 2.9803915)],
        repetition_penalty: 1.0,
        no_repeat_ngram_size: 1,
        bad_words: &[],
        eos: &[0, 1],
        min_new_tokens: 17,
        allowed: &[],
        row: [-1.3953257, -0.11738651, 2.0819461, 9.744287, -1.5255836, -1.5609183],
        processed: [-INF, -INF, 3.383526, -INF, -INF, -1.5609183],
    },
    Case {
        tokens: &[5, 5, 5, 0, 1, 3, 1, 0],
        prompt: 8,
        logit_bias: &[(&[4], -0.9618047), (&[5], -3.5217586), (&[1], -0.86999494)],
        repetition_penalty: 1.2,
        no_repeat_ngram_size: 3,
        bad_words: &[&[2, 5, 2], &[3, 2, 2], &[5, 4, 3], &[1, 0, 1]],
        eos: &[0, 3],
        min_new_tokens: 0,
        allowed: &[],
        row: [-3.535901, -0.8104702, -0.68712366, -0.53526413, 5.8334117, -5.297306],
        processed: [-4.2430816, -INF, -0.68712366, -0.642317, 4.871607, -10.582878],
    },
    Case {
        tokens: &[1, 4, 4, 5, 0, 1, 0, 0, 5, 4, 0],
        prompt: 0,
        logit_bias: &[
            (&[5], -INF),
            (&[0, 3, 5], -INF),
            (&[3], 2.5761786),
            (&[1], -0.67430776),
            (&[1, 5, 0], -INF),
        ],
        repetition_penalty: 1.483095319220939,
        no_repeat_ngram_size: 4,
        bad_words: &[&[4, 1], &[0, 2], &[0, 2, 5], &[5]],
        eos: &[0, 4],
        min_new_tokens: 0,
        allowed: &[],
        row: [6.6542716, -5.6874404, -0.5084864, -6.037328, 4.509128, 4.64026],
        processed: [4.486746, -9.435079, -INF, -3.4611492, 3.0403495, -INF],
    },
];

#[test]
fn processors_as_transformers_has_them() {
    let mut workspace = ProcessorWorkspace::default();
    for (index, case) in CASES.iter().enumerate() {
        let processors = Processors::new(ProcessorParams {
            logit_bias: case.logit_bias.iter().map(|(ids, bias)| (ids.to_vec(), *bias)).collect(),
            repetition_penalty: case.repetition_penalty,
            no_repeat_ngram_size: case.no_repeat_ngram_size,
            bad_words: case.bad_words.iter().map(|ids| ids.to_vec()).collect(),
            eos: case.eos.to_vec(),
            min_new_tokens: case.min_new_tokens,
            allowed: (!case.allowed.is_empty()).then(|| case.allowed.to_vec()),
            ..ProcessorParams::default()
        });
        let mut row = case.row;
        let history = History::new(case.tokens, case.prompt);
        processors.unwrap().apply(&mut row, history, &mut workspace).unwrap();
        assert_eq!(row, case.processed, "case {index}");
    }
}
