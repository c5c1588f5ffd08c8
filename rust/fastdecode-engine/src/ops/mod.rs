//! The operations of a forward pass. Each is a definition with a fixed order of sums, so that neither the
//! batch nor tiles, threads or the vector width change a bit. They know nothing of any architecture.

mod activations;
mod attention;
mod bfloat16;
mod converted;
mod embedding;
mod integers;
mod linear;
mod norm;
mod panel;
mod pass_rows;
mod quantise;
mod rotary;
mod row_blocks;
mod run;
mod sweep;
mod tile;

pub(crate) use activations::Activation;
pub(crate) use attention::{Attention, Heads};
pub use bfloat16::bfloat16_instruction;
pub(crate) use converted::Converted;
pub(crate) use embedding::{Embedding, Positions};
pub(crate) use linear::{GATES, Linear, Output};
pub(crate) use norm::Norm;
pub(crate) use pass_rows::PassRows;
pub(crate) use rotary::Rotary;
pub(crate) use row_blocks::RowBlocks;
pub(crate) use run::Run;
pub(crate) use sweep::sweep;
