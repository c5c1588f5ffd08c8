//! The exponential function with fixed operations: the platform's differs from machine to machine
//! in the last bit.

use crate::math::ln::{LN2_HIGH, LN2_LOW};

/// exp(x), within 4e-16 relative; 0 below -700 (where a weight has long been zero), infinite
/// above 700.
///
/// x = k ln 2 + r with |r| <= ln 2 / 2, and exp(r) by its series.
#[must_use]
pub fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    if x > 700.0 {
        return f64::INFINITY;
    }
    let k = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    // The term after r^14 / 14! is below 2^-60.
    let mut series = 1.0;
    for n in (1..=14).rev() {
        series = series * r / f64::from(n) + 1.0;
    }
    series * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn agrees_with_the_platform() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e4), 0.0);
        assert_eq!(exp(1e4), f64::INFINITY);
        let mut x = -700.0f64;
        while x < 700.0 {
            assert!((exp(x) / x.exp() - 1.0).abs() < 5e-16, "exp({x})");
            x += 0.377;
        }
    }
}
