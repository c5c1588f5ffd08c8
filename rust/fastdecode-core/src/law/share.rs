//! A share of a law's total weight as an exact integer.

/// The least mass that reaches a share `p` of `total`, both at least zero: `ceil(p * total)`,
/// exactly, and at least one.
#[must_use]
pub(crate) fn target_mass(p: f64, total: u64) -> u64 {
    let (mantissa, shift) = dyadic(p);
    // The product has at most 117 bits.
    let product = u128::from(mantissa) * u128::from(total);
    let ceil = ceil_shifted(product, shift);
    (ceil as u64).clamp(1, total)
}

/// A number between 0 and 1 as `mantissa * 2^-shift`, exactly.
#[must_use]
pub(crate) fn dyadic(p: f64) -> (u64, u32) {
    // Zero may have a sign.
    let bits = p.abs().to_bits();
    let biased = (bits >> 52) as u32;
    let fraction = bits & ((1 << 52) - 1);
    let mantissa = if biased == 0 { fraction } else { fraction | 1 << 52 };
    (mantissa, 1075 - biased.max(1))
}

/// `ceil(n * 2^-shift)`.
#[must_use]
pub(crate) fn ceil_shifted(n: u128, shift: u32) -> u128 {
    if shift >= 128 {
        return u128::from(n > 0);
    }
    (n >> shift) + u128::from(n & ((1 << shift) - 1) != 0)
}

#[cfg(test)]
mod tests {
    use super::target_mass;

    #[test]
    fn target_is_the_exact_ceiling() {
        assert_eq!(target_mass(0.5, 10), 5);
        assert_eq!(target_mass(0.5, 11), 6);
        assert_eq!(target_mass(1.0, u64::MAX), u64::MAX);
        assert_eq!(target_mass(0.0, 10), 1);
        assert_eq!(target_mass(-0.0, 10), 1);
        assert_eq!(target_mass(f64::MIN_POSITIVE, u64::MAX), 1);
        assert_eq!(target_mass(5e-324, 1), 1);
        // The double 0.1 is a little more than a tenth, 0.7 a little less than seven.
        assert_eq!(target_mass(0.1, 10), 2);
        assert_eq!(target_mass(0.7, 10), 7);
    }
}
