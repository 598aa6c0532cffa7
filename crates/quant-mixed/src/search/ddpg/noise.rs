//! Draws of the search.

use rand_chacha::rand_core::RngCore;

/// Uniform in `[0, 1)`, with 53 bits.
pub(super) fn uniform(rng: &mut impl RngCore) -> f64 {
    /// 2^-53.
    const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
    (rng.next_u64() >> 11) as f64 * STEP
}

/// Standard normal (Box and Muller).
fn normal(rng: &mut impl RngCore) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// Normal around a mean in `[0, 1]`, truncated to `[0, 1]`.
pub(super) fn truncated_normal(rng: &mut impl RngCore, mean: f64, sigma: f64) -> f64 {
    if sigma <= 0.0 {
        return mean.clamp(0.0, 1.0);
    }
    // The narrower the bell the more fits; a wide one is nearly uniform within.
    for _ in 0..10_000 {
        let draw = mean + sigma * normal(rng);
        if (0.0..=1.0).contains(&draw) {
            return draw;
        }
    }
    mean.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensor_core::random;

    #[test]
    fn truncated_normals_have_their_mean_and_spread() {
        let mut rng = random::stream(0, "noise");
        let draws: Vec<f64> = (0..20_000).map(|_| truncated_normal(&mut rng, 0.5, 0.5)).collect();
        assert!(draws.iter().all(|draw| (0.0..=1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        // Truncated at one standard deviation on both sides: variance 0.2911 sigma^2. Standard errors of
        // 20,000 draws: 0.0019 and 0.0005.
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!((variance - 0.2911 * 0.25).abs() < 0.0025, "{variance}");
        assert_eq!(truncated_normal(&mut rng, 0.3, 0.0), 0.3);
    }
}
