//! Functions of real numbers as fixed sequences of operations: the same bits everywhere. Those of the
//! platform's library differ in the last bit between machines.

pub mod exp;
pub mod ln;
pub mod trig;
