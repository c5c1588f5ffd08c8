//! The bodies of the fuzz targets, one function for each.

pub mod files;
pub mod sampling;
