//! Rows that the integration tests share.

/// A small generator for tests (xorshift64*), so that a failure can be run again.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() >> 32) as usize % limit
    }

    /// In [0, 1).
    pub fn fraction(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// About normal: the sum of twelve uniforms.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.fraction()).sum::<f32>() - 6.0
    }
}

/// How a row is made; see `rows`.
const KINDS: [fn(usize, usize, &mut Dice) -> f32; 14] = [
    |_, _, dice| 3.0 * dice.normal(),
    |_, _, dice| 12.0 * dice.normal(),
    |_, _, _| 0.0,
    |_, _, dice| (2.0 * dice.normal()).round(),
    |_, _, dice| 10.0 + dice.below(7) as f32 * 1e-6,
    |id, _, _| if id == 0 { 1.0 } else { f32::NEG_INFINITY },
    |id, len, _| if id + 1 == len { 1.0 } else { f32::NEG_INFINITY },
    |id, len, dice| if id < len / 2 { f32::NEG_INFINITY } else { dice.normal() },
    |id, _, dice| if id % 2 == 1 { f32::NEG_INFINITY } else { dice.normal() },
    |_, _, dice| f32::from_bits(dice.below(5) as u32),
    |_, _, dice| (2.0 * dice.fraction() - 1.0) * f32::MAX,
    |id, _, _| if id % 3 == 0 { f32::MAX } else { f32::MIN },
    |id, _, _| if id == 0 { 0.0 } else { -29.0 - (id % 31) as f32 * 0.01 },
    |id, _, _| if id % 2 == 0 { 0.0 } else { -0.0 },
];

/// Rows that samplers go wrong on: random, peaked, ties, near-ties, one survivor, blocks of -inf,
/// denormals, huge spreads, the edge of the weights, signed zeros.
pub fn rows(len: usize, seed: u64) -> impl Iterator<Item = Vec<f32>> {
    let mut dice = Dice::new(seed);
    KINDS.iter().map(move |kind| (0..len).map(|id| kind(id, len, &mut dice)).collect())
}
