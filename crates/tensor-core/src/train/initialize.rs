//! Random initial values.

use crate::random;
use rand_chacha::rand_core::RngCore;

/// Normal draws (Box and Muller) from the stream of a parameter.
pub(super) fn normals(seed: u64, name: &str, count: usize, deviation: f64) -> Vec<f32> {
    let mut rng = random::stream(seed, &format!("train/initialize/{name}"));
    // In (0, 1], so that the logarithm is finite.
    let mut uniform = || ((rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = deviation * (-2.0 * uniform().ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * uniform()).sin_cos();
        values.extend([(radius * cosine) as f32, (radius * sine) as f32]);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_normal_distribution() {
        let values = normals(5, "w", 20_001, 0.5);
        assert_eq!(values.len(), 20_001);
        let mean = |f: &dyn Fn(f64) -> f64| {
            values.iter().map(|&x| f(f64::from(x))).sum::<f64>() / values.len() as f64
        };
        // Three standard deviations of the estimates: 0.5, 0.25 * sqrt(2) and 0.0625 * sqrt(96)
        // over the root of the count.
        assert!(mean(&|x| x).abs() < 0.011);
        assert!((mean(&|x| x * x) - 0.25).abs() < 0.0075);
        assert!((mean(&|x| x.powi(4)) - 3.0 * 0.0625).abs() < 0.013);
        assert_ne!(values, normals(5, "v", 20_001, 0.5));
        assert_eq!(values, normals(5, "w", 20_001, 0.5));
    }
}
