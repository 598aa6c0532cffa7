//! Proximal steps: where exact zeros come from.

use serde::Serialize;

/// What the resource term does to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prox {
    /// L1: every gate shrinks, the smallest to 0.
    #[default]
    Soft,
    /// L0: small gates become 0, the others stay.
    Hard,
}

/// `sign(z) max(|z| - threshold, 0)`: the proximal step of `threshold |a|`.
///
/// The zero is exact, and +0.
pub fn soft(z: f32, threshold: f32) -> f32 {
    let size = z.abs() - threshold;
    if size > 0.0 { size.copysign(z) } else { 0.0 }
}

/// `z` where `z^2 / 2 > threshold`, else 0: the proximal step of `threshold` times the count of what
/// is not 0.
pub fn hard(z: f32, threshold: f32) -> f32 {
    if f64::from(z) * f64::from(z) > 2.0 * f64::from(threshold) { z } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        assert_eq!([soft(0.5, 0.2), soft(-0.5, 0.2), soft(0.25, 0.0)], [0.3, -0.3, 0.25]);
        assert_eq!([soft(0.1, 0.2), soft(-0.2, 0.2)].map(f32::to_bits), [0, 0]);
        assert_eq!([hard(0.5, 0.1), hard(-0.5, 0.1), hard(0.4, 0.081)], [0.5, -0.5, 0.0]);
    }

    /// The value of `threshold * penalty(a) + (a - z)^2 / 2`.
    fn objective(a: f64, z: f32, threshold: f32, penalty: fn(f64) -> f64) -> f64 {
        f64::from(threshold) * penalty(a) + (a - f64::from(z)).powi(2) / 2.0
    }

    proptest! {
        /// Nothing near or far is better than what a proximal step gives.
        #[test]
        fn steps_minimize(z in -2.0_f32..2.0, threshold in 0.0_f32..1.0, other in -2.0_f64..2.0) {
            for (step, penalty) in [
                (soft as fn(f32, f32) -> f32, f64::abs as fn(f64) -> f64),
                (hard, |a| f64::from(u8::from(a != 0.0))),
            ] {
                let best = objective(step(z, threshold).into(), z, threshold, penalty);
                for a in [other, 0.0, z.into()] {
                    prop_assert!(best <= objective(a, z, threshold, penalty) + 1e-6);
                }
            }
        }

        #[test]
        fn zero_is_absorbing(threshold in 0.0_f32..10.0) {
            prop_assert_eq!(soft(0.0, threshold).to_bits(), 0);
            prop_assert_eq!(hard(0.0, threshold).to_bits(), 0);
        }
    }
}
