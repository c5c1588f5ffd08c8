//! The embedding of a token, at a position where the model has learned positions.

use super::pass_rows::PassRows;
use super::run::Run;
use crate::weights::{ACROSS, Matrix, PANEL, Table, element};
use fastdecode_simd::{DisjointSlice, LANES};

/// A token embedding.
///
/// Element k is `tokens[token][k] * scale + positions[position + offset][k]`, the first widened from the
/// matrix's format; without learned positions nothing is added.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// A matrix with an output for each token: the head's where the two are tied, so that it is in memory
    /// once.
    pub tokens: Matrix,
    pub scale: f32,
    pub positions: Option<Positions>,
}

/// Learned positions.
#[derive(Debug)]
pub(crate) struct Positions {
    pub table: Table,
    /// The row of the first position.
    pub offset: usize,
}

impl Embedding {
    /// Writes the embedding of each row to `to`.
    pub fn apply(&self, run: &mut Run<'_>, rows: &PassRows, to: &mut [f32]) {
        let tokens = run.weights.matrix(&self.tokens);
        let width = tokens.inputs;
        assert_eq!(to.len(), rows.len() * width);
        let to = DisjointSlice::new(to);
        let (weights, size) = (run.weights, tokens.format.panel_lines(width));
        run.session.run(rows.len(), |row| {
            // SAFETY: a row belongs to one task.
            let to = unsafe { to.part(row * width..(row + 1) * width) };
            let token = rows.tokens()[row] as usize;
            let (panel, output) = (token / PANEL, token % PANEL);
            let lines = &tokens.weights[panel * size..][..size];
            let scales =
                tokens.scales.get(panel * ACROSS..(panel + 1) * ACROSS).unwrap_or_default();
            for (k, to) in to.iter_mut().enumerate() {
                *to = element(tokens.format, lines, scales, k, output) * self.scale;
            }
            if let Some(Positions { table, offset }) = &self.positions {
                let positions = weights.row(table, rows.position(row) + offset);
                for (k, to) in to.iter_mut().enumerate() {
                    *to += positions[k / LANES].0[k % LANES];
                }
            }
        });
    }
}
