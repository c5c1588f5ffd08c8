//! Which logits of a stretch of ids survive.

/// The logits that survive in a stretch of ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub low: f32,
    pub high: f32,
}

impl Bounds {
    pub const ALL: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    #[inline(always)]
    pub fn contain(self, logit: f32) -> bool {
        logit >= self.low && logit <= self.high
    }
}
