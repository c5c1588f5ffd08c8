//! The instruction sets of this machine.

use std::fmt;

/// An instruction set that this machine has.
///
/// A value other than [`Level::PORTABLE`] is made only by detection, so it is a proof: safe functions
/// that take a level may run code compiled for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Level(LevelKind);

/// The name of an instruction set, whether or not this machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelKind {
    /// Plain Rust, with what the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Portable,
    /// Hand-written NEON. Every aarch64 target with a standard library has it.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 and FMA, with BMI1, BMI2, LZCNT and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL, and all of AVX2's.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl LevelKind {
    /// From the slowest to the fastest.
    const ALL: &[Self] = &[
        Self::Portable,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// Whether this machine has it. The standard library caches the processor's answers.
    fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("lzcnt")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }
}

impl Level {
    /// Plain Rust, which every machine runs.
    pub const PORTABLE: Self = Self(LevelKind::Portable);

    /// The fastest level of this machine.
    #[must_use]
    pub fn detect() -> Self {
        let fastest = LevelKind::ALL.iter().rev().find(|kind| kind.is_available());
        fastest.map_or(Self::PORTABLE, |kind| Self(*kind))
    }

    /// Every level of this machine, from the slowest to the fastest.
    #[must_use]
    pub fn available() -> Vec<Self> {
        LevelKind::ALL.iter().filter(|kind| kind.is_available()).map(|kind| Self(*kind)).collect()
    }

    /// The level of this name, if this machine has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|level| level.name() == name)
    }

    /// Its name: "portable", "neon", "avx2" or "avx512".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            LevelKind::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            LevelKind::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            LevelKind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            LevelKind::Avx512 => "avx512",
        }
    }

    /// Which one it is, for a `match`.
    #[inline(always)]
    #[must_use]
    pub fn kind(self) -> LevelKind {
        self.0
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn the_detected_level_is_the_last_available_one() {
        let available = Level::available();
        assert_eq!(available[0], Level::PORTABLE);
        assert_eq!(available.last(), Some(&Level::detect()));
    }

    #[test]
    fn names_find_their_levels() {
        for level in Level::available() {
            assert_eq!(Level::named(level.name()), Some(level));
        }
        assert_eq!(Level::named("sse9"), None);
    }
}
