//! One grid of equally spaced numbers.

use serde::Serialize;
use tensor_core::{Error, Result};

/// Smallest scale: the product of two of them, which is the scale of a bias, is still a normal
/// number.
const MIN_SCALE: f32 = 1.1e-19;

/// The numbers `scale (q - zero)` for whole `low <= q <= high`, `step` apart.
///
/// Zero is one of them, so that padding and rectifiers stay exact; the only exception is
/// [`symmetric`](Self::symmetric) with one bit, whose two numbers leave no place for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Affine {
    /// Distance of neighbouring integers, positive.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero: i32,
    /// Smallest integer.
    pub low: i32,
    /// Largest integer.
    pub high: i32,
    /// Distance of the integers in use: 1, and 2 for the two signs of one bit.
    step: i32,
}

/// Checks a number of bits.
///
/// # Errors
/// `E0500` unless it is from 1 to 8.
pub fn check_bits(bits: u8) -> Result<u8> {
    if (1..=8).contains(&bits) {
        return Ok(bits);
    }
    Err(Error::invalid(format!("bits should be from 1 to 8, but are {bits}")).code_is("E0500"))
}

fn check_range(low: f32, high: f32) -> Result<()> {
    if low.is_finite() && high.is_finite() && low <= high {
        return Ok(());
    }
    Err(Error::invalid(format!("the range from {low} to {high} is none")).code_is("E0503"))
}

impl Affine {
    /// HAQ's Eq. 4: `s = c / (2^(b-1) - 1)` with integers from `-(2^(b-1) - 1)` to `2^(b-1) - 1`,
    /// so 8 bits are -127 to 127. One bit is the sign: `-c` and `c`.
    ///
    /// # Errors
    /// `E0500` and `E0503` for bits outside of 1 to 8, and a clip that is negative or not finite.
    pub fn symmetric(bits: u8, clip: f32) -> Result<Self> {
        let bits = check_bits(bits)?;
        check_range(0.0, clip)?;
        let high = if bits == 1 { 1 } else { (1 << (bits - 1)) - 1 };
        let step = if bits == 1 { 2 } else { 1 };
        Ok(Self { scale: scale(clip, high), zero: 0, low: -high, high, step })
    }

    /// Integers from 0 to `2^b - 1` for a range that is widened to include zero, whose integer is
    /// the nearest to where zero lies. A range that begins at zero is that of the official code's
    /// activations, `s = c / (2^b - 1)`.
    ///
    /// # Errors
    /// `E0500` and `E0503` for bits outside of 1 to 8, and bounds that are not finite or not in
    /// order.
    pub fn asymmetric(bits: u8, low: f32, high: f32) -> Result<Self> {
        let bits = check_bits(bits)?;
        check_range(low, high)?;
        let (low, high) = (low.min(0.0), high.max(0.0));
        let levels = (1 << bits) - 1;
        // Halves first: the difference of two finite numbers need not be finite.
        let half = high / 2.0 - low / 2.0;
        let scale = if half > 0.0 { scale(half, levels) * 2.0 } else { 1.0 };
        let zero = (-low / scale).round_ties_even() as i32;
        Ok(Self { scale, zero: zero.clamp(0, levels), low: 0, high: levels, step: 1 })
    }

    /// The same grid with all integers moved by `shift`.
    #[must_use]
    pub fn shifted(self, shift: i32) -> Self {
        let Self { zero, low, high, .. } = self;
        Self { zero: zero + shift, low: low + shift, high: high + shift, ..self }
    }

    /// The same integers at another scale.
    #[must_use]
    pub fn rescaled(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// Are there two numbers only, which differ by their sign?
    pub fn is_sign(&self) -> bool {
        self.step == 2
    }

    /// The integer of a number: `saturate(round(x / scale) + zero)`, halves to even. NaN gives
    /// that of zero.
    #[inline]
    pub fn quantize(&self, x: f32) -> i32 {
        let q = if self.step == 1 {
            (x / self.scale).round_ties_even() as i32
        } else if x < 0.0 {
            -1
        } else {
            1
        };
        q.saturating_add(self.zero).clamp(self.low, self.high)
    }

    /// The number of an integer.
    #[inline]
    pub fn dequantize(&self, q: i32) -> f32 {
        (q - self.zero) as f32 * self.scale
    }

    /// The number of the grid that stands for `x`.
    #[inline]
    pub fn nearest(&self, x: f32) -> f32 {
        self.dequantize(self.quantize(x))
    }

    /// Smallest and largest number.
    pub fn range(&self) -> (f32, f32) {
        (self.dequantize(self.low), self.dequantize(self.high))
    }
}

/// The scale with which `levels` steps reach `clip`.
fn scale(clip: f32, levels: i32) -> f32 {
    if clip > 0.0 { (clip / levels as f32).max(MIN_SCALE) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn grids() -> impl Strategy<Value = Affine> {
        let symmetric = (1_u8..=8, 1e-6_f32..1e6).prop_map(|(b, c)| Affine::symmetric(b, c));
        let asymmetric = (1_u8..=8, -1e4_f32..1e4, 0.0_f32..1e4)
            .prop_map(|(b, low, width)| Affine::asymmetric(b, low, low + width));
        prop_oneof![symmetric, asymmetric].prop_map(Result::unwrap)
    }

    proptest! {
        #[test]
        fn what_is_on_the_grid_stays(grid in grids(), x in -2e6_f32..2e6) {
            let once = grid.nearest(x);
            prop_assert_eq!(once.to_bits(), grid.nearest(once).to_bits());
            prop_assert!((grid.low..=grid.high).contains(&grid.quantize(x)));
        }

        #[test]
        fn no_number_of_the_grid_is_nearer(grid in grids(), x in -2e4_f32..2e4) {
            let error = (f64::from(grid.nearest(x)) - f64::from(x)).abs();
            for q in (grid.low..=grid.high).step_by(grid.step as usize) {
                let other = (f64::from(grid.dequantize(q)) - f64::from(x)).abs();
                // Division and product round, each by half of the last of 24 bits.
                prop_assert!(error <= other + f64::from(x.abs() + grid.scale) * 2e-7);
            }
        }

        #[test]
        fn zero_is_exact_but_for_one_symmetric_bit(grid in grids()) {
            if grid.step == 1 {
                prop_assert_eq!(grid.nearest(0.0), 0.0);
            } else {
                prop_assert_eq!(grid.nearest(0.0), grid.scale);
            }
        }

        #[test]
        fn the_order_of_numbers_stays(grid in grids(), a in -1e5_f32..1e5, b in -1e5_f32..1e5) {
            prop_assert!(grid.quantize(a.min(b)) <= grid.quantize(a.max(b)));
        }
    }

    #[test]
    fn levels_are_those_of_the_bits() {
        for bits in 1..=8 {
            let symmetric = Affine::symmetric(bits, 1.0).unwrap();
            let asymmetric = Affine::asymmetric(bits, -1.0, 2.0).unwrap();
            let count = |grid: &Affine| {
                let all: std::collections::BTreeSet<_> =
                    (-4000..4000).map(|i| grid.quantize(i as f32 / 1000.0)).collect();
                all.len()
            };
            assert_eq!(count(&asymmetric), 1 << bits);
            assert_eq!(count(&symmetric), if bits == 1 { 2 } else { (1 << bits) - 1 });
        }
        assert_eq!(Affine::symmetric(8, 127.0).unwrap().range(), (-127.0, 127.0));
    }

    #[test]
    fn halves_go_to_even() {
        let grid = Affine::symmetric(8, 127.0).unwrap();
        let halves = [0.5, 1.5, 2.5, -0.5, -1.5].map(|x| grid.quantize(x));
        assert_eq!(halves, [0, 2, 2, 0, -2]);
    }

    #[test]
    fn extremes_are_numbers_or_errors() {
        let flat = Affine::asymmetric(8, 0.0, 0.0).unwrap();
        assert_eq!((flat.scale, flat.nearest(3e-39)), (1.0, 0.0));
        let huge = Affine::asymmetric(8, f32::MIN, f32::MAX).unwrap();
        assert!(huge.scale.is_finite() && huge.nearest(0.0) == 0.0);
        assert!(Affine::symmetric(4, 1e-40).unwrap().scale >= MIN_SCALE);
        assert_eq!(Affine::symmetric(0, 1.0).unwrap_err().code(), "E0500");
        assert_eq!(Affine::symmetric(9, 1.0).unwrap_err().code(), "E0500");
        assert_eq!(Affine::symmetric(8, f32::NAN).unwrap_err().code(), "E0503");
        assert_eq!(Affine::asymmetric(8, 1.0, -1.0).unwrap_err().code(), "E0503");
    }
}
