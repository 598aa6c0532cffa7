//! The integers that a grid has.

use crate::quantizer::{Affine, check_bits};
use tensor_core::Result;

/// The integers of a grid, counted from the one that stands for zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// The smallest, at most 0: `-Qn` of LSQ.
    pub(super) low: i32,
    /// The largest, at least 0: `Qp` of LSQ.
    pub(super) high: i32,
    /// Only the two ends, as a sign has.
    pub(super) is_sign: bool,
}

/// 1.5 * 2^23: sums with smaller numbers are whole.
const WHOLE: f32 = 12_582_912.0;

impl Levels {
    /// As many below zero as above, `-(2^(b-1) - 1)` to `2^(b-1) - 1`, as
    /// [`Affine::symmetric`] has them; one bit is the sign. LSQ has one more below zero.
    ///
    /// # Errors
    /// `E0500` for bits outside of 1 to 8.
    pub fn signed(bits: u8) -> Result<Self> {
        Ok(Self::of(&Affine::symmetric(check_bits(bits)?, 1.0)?))
    }

    /// For what is not negative: 0 to `2^b - 1`.
    ///
    /// # Errors
    /// `E0500` for bits outside of 1 to 8.
    pub fn unsigned(bits: u8) -> Result<Self> {
        Ok(Self::of(&Affine::asymmetric(check_bits(bits)?, 0.0, 1.0)?))
    }

    /// Those of a grid.
    pub fn of(grid: &Affine) -> Self {
        let (low, high) = (grid.low - grid.zero, grid.high - grid.zero);
        Self { low, high, is_sign: grid.is_sign() }
    }

    /// The largest magnitude: `Qp`, or `Qn` where nothing is above zero.
    pub fn reach(self) -> f64 {
        f64::from(self.high.max(-self.low))
    }

    /// The integer of `v = x / s`, as a float; NaN stays NaN.
    #[inline]
    pub(super) fn nearest(self, v: f32) -> f32 {
        if self.is_sign && !v.is_nan() {
            return if v < 0.0 { -1.0 } else { 1.0 };
        }
        // The ends are whole, so clamping first changes nothing. Adding the number leaves no place
        // behind the point, halves to even.
        (v.clamp(self.low as f32, self.high as f32) + WHOLE) - WHOLE
    }

    /// Is `v = x / s` strictly inside?
    #[inline]
    pub(super) fn holds(self, v: f32) -> bool {
        v > self.low as f32 && v < self.high as f32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn levels_are_those_of_the_grids_that_are_exported() {
        for bits in 1..=8 {
            for grid in [
                Affine::symmetric(bits, 0.7).unwrap(),
                Affine::asymmetric(bits, -0.3, 0.9).unwrap(),
                Affine::asymmetric(bits, -0.9, 0.0).unwrap(),
            ] {
                let levels = Levels::of(&grid);
                for i in -3000..3000 {
                    let x = i as f32 / 2000.0;
                    let own = levels.nearest(x / grid.scale) * grid.scale;
                    assert_eq!(own, grid.nearest(x), "{grid:?} at {x}");
                }
            }
        }
        assert_eq!(Levels::signed(3).unwrap().reach(), 3.0);
        assert_eq!(Levels::unsigned(3).unwrap().reach(), 7.0);
        assert_eq!(Levels::signed(9).unwrap_err().code(), "E0500");
    }

    #[test]
    fn halves_go_to_even_and_nan_stays() {
        let levels = Levels::signed(4).unwrap();
        assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5].map(|v| levels.nearest(v)), [0., 2., 2., 0., -2.]);
        assert!(levels.nearest(f32::NAN).is_nan());
        assert!(Levels::signed(1).unwrap().nearest(f32::NAN).is_nan());
    }
}
