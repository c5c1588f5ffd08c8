//! The operations of a forward pass. Each is a definition with a fixed order of sums, so that neither the
//! batch nor tiles, threads or the vector width change a bit. They know nothing of any architecture.

mod activations;
mod attention;
mod embedding;
mod int8;
mod layer_norm;
mod linear;
mod panel;
mod pass_rows;
mod quantise;
mod row_blocks;
mod run;
mod sweep;
mod tile;

pub(crate) use attention::Attention;
pub(crate) use embedding::Embedding;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::{Linear, Output};
pub(crate) use pass_rows::PassRows;
pub(crate) use quantise::Quantised;
pub(crate) use row_blocks::RowBlocks;
pub(crate) use run::Run;
pub(crate) use sweep::sweep;
