//! GPT-2's forward pass once more, plainly: float64 loops over named tensors.

use crate::small::{CONTEXT, Named, VOCABULARY, logits, model_of, tokens, weights};
use fastdecode_engine::{Format, Level};

const WIDTH: usize = 40;
const HEADS: usize = 2;
const LAYERS: usize = 2;

struct Oracle(Named);

impl Oracle {
    fn get(&self, name: &str) -> &[f32] {
        &self.0[name].1
    }

    /// `x W + b`, for W of shape (inputs, outputs).
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (w, b) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let outputs = b.len();
        let dot = |j: usize| -> f64 {
            x.iter().enumerate().map(|(k, x)| x * f64::from(w[k * outputs + j])).sum()
        };
        (0..outputs).map(|j| dot(j) + f64::from(b[j])).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (g, b) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        x.iter()
            .zip(g)
            .zip(b)
            .map(|((x, g), b)| (x - mean) * scale * f64::from(*g) + f64::from(*b))
            .collect()
    }

    /// The logits after each token.
    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let (wte, wpe) = (self.get("wte.weight"), self.get("wpe.weight"));
        let row = |table: &[f32], i: usize| table[i * WIDTH..(i + 1) * WIDTH].to_vec();
        let mut residual: Vec<Vec<f64>> = tokens
            .iter()
            .enumerate()
            .map(|(position, &token)| {
                let sum = row(wte, token as usize).into_iter().zip(row(wpe, position));
                sum.map(|(a, b)| f64::from(a) + f64::from(b)).collect()
            })
            .collect();
        for layer in 0..LAYERS {
            let name = |part: &str| format!("h.{layer}.{part}");
            let qkv: Vec<_> = residual
                .iter()
                .map(|x| self.linear(&name("attn.c_attn"), &self.norm(&name("ln_1"), x)))
                .collect();
            for (position, x) in residual.iter_mut().enumerate() {
                let mixed = attend(&qkv[..=position]);
                add(x, &self.linear(&name("attn.c_proj"), &mixed));
                let mut hidden = self.linear(&name("mlp.c_fc"), &self.norm(&name("ln_2"), x));
                for x in &mut hidden {
                    *x = gelu(*x);
                }
                add(x, &self.linear(&name("mlp.c_proj"), &hidden));
            }
        }
        let head = |x: &[f64]| -> Vec<f64> {
            let dot = |token| x.iter().zip(row(wte, token)).map(|(x, w)| x * f64::from(w)).sum();
            (0..VOCABULARY).map(dot).collect()
        };
        residual.iter().map(|x| head(&self.norm("ln_f", x))).collect()
    }
}

/// Causal attention of the last of these positions.
fn attend(qkv: &[Vec<f64>]) -> Vec<f64> {
    let width = WIDTH / HEADS;
    let mut mixed = Vec::new();
    for head in 0..HEADS {
        let part =
            |position: usize, which: usize| &qkv[position][which * WIDTH + head * width..][..width];
        let query = part(qkv.len() - 1, 0);
        let terms: Vec<f64> = (0..qkv.len())
            .map(|i| part(i, 1).iter().zip(query).map(|(k, q)| k * q).sum::<f64>())
            .map(|score| (score / (width as f64).sqrt()).exp())
            .collect();
        let total: f64 = terms.iter().sum();
        for d in 0..width {
            let sum: f64 = terms.iter().enumerate().map(|(i, term)| term * part(i, 2)[d]).sum();
            mixed.push(sum / total);
        }
    }
    mixed
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    0.5 * x * (1.0 + inner.tanh())
}

/// The weights as a format stores them: rounded, or integers times a scale for each output.
fn stored(format: Format) -> Named {
    let mut named = weights();
    for (name, (shape, x)) in &mut named {
        if shape.len() != 2 || name == "wpe.weight" {
            continue;
        }
        let columns = shape[1];
        match format {
            // The quantisers of the formats in groups have tests of their own, in `weights::format`.
            Format::Float32 | Format::Int4 | Format::Int4Offsets | Format::Int8Groups => {}
            Format::BFloat16 | Format::BFloat16Weights => {
                for x in x {
                    *x = half::bf16::from_f32(*x).to_f32();
                }
            }
            Format::Int8 => {
                // The head's outputs are the rows of its matrix, the others' are columns.
                let output =
                    |i: usize| if name == "wte.weight" { i / columns } else { i % columns };
                let mut largest = vec![0.0f32; shape[0].max(columns)];
                for (i, x) in x.iter().enumerate() {
                    largest[output(i)] = largest[output(i)].max(x.abs());
                }
                for (i, x) in x.iter_mut().enumerate() {
                    let scale = largest[output(i)] / 127.0;
                    *x = (*x / scale).round_ties_even() * scale;
                }
            }
        }
    }
    named
}

/// The root mean square of the differences, relative to that of the exact logits, is at most
/// - 1e-6 where everything is computed in float32: some hundred roundings of 6e-8;
/// - 0.01 in bfloat16, whose activations are rounded to eight binary digits at each of ten linear layers;
/// - 0.02 in int8, whose activations are rounded to 1/127 of the largest beside them at each of ten linear
///   layers.
#[test]
fn the_engine_is_close_to_the_plain_forward_pass() {
    for (format, tolerance) in [
        (Format::Float32, 1e-6),
        (Format::BFloat16, 0.01),
        (Format::BFloat16Weights, 1e-6),
        (Format::Int8, 0.02),
    ] {
        let oracle = Oracle(stored(format));
        for level in Level::available() {
            let model = model_of(format, level, 2);
            for (row, length) in [(0, 1), (1, 17), (2, CONTEXT)] {
                let tokens = tokens(row, length);
                let exact: Vec<f64> = oracle.logits(&tokens).concat();
                let found = logits(&model, &tokens);
                assert_eq!(found.len(), exact.len());
                let square = |x: f64| x * x;
                let error: f64 = found
                    .iter()
                    .zip(&exact)
                    .map(|(x, y)| square(f64::from(f32::from_bits(*x)) - y))
                    .sum();
                let size: f64 = exact.iter().copied().map(square).sum();
                let relative = (error / size).sqrt();
                assert!(relative < tolerance, "{format:?}, {level:?}, {length}: {relative}");
            }
        }
    }
}
