//! Functions of one real number, written so that loops over them vectorise.

/// The scalar functions that elementwise operators need, for `f32` and `f64`.
///
/// The `f32` versions of the exponential family have no branch and no call, with an error of a few
/// units in the last place.
pub(super) trait Real: Copy + PartialOrd + Send + Sync + Default + 'static {
    /// e to the power of `self`.
    fn e(self) -> Self;
    /// Hyperbolic tangent.
    fn hyperbolic(self) -> Self;
    /// 1 / (1 + exp(-self)).
    fn logistic(self) -> Self;
    /// The error function.
    fn error_function(self) -> Self;
    /// Derivative of the error function.
    fn error_slope(self) -> Self;
    /// log(1 + exp(self)), without overflow.
    fn soft_plus(self) -> Self;
}

impl Real for f64 {
    fn e(self) -> Self {
        self.exp()
    }

    fn hyperbolic(self) -> Self {
        self.tanh()
    }

    fn logistic(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }

    fn error_function(self) -> Self {
        candle_core::cpu::erf::erf_f64(self)
    }

    fn error_slope(self) -> Self {
        std::f64::consts::FRAC_2_SQRT_PI * (-self * self).e()
    }

    fn soft_plus(self) -> Self {
        self.max(0.0) + (-self.abs()).exp().ln_1p()
    }
}

/// 1.5 * 2^23: adding it rounds an `f32` to an integer, found in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

impl Real for f32 {
    /// x = n ln 2 + r with |r| <= ln 2 / 2, and a polynomial for exp(r) (Cephes `expf`).
    #[inline(always)]
    fn e(self) -> Self {
        // Beyond these the result is 0 or infinite; comparisons keep NaN.
        let x = if self < -104.0 { -104.0 } else { self };
        let x = if x > 89.0 { 89.0 } else { x };
        let rounded = x * std::f32::consts::LOG2_E + ROUND;
        let n = rounded - ROUND;
        let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
        let p = 1.987_569_2e-4;
        let p = p * r + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let p = p * r * r + r + 1.0;
        // Two factors, since 2^n alone may be subnormal or infinite.
        let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).clamp(-152, 130);
        p * power_of_two(n >> 1) * power_of_two(n - (n >> 1))
    }

    /// An odd polynomial near zero (Cephes `tanhf`), else 1 - 2 / (exp(2x) + 1).
    #[inline(always)]
    fn hyperbolic(self) -> Self {
        let square = self * self;
        let p = -5.704_988_7e-3;
        let p = p * square + 2.063_909e-2;
        let p = p * square - 5.373_971_6e-2;
        let p = p * square + 1.333_144_2e-1;
        let p = p * square - 3.333_328e-1;
        let near = p * square * self + self;
        let far = 1.0 - 2.0 / ((self + self).e() + 1.0);
        if self.abs() < 0.625 { near } else { far }
    }

    #[inline(always)]
    fn logistic(self) -> Self {
        1.0 / (1.0 + (-self).e())
    }

    /// A rational approximation on [-4, 4], beyond which the result rounds to 1 (as in Eigen).
    #[inline(always)]
    fn error_function(self) -> Self {
        let x = if self < -4.0 { -4.0 } else { self };
        let x = if x > 4.0 { 4.0 } else { x };
        let square = x * x;
        let p = -2.726_142_3e-10;
        let p = p * square + 2.770_681_4e-8;
        let p = p * square - 2.101_024e-6;
        let p = p * square - 5.692_506_3e-5;
        let p = p * square - 7.349_906_3e-4;
        let p = p * square - 2.954_6e-3;
        let p = p * square - 1.609_603_3e-2;
        let q = -1.456_607_2e-5;
        let q = q * square - 2.133_740_6e-4;
        let q = q * square - 1.682_827e-3;
        let q = q * square - 7.373_329_2e-3;
        let q = q * square - 1.426_473_9e-2;
        x * p / q
    }

    fn error_slope(self) -> Self {
        std::f32::consts::FRAC_2_SQRT_PI * (-self * self).e()
    }

    fn soft_plus(self) -> Self {
        self.max(0.0) + (-self.abs()).exp().ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    /// Largest relative error against `f64` over a range, in units of `f32::EPSILON`.
    fn error(range: (f32, f32), f: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let steps = 200_000;
        (0..=steps)
            .map(|i| range.0 + (range.1 - range.0) * (i as f32 / steps as f32))
            .map(|x| {
                let expected = exact(f64::from(x));
                let scale = expected.abs().max(f64::from(f32::MIN_POSITIVE));
                (f64::from(f(x)) - expected).abs() / scale / f64::from(f32::EPSILON)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_accurate_to_a_few_units_in_the_last_place() {
        type Case = (&'static str, (f32, f32), fn(f32) -> f32, fn(f64) -> f64, f64);
        let cases: [Case; 4] = [
            ("exp", (-87.0, 88.5), Real::e, f64::exp, 2.0),
            ("tanh", (-12.0, 12.0), Real::hyperbolic, f64::tanh, 3.0),
            ("logistic", (-80.0, 20.0), Real::logistic, Real::logistic, 3.0),
            ("erf", (-6.0, 6.0), Real::error_function, Real::error_function, 5.0),
        ];
        for (name, range, f, exact, limit) in cases {
            let found = error(range, f, exact);
            assert!(found < limit, "{name}: {found} units");
        }
    }

    #[test]
    fn extreme_arguments_give_the_limits() {
        assert_eq!(f32::INFINITY.e(), f32::INFINITY);
        assert_eq!(100_f32.e(), f32::INFINITY);
        assert_eq!(f32::NEG_INFINITY.e(), 0.0);
        assert!((-95_f32).e() > 0.0, "subnormal results are kept");
        assert_eq!(f32::INFINITY.hyperbolic(), 1.0);
        assert_eq!(f32::NEG_INFINITY.logistic(), 0.0);
        assert!((f32::NEG_INFINITY.error_function() + 1.0).abs() <= f32::EPSILON);
        for f in [Real::e, Real::hyperbolic, Real::logistic, Real::error_function, Real::soft_plus]
        {
            assert!(f(f32::NAN).is_nan());
        }
    }
}
