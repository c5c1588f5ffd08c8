//! exp and GELU as fixed sequences of operations: those of the platform's library differ in the last bit
//! between machines. Square roots and divisions are rounded correctly everywhere.

use fastdecode_simd::{Lanes, ROUNDER};

// ln 2 as a sum of two floats: the product of the first with a small integer is exact.
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;
/// exp is clamped to its values here, within the normal floats.
const LOWEST: f32 = -87.0;
const HIGHEST: f32 = 88.0;

/// e^x, within 1e-7 relative. Below -87 and above 88 it has the values there.
#[inline(always)]
pub fn exp<L: Lanes>(l: L, x: L::V) -> L::V {
    let x = l.min(l.max(x, l.splat(LOWEST)), l.splat(HIGHEST));
    let shifted = l.fma(x, l.splat(std::f32::consts::LOG2_E), l.splat(ROUNDER));
    let whole = l.sub(shifted, l.splat(ROUNDER));
    let r = l.fma(whole, l.splat(-LN2_HIGH), x);
    let r = l.fma(whole, l.splat(-LN2_LOW), r);
    // Taylor's series; |r| <= 0.347, so the first omitted term is below 6e-9.
    let mut p = l.splat(1.0 / 5040.0);
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = l.fma(p, r, l.splat(term));
    }
    l.mul(p, l.power_of_two(shifted))
}

// 2 * sqrt(2 / pi), and 0.044715 times that.
const GELU_LINEAR: f32 = 1.595_769;
const GELU_CUBIC: f32 = 0.071_354_814;

/// GPT-2's GELU, x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))), written as
/// x / (1 + exp(-2u)): the same function, accurate also where tanh is near -1.
#[inline(always)]
pub fn gelu<L: Lanes>(l: L, x: L::V) -> L::V {
    let square = l.mul(x, x);
    let slope = l.fma(square, l.splat(-GELU_CUBIC), l.splat(-GELU_LINEAR));
    let e = exp(l, l.mul(x, slope));
    l.div(x, l.add(l.splat(1.0), e))
}

#[cfg(test)]
mod tests {
    use super::{exp, gelu};
    use fastdecode_simd::{LANES, Lanes, Level, Portable};

    fastdecode_simd::kernel! {
        fn both(x: &[f32; LANES], e: &mut [f32; LANES], g: &mut [f32; LANES]) = both_body;
    }

    #[inline(always)]
    fn both_body<L: Lanes>(
        l: L,
        from: &[f32; LANES],
        exps: &mut [f32; LANES],
        gelus: &mut [f32; LANES],
    ) {
        let v = l.load(from);
        l.store(exp(l, v), exps);
        l.store(gelu(l, v), gelus);
    }

    #[test]
    fn close_to_the_true_functions_and_equal_on_every_level() {
        let mut worst = [0.0f64; 2];
        for step in -60_000..60_000i32 {
            let x: [f32; LANES] =
                std::array::from_fn(|lane| step as f32 * 0.001_41 + lane as f32 * 8e-5);
            let (mut e, mut g) = ([0.0; LANES], [0.0; LANES]);
            both(Level::PORTABLE, &x, &mut e, &mut g);
            for level in Level::available() {
                let (mut e2, mut g2) = ([0.0; LANES], [0.0; LANES]);
                both(level, &x, &mut e2, &mut g2);
                assert_eq!((e, g), (e2, g2), "{level:?} at {step}");
            }
            for lane in 0..LANES {
                let at = f64::from(x[lane]);
                worst[0] = worst[0].max((f64::from(e[lane]) / at.exp() - 1.0).abs());
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (at + 0.044_715 * at.powi(3));
                let exact = at / (1.0 + (-2.0 * inner).exp());
                worst[1] = worst[1].max((f64::from(g[lane]) - exact).abs() / exact.abs().max(1e-3));
            }
        }
        // GELU at -3.5: the exponent is 7, and multiplies three roundings by that.
        assert!(worst[0] < 1e-7 && worst[1] < 1.5e-6, "{worst:?}");
    }

    #[test]
    fn the_ends_are_finite() {
        let l = Portable;
        assert!(exp(l, l.splat(f32::NEG_INFINITY))[0] > 0.0);
        assert!(exp(l, l.splat(f32::INFINITY))[0].is_finite());
        assert_eq!(exp(l, l.splat(0.0))[0], 1.0);
        assert_eq!(gelu(l, l.splat(0.0))[0], 0.0);
        assert_eq!(gelu(l, l.splat(50.0))[0], 50.0);
    }
}
