//! The exponential and the logarithm, as fixed sequences of operations: the same bits everywhere.

pub mod exp;
pub mod ln;
