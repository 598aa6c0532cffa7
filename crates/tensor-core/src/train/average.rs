//! The exponential moving average of weights.

use crate::Result;
use candle_core::Tensor;

/// The decay at a step: the asked-for one, less in the first steps so that the initial values are
/// soon forgotten: `min(decay, (1 + t) / (10 + t))`.
pub(crate) fn decay_at(decay: f64, step: u64) -> f64 {
    let t = step as f64;
    decay.min((1.0 + t) / (10.0 + t))
}

/// `decay * average + (1 - decay) * value`.
pub(crate) fn mix(average: &Tensor, value: &Tensor, decay: f64) -> Result<Tensor> {
    Ok(((average * decay)? + (value.detach() * (1.0 - decay))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// With a constant decay the average after n steps of a constant is 1 - decay^n.
    #[test]
    fn approaches_a_constant_geometrically() {
        let one = Tensor::new(&[1.0_f32], &Device::Cpu).expect("tensor");
        let mut average = one.zeros_like().expect("zeros");
        for _ in 0..7 {
            average = mix(&average, &one, 0.8).expect("mix");
        }
        let found = average.to_vec1::<f32>().expect("values")[0];
        assert!((f64::from(found) - (1.0 - 0.8_f64.powi(7))).abs() < 1e-6);
    }

    #[test]
    fn early_steps_forget_faster() {
        assert_eq!(decay_at(0.999, 0), 0.1);
        assert_eq!(decay_at(0.999, 1_000_000), 0.999);
        assert_eq!(decay_at(0.5, 90), 0.5);
    }
}
