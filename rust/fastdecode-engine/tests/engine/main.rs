//! The engine over small models whose weights are drawn here.

mod bits;
mod families;
mod files;
mod fuzz;
mod oracle;
mod shards;
mod small;
