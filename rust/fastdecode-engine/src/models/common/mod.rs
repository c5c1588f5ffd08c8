//! What several architectures have in common.

pub(super) mod checks;
pub(super) mod decoder;
pub(super) mod gated;
pub(super) mod parts;
pub(super) mod rope;
pub(super) mod unusual;
