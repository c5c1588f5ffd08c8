//! Run-time choice of the instruction set.
//!
//! Each kernel is written once, over [`crate::lanes`], and compiled once per level with that
//! level's features on. All levels run the same IEEE operations in the same order, and give the
//! same bits: nothing is re-associated, and every multiply-add is fused.

/// An instruction set a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust, with whatever the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Portable,
    /// NEON by hand. Every aarch64 target with a standard library has it.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The best level of this machine. The answer is cached by the standard library.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if Self::Avx512.is_available() {
                return Self::Avx512;
            }
            if Self::Avx2.is_available() {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        return Self::Neon;
        #[cfg(not(target_arch = "aarch64"))]
        Self::Portable
    }

    /// Whether this machine has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
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

    /// Every level of this machine, for tests that compare them.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let all = [
            Self::Portable,
            #[cfg(target_arch = "aarch64")]
            Self::Neon,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512,
        ];
        all.into_iter().filter(|level| level.is_available()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn the_best_level_is_the_last_that_is_available() {
        let available = Level::available();
        assert_eq!(available[0], Level::Portable);
        assert_eq!(available.last(), Some(&Level::detect()));
        assert!(available.iter().all(|level| level.is_available()));
    }
}
