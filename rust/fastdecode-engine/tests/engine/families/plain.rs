//! The forward pass of the families once more, plainly: float64 loops over named tensors.

use crate::small::Named;

/// A norm of a vector: gains and biases by name.
#[derive(Clone, Copy)]
pub enum Norm {
    /// Root mean square; the gain is `plus` more than what is stored.
    Rms {
        plus: f64,
    },
    Layer,
}

/// A rotary embedding: radians for each position, one for each pair, and what sines and cosines are
/// multiplied by.
#[derive(Clone)]
pub struct Rope {
    pub frequencies: Vec<f64>,
    pub scale: f64,
}

/// The names of a layer's tensors, without `.weight` and `.bias`.
pub struct Names {
    pub layer: &'static str,
    pub norm_1: &'static str,
    /// Queries, keys and values.
    pub qkv: [&'static str; 3],
    pub head_norms: Option<[&'static str; 2]>,
    pub out: &'static str,
    pub after_attention: Option<&'static str>,
    pub norm_2: &'static str,
    pub gate: Option<&'static str>,
    pub up: &'static str,
    pub down: &'static str,
    pub after_mlp: Option<&'static str>,
    pub norm: &'static str,
    pub tokens: &'static str,
    pub positions: Option<&'static str>,
    pub head: &'static str,
}

pub struct Plain {
    pub names: Names,
    pub norm: Norm,
    pub epsilon: f64,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    /// What queries are multiplied by, in each layer.
    pub scales: Vec<f64>,
    /// For each layer.
    pub windows: Vec<Option<usize>>,
    pub ropes: Vec<Option<Rope>>,
    pub activation: fn(f64) -> f64,
    pub parallel: bool,
    pub embedding_scale: f64,
    pub position_offset: usize,
}

struct Tensors<'a>(&'a Named);

impl Tensors<'_> {
    fn get(&self, name: &str) -> Option<&[f32]> {
        self.0.get(name).map(|(_, x)| x.as_slice())
    }

    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        let (shape, x) = &self.0[&format!("{name}.weight")];
        x[row * shape[1]..(row + 1) * shape[1]].iter().map(|&x| f64::from(x)).collect()
    }

    /// `W x + b`, for W of shape (outputs, inputs).
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let outputs = self.0[&format!("{name}.weight")].0[0];
        let bias = self.get(&format!("{name}.bias"));
        (0..outputs)
            .map(|j| {
                let dot: f64 = self.row(name, j).iter().zip(x).map(|(w, x)| w * x).sum();
                dot + bias.map_or(0.0, |b| f64::from(b[j]))
            })
            .collect()
    }

    fn norm(&self, kind: Norm, epsilon: f64, name: &str, x: &[f64]) -> Vec<f64> {
        let gain = self.get(&format!("{name}.weight")).unwrap();
        let (mean, plus) = match kind {
            Norm::Rms { plus } => (0.0, plus),
            Norm::Layer => (x.iter().sum::<f64>() / x.len() as f64, 0.0),
        };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + epsilon).sqrt();
        let bias = self.get(&format!("{name}.bias"));
        x.iter()
            .enumerate()
            .map(|(i, x)| {
                let y = (x - mean) * scale * (f64::from(gain[i]) + plus);
                y + bias.map_or(0.0, |b| f64::from(b[i]))
            })
            .collect()
    }
}

impl Plain {
    /// The logits after each token, one row after the other. `kept` makes of each key and each value of a head
    /// what the cache holds of it.
    pub fn logits(&self, weights: &Named, tokens: &[u32], kept: fn(&mut [f64])) -> Vec<f64> {
        let (t, n) = (Tensors(weights), &self.names);
        let mut residual: Vec<Vec<f64>> = tokens
            .iter()
            .enumerate()
            .map(|(position, &token)| {
                let mut x = t.row(n.tokens, token as usize);
                for x in &mut x {
                    *x *= self.embedding_scale;
                }
                if let Some(name) = n.positions {
                    add(&mut x, &t.row(name, position + self.position_offset));
                }
                x
            })
            .collect();
        for layer in 0..self.windows.len() {
            self.layer(&t, layer, &mut residual, kept);
        }
        let last = |x: &Vec<f64>| t.linear(n.head, &t.norm(self.norm, self.epsilon, n.norm, x));
        residual.iter().flat_map(last).collect()
    }

    fn layer(
        &self,
        t: &Tensors<'_>,
        layer: usize,
        residual: &mut [Vec<f64>],
        kept: fn(&mut [f64]),
    ) {
        let n = &self.names;
        let name = |part: &str| format!("{}.{layer}.{part}", n.layer);
        let norm = |part: &str, x: &[f64]| t.norm(self.norm, self.epsilon, &name(part), x);
        let qkv: Vec<[Vec<f64>; 3]> = residual
            .iter()
            .enumerate()
            .map(|(position, x)| {
                let x = norm(n.norm_1, x);
                let mut qkv = n.qkv.map(|part| t.linear(&name(part), &x));
                for (which, part) in qkv[..2].iter_mut().enumerate() {
                    for head in part.chunks_mut(self.head_width) {
                        if let Some(names) = n.head_norms {
                            let y = norm(names[which], head);
                            head.copy_from_slice(&y);
                        }
                        if let Some(rope) = &self.ropes[layer] {
                            turn(head, rope, position);
                        }
                    }
                }
                for part in &mut qkv[1..] {
                    part.chunks_mut(self.head_width).for_each(kept);
                }
                qkv
            })
            .collect();
        for (position, x) in residual.iter_mut().enumerate() {
            let first =
                self.windows[layer].map_or(0, |window| (position + 1).saturating_sub(window));
            let mixed = self.attend(&qkv[first..=position], self.scales[layer]);
            let mut attended = t.linear(&name(n.out), &mixed);
            if let Some(after) = n.after_attention {
                attended = norm(after, &attended);
            }
            let before = x.clone();
            add(x, &attended);
            let inside = norm(n.norm_2, if self.parallel { &before } else { x });
            let up = t.linear(&name(n.up), &inside);
            let hidden: Vec<f64> = match n.gate {
                None => up.into_iter().map(self.activation).collect(),
                Some(gate) => {
                    let gates = t.linear(&name(gate), &inside);
                    gates.into_iter().zip(up).map(|(g, u)| (self.activation)(g) * u).collect()
                }
            };
            let mut out = t.linear(&name(n.down), &hidden);
            if let Some(after) = n.after_mlp {
                out = norm(after, &out);
            }
            add(x, &out);
        }
    }

    /// Attention of the last of these positions.
    fn attend(&self, qkv: &[[Vec<f64>; 3]], scale: f64) -> Vec<f64> {
        let (width, group) = (self.head_width, self.heads / self.kv_heads);
        let mut mixed = Vec::new();
        for head in 0..self.heads {
            let query = &qkv[qkv.len() - 1][0][head * width..][..width];
            let other = |row: &[Vec<f64>; 3], which: usize| -> Vec<f64> {
                row[which][head / group * width..][..width].to_vec()
            };
            let dot = |row: &[Vec<f64>; 3]| -> f64 {
                query.iter().zip(other(row, 1)).map(|(q, k)| q * k).sum()
            };
            let terms: Vec<f64> = qkv.iter().map(|row| (dot(row) * scale).exp()).collect();
            let total: f64 = terms.iter().sum();
            for d in 0..width {
                let sum: f64 =
                    qkv.iter().zip(&terms).map(|(row, term)| other(row, 2)[d] * term).sum();
                mixed.push(sum / total);
            }
        }
        mixed
    }
}

fn turn(head: &mut [f64], rope: &Rope, position: usize) {
    let half = rope.frequencies.len();
    for (i, frequency) in rope.frequencies.iter().enumerate() {
        let angle = position as f64 * frequency;
        let (s, c) = (angle.sin() * rope.scale, angle.cos() * rope.scale);
        let (a, b) = (head[i], head[i + half]);
        (head[i], head[i + half]) = (a * c - b * s, b * c + a * s);
    }
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// The plain rotary embedding of `width` dimensions.
pub fn rope(theta: f64, width: usize) -> Rope {
    let frequency = |i| theta.powf(-((2 * i) as f64) / width as f64);
    Rope { frequencies: (0..width / 2).map(frequency).collect(), scale: 1.0 }
}

pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

pub fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    0.5 * x * (1.0 + inner.tanh())
}

/// x times the probability that a standard normal variable is below x, by a series.
pub fn gelu_erf(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    x * (0.5 + density * sum)
}
