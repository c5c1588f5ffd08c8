//! exp and the activations as fixed sequences of operations: those of the platform's library differ in the
//! last bit between machines. Square roots and divisions are rounded correctly everywhere.

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

/// The slope of `t` in [`gelu_erf`].
const TAIL_SLOPE: f32 = 0.3;
/// The coefficients of t, t^2, ... in [`gelu_erf`], fitted to the largest relative error for a in 0..14.
const TAIL: [f32; 10] = [
    0.119_686_63,
    0.119_572_82,
    0.110_227_47,
    0.078_424_87,
    0.096_059_91,
    -0.079_251_23,
    0.191_586_38,
    -0.228_071_03,
    0.112_377_27,
    -0.020_613_104,
];

/// The exact GELU, x times the probability that a standard normal variable is below x.
///
/// With a = |x|, the probability beyond a is exp(-a^2 / 2) times a polynomial in t = 1 / (1 + 0.3 a); the
/// result is max(x, 0) less a times that.
#[inline(always)]
pub fn gelu_erf<L: Lanes>(l: L, x: L::V) -> L::V {
    let zero = l.splat(0.0);
    let size = l.max(x, l.sub(zero, x));
    let t = l.div(l.splat(1.0), l.fma(size, l.splat(TAIL_SLOPE), l.splat(1.0)));
    let mut sum = l.splat(TAIL[TAIL.len() - 1]);
    for term in TAIL[..TAIL.len() - 1].iter().rev() {
        sum = l.fma(sum, t, l.splat(*term));
    }
    let bell = exp(l, l.mul(l.mul(size, size), l.splat(-0.5)));
    let beyond = l.mul(l.mul(sum, t), bell);
    l.fma(l.sub(zero, size), beyond, l.max(x, zero))
}

/// x / (1 + exp(-x)), called SiLU or swish.
#[inline(always)]
pub fn silu<L: Lanes>(l: L, x: L::V) -> L::V {
    let e = exp(l, l.sub(l.splat(0.0), x));
    l.div(x, l.add(l.splat(1.0), e))
}

/// What is applied to the outputs of a linear layer within an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// GELU by the hyperbolic tangent.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
    Silu,
    Relu,
}

impl Activation {
    /// The activation of this name in transformers' configurations.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Self::GeluTanh,
            "gelu" => Self::GeluErf,
            "silu" | "swish" => Self::Silu,
            "relu" => Self::Relu,
            _ => return None,
        })
    }

    #[inline(always)]
    pub fn apply<L: Lanes>(self, l: L, x: L::V) -> L::V {
        match self {
            Self::GeluTanh => gelu(l, x),
            Self::GeluErf => gelu_erf(l, x),
            Self::Silu => silu(l, x),
            Self::Relu => l.max(x, l.splat(0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{exp, gelu, gelu_erf, silu};
    use fastdecode_simd::{LANES, Lanes, Level, Portable};

    fastdecode_simd::kernel! {
        fn all(x: &[f32; LANES], to: &mut [[f32; LANES]; 4]) = all_body;
    }

    #[inline(always)]
    fn all_body<L: Lanes>(l: L, from: &[f32; LANES], to: &mut [[f32; LANES]; 4]) {
        let v = l.load(from);
        l.store(exp(l, v), &mut to[0]);
        l.store(gelu(l, v), &mut to[1]);
        l.store(gelu_erf(l, v), &mut to[2]);
        l.store(silu(l, v), &mut to[3]);
    }

    /// The probability that a standard normal variable is above `a`, for a >= 0: a continued fraction, or a
    /// series near zero.
    fn beyond(a: f64) -> f64 {
        let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if a > 3.0 {
            let fraction = (1..=200).rev().fold(a, |below, n| a + f64::from(n) / below);
            return density / fraction;
        }
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= a * a / f64::from(2 * n + 1);
            sum += term;
        }
        0.5 - density * sum
    }

    #[test]
    fn close_to_the_true_functions_and_equal_on_every_level() {
        let mut worst = [0.0f64; 4];
        for step in -60_000..60_000i32 {
            let x: [f32; LANES] =
                std::array::from_fn(|lane| step as f32 * 0.001_41 + lane as f32 * 8e-5);
            let mut found = [[0.0; LANES]; 4];
            all(Level::PORTABLE, &x, &mut found);
            for level in Level::available() {
                let mut same = [[0.0; LANES]; 4];
                all(level, &x, &mut same);
                assert_eq!(found, same, "{level:?} at {step}");
            }
            let [e, g, erf, s] = found;
            for lane in 0..LANES {
                let at = f64::from(x[lane]);
                worst[0] = worst[0].max((f64::from(e[lane]) / at.exp() - 1.0).abs());
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (at + 0.044_715 * at.powi(3));
                let exact = at / (1.0 + (-2.0 * inner).exp());
                worst[1] = worst[1].max((f64::from(g[lane]) - exact).abs() / exact.abs().max(1e-3));
                if step % 32 == 0 {
                    let exact = at.max(0.0) - at.abs() * beyond(at.abs());
                    let error = (f64::from(erf[lane]) - exact).abs() / exact.abs().max(1e-3);
                    worst[2] = worst[2].max(error);
                }
                let exact = at / (1.0 + (-at).exp());
                worst[3] = worst[3].max((f64::from(s[lane]) - exact).abs() / exact.abs().max(1e-3));
            }
        }
        // GELU at -3.5: the exponent is 7, and multiplies three roundings by that.
        assert!(worst[0] < 1e-7 && worst[1] < 1.5e-6, "{worst:?}");
        assert!(worst[2] < 1.5e-6 && worst[3] < 3e-7, "{worst:?}");
    }

    #[test]
    fn the_ends_are_finite() {
        let l = Portable;
        assert!(exp(l, l.splat(f32::NEG_INFINITY))[0] > 0.0);
        assert!(exp(l, l.splat(f32::INFINITY))[0].is_finite());
        assert_eq!(exp(l, l.splat(0.0))[0], 1.0);
        assert_eq!(gelu(l, l.splat(0.0))[0], 0.0);
        assert_eq!(gelu(l, l.splat(50.0))[0], 50.0);
        assert_eq!(gelu_erf(l, l.splat(0.0))[0], 0.0);
        for x in [20.0, 1e10, 1e30] {
            assert_eq!((gelu_erf(l, l.splat(x))[0], silu(l, l.splat(x))[0]), (x, x));
            assert!(gelu_erf(l, l.splat(-x))[0].abs() < 1e-30);
            assert!(silu(l, l.splat(-x))[0].is_finite());
        }
    }
}
