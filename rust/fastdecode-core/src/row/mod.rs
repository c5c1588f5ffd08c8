//! A row of logits: how it lies in memory, its first pass, its total order, its top-k.

pub mod logits;
pub mod order;
pub mod scan;
pub mod select;
