//! The natural logarithm, with fixed operations: the platform's differs from
//! machine to machine in the last bit.

// ln 2 in two parts: the first has trailing zeros, so its product with an exponent is exact.
pub(crate) const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
pub(crate) const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// ln(x) for x >= 1, within 4e-16 relative (plus the rounding of `x` to 53 bits); -inf for 0.
#[must_use]
pub fn ln(x: u64) -> f64 {
    if x == 0 { f64::NEG_INFINITY } else { ln_real(x as f64) }
}

/// ln(x) for a finite, normal x > 0, within 4e-16 relative away from 1 and 2e-16 absolute near it.
///
/// x = 2^e * m with m in [sqrt(1/2), sqrt(2)), and ln m = 2 artanh((m - 1) / (m + 1)) by its series.
#[must_use]
pub fn ln_real(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "{x}");
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    // |s| <= 0.1716: the term after s^21 / 21 is below 2^-58 of the first.
    let mut series = 0.0;
    for term in (0..=10).rev() {
        series = series * square + 1.0 / f64::from(2 * term + 1);
    }
    let exponent = f64::from(exponent);
    exponent * LN2_HIGH + (2.0 * s * series + exponent * LN2_LOW)
}

#[cfg(test)]
mod tests {
    use super::{ln, ln_real};

    #[test]
    fn reals_agree_with_the_platform() {
        for step in -7000..7000 {
            let x = (f64::from(step) * 0.1003).exp();
            if x.is_normal() {
                let exact = x.ln();
                assert!((ln_real(x) - exact).abs() <= 5e-16 * exact.abs().max(1.0), "ln({x})");
            }
        }
        let below_one = 1.0 - f64::EPSILON / 2.0;
        assert_eq!(ln_real(below_one), below_one.ln());
    }

    #[test]
    fn agrees_with_the_platform() {
        assert_eq!(ln(1), 0.0);
        assert_eq!(ln(0), f64::NEG_INFINITY);
        let mut x = 1u64;
        while x < 1 << 62 {
            for value in [x, x + 1, x + x / 3] {
                let exact = (value as f64).ln();
                assert!((ln(value) - exact).abs() <= 5e-16 * exact.max(1.0), "ln({value})");
            }
            x += x / 7 + 1;
        }
        assert!((ln(u64::MAX) - (u64::MAX as f64).ln()).abs() < 1e-14);
    }
}
