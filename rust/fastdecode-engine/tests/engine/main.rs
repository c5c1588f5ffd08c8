//! The engine over small models whose weights are drawn here.

mod bits;
mod families;
mod files;
mod fuzz;
mod oracle;
mod packed;
mod prefixes;
#[path = "../../../fuzz/src/running.rs"]
mod running;
mod seeded;
mod shards;
mod small;
#[path = "../../../fuzz/src/smallest.rs"]
mod smallest;
