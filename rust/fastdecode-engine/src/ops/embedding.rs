//! The embedding of a token at a position: the sum of two float32 rows.

use super::pass_rows::PassRows;
use super::run::Run;
use crate::weights::{ACROSS, Matrix, PANEL, Table, element};
use fastdecode_simd::{DisjointSlice, LANES};

/// A token embedding tied to the head, with learned positions.
///
/// Element k is `tokens[token][k] + positions[position][k]`, the first widened from the head's format.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// The head's matrix, from which tokens are read, so that it is in memory once.
    pub tokens: Matrix,
    pub positions: Table,
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
            let positions = weights.row(&self.positions, rows.position(row));
            let token = rows.tokens()[row] as usize;
            let (panel, output) = (token / PANEL, token % PANEL);
            let lines = &tokens.weights[panel * size..][..size];
            let scales =
                tokens.scales.get(panel * ACROSS..(panel + 1) * ACROSS).unwrap_or_default();
            for (k, to) in to.iter_mut().enumerate() {
                let x = element(tokens.format, lines, scales, k, output);
                *to = x + positions[k / LANES].0[k % LANES];
            }
        });
    }
}
