//! Sine and cosine, with fixed operations.

// pi / 2 as a sum of three floats: products of the first two with integers below 2^25 are exact.
const HALF_PI_HIGH: f64 = 1.570_796_325_802_803;
const HALF_PI_MIDDLE: f64 = 9.920_935_739_593_517e-10;
const HALF_PI_LOW: f64 = 5.721_188_726_109_832e-18;

/// The largest angle that [`sin_cos`] reduces without an error.
pub const LARGEST_ANGLE: f64 = 50_000_000.0;

/// The sine and the cosine of an angle in radians, within 4e-16, for |x| up to [`LARGEST_ANGLE`].
///
/// x = k pi / 2 + r with |r| <= pi / 4, and the series of both in r.
#[must_use]
pub fn sin_cos(x: f64) -> (f64, f64) {
    debug_assert!(x.abs() <= LARGEST_ANGLE, "{x}");
    let k = (x * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = ((x - k * HALF_PI_HIGH) - k * HALF_PI_MIDDLE) - k * HALF_PI_LOW;
    let square = r * r;
    // The terms after r^17 / 17! and r^18 / 18! are below 2^-60.
    let (mut sine, mut cosine) = (1.0, 1.0);
    for n in (1..=8).rev() {
        let n = f64::from(2 * n);
        sine = 1.0 - sine * square / (n * (n + 1.0));
    }
    for n in (1..=9).rev() {
        let n = f64::from(2 * n);
        cosine = 1.0 - cosine * square / (n * (n - 1.0));
    }
    let (sine, cosine) = (r * sine, cosine);
    match k as i64 & 3 {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGEST_ANGLE, sin_cos};

    #[test]
    fn agrees_with_the_platform() {
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
        let mut x = 1e-9f64;
        while x < LARGEST_ANGLE {
            for x in [x, -x, x.round(), (x / std::f64::consts::PI).round() * std::f64::consts::PI] {
                let (sine, cosine) = sin_cos(x);
                assert!((sine - x.sin()).abs() < 4e-16, "sin({x})");
                assert!((cosine - x.cos()).abs() < 4e-16, "cos({x})");
            }
            x += x * 0.001_37 + 1e-4;
        }
    }
}
