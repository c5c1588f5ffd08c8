//! The forward pass that the architectures share: layers of attention and an MLP around a residual.

use crate::cache::Shape;
use crate::error::Result;
use crate::models::{Network, Pass};
use crate::ops::{
    Activation, Attention, Embedding, Heads, Linear, Norm, Output, PassRows, Rotary, RowBlocks, Run,
};

/// The layers of a model, and what stands before and after them.
pub(crate) struct Decoder {
    pub embedding: Embedding,
    /// The angles that layers turn queries and keys by.
    pub rotaries: Vec<Rotary>,
    pub layers: Vec<Layer>,
    pub norm: Norm,
    pub head: Linear,
    pub shape: Shape,
    /// Width of the residual.
    pub width: usize,
    /// Width within the MLP.
    pub inner: usize,
}

/// One layer.
pub(crate) struct Layer {
    pub norm_1: Norm,
    /// To queries, keys and values.
    pub qkv: Linear,
    pub heads: Heads,
    /// The angles of its positions, by their index among the model's.
    pub rotary: Option<usize>,
    /// From the heads back to the residual.
    pub out: Linear,
    /// Applied to what attention adds to the residual.
    pub after_attention: Option<Norm>,
    pub norm_2: Norm,
    /// Into the MLP.
    pub up: Linear,
    pub activation: Activation,
    /// Whether `up` has gates, which go through the activation and are multiplied with its other outputs.
    pub gated: bool,
    /// Out of the MLP.
    pub down: Linear,
    /// Applied to what the MLP adds to the residual.
    pub after_mlp: Option<Norm>,
    /// Whether attention and MLP both start from the residual as it was before the layer.
    pub parallel: bool,
}

impl Network for Decoder {
    fn forward(&self, pass: Pass<'_, '_>, logits: &mut [f32]) -> Result<()> {
        let Pass { run, sequences, rows, wanted, buffers } = pass;
        let (width, count, blocks) = (self.width, rows.len(), RowBlocks::new(rows.len()));
        let sizes = self.widths().map(|width| count * width);
        let [residual, normed, mixed, qkv, hidden, angles, after] = buffers.take(sizes)?;
        let angles = self.angles(run, rows, angles);

        self.embedding.apply(run, rows, residual);
        for (index, layer) in self.layers.iter().enumerate() {
            if layer.parallel {
                layer.norm_2.apply(run, blocks, residual, width, normed);
                layer.enter_mlp(run, blocks, normed, hidden);
            }
            layer.norm_1.apply(run, blocks, residual, width, normed);
            layer.qkv.apply(run, blocks, normed, Output::Rows(qkv));
            let inputs = (&*qkv, layer.rotary.map(|rotary| angles[rotary]));
            Attention::new(sequences, rows, inputs, &layer.heads, index).apply(run, blocks, mixed);
            add(run, blocks, mixed, &layer.out, layer.after_attention.as_ref(), after, residual);
            if !layer.parallel {
                layer.norm_2.apply(run, blocks, residual, width, normed);
                layer.enter_mlp(run, blocks, normed, hidden);
            }
            add(run, blocks, hidden, &layer.down, layer.after_mlp.as_ref(), after, residual);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        // The wanted rows, one after the other: they only ever move up.
        for (to, &from) in wanted.iter().enumerate() {
            residual.copy_within(from * width..(from + 1) * width, to * width);
        }
        let blocks = RowBlocks::new(wanted.len());
        let size = wanted.len() * width;
        let (residual, normed) = (&residual[..size], &mut normed[..size]);
        self.norm.apply(run, blocks, residual, width, normed);
        self.head.apply(run, blocks, normed, Output::Rows(logits));
        Ok(())
    }

    fn windows(&self) -> Vec<Option<usize>> {
        self.layers.iter().map(|layer| layer.heads.window).collect()
    }
}

impl Decoder {
    /// Floats of a row in each buffer of a pass.
    fn widths(&self) -> [usize; 7] {
        let width = self.width;
        let queries = self.layers.iter().map(|layer| layer.heads.queries).max();
        let mixed = queries.unwrap_or(0) * self.shape.width;
        let qkv = mixed + 2 * self.shape.heads * self.shape.width;
        let angles = self.rotaries.iter().map(Rotary::width).sum();
        let norms_after =
            |layer: &Layer| layer.after_attention.is_some() || layer.after_mlp.is_some();
        let after = if self.layers.iter().any(norms_after) { width } else { 0 };
        [width, width, mixed, qkv, self.inner, angles, after]
    }

    /// The cosines and sines of each row, for each of the rotaries.
    fn angles<'b>(
        &self,
        run: &mut Run<'_>,
        rows: &PassRows,
        mut buffer: &'b mut [f32],
    ) -> Vec<&'b [f32]> {
        let mut tables = Vec::new();
        for rotary in &self.rotaries {
            let (table, rest) = buffer.split_at_mut(rows.len() * rotary.width());
            rotary.fill(run, rows, table);
            tables.push(&*table);
            buffer = rest;
        }
        tables
    }
}

impl Layer {
    fn enter_mlp(&self, run: &mut Run<'_>, blocks: RowBlocks, normed: &[f32], hidden: &mut [f32]) {
        let output = if self.gated { Output::Gated } else { Output::Activated };
        self.up.apply(run, blocks, normed, output(self.activation, hidden));
    }
}

/// Adds a linear layer's outputs to the residual, normalised first where there is a norm.
fn add(
    run: &mut Run<'_>,
    blocks: RowBlocks,
    x: &[f32],
    linear: &Linear,
    norm: Option<&Norm>,
    buffer: &mut [f32],
    residual: &mut [f32],
) {
    match norm {
        None => linear.apply(run, blocks, x, Output::Add(residual)),
        Some(norm) => {
            linear.apply(run, blocks, x, Output::Rows(buffer));
            norm.add(run, buffer, residual.len() / blocks.rows(), residual);
        }
    }
}
