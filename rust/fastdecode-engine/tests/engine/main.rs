//! The engine over small models whose weights are drawn here.

mod bits;
mod files;
mod fuzz;
mod oracle;
mod small;
