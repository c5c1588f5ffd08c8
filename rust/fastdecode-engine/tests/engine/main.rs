//! The engine over small models whose weights are drawn here.

mod bits;
mod files;
mod oracle;
mod small;
